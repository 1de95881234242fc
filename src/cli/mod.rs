//! The command line: clap types and one file per verb.
//!
//! A verb turns its arguments into one call to the core and the outcome into an [`Exit`]; it decides nothing else. What
//! all verbs share (which engine, which sandbox, how to report) is in [`Context`].

mod artifacts;
mod completions;
mod config;
mod cp;
mod doctor;
mod down;
mod egress;
mod env;
mod events;
mod exec;
mod extend;
mod fault;
mod fork;
mod gc;
mod graph;
mod images;
mod init;
mod keeper;
mod lifecycle;
mod logs;
mod ls;
mod open;
mod port;
mod ps;
mod reset;
mod run;
mod snapshot;
mod snapshot_spec;
mod support;
mod task;
#[cfg(test)]
mod tests;
mod timeline;
mod top;
mod ui;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use support::{command, complete, consent, context, failure, help, moment};

pub use support::context::Context;
pub use support::exit::Exit;
pub use support::failure::Failure;
pub use support::options::{Globals, SpecOptions};

/// An isolated, seeded, disposable environment from one spec, gone when you are done.
#[derive(Debug, Parser)]
#[command(name = "sandbox", version, propagate_version = true, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or spec, 3 no engine, 4 no such sandbox, 130 interrupted."
)]
pub struct Cli {
    /// What every verb takes.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a first spec, from a Compose file or from a few questions.
    Init(Box<init::Args>),
    /// Build the sandbox and show how to reach it; leaving destroys it.
    ///
    /// In the foreground it is a session: it lives for as long as you stay. With `--detach` it ends at its time.
    Up(Box<up::Args>),
    /// Destroy sandboxes, and make sure that nothing is left.
    Down(down::Args),
    /// Build the sandbox, run a command with its addresses, destroy it.
    ///
    /// Exits with the command's code.
    Run(Box<run::Args>),
    /// The same with your own shell.
    Shell(Box<run::ShellArgs>),
    /// Move a sandbox's deadline.
    Extend(extend::Args),
    /// Start services that are stopped.
    Start(lifecycle::Args),
    /// Stop services; their data stays.
    Stop(lifecycle::StopArgs),
    /// Stop and start services.
    Restart(lifecycle::StopArgs),
    /// Build images.
    Build(images::BuildArgs),
    /// Pull images.
    Pull(images::Args),
    /// Run the seeds ahead of the first `up`.
    Bake(Box<images::BakeArgs>),
    /// Put data back to what it was made from, or to a snapshot.
    Reset(reset::Args),
    /// Make a second sandbox with the data as it is now.
    Fork(fork::Args),
    /// Keep data under a name.
    Snapshot(snapshot::Args),
    /// Show what destroyed sandboxes left behind, or bring it here.
    Artifacts(artifacts::Args),
    /// Show what was not let out, and the line that would let it.
    Egress(egress::Args),
    /// Make a service slow, lossy or unreachable, and well again.
    Fault(fault::Args),
    /// Show what is kept between sandboxes, and remove what is too much.
    Gc(gc::Args),
    /// List sandboxes.
    Ls(ls::Args),
    /// Show a sandbox's services and how to reach them.
    Ps(ps::Args),
    /// Show what services have written, and what they write.
    Logs(logs::Args),
    /// Run a command in a service.
    Exec(exec::Args),
    /// Run a named command of the spec, or list them.
    Task(task::Args),
    /// Print the host's address of a service's port.
    Port(port::Args),
    /// Print a sandbox's addresses as environment variables.
    Env(env::Args),
    /// Copy files into or out of a service.
    Cp(cp::Args),
    /// Open a service in the browser.
    Open(open::Args),
    /// Show what happens to a sandbox, as it happens.
    Events(events::Args),
    /// Show services' use of processors, memory, network and disk.
    Top(top::Args),
    /// Show all sandboxes on one page in the browser.
    Ui(ui::Args),
    /// Print the resolved spec.
    Config(config::Args),
    /// Print the JSON Schema of a spec.
    Schema,
    /// Draw the spec: services, networks, volumes, seeds, ports.
    Graph(graph::Args),
    /// Draw where the time of an `up` went.
    Timeline(timeline::Args),
    /// Tell whether this machine is fit.
    Doctor(doctor::Args),
    /// Print what completes verbs, sandboxes and services in a shell.
    Completions(completions::Args),
}

impl Verb {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Init(args) => init::run(*args, context).await,
            Self::Up(args) => up::run(*args, context).await,
            Self::Down(args) => down::run(args, context).await,
            Self::Run(args) => run::run(*args, context).await,
            Self::Shell(args) => run::shell(*args, context).await,
            Self::Extend(args) => extend::run(args, context).await,
            Self::Start(args) => lifecycle::run(args, lifecycle::Change::Start, context).await,
            Self::Stop(args) => args.stop(context).await,
            Self::Restart(args) => args.restart(context).await,
            Self::Build(args) => images::build(args, context).await,
            Self::Pull(args) => images::pull(args, context).await,
            Self::Bake(args) => images::bake(*args, context).await,
            Self::Reset(args) => reset::run(args, context).await,
            Self::Fork(args) => fork::run(args, context).await,
            Self::Snapshot(args) => snapshot::run(args, context).await,
            Self::Artifacts(args) => artifacts::run(args, context).await,
            Self::Egress(args) => egress::run(args, context).await,
            Self::Fault(args) => fault::run(args, context).await,
            Self::Gc(args) => gc::run(args, context).await,
            Self::Ls(args) => ls::run(args, context).await,
            Self::Ps(args) => ps::run(args, context).await,
            Self::Logs(args) => logs::run(args, context).await,
            Self::Exec(args) => exec::run(args, context).await,
            Self::Task(args) => task::run(args, context).await,
            Self::Port(args) => port::run(args, context).await,
            Self::Env(args) => env::run(args, context).await,
            Self::Cp(args) => cp::run(args, context).await,
            Self::Open(args) => open::run(args, context).await,
            Self::Events(args) => events::run(args, context).await,
            Self::Top(args) => top::run(args, context).await,
            Self::Ui(args) => ui::run(args, context).await,
            Self::Config(args) => config::run(&args, context),
            Self::Schema => Ok(config::schema()),
            Self::Graph(args) => graph::run(&args, context),
            Self::Timeline(args) => timeline::run(args, context).await,
            Self::Doctor(args) => doctor::run(args, context).await,
            Self::Completions(args) => Ok(completions::run(&args)),
        }
    }
}

/// Parses the command line, runs its verb, reports what failed.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|word| word == "agent") {
        return crate::agent::run(&arguments[2..]);
    }
    // A shell that asks for completions gets them, and that is all.
    clap_complete::CompleteEnv::with_factory(Cli::command).var(completions::VARIABLE).complete();
    let parsed = help::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return failure::of_usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(&cli.globals, &Failure::from(error)).into(),
    };
    let globals = match cli.globals.clone().or_environment() {
        Ok(globals) => globals,
        Err(error) => return failure::report(&cli.globals, &error).into(),
    };
    let context = Context::new(globals);
    let outcome = runtime.block_on(cli.verb.run(&context));
    // What still reads a terminal or a pipe must not hold the process back.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => failure::report(&cli.globals, &error).into(),
    }
}

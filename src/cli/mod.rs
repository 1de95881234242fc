//! The command line: clap types, and one file per verb.
//!
//! A verb parses its arguments, makes one call to the core and converts the outcome into an [`Exit`]. What all verbs
//! share (the engine, the selected sandbox, the reporter) is in [`Context`].

mod artifacts;
mod attach;
mod bake;
mod build;
mod completions;
mod config;
mod cp;
mod create;
mod diff;
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
mod kill;
mod lend;
mod logs;
mod ls;
mod mcp;
mod open;
mod pause;
mod port;
mod ps;
mod pull;
mod push;
mod repro;
mod reset;
mod restart;
mod rm;
mod run;
mod scale;
mod schema;
mod shell;
mod snapshot;
mod snapshot_spec;
mod start;
mod stats;
mod stop;
mod support;
mod task;
#[cfg(test)]
mod tests;
mod timeline;
mod ui;
mod unpause;
mod up;
mod version;
mod volumes;
mod wait;
mod watch;
mod welcome;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use support::options::LeadingOptions;
use support::{
    build_options, change, command, complete, compose, consent, context, failure, help, host_environment,
    moment,
};

pub use support::context::Context;
pub use support::exit::Exit;
pub use support::failure::Failure;
pub use support::options::{Globals, SpecOptions};

/// An isolated, seeded, disposable environment from one spec, gone when you are done
#[derive(Debug, Parser)]
#[command(name = "sandbox", version, disable_help_subcommand = true)]
#[command(args_override_self = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or spec, 3 no engine, 4 no such sandbox, 130 interrupted"
)]
pub struct Cli {
    /// What every verb takes.
    #[command(flatten)]
    pub globals: Globals,
    /// Options before the verb.
    #[command(flatten)]
    pub leading: LeadingOptions,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a first spec, from a Compose file or from a few questions
    Init(Box<init::Args>),
    /// Build the sandbox and show how to reach it; Ctrl-C destroys it
    Up(Box<up::Args>),
    /// Destroy sandboxes with all their data
    Down(down::Args),
    /// Build a sandbox, run a command with its addresses, destroy it
    Run(Box<run::Args>),
    /// Build a sandbox, open a shell with its addresses, destroy it
    Shell(Box<shell::Args>),
    /// Add to a sandbox's remaining time, or set its deadline
    Extend(extend::Args),
    /// Create the containers without starting them
    Create(Box<create::Args>),
    /// Start stopped services
    Start(start::Args),
    /// Stop services; their data stays
    Stop(stop::Args),
    /// Stop and start services
    Restart(restart::Args),
    /// Send a signal to services
    Kill(kill::Args),
    /// Pause the processes of services
    Pause(pause::Args),
    /// Resume the processes of paused services
    Unpause(unpause::Args),
    /// Remove the containers of stopped services
    Rm(rm::Args),
    /// Change how many containers services have
    Scale(scale::Args),
    /// Apply changes of files and of the spec as they are made
    Watch(Box<watch::Args>),
    /// Build images
    Build(build::Args),
    /// Pull images
    Pull(pull::Args),
    /// Push built images to their registries
    Push(push::Args),
    /// List the images of a sandbox's containers
    Images(images::Args),
    /// Run the seeds ahead of the first `up`
    Bake(Box<bake::Args>),
    /// Run the command of a snapshot again and compare the failure
    Repro(Box<repro::Args>),
    /// Restore data to its initial state, or to a snapshot
    Reset(reset::Args),
    /// List what changed in a sandbox's data since it was cloned
    Diff(diff::Args),
    /// Copy a sandbox with its current data
    Fork(fork::Args),
    /// Lend a fresh database to every test
    Lend(Box<lend::Args>),
    /// Take, list, export and import snapshots of data
    Snapshot(snapshot::Args),
    /// List a sandbox's volumes
    Volumes(volumes::Args),
    /// List or fetch the logs and artifacts of destroyed sandboxes
    Artifacts(artifacts::Args),
    /// Show blocked connections and the rules that allow them
    Egress(egress::Args),
    /// Add latency, loss or a cut to a service's traffic
    Fault(fault::Args),
    /// Show the disk use of snapshots and baselines, remove unused ones
    Gc(gc::Args),
    /// List sandboxes
    Ls(ls::Args),
    /// List a sandbox's services and their addresses
    Ps(ps::Args),
    /// Show the output of services
    Logs(logs::Args),
    /// Attach this terminal to a service's process
    Attach(attach::Args),
    /// Run a command in a service
    Exec(exec::Args),
    /// Run a named command of the spec, or list them
    Task(task::Args),
    /// Print the host address of a service's port
    Port(port::Args),
    /// Print a sandbox's addresses as environment variables
    Env(env::Args),
    /// Copy files into or out of a service
    Cp(cp::Args),
    /// Open the spec's pages, or a service, in the browser
    Open(open::Args),
    /// Show what the spec says to its users, and its tasks
    Welcome(welcome::Args),
    /// Show the events of a sandbox, and follow them
    Events(events::Args),
    /// Wait until services stop
    Wait(wait::Args),
    /// Show CPU, memory, network and disk use of services
    #[command(visible_alias = "top")]
    Stats(stats::Args),
    /// Show all sandboxes on one page in the browser
    Ui(ui::Args),
    /// Print the resolved spec
    Config(config::Args),
    /// Print the JSON Schema of a spec
    Schema,
    /// Draw the spec: services, networks, volumes, seeds, ports
    Graph(graph::Args),
    /// Draw how long each step of an `up` took
    Timeline(timeline::Args),
    /// Serve sandboxes to a coding agent (Model Context Protocol)
    Mcp(mcp::Args),
    /// Check whether this machine can run sandboxes
    Doctor(doctor::Args),
    /// Print the version of sandbox and of the engine
    Version(version::Args),
    /// Print shell completions, or install the man pages
    Completions(completions::Args),
}

impl Verb {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Init(args) => init::run(*args, context).await,
            Self::Up(args) => up::run(*args, context).await,
            Self::Down(args) => down::run(args, context).await,
            Self::Run(args) => run::run(*args, context).await,
            Self::Shell(args) => shell::run(*args, context).await,
            Self::Extend(args) => extend::run(args, context).await,
            Self::Create(args) => create::run(*args, context).await,
            Self::Start(args) => start::run(args, context).await,
            Self::Stop(args) => stop::run(args, context).await,
            Self::Restart(args) => restart::run(args, context).await,
            Self::Kill(args) => kill::run(args, context).await,
            Self::Pause(args) => pause::run(args, context).await,
            Self::Unpause(args) => unpause::run(args, context).await,
            Self::Rm(args) => rm::run(args, context).await,
            Self::Scale(args) => scale::run(args, context).await,
            Self::Watch(args) => watch::run(*args, context).await,
            Self::Build(args) => build::run(args, context).await,
            Self::Pull(args) => pull::run(args, context).await,
            Self::Push(args) => push::run(args, context).await,
            Self::Images(args) => images::run(args, context).await,
            Self::Bake(args) => bake::run(*args, context).await,
            Self::Repro(args) => Box::pin(repro::run(*args, context)).await,
            Self::Reset(args) => reset::run(args, context).await,
            Self::Diff(args) => diff::run(args, context).await,
            Self::Fork(args) => fork::run(args, context).await,
            Self::Lend(args) => lend::run(*args, context).await,
            Self::Snapshot(args) => snapshot::run(args, context).await,
            Self::Volumes(args) => volumes::run(args, context).await,
            Self::Artifacts(args) => artifacts::run(args, context).await,
            Self::Egress(args) => egress::run(args, context).await,
            Self::Fault(args) => fault::run(args, context).await,
            Self::Gc(args) => gc::run(args, context).await,
            Self::Ls(args) => ls::run(args, context).await,
            Self::Ps(args) => ps::run(args, context).await,
            Self::Logs(args) => logs::run(args, context).await,
            Self::Attach(args) => attach::run(args, context).await,
            Self::Exec(args) => exec::run(args, context).await,
            Self::Task(args) => task::run(args, context).await,
            Self::Port(args) => port::run(args, context).await,
            Self::Env(args) => env::run(args, context).await,
            Self::Cp(args) => cp::run(args, context).await,
            Self::Open(args) => open::run(args, context).await,
            Self::Welcome(args) => welcome::run(args, context).await,
            Self::Events(args) => events::run(args, context).await,
            Self::Wait(args) => wait::run(args, context).await,
            Self::Stats(args) => stats::run(args, context).await,
            Self::Ui(args) => ui::run(args, context).await,
            Self::Config(args) => config::run(&args, context),
            Self::Schema => Ok(schema::run()),
            Self::Graph(args) => graph::run(&args, context),
            Self::Timeline(args) => timeline::run(args, context).await,
            Self::Mcp(args) => mcp::run(args, context).await,
            Self::Doctor(args) => doctor::run(args, context).await,
            Self::Version(args) => version::run(args, context).await,
            Self::Completions(args) => completions::run(&args),
        }
    }
}

/// The command line with the completion of `--name`, whose values come from the engine.
fn completed_command() -> clap::Command {
    Cli::command().mut_arg("name", |name| name.add(ArgValueCandidates::new(complete::sandboxes)))
}

/// Parses the command line, runs the verb and reports failures.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|word| word == "agent") {
        return crate::agent::run(&arguments[2..]);
    }
    // A request for completions is answered here and exits.
    clap_complete::CompleteEnv::with_factory(completed_command).var(completions::VARIABLE).complete();
    let arguments = help::asked(arguments);
    let parsed =
        help::command().try_get_matches_from(&arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return compose::of_usage(&error, &arguments),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(cli.globals.failure_format(), &Failure::from(error)).into(),
    };
    let globals = match cli.globals.clone().or_environment() {
        Ok(globals) => globals,
        Err(error) => return failure::report(cli.globals.failure_format(), &error).into(),
    };
    crate::report::style::set_colours(cli.leading.ansi.into());
    let context = Context::new(globals, cli.leading.spec.clone());
    let outcome = runtime.block_on(cli.verb.run(&context));
    // A thread that still reads a terminal or a pipe must not delay the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => failure::report(cli.globals.failure_format(), &error).into(),
    }
}

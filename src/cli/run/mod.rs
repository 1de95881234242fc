//! `run`: runs a command with a new sandbox, or with an existing one that stays. With `--matrix`, it runs itself once for
//! each entry.

mod entry;
mod matrix;
mod matrix_run;
mod recording;
mod report_files;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use super::build_options::BuildOptions;
use super::command::{Command, CommandTarget, OURS, Target};
use super::context::{ReportOptions, Reporting};
use super::snapshot_spec::{Source, source};
use super::{Context, Exit, Failure, SpecOptions, complete};
use crate::agent::client::{Keeper, Options};
use crate::report;
use crate::report::Output;
use crate::report::ci::groups::LogFolding;
use crate::report::ci::record::{RunEnd, RunRecord, Variable};
use crate::session::inspect::NoSandbox;
use crate::session::lifecycle::control::StopReason;
use crate::session::lifecycle::open;
use crate::session::lifecycle::run as session;
use crate::session::lifecycle::run::{CommandFuture, Outcome, Purpose, StartCommand};
use crate::session::request::{InstanceChoice, UpOptions};
use crate::spec::{HostAccess, Loaded, SandboxName, ServiceName};
use clap_complete::engine::ArgValueCandidates;
use matrix::Axis;
use recording::Recording;
use report_files::ReportFiles;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecOptions,
    #[command(flatten)]
    build: BuildOptions,
    /// Service to run the command in (default: this machine)
    #[arg(long = "in", value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    service: Option<ServiceName>,
    /// Run the command for this existing sandbox, which stays, instead of building one
    #[arg(long, value_name = "NAME", conflicts_with_all = ["matrix", "artifacts"],
          add = ArgValueCandidates::new(complete::sandboxes))]
    attach: Option<SandboxName>,
    #[command(flatten)]
    report: RunReportOptions,
    /// Command and its arguments
    #[arg(value_name = "CMD", required = true, last = true)]
    command: Vec<OsString>,
}

/// The reports of a run, and its repetition over a matrix.
#[derive(Debug, Default, clap::Args)]
struct RunReportOptions {
    /// Run once for each value of an environment variable, each time in a sandbox of its own; several make all
    /// combinations
    #[arg(long, value_name = "KEY=A,B")]
    matrix: Vec<Axis>,
    /// Number of sandboxes of a matrix at the same time (default: number of CPUs)
    #[arg(long, value_name = "NUMBER", requires = "matrix")]
    parallel: Option<NonZeroUsize>,
    /// Write a JUnit report: seeds, readiness and command of each run, with times and output
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a summary in Markdown (default: `GITHUB_STEP_SUMMARY`)
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Copy artifacts and the logs of all services to this directory (default: `sandbox-artifacts/NAME` beside the
    /// spec, if it has artifacts)
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// File for the record of an entry of a matrix
    #[arg(long, value_name = "FILE", hide = true)]
    entry_record: Option<PathBuf>,
    /// Variable of an entry of a matrix
    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    entry: Vec<Variable>,
}

impl RunReportOptions {
    /// Whether this process runs an entry of another's matrix.
    fn is_entry(&self) -> bool {
        self.entry_record.is_some()
    }

    /// How the log is folded. The log of an entry is folded by the process that started it.
    fn folding(&self) -> Option<LogFolding> {
        if self.is_entry() { None } else { LogFolding::detect(|name| std::env::var(name).ok()) }
    }
}

/// Runs `run`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    if !args.report.matrix.is_empty() && !args.report.is_entry() {
        return matrix_run::run(&args, context).await;
    }
    let place = args.service.clone().map_or(CommandTarget::Host, CommandTarget::Service);
    let files = ReportFiles::of(&args.report)?;
    let recording = Recording::start(files, &args.report.entry, &args.command)?;
    let environment = args.report.entry.iter().map(|it| (it.name.clone(), it.value.clone())).collect();
    let command =
        Command { environment, capture: recording.capture(), ..Command::new(place, args.command.clone()) };
    let folding = args.report.folding();
    let reporter = recording.reporter(report::of_run(context.globals.progress.into(), folding));
    let start = start(command, Some(recording.clone()));
    let reporting = Context::reporter_around(reporter, ReportOptions::default());
    let outcome = if let Some(name) = &args.attach {
        visit(name, args.spec.host_access(), start, reporting, context).await
    } else {
        let artifacts = args.report.artifacts.as_ref().map(std::path::absolute).transpose()?;
        let instance = InstanceChoice::Numbered { verb: "run" };
        let options = UpOptions { artifacts, instance, ..UpOptions::default() };
        let Args { spec, build: options_of_build, service, .. } = &args;
        let service = service.clone();
        let run = SandboxRun { spec, build: options_of_build, from: None, service, options };
        build(run, start, reporting, context).await
    };
    let (record, written) = recording.finish(end(&outcome), outcome.as_ref().err());
    if let Some(folding) = folding {
        annotate(folding, &[record]);
    }
    let exit = finish(outcome, context)?;
    exit_unless(written, exit, context)
}

/// The exit of a run. A report that was not written fails a run that succeeded.
fn exit_unless(written: Result<(), Failure>, exit: Exit, context: &Context) -> Result<Exit, Failure> {
    match written {
        Ok(()) => Ok(exit),
        Err(failure) if exit.code() == 0 => Err(failure),
        Err(failure) => {
            super::failure::report(context.globals.failure_format(), &failure);
            Ok(exit)
        }
    }
}

/// Shows what failed beside the job of a CI service.
fn annotate(folding: LogFolding, records: &[RunRecord]) {
    let mut output = Output::stderr();
    for record in records {
        for (case, problem) in record.problems() {
            let title = format!("{}: {}", record.label(), case.title());
            if let Some(line) = folding.annotation(&title, problem) {
                output.bytes(line.as_bytes());
            }
        }
    }
}

/// Starts a command for a sandbox that is not known yet.
pub(super) type StartWith = Box<dyn FnOnce(Target) -> StartCommand + Send>;

pub(super) fn start(command: Command, recording: Option<Recording>) -> StartWith {
    Box::new(move |target| {
        Box::new(move |stop| -> CommandFuture {
            Box::pin(async move {
                let code = command.run_until(&target, stop).await;
                if let Some(recording) = recording {
                    recording.command_exited(code);
                }
                code
            })
        })
    })
}

/// Runs a command with an existing sandbox and leaves the sandbox running.
pub(super) async fn visit(
    name: &SandboxName,
    access: HostAccess,
    start: StartWith,
    reporting: Reporting,
    context: &Context,
) -> Result<Outcome, Failure> {
    let engine = context.engine().await?;
    let keeper = Keeper::ensure(&engine, Options::from_env()?).await?;
    let standings = keeper.sandboxes().await?;
    let Some(standing) = standings.iter().find(|standing| standing.name == *name) else {
        let known = standings.iter().map(|standing| standing.name.to_string()).collect();
        return Err(Failure::NoSandbox(NoSandbox::Named { name: name.to_string(), known }));
    };
    let target = Target { engine: Arc::clone(&engine), scope: context.scope()?, name: name.clone(), access };
    let _use = super::keeper::UsageGuard::of(&engine, name.as_str());
    let ended = session::visit(&keeper, &reporting.events, name, &standing.sandbox, start(target)).await;
    reporting.finish().await;
    Ok(Outcome::Ended(StopReason::CommandEnded(ended?)))
}

/// A sandbox for one command.
pub(super) struct SandboxRun<'a> {
    /// The spec to use.
    pub spec: &'a SpecOptions,
    /// How it is built.
    pub build: &'a BuildOptions,
    /// The snapshot that the data comes from (default: what `build` names).
    pub from: Option<Source>,
    /// The service that the command runs in.
    pub service: Option<ServiceName>,
    /// Artifacts and instance.
    pub options: UpOptions,
}

/// What a run builds from.
pub(super) struct RunInput {
    from: Option<Source>,
    /// The spec.
    pub loaded: Loaded,
}

/// Resolves the snapshot and loads the spec of a run.
pub(super) async fn input(run: &mut SandboxRun<'_>, context: &Context) -> Result<RunInput, Failure> {
    let from = match run.from.take() {
        Some(from) => Some(from),
        None => source(context, run.build.from.as_deref()).await?,
    };
    // A service's profile is active if the user names the service.
    let named: Vec<String> = run.service.iter().map(ToString::to_string).collect();
    let loaded = super::snapshot_spec::loaded(context, run.spec, from.as_ref(), &named).await?;
    let loaded = run.build.applied(loaded)?;
    if let Some(service) = run.service.as_ref().filter(|name| !loaded.spec.services.contains_key(*name)) {
        return Err(Failure::usage(format!("the spec has no service `{service}`"), None));
    }
    Ok(RunInput { from, loaded })
}

/// Builds a sandbox, runs a command with it and destroys it.
pub(super) async fn build(
    mut run: SandboxRun<'_>,
    start: StartWith,
    reporting: Reporting,
    context: &Context,
) -> Result<Outcome, Failure> {
    let input = input(&mut run, context).await?;
    build_from(run, input, start, reporting, context).await
}

/// Same as [`build`], for what was loaded already.
pub(super) async fn build_from(
    run: SandboxRun<'_>,
    input: RunInput,
    start: StartWith,
    reporting: Reporting,
    context: &Context,
) -> Result<Outcome, Failure> {
    let (SandboxRun { spec, build, options, .. }, RunInput { from, loaded }) = (run, input);
    let engine = context.engine().await?;
    let scope = context.scope()?;
    reporting.warn(&loaded.warnings);
    let UpOptions { artifacts, instance, .. } = options;
    let opening = UpOptions { artifacts, instance, ..build.opening(context, spec, &[], from.as_ref()) };
    let opened = open::open(&engine, &scope, &loaded, &opening, reporting.events.clone()).await;
    let outcome = match opened {
        Ok(session) => {
            let access = context.spec_options(spec).host_access();
            let target = Target { engine, scope, name: session.order.name.clone(), access };
            session.run(Purpose::Command(start(target))).await
        }
        Err(error) => Err(error),
    };
    reporting.finish().await;
    Ok(outcome?)
}

/// How a run ended, for its record.
fn end(outcome: &Result<Outcome, Failure>) -> RunEnd {
    match outcome {
        Ok(Outcome::Ended(StopReason::CommandEnded(code))) => RunEnd::Exited { code: *code },
        Ok(Outcome::Ended(reason)) => {
            RunEnd::Stopped { code: Exit::of_signal(*reason).map_or(OURS, Exit::code).into() }
        }
        Ok(Outcome::LeftUp) | Err(Failure::Session(_)) => RunEnd::Exited { code: OURS.into() },
        Err(failure) => RunEnd::Exited { code: failure.exit().code().into() },
    }
}

/// Reports the outcome of a command with its sandbox.
pub(super) fn finish(outcome: Result<Outcome, Failure>, context: &Context) -> Result<Exit, Failure> {
    match outcome {
        Ok(Outcome::Ended(StopReason::CommandEnded(code))) => {
            Ok(Exit::Command(u8::try_from(code).unwrap_or(1)))
        }
        Ok(Outcome::Ended(reason)) => Ok(Exit::of_signal(reason).unwrap_or(Exit::Command(OURS))),
        Ok(Outcome::LeftUp) => Ok(Exit::Command(OURS)),
        Err(failure @ Failure::Session(_)) => {
            super::failure::report(context.globals.failure_format(), &failure);
            Ok(Exit::Command(OURS))
        }
        Err(failure) => Err(failure),
    }
}

//! `run`: runs a command with a new sandbox, or with an existing one that stays.

use std::ffi::OsString;
use std::sync::Arc;

use super::build_options::BuildOptions;
use super::command::{Command, CommandTarget, OURS, Target};
use super::{Context, Exit, Failure, SpecOptions, complete};
use crate::agent::client::{Keeper, Options};
use crate::session::error::SessionError;
use crate::session::inspect::NoSandbox;
use crate::session::lifecycle::control::StopReason;
use crate::session::lifecycle::open::{self, Which};
use crate::session::lifecycle::run as session;
use crate::session::lifecycle::run::{CommandFuture, Outcome, Purpose, StartCommand};
use crate::spec::{SandboxName, ServiceName};
use clap_complete::engine::ArgValueCandidates;

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
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::sandboxes))]
    attach: Option<SandboxName>,
    /// Command and its arguments
    #[arg(value_name = "CMD", required = true, last = true)]
    command: Vec<OsString>,
}

/// Runs `run`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let command =
        Command::new(args.service.clone().map_or(CommandTarget::Host, CommandTarget::Service), args.command);
    match args.attach {
        Some(name) => visit(&name, command, context).await,
        None => build(&args.spec, &args.build, args.service, command, Which::Another, context).await,
    }
}

/// Runs a command with an existing sandbox and leaves the sandbox running.
pub(super) async fn visit(name: &SandboxName, command: Command, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let keeper = Keeper::ensure(&engine, Options::from_env()?).await?;
    let standings = keeper.sandboxes().await?;
    let Some(standing) = standings.iter().find(|standing| standing.name == *name) else {
        let known = standings.iter().map(|standing| standing.name.to_string()).collect();
        return Err(Failure::NoSandbox(NoSandbox::Named { name: name.to_string(), known }));
    };
    let target = Target { engine: Arc::clone(&engine), scope: context.scope()?, name: name.clone() };
    let _use = super::keeper::UsageGuard::of(&engine, name.as_str());
    let reporting = context.reporter();
    let ended =
        session::visit(&keeper, &reporting.events, name, &standing.sandbox, start(command, target)).await;
    reporting.finish().await;
    finish(ended.map(|code| Outcome::Ended(StopReason::CommandEnded(code))), context)
}

fn start(command: Command, target: Target) -> StartCommand {
    Box::new(move |stop| -> CommandFuture { Box::pin(async move { command.run_until(&target, stop).await }) })
}

/// Builds a sandbox, runs a command with it and destroys it.
pub(super) async fn build(
    spec: &SpecOptions,
    build: &BuildOptions,
    service: Option<ServiceName>,
    command: Command,
    which: Which,
    context: &Context,
) -> Result<Exit, Failure> {
    let from = super::snapshot_spec::source(context, build.from.as_deref()).await?;
    // A service's profile is active if the user names the service.
    let named: Vec<String> = service.iter().map(ToString::to_string).collect();
    let loaded = build.applied(super::snapshot_spec::loaded(context, spec, from.as_ref(), &named).await?)?;
    if let Some(service) = service.as_ref().filter(|name| !loaded.spec.services.contains_key(*name)) {
        return Err(Failure::usage(format!("the spec has no service `{service}`"), None));
    }
    let engine = context.engine().await?;
    let scope = context.scope()?;
    let reporting = context.reporter();
    reporting.warn(&loaded.warnings);
    let opening = open::UpOptions { which, ..build.opening(context, spec, &[], from.as_ref()) };
    let opened = open::open(&engine, &scope, &loaded, &opening, reporting.events.clone()).await;
    let outcome = match opened {
        Ok(session) => {
            let target = Target { engine, scope, name: session.order.name.clone() };
            session.run(Purpose::Command(start(command, target))).await
        }
        Err(error) => Err(error),
    };
    reporting.finish().await;
    finish(outcome, context)
}

fn finish(outcome: Result<Outcome, SessionError>, context: &Context) -> Result<Exit, Failure> {
    match outcome {
        Ok(Outcome::Ended(StopReason::CommandEnded(code))) => {
            Ok(Exit::Command(u8::try_from(code).unwrap_or(1)))
        }
        Ok(Outcome::Ended(reason)) => Ok(Exit::of_signal(reason).unwrap_or(Exit::Command(OURS))),
        Ok(Outcome::LeftUp) => Ok(Exit::Command(OURS)),
        Err(error) => {
            super::failure::report(&context.globals, &Failure::from(error));
            Ok(Exit::Command(OURS))
        }
    }
}

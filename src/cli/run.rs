//! `sandbox run` and `sandbox shell`: a sandbox for as long as one command runs.

use std::ffi::OsString;

use super::command::{Command, OURS, Place, Target};
use super::up::BuildOptions;
use super::{Context, Exit, Failure, SpecOptions};
use crate::session::control::StopReason;
use crate::session::open;
use crate::session::run::{CommandFuture, Outcome, Purpose};
use crate::spec::ServiceName;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecOptions,
    #[command(flatten)]
    build: BuildOptions,
    /// Run it in this service, not on the host.
    #[arg(long = "in", value_name = "SERVICE")]
    service: Option<ServiceName>,
    /// The command.
    #[arg(value_name = "CMD", required = true, last = true)]
    command: Vec<OsString>,
}

/// Arguments of `shell`.
#[derive(Debug, clap::Args)]
pub struct ShellArgs {
    #[command(flatten)]
    spec: SpecOptions,
    #[command(flatten)]
    build: BuildOptions,
}

/// Runs `run`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    session(&args.spec, &args.build, args.service, args.command, context).await
}

/// Runs `shell`.
pub async fn shell(args: ShellArgs, context: &Context) -> Result<Exit, Failure> {
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    session(&args.spec, &args.build, None, vec![shell], context).await
}

async fn session(
    spec: &SpecOptions,
    build: &BuildOptions,
    service: Option<ServiceName>,
    command: Vec<OsString>,
    context: &Context,
) -> Result<Exit, Failure> {
    let from = super::up::source(context, build.from.as_deref()).await?;
    let loaded = build.applied(super::up::loaded(context, spec, from.as_ref(), &[]).await?)?;
    if let Some(service) = service.as_ref().filter(|name| !loaded.spec.services.contains_key(*name)) {
        return Err(Failure::usage(format!("the spec has no service `{service}`"), None));
    }
    let engine = context.engine().await?;
    let scope = context.scope()?;
    let reporting = context.reporter();
    reporting.warn(&loaded.warnings);
    let opening = build.opening(context, spec, &[], from);
    let opened = open::open(&engine, &scope, &loaded, &opening, reporting.events.clone()).await;
    let outcome = match opened {
        Ok(session) => {
            let target = Target { engine, scope, name: session.order.name.clone() };
            let command = Command::new(service.map_or(Place::Host, Place::Service), command);
            let start = move || -> CommandFuture { Box::pin(async move { command.run(&target).await }) };
            session.run(Purpose::Command(Box::new(start))).await
        }
        Err(error) => Err(error),
    };
    reporting.finish().await;
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

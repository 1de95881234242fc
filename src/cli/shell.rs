//! `shell`: opens a shell with the addresses of the folder's sandbox, which is built if it does not exist.

use super::build_options::BuildOptions;
use super::command::{Command, CommandTarget};
use super::context::ReportOptions;
use super::run::{SandboxRun, build, finish, start, visit};
use super::{Context, Exit, Failure, SpecOptions};
use crate::agent::protocol::LeaseStatus;
use crate::session::request::UpOptions;
use crate::spec::SandboxName;

/// Arguments of `shell`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecOptions,
    #[command(flatten)]
    build: BuildOptions,
}

/// Runs `shell`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let start = start(Command::new(CommandTarget::Host, vec![shell]), None);
    let reporting = context.reporter_with(ReportOptions { welcome: true, ..ReportOptions::default() });
    let outcome = if let Some(name) = held_elsewhere(context).await? {
        visit(&name, args.spec.host_access(), start, reporting, context).await
    } else {
        let (spec, options) = (&args.spec, UpOptions::default());
        let run = SandboxRun { spec, build: &args.build, from: None, service: None, options };
        build(run, start, reporting, context).await
    };
    finish(outcome, context)
}

/// The sandbox of the folder, if another session holds its lease.
async fn held_elsewhere(context: &Context) -> Result<Option<SandboxName>, Failure> {
    let Some(name) = context.derived_name() else { return Ok(None) };
    let Some(keeper) = super::keeper::running(&context.engine().await?).await? else { return Ok(None) };
    let held = keeper.sandboxes().await?.into_iter().any(|standing| {
        standing.name == name && matches!(standing.hold, LeaseStatus::Held | LeaseStatus::Suspended)
    });
    Ok(Some(name).filter(|_| held))
}

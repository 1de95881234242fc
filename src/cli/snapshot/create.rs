//! `snapshot create`: keeps a sandbox's current data.

use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;

use super::change::existing;
use super::{Context, Exit, Failure, complete, named};
use crate::cli::keeper::UsageGuard;
use crate::cli::support::command::Target;
use crate::cli::support::repro;
use crate::data::manifest::Consistency;
use crate::data::repro::Repro;
use crate::session::event::Event;
use crate::session::existing::{ExistingSandbox, Retention, SnapshotMode, SnapshotRequest};
use crate::spec::ServiceName;
use crate::storage::SetPath;

/// How long services may take to get ready again.
const PATIENCE: Duration = Duration::from_mins(5);

/// Exit codes of a command that was interrupted.
const INTERRUPTED: [i32; 2] = [130, 143];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the snapshot
    #[arg(value_name = "SNAPSHOT", value_parser = named)]
    snapshot: SetPath,
    /// Pause the services during the copy instead of stopping them: faster, but as after a power failure
    #[arg(long)]
    crash: bool,
    /// Note to keep with the snapshot
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Command that shows the bug: it is run once after the copy, and kept with its exit code and the end of its output
    #[arg(long, value_name = "CMD")]
    repro: Option<String>,
    /// Service to run the command in (default: this machine)
    #[arg(long = "in", value_name = "SERVICE", requires = "repro", add = ArgValueCandidates::new(complete::services))]
    service: Option<ServiceName>,
}

/// Runs `snapshot create`.
pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let Args { snapshot: to, crash, note, repro, service } = args;
    let reporting = context.reporter();
    let mode = if crash { SnapshotMode::Crash } else { SnapshotMode::Clean };
    let request = SnapshotRequest { note, ..SnapshotRequest::new(mode, Retention::UntilRemoved, PATIENCE) };
    let outcome = async {
        let existing = existing(context, &reporting).await?;
        let consistency = match repro {
            None => {
                let work = existing.snapshot(&to, request);
                existing.busy(&format!("taking snapshot {}", to.name), work).await?
            }
            Some(command) => match with_repro(context, &existing, &to, request, &command, service).await? {
                Some(consistency) => consistency,
                None => return Ok(Exit::Interrupted),
            },
        };
        let text = format!(
            "snapshot `{}` is taken ({consistency}); what lived in memory only is not in it",
            to.name
        );
        existing.tell(Event::Notice { text });
        Ok(Exit::Done)
    }
    .await;
    reporting.finish().await;
    outcome
}

/// Takes a snapshot, runs the command with the services that were started again, and publishes both. The data is that
/// from before the command, since the command may change it. `None` if the user interrupted the command.
async fn with_repro(
    context: &Context,
    existing: &ExistingSandbox,
    to: &SetPath,
    request: SnapshotRequest,
    command: &str,
    service: Option<ServiceName>,
) -> Result<Option<Consistency>, Failure> {
    if let Some(service) = &service {
        existing.services(std::slice::from_ref(service))?;
    }
    let work = existing.clone_data(to, request);
    let taken = existing.busy(&format!("taking snapshot {}", to.name), work).await?;
    existing.context.events.hand_over().await;
    let (run, capture) = repro::command(command, service.as_ref());
    let target = Target {
        engine: context.engine().await?,
        scope: context.scope()?,
        name: existing.name.clone(),
        access: crate::spec::HostAccess::Refused,
    };
    let usage = UsageGuard::of(&target.engine, existing.name.as_str());
    let result = repro::result(run.run(&target).await, &capture);
    drop(usage);
    let repro = Repro { command: command.to_owned(), service, result };
    let code = repro.result.exit_code;
    if INTERRUPTED.contains(&code) {
        existing.discard(taken).await?;
        return Ok(None);
    }
    if repro::did_not_run(code) {
        existing.discard(taken).await?;
        let what = format!("cannot run {} (exit code {code}): the snapshot is not taken", repro.title());
        let hint = "the command runs with `sh -c`, on this machine or with `--in SERVICE` in a service";
        return Err(Failure::failed(what, Some(hint.to_owned())));
    }
    let text = match code {
        0 => format!("{} succeeds: whether it shows a bug depends on its output", repro.title()),
        _ => format!("{} fails with exit code {code}", repro.title()),
    };
    existing.tell(Event::Notice { text });
    Ok(Some(existing.publish(taken.with_repro(repro), to).await?))
}

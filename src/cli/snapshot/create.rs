//! `snapshot create`: keeps a sandbox's current data.

use std::time::Duration;

use super::change::existing;
use super::{Context, Exit, Failure, named};
use crate::session::event::Event;
use crate::session::existing::{Retention, SnapshotMode};
use crate::storage::SetPath;

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
}

/// Runs `snapshot create`.
pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let Args { snapshot: to, crash, note } = args;
    let reporting = context.reporter();
    let manner = if crash { SnapshotMode::Crash } else { SnapshotMode::Clean };
    let outcome = async {
        let existing = existing(context, &reporting).await?;
        let work = existing.snapshot(&to, manner, note, Retention::UntilRemoved, Duration::from_mins(5));
        let consistency = existing.busy(&format!("taking snapshot {}", to.name), work).await?;
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

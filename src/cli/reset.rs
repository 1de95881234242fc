//! `sandbox reset`: restores data to the baseline or to a snapshot.

use std::time::Duration;

use super::change::existing;
use super::snapshot::named;
use super::{Context, Exit, Failure, complete};
use crate::session::event::Event;
use crate::session::existing::{ExistingSandbox, Target};
use crate::spec::ServiceName;
use crate::storage::SetPath;
use clap_complete::engine::ArgValueCandidates;

/// Arguments of `reset`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service or volume to restore (default: everything)
    #[arg(value_name = "SERVICE|VOLUME", add = ArgValueCandidates::new(complete::services))]
    what: Option<String>,
    /// Snapshot to restore (default: the baseline or snapshot that the data was cloned from)
    #[arg(long, value_name = "SNAPSHOT", value_parser = named, add = ArgValueCandidates::new(complete::snapshots))]
    to: Option<SetPath>,
}

/// Runs `reset`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let reporting = context.reporter();
    let outcome = async {
        let existing = existing(context, &reporting).await?;
        let target = target(&existing, args.what.as_deref());
        let why = format!("restoring the data of {}", args.what.as_deref().unwrap_or(existing.name.as_str()));
        let work = existing.reset(&target, args.to.as_ref(), Duration::from_mins(5));
        let volumes = existing.busy(&why, work).await?;
        let names: Vec<String> = volumes.iter().map(ToString::to_string).collect();
        let text = match names.as_slice() {
            [] => "there is no data to put back".to_owned(),
            names => format!("reset {}", names.join(", ")),
        };
        existing.tell(Event::Notice { text });
        Ok(Exit::Done)
    }
    .await;
    reporting.finish().await;
    outcome
}

fn target(existing: &ExistingSandbox, what: Option<&str>) -> Target {
    match what {
        None => Target::Everything,
        Some(what) => match ServiceName::new(what) {
            Ok(service) if existing.spec.services.contains_key(&service) => Target::Service(service),
            _ => Target::Volume(what.to_owned()),
        },
    }
}

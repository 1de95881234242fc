//! `snapshot rm`: removes snapshots.

use clap_complete::engine::ArgValueCandidates;

use super::{Context, Exit, Failure, complete, missing, named, storage};
use crate::storage::SetPath;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names of the snapshots
    #[arg(value_name = "SNAPSHOT", value_parser = named, required = true, add = ArgValueCandidates::new(complete::snapshots))]
    snapshots: Vec<SetPath>,
}

/// Runs `snapshot rm`.
pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let storage = storage(context).await?;
    for path in &args.snapshots {
        storage.inspect(path).await?.ok_or_else(|| missing(path))?;
        storage.delete_set(path).await?;
    }
    Ok(Exit::Done)
}

//! `snapshot export`: writes a snapshot to a file.

use std::path::PathBuf;

use clap_complete::engine::ArgValueCandidates;

use super::transfer::{carried, carry, images};
use super::{Context, ENDING, Exit, Failure, complete, named};
use crate::data::archive::UserValues;
use crate::session::data::snapshot_transfer::RemoteEnd;
use crate::storage::SetPath;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the snapshot
    #[arg(value_name = "SNAPSHOT", value_parser = named, add = ArgValueCandidates::new(complete::snapshots))]
    snapshot: SetPath,
    /// File to write (default: SNAPSHOT.sandbox.tar.zst)
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Include the images of the services
    #[arg(long)]
    with_images: bool,
    /// Include values that came from your own variables
    #[arg(long)]
    with_env: bool,
}

/// Runs `snapshot export`.
pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let Args { snapshot, file, with_images, with_env } = args;
    let file = file.unwrap_or_else(|| PathBuf::from(format!("{}{ENDING}", snapshot.name)));
    let values = if with_env { UserValues::Included } else { UserValues::LeftOut };
    let work = async |far: &RemoteEnd| far.export(&snapshot, &file, images(with_images), values).await;
    let outcome = carry(context, work).await?;
    carried(context, &file.display().to_string(), outcome)
}

//! `snapshot import`: reads a snapshot from a file.

use std::path::{Path, PathBuf};

use super::transfer::{carried, carry, images};
use super::{Context, ENDING, Exit, Failure, named};
use crate::session::data::snapshot_transfer::RemoteEnd;
use crate::storage::SetPath;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// File to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Name of the snapshot (default: that of the file)
    #[arg(long = "as", value_name = "SNAPSHOT", value_parser = named)]
    snapshot: Option<SetPath>,
    /// Load its images even if they replace others of the same names
    #[arg(long)]
    with_images: bool,
}

/// Runs `snapshot import`.
pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let Args { file, snapshot, with_images } = args;
    let snapshot = snapshot.map_or_else(|| named_after(&file), Ok)?;
    let work = async |far: &RemoteEnd| far.import(&snapshot, &file, images(with_images)).await;
    let outcome = carry(context, work).await?;
    carried(context, &format!("snapshot `{}`", snapshot.name), outcome)
}

/// The name of a snapshot file without its extension.
fn named_after(file: &Path) -> Result<SetPath, Failure> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(ENDING).unwrap_or(&name);
    named(name).map_err(|error| Failure::usage(error, Some("give it a name with `--as NAME`".to_owned())))
}

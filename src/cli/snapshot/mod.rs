//! `snapshot`: creates, lists, inspects, exports, imports and removes snapshots. One file for each of its verbs.

mod create;
mod export;
mod import;
mod inspect;
mod ls;
mod pull;
mod push;
mod rm;
mod transfer;

use std::path::Path;
use std::sync::Arc;

use super::{Context, Exit, Failure, change, complete};
use crate::agent::client::{Keeper, Options};
use crate::data::registry::Reference;
use crate::storage::{SetPath, Storage, StorageError};

/// Arguments of `snapshot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Take a snapshot of a sandbox's current data
    Create(create::Args),
    /// List snapshots
    Ls,
    /// Show the details of a snapshot, or of a file without importing it
    Inspect(inspect::Args),
    /// Write a snapshot to a file that another machine can import
    Export(export::Args),
    /// Read a snapshot from a file, after checking all of it
    Import(import::Args),
    /// Store a snapshot in a registry; what the tag's last snapshot has is not sent again
    Push(push::Args),
    /// Read a snapshot from a registry; what is here already is not fetched again
    Pull(pull::Args),
    /// Remove snapshots
    Rm(rm::Args),
}

/// Runs `snapshot`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Create(args) => create::run(args, context).await,
        Verb::Ls => ls::run(context).await,
        Verb::Inspect(args) => inspect::run(args, context).await,
        Verb::Export(args) => export::run(args, context).await,
        Verb::Import(args) => import::run(args, context).await,
        Verb::Push(args) => push::run(args, context).await,
        Verb::Pull(args) => pull::run(args, context).await,
        Verb::Rm(args) => rm::run(args, context).await,
    }
}

/// Parses a snapshot's name.
pub(super) fn named(text: &str) -> Result<SetPath, String> {
    SetPath::snapshot(text).map_err(|error| error.to_string())
}

/// Parses a reference of a registry.
fn reference(text: &str) -> Result<Reference, String> {
    text.parse()
}

/// File name extension of snapshot files.
const ENDING: &str = ".sandbox.tar.zst";

/// The default name of an imported snapshot, from the name of its file.
pub(super) fn label(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = || file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    name.strip_suffix(ENDING).map_or_else(stem, str::to_owned)
}

/// Connects to the engine's keeper and starts it if needed.
pub(super) async fn keeper(context: &Context) -> Result<Keeper, Failure> {
    Ok(Keeper::ensure(&context.engine().await?, Options::from_env()?).await?)
}

/// The storage of the engine's keeper.
pub(super) async fn storage(context: &Context) -> Result<Arc<dyn Storage>, Failure> {
    Ok(keeper(context).await?.storage()?)
}

fn missing(path: &SetPath) -> StorageError {
    StorageError::NotFound { path: path.to_string() }
}

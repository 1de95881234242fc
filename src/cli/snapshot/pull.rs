//! `snapshot pull`: reads a snapshot from a registry.

use super::push::report;
use super::transfer::{carry, images};
use super::{Context, Exit, Failure, named, reference};
use crate::data::registry::Reference;
use crate::session::data::registry::{self, RemoteSnapshot};
use crate::session::data::snapshot_transfer::RemoteEnd;
use crate::storage::SetPath;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to pull: HOST/REPOSITORY:TAG or HOST/REPOSITORY@DIGEST
    #[arg(value_name = "REF", value_parser = reference)]
    reference: Reference,
    /// Name of the snapshot (default: the tag, or the last part of the repository)
    #[arg(long = "as", value_name = "SNAPSHOT", value_parser = named)]
    snapshot: Option<SetPath>,
    /// Load its images even if they replace others of the same names
    #[arg(long)]
    with_images: bool,
}

/// Runs `snapshot pull`.
pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let Args { reference, snapshot, with_images } = args;
    let to = snapshot.map_or_else(|| named_after(&reference), Ok)?;
    let work = async |far: &RemoteEnd| {
        let remote = RemoteSnapshot::find(&reference).await?;
        registry::pull(far, &remote, &to, images(with_images)).await
    };
    let pulled = carry(context, work).await?;
    report(context, &format!("snapshot `{}`", to.name), "fetched", &pulled);
    Ok(Exit::Done)
}

fn named_after(reference: &Reference) -> Result<SetPath, Failure> {
    let hint = || Some("give it a name with `--as NAME`".to_owned());
    named(reference.label()).map_err(|error| Failure::usage(error, hint()))
}

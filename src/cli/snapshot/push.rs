//! `snapshot push`: stores a snapshot in a registry.

use clap_complete::engine::ArgValueCandidates;

use super::transfer::{carry, images};
use super::{Context, Exit, Failure, complete, missing, named, reference, storage};
use crate::data::archive::UserValues;
use crate::data::manifest::Manifest;
use crate::data::registry::Reference;
use crate::report::{Output, amount};
use crate::session::data::registry::{self, PushRequest, RegistrySummary};
use crate::session::data::snapshot_transfer::RemoteEnd;
use crate::storage::SetPath;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the snapshot
    #[arg(value_name = "SNAPSHOT", value_parser = named, add = ArgValueCandidates::new(complete::snapshots))]
    snapshot: SetPath,
    /// Where to: HOST/REPOSITORY:TAG
    #[arg(value_name = "REF", value_parser = reference)]
    reference: Reference,
    /// Include the images of the services
    #[arg(long)]
    with_images: bool,
    /// Include values that came from your own variables
    #[arg(long)]
    with_env: bool,
}

/// Runs `snapshot push`.
pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let Args { snapshot: set, reference, with_images, with_env } = args;
    if reference.digest.is_some() {
        let hint = "write HOST/REPOSITORY:TAG".to_owned();
        return Err(Failure::usage("a snapshot is pushed to a tag, not to a digest", Some(hint)));
    }
    let info = storage(context).await?.inspect(&set).await?.ok_or_else(|| missing(&set))?;
    let spec = Manifest::of(&info).and_then(|manifest| manifest.spec);
    let project = spec.as_ref().and_then(|spec| Some(spec.get("name")?.as_str()?.to_owned()));
    let values = if with_env { UserValues::Included } else { UserValues::LeftOut };
    let request = PushRequest { set, reference, images: images(with_images), values, project };
    let work = async |far: &RemoteEnd| registry::push(far, &request).await;
    let pushed = carry(context, work).await?;
    report(context, &format!("`{}`", request.reference), "sent", &pushed);
    Ok(Exit::Done)
}

/// Reports a transfer with a registry.
pub(super) fn report(context: &Context, what: &str, verb: &str, moved: &RegistrySummary) {
    let RegistrySummary { digest, entries, bytes, moved, left_out, elapsed } = moved;
    if context.globals.json {
        Output::stdout().json(&serde_json::json!({
            "digest": digest, "entries": entries, "bytes": bytes, "moved_bytes": moved, "left_out": left_out,
            "elapsed_ms": elapsed.as_millis(),
        }));
        return;
    }
    let left_out = match left_out {
        0 => String::new(),
        some => format!("; {some} sockets and devices left out"),
    };
    let mut out = Output::stderr();
    out.line(&format!(
        "{what}: {} of data in {entries} files and folders, {} of it {verb} in {}{left_out}",
        amount::bytes(*bytes),
        amount::bytes(*moved),
        amount::duration(*elapsed),
    ));
    out.line(&format!("digest: {digest}"));
}

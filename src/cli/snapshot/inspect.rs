//! `snapshot inspect`: shows the details of a snapshot or of a snapshot file.

use std::path::Path;

use clap_complete::engine::ArgValueCandidates;
use serde_json::Value;

use super::{Context, Exit, Failure, complete, missing, named, storage};
use crate::agent::client::in_full;
use crate::data::archive::{Import, Limits};
use crate::report::Output;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the snapshot, or a file
    #[arg(value_name = "SNAPSHOT|FILE", add = ArgValueCandidates::new(complete::snapshots))]
    snapshot: String,
}

/// Runs `snapshot inspect`.
pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let file = Path::new(&args.snapshot);
    let shown = if file.is_file() { of_file(file)? } else { of_stored(context, &args.snapshot).await? };
    Output::stdout().json(&shown);
    Ok(Exit::Done)
}

async fn of_stored(context: &Context, name: &str) -> Result<Value, Failure> {
    let path = named(name).map_err(|error| Failure::usage(error, None))?;
    let info = storage(context).await?.inspect(&path).await?.ok_or_else(|| missing(&path))?;
    let mut shown = discreet(info.manifest.unwrap_or_default());
    shown["name"] = path.name.to_string().into();
    Ok(shown)
}

/// Reads the manifest of a snapshot file; only the beginning of the file is read.
fn of_file(path: &Path) -> Result<Value, Failure> {
    let file = std::fs::File::open(path)?;
    let packed = file.metadata()?.len();
    let import = Import::open(file, Limits::default()).map_err(|error| {
        let what = format!("{}: {}", path.display(), in_full(&error));
        Failure::failed(what, error.hint().map(str::to_owned))
    })?;
    let head = import.head();
    let mut shown = discreet(head.manifest.to_json());
    shown["file"] = path.display().to_string().into();
    shown["file_bytes"] = packed.into();
    shown["with_images"] = head.images.into();
    let volumes = head.volumes.iter().map(|(name, volume)| {
        let content = serde_json::json!({ "entries": volume.entries, "bytes": volume.bytes });
        (name.to_string(), content)
    });
    shown["volumes"] = Value::Object(volumes.collect());
    Ok(shown)
}

/// Removes the secrets from a manifest that is shown.
fn discreet(mut manifest: Value) -> Value {
    if let Some(secrets) = manifest.get_mut("secrets").and_then(Value::as_object_mut) {
        secrets.values_mut().for_each(|value| *value = "(kept)".into());
    }
    manifest
}

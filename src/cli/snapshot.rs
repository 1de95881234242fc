//! `sandbox snapshot`: creates, lists, inspects, exports, imports and removes snapshots.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::lifecycle::present;
use super::{Context, Exit, Failure, complete};
use crate::agent::client::{Keeper, Options, in_full};
use crate::data::archive::{Import, Limits, UserValues};
use crate::data::manifest::Manifest;
use crate::report::Output;
use crate::report::amount;
use crate::report::table::Table;
use crate::session::data::snapshot_transfer::{Images, RemoteEnd, TransferSummary};
use crate::session::error::SessionError;
use crate::session::event::Event;
use crate::session::existing::SnapshotMode;
use crate::storage::{Detail, Namespace, SetInfo, SetPath, SetSize, Storage, StorageError};
use clap_complete::engine::ArgValueCandidates;

/// Arguments of `snapshot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Take a snapshot of a sandbox's current data
    Create {
        /// Name of the snapshot
        #[arg(value_name = "SNAPSHOT", value_parser = named)]
        snapshot: SetPath,
        /// Pause the services during the copy instead of stopping them: faster, but as after a power failure
        #[arg(long)]
        crash: bool,
        /// Note to keep with the snapshot
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// List snapshots
    Ls,
    /// Show the details of a snapshot, or of a file without importing it
    Inspect {
        /// Name of the snapshot, or a file
        #[arg(value_name = "SNAPSHOT|FILE", add = ArgValueCandidates::new(complete::snapshots))]
        snapshot: String,
    },
    /// Write a snapshot to a file that another machine can import
    Export {
        /// Name of the snapshot
        #[arg(value_name = "SNAPSHOT", value_parser = named, add = ArgValueCandidates::new(complete::snapshots))]
        snapshot: SetPath,
        /// File to write (default: SNAPSHOT.sandbox.tar.zst)
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// Include the images of the services
        #[arg(long)]
        with_images: bool,
        /// Include values of `environment` that came from your own variables
        #[arg(long)]
        with_env: bool,
    },
    /// Read a snapshot from a file, after checking all of it
    Import {
        /// File to read
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Name of the snapshot (default: that of the file)
        #[arg(long = "as", value_name = "SNAPSHOT", value_parser = named)]
        snapshot: Option<SetPath>,
        /// Load its images even if they replace others of the same names
        #[arg(long)]
        with_images: bool,
    },
    /// Remove snapshots
    Rm {
        /// Names of the snapshots
        #[arg(value_name = "SNAPSHOT", value_parser = named, required = true, add = ArgValueCandidates::new(complete::snapshots))]
        snapshots: Vec<SetPath>,
    },
}

/// Parses a snapshot's name.
pub(super) fn named(text: &str) -> Result<SetPath, String> {
    SetPath::snapshot(text).map_err(|error| error.to_string())
}

/// Runs `snapshot`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Create { snapshot, crash, note } => create(context, &snapshot, crash, note).await,
        Verb::Ls => list(context).await,
        Verb::Inspect { snapshot } => inspect(context, &snapshot).await,
        Verb::Export { snapshot, file, with_images, with_env } => {
            let file = file.unwrap_or_else(|| PathBuf::from(format!("{}{ENDING}", snapshot.name)));
            let values = if with_env { UserValues::Included } else { UserValues::LeftOut };
            let work =
                async |far: &RemoteEnd| far.export(&snapshot, &file, images(with_images), values).await;
            let outcome = carry(context, work);
            carried(context, &file.display().to_string(), outcome.await?)
        }
        Verb::Import { file, snapshot, with_images } => {
            let snapshot = snapshot.map_or_else(|| named_after(&file), Ok)?;
            let outcome = carry(context, async |far| far.import(&snapshot, &file, images(with_images)).await);
            carried(context, &format!("snapshot `{}`", snapshot.name), outcome.await?)
        }
        Verb::Rm { snapshots } => remove(context, &snapshots).await,
    }
}

/// File name extension of snapshot files.
const ENDING: &str = ".sandbox.tar.zst";

/// The default name of an imported snapshot, from the name of its file.
pub(super) fn label(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = || file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    name.strip_suffix(ENDING).map_or_else(stem, str::to_owned)
}

fn named_after(file: &Path) -> Result<SetPath, Failure> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(ENDING).unwrap_or(&name);
    named(name).map_err(|error| Failure::usage(error, Some("give it a name with `--as NAME`".to_owned())))
}

fn images(taken: bool) -> Images {
    if taken { Images::Taken } else { Images::Left }
}

/// Transfers a snapshot file to or from the keeper's container, and shows the progress.
async fn carry(
    context: &Context,
    work: impl AsyncFnOnce(&RemoteEnd) -> Result<TransferSummary, SessionError>,
) -> Result<TransferSummary, Failure> {
    let engine = context.engine().await?;
    // A keeper of this build must be running before its container is used.
    let at_hand = Keeper::container_at_hand(&engine, Options::from_env()?).await?;
    let container = if let Some(container) = at_hand {
        container
    } else {
        let keeper = keeper(context).await?;
        keeper.storage()?;
        keeper.storage_container()
    };
    let reporting = context.reporter();
    let far = RemoteEnd { engine, container, events: reporting.events.clone() };
    let outcome = work(&far).await;
    drop(far);
    reporting.finish().await;
    Ok(outcome?)
}

fn carried(context: &Context, what: &str, moved: TransferSummary) -> Result<Exit, Failure> {
    if context.globals.json {
        let TransferSummary { entries, bytes, left_out, packed, elapsed } = moved;
        Output::stdout().json(&serde_json::json!({
            "entries": entries, "bytes": bytes, "left_out": left_out, "file_bytes": packed,
            "elapsed_ms": elapsed.as_millis(),
        }));
        return Ok(Exit::Done);
    }
    let rate = u128::from(moved.bytes) * 1000 / moved.elapsed.as_millis().max(1);
    let left_out = match moved.left_out {
        0 => String::new(),
        some => format!("; {some} sockets and devices left out"),
    };
    Output::stderr().line(&format!(
        "{what}: {} entries, {} in {} of file, {} ({}){left_out}",
        moved.entries,
        amount::bytes(moved.bytes),
        amount::bytes(moved.packed),
        amount::duration(moved.elapsed),
        amount::rate(u64::try_from(rate).unwrap_or(u64::MAX)),
    ));
    Ok(Exit::Done)
}

/// Connects to the engine's keeper and starts it if needed.
pub(super) async fn keeper(context: &Context) -> Result<Keeper, Failure> {
    Ok(Keeper::ensure(&context.engine().await?, Options::from_env()?).await?)
}

/// The storage of the engine's keeper.
pub(super) async fn storage(context: &Context) -> Result<std::sync::Arc<dyn Storage>, Failure> {
    Ok(keeper(context).await?.storage()?)
}

async fn create(context: &Context, to: &SetPath, crash: bool, note: Option<String>) -> Result<Exit, Failure> {
    let reporting = context.reporter();
    let manner = if crash { SnapshotMode::Crash } else { SnapshotMode::Clean };
    let outcome = async {
        let present = present(context, &reporting).await?;
        let work = present.snapshot(to, manner, note, Duration::from_mins(5));
        let consistency = present.busy(&format!("taking snapshot {}", to.name), work).await?;
        let text = format!(
            "snapshot `{}` is taken ({consistency}); what lived in memory only is not in it",
            to.name
        );
        present.tell(Event::Notice { text });
        Ok(Exit::Done)
    }
    .await;
    reporting.finish().await;
    outcome
}

#[derive(Serialize)]
struct Row {
    name: String,
    sandbox: Option<String>,
    created: Option<Timestamp>,
    consistency: Option<String>,
    note: Option<String>,
    volumes: Vec<String>,
    own_bytes: u64,
    shared_bytes: u64,
}

fn row(info: &SetInfo, size: SetSize) -> Row {
    let manifest = Manifest::of(info);
    let of = manifest.as_ref();
    Row {
        name: info.path.name.to_string(),
        sandbox: of.and_then(|manifest| manifest.sandbox.clone()),
        created: of.map(|manifest| manifest.created),
        consistency: of.map(|manifest| manifest.consistency.to_string()),
        note: of.and_then(|manifest| manifest.note.clone()),
        volumes: info.volumes.iter().map(ToString::to_string).collect(),
        own_bytes: size.own,
        shared_bytes: size.shared,
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let storage = storage(context).await?;
    let sizes = storage.usage(Detail::Sets).await?.sets;
    let size =
        |path: &SetPath| sizes.iter().find(|(set, _)| set == path).map(|(_, size)| *size).unwrap_or_default();
    let sets = storage.list(Namespace::Snapshot).await?;
    let rows: Vec<Row> = sets.iter().map(|info| row(info, size(&info.path))).collect();
    let mut out = Output::stdout();
    if context.globals.json {
        out.json(&rows);
    } else if rows.is_empty() {
        Output::stderr().line("there is no snapshot; `sandbox snapshot create NAME` takes one");
    } else {
        out.table(&table(&rows, Timestamp::now()));
    }
    Ok(Exit::Done)
}

fn table(rows: &[Row], now: Timestamp) -> Table {
    let mut table = Table::new(["name", "from", "age", "state", "own", "shared", "note"]).right(4).right(5);
    for row in rows {
        let age =
            row.created.map(|created| amount::duration(amount::since(created, now))).unwrap_or_default();
        table.row([
            row.name.clone(),
            row.sandbox.clone().unwrap_or_default(),
            age,
            row.consistency.clone().unwrap_or_default(),
            amount::bytes(row.own_bytes),
            amount::bytes(row.shared_bytes),
            row.note.clone().unwrap_or_default(),
        ]);
    }
    table
}

async fn inspect(context: &Context, what: &str) -> Result<Exit, Failure> {
    let file = Path::new(what);
    let shown = if file.is_file() { of_file(file)? } else { of_stored(context, what).await? };
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

async fn remove(context: &Context, paths: &[SetPath]) -> Result<Exit, Failure> {
    let storage = storage(context).await?;
    for path in paths {
        storage.inspect(path).await?.ok_or_else(|| missing(path))?;
        storage.delete_set(path).await?;
    }
    Ok(Exit::Done)
}

fn missing(path: &SetPath) -> StorageError {
    StorageError::NotFound { path: path.to_string() }
}

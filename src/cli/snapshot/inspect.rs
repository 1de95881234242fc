//! `snapshot inspect`: shows the details of a snapshot or of a snapshot file.

use std::collections::BTreeMap;
use std::path::Path;

use clap_complete::engine::ArgValueCandidates;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::{Context, Exit, Failure, complete, missing, named, storage};
use crate::agent::client::in_full;
use crate::data::archive::{Announced, Import, Limits};
use crate::data::manifest::Manifest;
use crate::data::repro::Repro;
use crate::report::table::Table;
use crate::report::{Output, amount};
use crate::spec::Spec;
use crate::storage::{Detail, VolumeName};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the snapshot, or a file
    #[arg(value_name = "SNAPSHOT|FILE", add = ArgValueCandidates::new(complete::snapshots))]
    snapshot: String,
}

/// What is shown of a snapshot.
struct Shown {
    /// The snapshot's name, or the path of its file.
    title: (&'static str, String),
    manifest: Manifest,
    /// Its size, in words.
    size: String,
    /// The contents of each volume of a file.
    contents: BTreeMap<VolumeName, Announced>,
    /// All details, without secrets.
    json: Value,
}

/// Runs `snapshot inspect`.
pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let file = Path::new(&args.snapshot);
    let shown = if file.is_file() { of_file(file)? } else { of_stored(context, &args.snapshot).await? };
    let mut out = Output::stdout();
    if context.globals.json {
        out.json(&shown.json);
        return Ok(Exit::Done);
    }
    out.lines(shown.summary(Timestamp::now()));
    for table in [shown.volumes(), shown.services()].into_iter().filter(|table| !table.is_empty()) {
        out.line("");
        out.table(&table);
    }
    Ok(Exit::Done)
}

async fn of_stored(context: &Context, name: &str) -> Result<Shown, Failure> {
    let path = named(name).map_err(|error| Failure::usage(error, None))?;
    let storage = storage(context).await?;
    let info = storage.inspect(&path).await?.ok_or_else(|| missing(&path))?;
    let manifest = Manifest::of(&info).ok_or_else(|| {
        let hint = "update sandbox: a later version may have taken it".to_owned();
        Failure::failed(format!("cannot read the manifest of snapshot `{}`", path.name), Some(hint))
    })?;
    let sizes = storage.usage(Detail::Sets).await?.sets;
    let size = sizes.into_iter().find(|(set, _)| *set == path).map(|(_, size)| size).unwrap_or_default();
    let mut json = without_secrets(info.manifest.unwrap_or_default());
    json["name"] = path.name.to_string().into();
    Ok(Shown {
        title: ("snapshot", path.name.to_string()),
        manifest,
        size: format!("{} own, {} shared", amount::bytes(size.own), amount::bytes(size.shared)),
        contents: BTreeMap::new(),
        json,
    })
}

/// Reads the manifest of a snapshot file; only the beginning of the file is read.
fn of_file(path: &Path) -> Result<Shown, Failure> {
    let file = std::fs::File::open(path)?;
    let packed = file.metadata()?.len();
    let import = Import::open(file, Limits::default()).map_err(|error| {
        let what = format!("{}: {}", path.display(), in_full(&error));
        Failure::failed(what, error.hint().map(str::to_owned))
    })?;
    let head = import.head();
    let mut json = without_secrets(head.manifest.to_json());
    json["file"] = path.display().to_string().into();
    json["file_bytes"] = packed.into();
    json["with_images"] = head.images.into();
    let volumes = head.volumes.iter().map(|(name, volume)| {
        let content = serde_json::json!({ "entries": volume.entries, "bytes": volume.bytes });
        (name.to_string(), content)
    });
    json["volumes"] = Value::Object(volumes.collect());
    let images = if head.images { "with" } else { "without" };
    Ok(Shown {
        title: ("file", path.display().to_string()),
        manifest: head.manifest.clone(),
        size: format!("{}, {images} images", amount::bytes(packed)),
        contents: head.volumes.clone(),
        json,
    })
}

impl Shown {
    /// The facts about the whole snapshot, one a line.
    fn summary(&self, now: Timestamp) -> Vec<String> {
        let manifest = &self.manifest;
        let created = manifest.created.to_zoned_datetime(TimeZone::system());
        let age = amount::duration(amount::since(manifest.created, now));
        let secrets: Vec<&str> = manifest.secrets.keys().map(String::as_str).collect();
        let left_out = self.left_out();
        let facts = [
            (self.title.0, Some(self.title.1.clone())),
            ("note", manifest.note.clone()),
            ("repro", manifest.repro.as_ref().map(repro)),
            ("created", Some(format!("{} ({age} ago)", created.strftime("%Y-%m-%d %H:%M")))),
            ("sandbox", manifest.sandbox.clone()),
            ("state", Some(format!("{}, {}", manifest.consistency, manifest.arch))),
            ("size", Some(self.size.clone())),
            ("secrets", (!secrets.is_empty()).then(|| format!("{} (values not shown)", secrets.join(", ")))),
            ("left out", (!left_out.is_empty()).then(|| format!("{} (variables)", left_out.join(", ")))),
        ];
        let line = |(key, value): (&str, Option<String>)| value.map(|value| format!("{key:<10}{value}"));
        facts.into_iter().filter_map(line).collect()
    }

    fn spec(&self) -> Option<Spec> {
        serde_json::from_value(self.manifest.spec.clone()?).ok()
    }

    /// The variables whose values, which came from the user's own variables, were left out of the file.
    fn left_out(&self) -> Vec<String> {
        let spec = self.spec();
        let services = spec.iter().flat_map(|spec| spec.services.values());
        let variables = services.flat_map(|service| {
            let missing = |key: &&String| !service.environment.contains_key(*key);
            service.user_environment.iter().filter(missing).map(|key| format!("{}.{key}", service.name))
        });
        variables.collect()
    }

    fn volumes(&self) -> Table {
        let mut table = Table::new(["volume", "size", "entries"]).right(1).right(2);
        for volume in &self.manifest.volumes {
            let content = self.contents.get(volume);
            table.row([
                volume.to_string(),
                content.map(|content| amount::bytes(content.bytes)).unwrap_or_default(),
                content.map(|content| content.entries.to_string()).unwrap_or_default(),
            ]);
        }
        table
    }

    fn services(&self) -> Table {
        let mut table = Table::new(["service", "image", "digest"]);
        let spec = self.spec();
        let of_spec = spec.iter().flat_map(|spec| spec.services.values());
        let mut rows: BTreeMap<String, [String; 2]> = of_spec
            .map(|service| {
                let image = service.image().unwrap_or_default();
                (service.name.to_string(), [image.to_owned(), String::new()])
            })
            .collect();
        for (service, image) in &self.manifest.images {
            let digest = image.content.as_ref().unwrap_or(&image.id);
            let hex = digest.rsplit(':').next().unwrap_or_default();
            let digest = hex.chars().take(12).collect();
            rows.insert(service.clone(), [image.reference.clone(), digest]);
        }
        for (service, [image, digest]) in rows {
            table.row([service, image, digest]);
        }
        table
    }
}

/// The command that shows a bug, and how it ended.
fn repro(repro: &Repro) -> String {
    format!("{}, exit code {}", repro.title(), repro.result.exit_code)
}

/// Removes the secrets from a manifest that is shown.
fn without_secrets(mut manifest: Value) -> Value {
    if let Some(secrets) = manifest.get_mut("secrets").and_then(Value::as_object_mut) {
        secrets.values_mut().for_each(|value| *value = "(kept)".into());
    }
    manifest
}

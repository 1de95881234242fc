//! `snapshot`: makes a volume a clone of a snapshot's.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Seed, SeedKind, SeedStage, SeedSyntax};
use crate::spec::canonical::{absolute, is_file_reference};
use crate::spec::model::{At, Json, SnapshotRef, VolumeName};
use crate::spec::render::Object;
use crate::spec::schema::shape::text;

/// Clones a volume of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotSeed {
    /// The snapshot to clone from.
    pub snapshot: SnapshotRef,
    /// The source volume, if its name differs.
    pub volume: Option<VolumeName>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

pub(super) const SYNTAX: SeedSyntax = SeedSyntax {
    key: "snapshot",
    value: "NAME",
    stage: SeedStage::Clone,
    schema: || {
        vec![
            ("snapshot", text("A stored snapshot, or a snapshot file, to start a volume from.")),
            ("volume", text("Which of the snapshot's volumes.")),
        ]
    },
    resolve: |seed, base| {
        if let Some(snapshot) = seed.get_mut("snapshot")
            && is_file_reference(snapshot.as_str().unwrap_or_default())
        {
            absolute(snapshot, base);
        }
    },
    read: |reader, fields, at| {
        let text = fields.text("snapshot")?;
        let snapshot = if is_file_reference(&text) {
            let file = PathBuf::from(text);
            reader.seed_file_must_exist(&file, fields.value_span("snapshot"));
            SnapshotRef::File(file)
        } else {
            SnapshotRef::Stored(text)
        };
        let volume = fields.text("volume");
        let volume = volume.and_then(|name| reader.name(VolumeName::new(name), fields.key_span("volume")));
        Some(Seed::Snapshot(SnapshotSeed { snapshot, volume, at }))
    },
};

impl SeedKind for SnapshotSeed {
    fn at(&self) -> &At {
        &self.at
    }

    fn files(&self) -> Vec<&Path> {
        match &self.snapshot {
            SnapshotRef::File(file) => vec![file],
            SnapshotRef::Stored(_) => Vec::new(),
        }
    }

    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match &mut self.snapshot {
            SnapshotRef::File(file) => vec![file],
            SnapshotRef::Stored(_) => Vec::new(),
        }
    }

    fn stored_snapshot(&self) -> Option<&str> {
        match &self.snapshot {
            SnapshotRef::Stored(name) => Some(name),
            SnapshotRef::File(_) => None,
        }
    }

    fn describe(&self, path: &dyn Fn(&Path) -> String) -> String {
        match &self.snapshot {
            SnapshotRef::Stored(name) => format!("snapshot {name}"),
            SnapshotRef::File(file) => format!("snapshot {}", path(file)),
        }
    }

    fn render(&self) -> Json {
        let mut object = Object::default();
        match &self.snapshot {
            SnapshotRef::Stored(name) => object.set("snapshot", name.as_str()),
            SnapshotRef::File(file) => object.set("snapshot", file.to_string_lossy()),
        };
        object.some("volume", self.volume.as_ref().map(VolumeName::as_str));
        object.into()
    }

    fn shape(&self) -> Json {
        json!({"snapshot": [self.stored_snapshot(), self.volume]})
    }
}

//! `copy`: puts a folder, a file or an archive into a volume.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Seed, SeedKind, SeedStage, SeedSyntax};
use crate::spec::canonical::path;
use crate::spec::model::{At, Json};
use crate::spec::problem::ProblemKind;
use crate::spec::read::{Fields, Reader};
use crate::spec::render::Object;
use crate::spec::schema::shape::text;

/// Copies a folder, a file, or an archive (tar, tar.gz, tar.zst; extracted) into a volume, before any service starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopySeed {
    /// The absolute path of the source.
    pub source: PathBuf,
    /// The target below the volume's root, if not the root.
    pub to: Option<String>,
    /// `uid:gid` of all files, if set.
    pub owner: Option<String>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

pub(super) const SYNTAX: SeedSyntax = SeedSyntax {
    key: "copy",
    value: "FOLDER_OR_ARCHIVE",
    stage: SeedStage::Fill,
    schema: || {
        vec![
            ("copy", text("A folder, file or archive to put into a volume.")),
            ("to", text("Where in the volume.")),
            ("owner", text("`UID:GID` for everything copied.")),
        ]
    },
    resolve: |seed, base| path(seed, "copy", base),
    read: |reader, fields, at| {
        let source = PathBuf::from(fields.text("copy")?);
        reader.seed_file_must_exist(&source, fields.value_span("copy"));
        Some(Seed::Copy(CopySeed { source, to: fields.text("to"), owner: owner(reader, fields), at }))
    },
};

fn owner(reader: &Reader<'_>, fields: &Fields<'_>) -> Option<String> {
    let owner = fields.text("owner")?;
    let number = |text: &str| text.parse::<u32>().is_ok();
    if !owner.split_once(':').map_or_else(|| number(&owner), |(uid, gid)| number(uid) && number(gid)) {
        let message = format!("`{owner}` is not an owner");
        let span = fields.key_span("owner");
        reader.log.hinted(ProblemKind::Value, span, message, "write `UID:GID` in numbers");
    }
    Some(owner)
}

impl SeedKind for CopySeed {
    fn at(&self) -> &At {
        &self.at
    }

    fn files(&self) -> Vec<&Path> {
        vec![&self.source]
    }

    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        vec![&mut self.source]
    }

    fn describe(&self, path: &dyn Fn(&Path) -> String) -> String {
        format!("copy of {}", path(&self.source))
    }

    fn render(&self) -> Json {
        let mut object = Object::default();
        object
            .set("copy", self.source.to_string_lossy())
            .some("to", self.to.clone())
            .some("owner", self.owner.clone());
        object.into()
    }

    fn shape(&self) -> Json {
        json!({"copy": [self.to, self.owner]})
    }
}

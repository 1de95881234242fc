//! The seed kinds, one file each: what a kind stores, how it is read, checked, rendered and described. A kind is
//! registered in [`seed_kinds!`]; how its data is applied is in `data::seed`.

mod copy;
mod exec;
mod snapshot;
mod sql;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::canonical::Base;
use super::model::{At, Json};
use super::node::{Map, Span};
use super::problem::{ProblemKind, shown};
use super::read::{Fields, Reader};

/// When and how a seed is applied. Seeds of volumes are cloned or filled, seeds of services run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeedStage {
    /// The volume is made as a clone.
    Clone,
    /// Files are sent into the volume before a service that mounts it starts.
    Fill,
    /// Commands run in the service once it is ready.
    Run,
}

/// What every seed kind answers about its data.
pub trait SeedKind {
    /// Its location in the spec.
    fn at(&self) -> &At;
    /// The files of this machine that it reads. Their content is part of a baseline's key.
    fn files(&self) -> Vec<&Path>;
    /// Its paths on this machine, to be moved with the project.
    fn paths_mut(&mut self) -> Vec<&mut PathBuf>;
    /// The stored snapshot that it reads.
    fn stored_snapshot(&self) -> Option<&str> {
        None
    }
    /// A description in a few words; `path` formats paths.
    fn describe(&self, path: &dyn Fn(&Path) -> String) -> String;
    /// Its keys as they are written in a spec.
    fn render(&self) -> Json;
    /// What determines its data besides the content of its files, for a baseline's key.
    fn shape(&self) -> Json;
}

/// How a seed kind is written.
pub(super) struct SeedSyntax {
    /// The key that selects the kind.
    pub key: &'static str,
    /// A placeholder for the key's value, for hints.
    pub value: &'static str,
    pub stage: SeedStage,
    /// The JSON Schema of its keys.
    pub schema: fn() -> Vec<(&'static str, Json)>,
    /// Makes its paths absolute.
    pub resolve: fn(&mut Map, &Base<'_>),
    /// Reads it; `None` if a problem was reported.
    pub read: fn(&Reader<'_>, &Fields<'_>, At) -> Option<Seed>,
}

macro_rules! seed_kinds {
    ($($kind:ident: $module:ident::$data:ident,)+) => {
        $(pub use $module::$data;)+

        /// One seed of a service or a volume.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Seed {
            $(#[doc = concat!("See [`", stringify!($data), "`].")] $kind($data),)+
        }

        impl Seed {
            /// The data of its kind.
            pub fn kind(&self) -> &dyn SeedKind {
                match self { $(Self::$kind(data) => data,)+ }
            }

            /// The data of its kind, to be changed.
            pub fn kind_mut(&mut self) -> &mut dyn SeedKind {
                match self { $(Self::$kind(data) => data,)+ }
            }

            /// When and how it is applied.
            pub fn stage(&self) -> SeedStage {
                match self { $(Self::$kind(_) => $module::SYNTAX.stage,)+ }
            }
        }

        /// How each kind is written, in the order of their appearance in messages.
        pub(super) const SYNTAX: &[SeedSyntax] = &[$($module::SYNTAX,)+];
    };
}

seed_kinds! {
    Copy: copy::CopySeed,
    Sql: sql::SqlSeed,
    Exec: exec::ExecSeed,
    Snapshot: snapshot::SnapshotSeed,
}

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind().describe(&|path| path.display().to_string()))
    }
}

impl Reader<'_> {
    /// Reports a file of a seed that does not exist.
    fn seed_file_must_exist(&self, file: &Path, span: Span) {
        if !file.exists() {
            let name = shown(file, self.standing_in);
            let message = format!("there is no `{}` to seed from", name.display());
            self.log.hinted(ProblemKind::File, span, message, "paths begin at the folder of the spec");
        }
    }
}

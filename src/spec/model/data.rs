//! Volumes, seeds, secrets and configs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{At, Json, VolumeName};

/// A named volume (`volumes`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// The name written in the spec. Never applied: a sandbox's volumes are its own.
    pub written_name: Option<String>,
    /// The driver, if written; only `local` is taken.
    pub driver: Option<String>,
    /// The driver's options.
    pub driver_opts: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it was declared external. Such a spec is refused, unless it is only shown.
    pub external: bool,
    /// What it holds before anything starts, in order.
    pub seed: Vec<Seed>,
    /// Free `x-` keys, `x-sandbox` excepted.
    pub extensions: BTreeMap<String, Json>,
    /// Where it stands.
    #[serde(skip)]
    pub at: At,
}

/// One step of seeding. Volumes take `Copy` and `Snapshot`, services `Sql` and `Exec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seed {
    /// A folder, a file, or an archive (tar, tar.gz, tar.zst; unpacked) into a volume, before anything starts.
    Copy {
        /// The absolute path.
        source: PathBuf,
        /// Where below the volume's root it goes, if not at the root.
        to: Option<String>,
        /// `uid:gid` for everything, if written.
        owner: Option<String>,
        /// Where it stands.
        #[serde(skip)]
        at: At,
    },
    /// SQL through the image's own client, once the service is ready.
    Sql {
        /// What was written, for messages and the baseline's key.
        pattern: String,
        /// The files it matches, absolute, in order; they may be compressed (`.gz`, `.zst`).
        files: Vec<PathBuf>,
        /// The database, if not the image's default.
        database: Option<String>,
        /// The user, if not the image's default.
        user: Option<String>,
        /// Where it stands.
        #[serde(skip)]
        at: At,
    },
    /// A command in the service, once it is ready.
    Exec {
        /// The command.
        command: Vec<String>,
        /// An absolute file for its stdin; decompressed if it is `.gz` or `.zst`.
        stdin: Option<PathBuf>,
        /// The user, if not the service's.
        user: Option<String>,
        /// Where it stands.
        #[serde(skip)]
        at: At,
    },
    /// A volume of a snapshot.
    Snapshot {
        /// Which snapshot.
        snapshot: SnapshotRef,
        /// Which of its volumes, if not the one of the same name.
        volume: Option<VolumeName>,
        /// Where it stands.
        #[serde(skip)]
        at: At,
    },
}

/// A snapshot, by name or as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotRef {
    /// One that the engine's storage holds.
    Stored(String),
    /// A snapshot file, absolute.
    File(PathBuf),
}

/// A secret (`secrets`): where its value comes from, never the value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    /// Where its value comes from.
    pub source: SecretSource,
    /// The name written in the spec, not applied.
    #[serde(default)]
    pub written_name: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Free `x-` keys, `x-sandbox` excepted.
    #[serde(default)]
    pub extensions: BTreeMap<String, Json>,
    /// Where it stands.
    #[serde(skip)]
    pub at: At,
}

/// Where a secret's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// An absolute file.
    File(PathBuf),
    /// A variable of the environment or of `.env`.
    Environment(String),
    /// Random letters and digits, so many.
    Generate(u32),
    /// Declared external. Such a spec is refused, unless it is only shown.
    External,
}

/// A config (`configs`): a file given to services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Where its bytes come from.
    pub source: ConfigSource,
    /// The name written in the spec, not applied.
    #[serde(default)]
    pub written_name: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Free `x-` keys.
    #[serde(default)]
    pub extensions: BTreeMap<String, Json>,
    /// Where it stands.
    #[serde(skip)]
    pub at: At,
}

/// Where a config's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigSource {
    /// An absolute file.
    File(PathBuf),
    /// A variable of the environment or of `.env`.
    Environment(String),
    /// The text itself.
    Content(String),
    /// Declared external. Such a spec is refused, unless it is only shown.
    External,
}

/// A secret or config that a service is given as a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileGrant {
    /// The key of the secret or config.
    pub source: String,
    /// Where it appears: for secrets a name below `/run/secrets` or an absolute path (default: the source's
    /// name), for configs an absolute path (default: `/` and the source's name).
    pub target: Option<String>,
    /// Numeric owner, if not root.
    pub uid: Option<String>,
    /// Numeric group, if not root.
    pub gid: Option<String>,
    /// Mode, if not 0444.
    pub mode: Option<u32>,
    /// Where it stands.
    #[serde(skip)]
    pub at: At,
}

impl FileGrant {
    /// The absolute path of a secret in the container.
    pub fn secret_path(&self) -> String {
        match self.target.as_deref() {
            Some(path) if path.starts_with('/') => path.to_owned(),
            Some(name) => format!("/run/secrets/{name}"),
            None => format!("/run/secrets/{}", self.source),
        }
    }

    /// The absolute path of a config in the container.
    pub fn config_path(&self) -> String {
        match self.target.as_deref() {
            Some(path) if path.starts_with('/') => path.to_owned(),
            Some(name) => format!("/{name}"),
            None => format!("/{}", self.source),
        }
    }
}

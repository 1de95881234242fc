//! Volumes, seeds, secrets and configs of the model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::seed::Seed;
use super::{At, Json};

/// A named volume (`volumes`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// The name in the spec. Never applied: a sandbox's volumes are its own.
    pub written_name: Option<String>,
    /// The driver, if set; only `local` is accepted.
    pub driver: Option<String>,
    /// The driver's options.
    pub driver_opts: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is external. Such a spec is rejected, unless it is only displayed.
    pub external: bool,
    /// The seeds that fill it before any service starts, in order.
    pub seed: Vec<Seed>,
    /// Extension keys (`x-…`) except `x-sandbox`.
    pub extensions: BTreeMap<String, Json>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

/// A reference to a snapshot, by name or as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotRef {
    /// A snapshot in the engine's storage.
    Stored(String),
    /// The absolute path of a snapshot file.
    File(PathBuf),
}

/// A secret (`secrets`): the source of its value, never the value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    /// The source of the value.
    pub source: SecretSource,
    /// The name in the spec, not applied.
    #[serde(default)]
    pub written_name: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Extension keys (`x-…`) except `x-sandbox`.
    #[serde(default)]
    pub extensions: BTreeMap<String, Json>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

/// The source of a secret's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// The absolute path of a file.
    File(PathBuf),
    /// A variable of the environment or of `.env`.
    Environment(String),
    /// Generated: this many random letters and digits.
    Generate(u32),
    /// External. Such a spec is rejected, unless it is only displayed.
    External,
}

/// A config (`configs`): a file that services mount.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The source of its content.
    pub source: ConfigSource,
    /// The name in the spec, not applied.
    #[serde(default)]
    pub written_name: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Extension keys (`x-…`).
    #[serde(default)]
    pub extensions: BTreeMap<String, Json>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

/// The source of a config's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigSource {
    /// The absolute path of a file.
    File(PathBuf),
    /// A variable of the environment or of `.env`.
    Environment(String),
    /// The content itself.
    Content(String),
    /// External. Such a spec is rejected, unless it is only displayed.
    External,
}

/// A secret or config that is mounted into a service as a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileGrant {
    /// The key of the secret or config.
    pub source: String,
    /// The path in the container. For secrets: a name below `/run/secrets` or an absolute path (default: the source's
    /// name). For configs: an absolute path (default: `/` and the source's name).
    pub target: Option<String>,
    /// Numeric owner, if not root.
    pub uid: Option<String>,
    /// Numeric group, if not root.
    pub gid: Option<String>,
    /// Mode, if not 0444.
    pub mode: Option<u32>,
    /// Its location in the spec.
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

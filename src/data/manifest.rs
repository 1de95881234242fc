//! What is kept beside a baseline or a snapshot: where it came from, and what must go with it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::pool::{SetInfo, VolumeName};

/// The version of the manifest, of the baselines' keys and of the snapshot file. A newer one is refused, not guessed.
pub const FORMAT: u32 = 2;

/// How the services were when the data was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// Stopped, each of its own accord.
    Clean,
    /// Paused, or killed: as after a loss of power.
    Crash,
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean",
            Self::Crash => "crash",
        })
    }
}

/// The image of a service when the data was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageIdentity {
    /// What the spec calls it.
    pub reference: String,
    /// The engine's id of it: the digest of its configuration.
    pub id: String,
    /// Its digests in registries, as `name@sha256:…`.
    #[serde(default)]
    pub digests: Vec<String>,
}

impl ImageIdentity {
    /// Whether an image is this one, by id or by what a registry calls it.
    pub fn is(&self, id: &str, digests: &[String]) -> bool {
        let hash = |digest: &str| digest.rsplit_once('@').map(|(_, hash)| hash.to_owned());
        self.id == id
            || self
                .digests
                .iter()
                .filter_map(|d| hash(d))
                .any(|own| digests.iter().filter_map(|d| hash(d)).any(|other| own == other))
    }
}

/// A generated secret's value. It belongs to the data that was made with it; it is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeptSecret(String);

impl KeptSecret {
    /// Keeps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one who gives it to a service.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeptSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptSecret(…)")
    }
}

/// Beside a baseline or a snapshot, as `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// See [`FORMAT`].
    pub format: u32,
    /// When it was made.
    pub created: Timestamp,
    /// The sandbox it was made in or of.
    #[serde(default)]
    pub sandbox: Option<String>,
    /// What its maker noted.
    #[serde(default)]
    pub note: Option<String>,
    /// The engine's architecture, in Docker's words (`amd64`, `arm64`).
    pub arch: String,
    /// How the services were.
    pub consistency: Consistency,
    /// The resolved spec, secrets left out.
    #[serde(default)]
    pub spec: Option<serde_json::Value>,
    /// The images, by service.
    #[serde(default)]
    pub images: BTreeMap<String, ImageIdentity>,
    /// The generated secrets that the data was made with, by the spec's name.
    #[serde(default)]
    pub secrets: BTreeMap<String, KeptSecret>,
    /// The volumes, sorted.
    pub volumes: Vec<VolumeName>,
}

impl Manifest {
    /// A manifest of data made now.
    pub fn new(arch: impl Into<String>, consistency: Consistency) -> Self {
        Self {
            format: FORMAT,
            created: Timestamp::now(),
            sandbox: None,
            note: None,
            arch: arch.into(),
            consistency,
            spec: None,
            images: BTreeMap::new(),
            secrets: BTreeMap::new(),
            volumes: Vec::new(),
        }
    }

    /// The manifest of a stored set; `None` if the set has none that this version can read.
    pub fn of(set: &SetInfo) -> Option<Self> {
        let manifest: Self = serde_json::from_value(set.manifest.clone()?).ok()?;
        (manifest.format <= FORMAT).then_some(manifest)
    }

    /// The manifest as it is stored.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_kept_and_not_shown() {
        let mut manifest = Manifest::new("amd64", Consistency::Clean);
        manifest.secrets.insert("db".to_owned(), KeptSecret::new("hunter2"));
        assert!(!format!("{manifest:?}").contains("hunter2"));
        assert_eq!(manifest.to_json()["secrets"]["db"], "hunter2");
    }

    #[test]
    fn an_image_is_known_by_its_digest_wherever_it_was_pulled_from() {
        let image = ImageIdentity {
            reference: "postgres:16".to_owned(),
            id: "sha256:aa".to_owned(),
            digests: vec!["postgres@sha256:bb".to_owned()],
        };
        assert!(image.is("sha256:aa", &[]));
        assert!(image.is("sha256:cc", &["mirror.example/postgres@sha256:bb".to_owned()]));
        assert!(!image.is("sha256:cc", &["postgres@sha256:dd".to_owned()]));
    }
}

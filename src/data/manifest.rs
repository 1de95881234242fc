//! The manifest of a baseline or a snapshot: its origin, and what belongs to its data.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::repro::Repro;
use crate::engine::identity::SandboxId;
use crate::engine::{Image, identity};
use crate::spec::SpecOrigin;
use crate::storage::{SetInfo, VolumeName};

/// The format version of manifests, baseline keys and snapshot files. A newer version is rejected.
pub const FORMAT: u32 = 2;

/// State of the services when the data was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// Stopped cleanly.
    Clean,
    /// Paused or killed: the data is as after a power failure.
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

/// The image of a service when the data was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageIdentity {
    /// Its reference in the spec.
    pub reference: String,
    /// The engine's image id: the digest of its configuration.
    pub id: String,
    /// Its registry digests, as `name@sha256:…`.
    #[serde(default)]
    pub digests: Vec<String>,
    /// The digest of its layers and configuration, which is the same in all image stores; absent in older manifests.
    #[serde(default)]
    pub content: Option<String>,
    /// The digest of its build inputs, if it was built.
    #[serde(default)]
    pub inputs: Option<String>,
}

impl ImageIdentity {
    /// The identity of an image of the engine.
    pub fn of(reference: impl Into<String>, image: &Image) -> Self {
        Self {
            reference: reference.into(),
            id: image.id.clone(),
            digests: image.digests.clone(),
            content: image.content(),
            inputs: image.config.labels.get(identity::INPUTS).filter(|digest| !digest.is_empty()).cloned(),
        }
    }

    /// Whether an image is the same: by content, build inputs, id or registry digest.
    pub fn is(&self, image: &Image) -> bool {
        let other = Self::of(String::new(), image);
        let hash = |digest: &String| digest.rsplit_once('@').map(|(_, hash)| hash.to_owned());
        let registered = |own: &String| other.digests.iter().filter_map(hash).any(|it| Some(it) == hash(own));
        self.id == other.id
            || (self.content.is_some() && self.content == other.content)
            || (self.inputs.is_some() && self.inputs == other.inputs)
            || self.digests.iter().filter(|own| own.contains('@')).any(registered)
    }
}

/// A generated secret's value. It is stored with the data that was created with it, and is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeptSecret(String);

impl KeptSecret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value in clear text, to be passed to a service.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeptSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptSecret(…)")
    }
}

/// The content of `manifest.json` of a baseline or a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version, see [`FORMAT`].
    pub format: u32,
    /// Creation time.
    pub created: Timestamp,
    /// The sandbox that it was created in or from.
    #[serde(default)]
    pub sandbox: Option<String>,
    /// The user's note.
    #[serde(default)]
    pub note: Option<String>,
    /// The engine's architecture, in Docker's notation (`amd64`, `arm64`).
    pub arch: String,
    /// State of the services.
    pub consistency: Consistency,
    /// The resolved spec, without secrets.
    #[serde(default)]
    pub spec: Option<serde_json::Value>,
    /// The images, by service.
    #[serde(default)]
    pub images: BTreeMap<String, ImageIdentity>,
    /// The generated secrets that the data was created with, by their names in the spec.
    #[serde(default)]
    pub secrets: BTreeMap<String, KeptSecret>,
    /// The instance id of the sandbox with which a snapshot is deleted; absent if it outlives its sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<SandboxId>,
    /// A command that shows a bug with the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repro: Option<Repro>,
    /// The volumes, sorted.
    pub volumes: Vec<VolumeName>,
}

impl Manifest {
    /// Creates a manifest with the current time.
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
            owner: None,
            repro: None,
            volumes: Vec::new(),
        }
    }

    /// Reads the manifest of a stored set; `None` if it has none or this version cannot read it.
    pub fn of(set: &SetInfo) -> Option<Self> {
        let manifest: Self = serde_json::from_value(set.manifest.clone()?).ok()?;
        (manifest.format <= FORMAT).then_some(manifest)
    }

    /// Whether someone else may have made it. Its spec and its command are then trusted less.
    pub fn is_foreign(&self) -> bool {
        #[derive(Deserialize)]
        struct Origin {
            #[serde(default)]
            origin: SpecOrigin,
        }
        let origin = self.spec.as_ref().and_then(|spec| Origin::deserialize(spec).ok());
        origin.is_none_or(|spec| spec.origin != SpecOrigin::Local)
    }

    /// Adds the values of generated secrets.
    #[must_use]
    pub fn with_secrets(self, values: BTreeMap<String, String>) -> Self {
        let secrets = values.into_iter().map(|(name, value)| (name, KeptSecret::new(value))).collect();
        Self { secrets, ..self }
    }

    /// The values of the generated secrets that are stored with the data.
    pub fn secret_values(&self) -> BTreeMap<String, String> {
        self.secrets.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect()
    }

    /// Serializes the manifest for the storage.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ImageConfig;

    #[test]
    fn a_secret_is_kept_and_not_shown() {
        let mut manifest = Manifest::new("amd64", Consistency::Clean);
        manifest.secrets.insert("db".to_owned(), KeptSecret::new("hunter2"));
        assert!(!format!("{manifest:?}").contains("hunter2"));
        assert_eq!(manifest.to_json()["secrets"]["db"], "hunter2");
    }

    fn image(id: &str) -> Image {
        Image {
            id: id.to_owned(),
            digests: Vec::new(),
            tags: Vec::new(),
            arch: "amd64".to_owned(),
            variant: String::new(),
            os: "linux".to_owned(),
            layers: Vec::new(),
            size: 0,
            created: None,
            tagged: None,
            config: ImageConfig::default(),
        }
    }

    #[test]
    fn an_image_is_known_by_its_digest_wherever_it_was_pulled_from() {
        let pulled = Image { digests: vec!["postgres@sha256:bb".to_owned()], ..image("sha256:aa") };
        let known = ImageIdentity::of("postgres:16", &pulled);
        assert!(known.is(&image("sha256:aa")));
        let mirrored = vec!["mirror.example/postgres@sha256:bb".to_owned()];
        assert!(known.is(&Image { digests: mirrored, ..image("sha256:cc") }));
        assert!(!known.is(&Image { digests: vec!["postgres@sha256:dd".to_owned()], ..image("sha256:cc") }));
    }

    #[test]
    fn an_image_is_known_by_its_layers_and_configuration_whatever_store_it_is_in() {
        let config = ImageConfig { cmd: vec!["run".to_owned()], ..ImageConfig::default() };
        let layers = vec!["sha256:11".to_owned(), "sha256:22".to_owned()];
        let in_graph_driver =
            Image { layers: layers.clone(), config: config.clone(), ..image("sha256:config") };
        let known = ImageIdentity::of("app", &in_graph_driver);
        // The containerd image store identifies an image by its manifest and writes default values out.
        let spelled_out = ImageConfig { workdir: "/".to_owned(), ..config.clone() };
        let in_containerd = Image { layers: layers.clone(), config: spelled_out, ..image("sha256:manifest") };
        assert!(known.is(&in_containerd));
        let other_layers = vec!["sha256:22".to_owned(), "sha256:11".to_owned()];
        assert!(!known.is(&Image { layers: other_layers, config, ..image("sha256:other") }));
        let other_command = ImageConfig { cmd: vec!["stop".to_owned()], ..ImageConfig::default() };
        assert!(!known.is(&Image { layers, config: other_command, ..image("sha256:other") }));
        assert!(!ImageIdentity::of("a", &image("sha256:1")).is(&image("sha256:2")));
    }

    #[test]
    fn an_image_that_is_built_again_from_the_same_inputs_is_the_same() {
        let built = |id: &str, inputs: &str| {
            let labels = [(identity::INPUTS.to_owned(), inputs.to_owned())].into();
            let config = ImageConfig { labels, ..ImageConfig::default() };
            Image { layers: vec![format!("{id}-layer")], config, ..image(id) }
        };
        let known = ImageIdentity::of("app", &built("sha256:1", "aa"));
        assert!(known.is(&built("sha256:2", "aa")));
        assert!(!known.is(&built("sha256:2", "bb")));
    }
}

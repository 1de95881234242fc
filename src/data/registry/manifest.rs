//! The OCI manifest of a snapshot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The type of the manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The kind of artifact.
pub const ARTIFACT_TYPE: &str = "application/vnd.sandbox.snapshot.v1";
/// The type of the index, the first layer.
pub const INDEX_TYPE: &str = "application/vnd.sandbox.snapshot.index.v1+zstd";
/// The type of the other layers.
pub const PACK_TYPE: &str = "application/vnd.sandbox.snapshot.pack.v1";
/// The content of the configuration.
pub const EMPTY_CONFIG: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// A blob in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its type.
    pub media_type: String,
    /// Its digest, as `sha256:…`.
    pub digest: String,
    /// Its length.
    pub size: u64,
}

impl Descriptor {
    /// Describes bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self { media_type: media_type.to_owned(), digest: sha256(bytes), size: bytes.len() as u64 }
    }
}

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    media_type: String,
    /// The kind of artifact.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// The configuration, which is empty.
    pub config: Descriptor,
    /// The index and the packs.
    pub layers: Vec<Descriptor>,
    /// Facts for people and other tools.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// The manifest of a snapshot.
    pub fn of_snapshot(layers: Vec<Descriptor>, annotations: BTreeMap<String, String>) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_owned(),
            artifact_type: Some(ARTIFACT_TYPE.to_owned()),
            config: Descriptor::of(EMPTY_TYPE, EMPTY_CONFIG),
            layers,
            annotations,
        }
    }

    /// The index of the snapshot; `None` if the manifest is of something else.
    pub fn index(&self) -> Option<&Descriptor> {
        let is_ours = self.artifact_type.as_deref() == Some(ARTIFACT_TYPE);
        self.layers.first().filter(|layer| is_ours && layer.media_type == INDEX_TYPE)
    }
}

/// The SHA-256 digest of bytes, as registries write it.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_the_empty_one_of_the_specification() {
        let manifest = Manifest::of_snapshot(vec![Descriptor::of(INDEX_TYPE, b"x")], BTreeMap::new());
        assert_eq!(
            manifest.config.digest,
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
        let json = serde_json::to_value(&manifest).unwrap();
        assert_eq!((&json["schemaVersion"], &json["artifactType"]), (&2.into(), &ARTIFACT_TYPE.into()));
        assert!(manifest.index().is_some());
        let other = Manifest { artifact_type: None, ..manifest };
        assert!(other.index().is_none());
    }
}

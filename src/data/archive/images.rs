//! What an archive of images says that loading it would do, read without trusting it.
//!
//! An image is known by the SHA-256 of its configuration; that is computed, not believed. The tags decide what a load
//! replaces, so an archive that names images in more than one way must name the same ones.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::ArchiveError;

/// Configurations and lists in an archive are far smaller than this; layers may be.
const SMALL: u64 = 4 << 20;
const MANIFEST: &str = "manifest.json";

/// One image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Its id: the digest of its configuration.
    pub id: String,
    /// The references that it gets.
    pub tags: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

fn bad(reason: impl Into<String>) -> ArchiveError {
    ArchiveError::hostile(b"images/", reason)
}

/// The images of an archive that `docker save` might have written.
pub fn archived(archive: &mut impl Read) -> Result<Vec<Archived>, ArchiveError> {
    let mut digests: BTreeMap<String, String> = BTreeMap::new();
    let mut texts: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let unreadable = |error: std::io::Error| bad(format!("the images' archive cannot be read: {error}"));
    let mut tar = tar::Archive::new(archive);
    for entry in tar.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        if entry.size() > SMALL || !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(unreadable)?.to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(unreadable)?;
        if digests.insert(name.clone(), hex::encode(Sha256::digest(&bytes))).is_some() {
            return Err(bad(format!("the images' archive has `{}` twice", name.escape_debug())));
        }
        if [MANIFEST, "index.json", "repositories"].contains(&name.as_str()) {
            texts.insert(name, bytes);
        }
    }
    let listed = texts.get(MANIFEST).ok_or_else(|| bad("the images' archive has no list of them"))?;
    let listed: Vec<Listed> =
        serde_json::from_slice(listed).map_err(|error| bad(format!("the images' list: {error}")))?;
    let images = listed
        .into_iter()
        .map(|one| {
            let id = digests.get(&one.config).ok_or_else(|| bad("an image has no configuration"))?;
            Ok(Archived { id: format!("sha256:{id}"), tags: one.repo_tags.unwrap_or_default() })
        })
        .collect::<Result<Vec<_>, ArchiveError>>()?;
    let known: BTreeSet<String> = images.iter().flat_map(|image| &image.tags).map(|tag| full(tag)).collect();
    let others = texts.iter().filter(|(name, _)| *name != MANIFEST);
    for other in others.flat_map(|(name, text)| names_in(name, text)) {
        if !known.contains(&full(&other)) {
            return Err(bad(format!(
                "the images' archive names `{}` in one place only",
                other.escape_debug()
            )));
        }
    }
    Ok(images)
}

/// The references in the lists that other engines read.
fn names_in(name: &str, text: &[u8]) -> Vec<String> {
    let value: Value = serde_json::from_slice(text).unwrap_or_default();
    if name == "repositories" {
        let tags = value.as_object().into_iter().flatten().flat_map(|(repository, tags)| {
            let tags = tags.as_object().into_iter().flatten();
            tags.map(move |(tag, _)| format!("{repository}:{tag}"))
        });
        return tags.collect();
    }
    let manifests = value["manifests"].as_array().into_iter().flatten();
    let named = manifests.filter_map(|one| one["annotations"]["io.containerd.image.name"].as_str());
    named.map(str::to_owned).collect()
}

/// A reference as engines write it out.
fn full(reference: &str) -> String {
    let reference = reference.strip_prefix("docker.io/").unwrap_or(reference);
    reference.strip_prefix("library/").unwrap_or(reference).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    const LIST: &str = r#"[{"Config":"c.json","RepoTags":["db:1"],"Layers":[]}]"#;

    #[test]
    fn an_image_is_known_by_what_its_configuration_is_not_by_what_it_is_called() {
        let found = archived(&mut &*archive(&[("c.json", "{}"), ("manifest.json", LIST)])).unwrap();
        let id = format!("sha256:{}", hex::encode(Sha256::digest(b"{}")));
        assert_eq!(found, [Archived { id, tags: vec!["db:1".to_owned()] }]);
    }

    #[test]
    fn a_name_that_only_some_engines_would_read_is_refused() {
        let index =
            r#"{"manifests":[{"annotations":{"io.containerd.image.name":"docker.io/library/db:1"}}]}"#;
        let with = |other: &[(&str, &str)]| {
            let entries = [&[("c.json", "{}"), ("manifest.json", LIST)], other].concat();
            archived(&mut &*archive(&entries))
        };
        with(&[("index.json", index), ("repositories", r#"{"db":{"1":"aa"}}"#)]).unwrap();
        let hidden = index.replace("db:1", "postgres:16");
        with(&[("index.json", &hidden)]).unwrap_err();
        with(&[("repositories", r#"{"postgres":{"16":"aa"}}"#)]).unwrap_err();
        with(&[("manifest.json", LIST)]).unwrap_err();
        archived(&mut &*archive(&[("c.json", "{}")])).unwrap_err();
    }
}

//! Reads, without trusting it, which images and tags an archive would load.
//!
//! An image's id is the SHA-256 of its configuration; it is computed here, not read from the archive. The tags decide
//! which images a load replaces, so if an archive lists images in more than one place, all lists must agree. The
//! engine unpacks the archive with another parser, so everything that two parsers could interpret differently is
//! rejected: paths that are not plain, repeated names, entries below a link, one key in two spellings.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tar::{Entry, EntryType};

use super::ArchiveError;
use crate::engine::ImageConfig;
use crate::engine::image::content_digest;
use crate::spec::reserved;

/// Maximum size of a configuration or list, bytes; only layers may be larger.
const SMALL: u64 = 4 << 20;
/// Maximum number of entries; an image has a few dozen.
const ENTRIES: usize = 100_000;
const NAME: usize = 4095;
const MANIFEST: &str = "manifest.json";
/// The files that engines read first.
const LISTS: [&str; 4] = [MANIFEST, "repositories", "index.json", "oci-layout"];

/// One image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The image id: the digest of its configuration.
    pub id: String,
    /// The references that a load assigns to it.
    pub tags: Vec<String>,
    /// The digest of its layers and configuration, which is the same in all image stores.
    pub content: Option<String>,
}

fn bad(reason: impl Into<String>) -> ArchiveError {
    ArchiveError::hostile(b"images/", reason)
}

fn unreadable(error: impl std::fmt::Display) -> ArchiveError {
    bad(format!("the images' archive cannot be read: {error}"))
}

/// Reads the images of an archive in the format of `docker save`.
pub fn archived(archive: &mut impl Read) -> Result<Vec<Archived>, ArchiveError> {
    let contents = Contents::of(archive)?;
    let listed =
        contents.lists.get(MANIFEST).ok_or_else(|| bad("the images' archive has no list of them"))?;
    let listed: Value =
        serde_json::from_slice(listed).map_err(|error| bad(format!("the images' list: {error}")))?;
    let listed = listed.as_array().ok_or_else(|| bad("the images' list is none"))?;
    let images = listed.iter().map(|one| contents.image(one)).collect::<Result<Vec<_>, _>>()?;
    let known: BTreeSet<String> = images.iter().flat_map(|image| &image.tags).map(|tag| full(tag)).collect();
    for (name, text) in contents.lists.iter().filter(|(name, _)| *name != MANIFEST) {
        for other in names_in(name, text)? {
            if !known.contains(&full(&other)) {
                return Err(bad(format!(
                    "the images' archive names `{}` in one place only",
                    other.escape_debug()
                )));
            }
        }
    }
    Ok(images)
}

/// What is known of a path when later entries are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    /// A folder that so far only occurs as a parent.
    Implied,
    Other,
}

/// The entries found in an archive.
#[derive(Default)]
struct Contents {
    kinds: BTreeMap<String, Kind>,
    /// Digests of entries that may be configurations.
    digests: BTreeMap<String, String>,
    /// Content digests, by configuration.
    inner_digests: BTreeMap<String, String>,
    /// Contents of the lists.
    lists: BTreeMap<String, Vec<u8>>,
}

impl Contents {
    fn of(archive: &mut impl Read) -> Result<Self, ArchiveError> {
        let mut contents = Self::default();
        let mut tar = tar::Archive::new(archive);
        for entry in tar.entries().map_err(unreadable)? {
            contents.take(entry.map_err(unreadable)?)?;
        }
        Ok(contents)
    }

    fn take<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), ArchiveError> {
        let kind = entry.header().entry_type();
        let name = plain(&entry.path_bytes(), kind)?;
        let shown = || name.escape_debug();
        for extension in entry.pax_extensions().map_err(unreadable)?.into_iter().flatten() {
            let key = extension.map_err(unreadable)?.key_bytes();
            // Parsers could disagree about the size or the name.
            if key == b"size" || key.starts_with(b"GNU.sparse.") {
                return Err(bad(format!("`{}` in the images' archive is written in an odd way", shown())));
            }
        }
        let is_list = LISTS.contains(&name.as_str());
        let as_it_may = match kind {
            EntryType::Regular => !is_list || entry.size() <= SMALL,
            EntryType::Directory | EntryType::Symlink => !is_list,
            _ => false,
        };
        if !as_it_may {
            return Err(bad(format!(
                "`{}` in the images' archive is of a kind or size it must not be",
                shown()
            )));
        }
        self.place(&name, kind)?;
        if kind == EntryType::Regular && entry.size() <= SMALL {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(unreadable)?;
            self.digests.insert(name.clone(), hex::encode(Sha256::digest(&bytes)));
            if let Some(content) = content_of(&bytes) {
                self.inner_digests.insert(name.clone(), content);
            }
            if is_list {
                self.lists.insert(name, bytes);
            }
        }
        Ok(())
    }

    /// Registers an entry's path: it must be new, and all its parents must be folders.
    fn place(&mut self, name: &str, kind: EntryType) -> Result<(), ArchiveError> {
        for (at, _) in name.match_indices('/') {
            if *self.kinds.entry(name[..at].to_owned()).or_insert(Kind::Implied) == Kind::Other {
                let reason =
                    format!("`{}` in the images' archive lies below a link or file", name.escape_debug());
                return Err(bad(reason));
            }
        }
        let kind = if kind == EntryType::Directory { Kind::Folder } else { Kind::Other };
        match self.kinds.insert(name.to_owned(), kind) {
            None => {}
            Some(Kind::Implied) if kind == Kind::Folder => {}
            Some(_) => return Err(bad(format!("the images' archive has `{}` twice", name.escape_debug()))),
        }
        if self.kinds.len() > ENTRIES {
            return Err(bad(format!("the images' archive has more than {ENTRIES} entries")));
        }
        Ok(())
    }

    /// Reads one image of the list.
    fn image(&self, listed: &Value) -> Result<Archived, ArchiveError> {
        let listed = listed.as_object().ok_or_else(|| bad("the images' list is none"))?;
        let config = member(listed, "Config")?.and_then(Value::as_str).unwrap_or_default();
        let id = self.digests.get(config).ok_or_else(|| bad("an image has no configuration"))?;
        let tags = match member(listed, "RepoTags")? {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(tags)) => tags
                .iter()
                .map(|tag| tag.as_str().map(str::to_owned).ok_or_else(|| bad("an image's name is no text")))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(bad("an image's names are no list")),
        };
        if let Some(tag) = tags.iter().find(|tag| reserved::is_image(tag)) {
            return Err(bad(format!(
                "the images' archive names an image `{}`, which is a name of ours",
                tag.escape_debug()
            )));
        }
        Ok(Archived { id: format!("sha256:{id}"), tags, content: self.inner_digests.get(config).cloned() })
    }
}

/// The content digest of a configuration; `None` if the text is not a configuration.
fn content_of(configuration: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Configuration {
        #[serde(default)]
        architecture: String,
        #[serde(default)]
        os: String,
        #[serde(default)]
        config: Option<Config>,
        rootfs: Root,
    }
    #[derive(serde::Deserialize)]
    struct Root {
        diff_ids: Vec<String>,
    }
    #[derive(Default, serde::Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Config {
        user: Option<String>,
        env: Option<Vec<String>>,
        cmd: Option<Vec<String>>,
        entrypoint: Option<Vec<String>>,
        working_dir: Option<String>,
        exposed_ports: Option<BTreeMap<String, Value>>,
        volumes: Option<BTreeMap<String, Value>>,
        stop_signal: Option<String>,
    }
    let read: Configuration = serde_json::from_slice(configuration).ok()?;
    let config = read.config.unwrap_or_default();
    let config = ImageConfig {
        user: config.user.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        cmd: config.cmd.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        exposed: config
            .exposed_ports
            .unwrap_or_default()
            .keys()
            .filter_map(|port| port.parse().ok())
            .collect(),
        volumes: config.volumes.unwrap_or_default().into_keys().collect(),
        workdir: config.working_dir.unwrap_or_default(),
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
        ..ImageConfig::default()
    };
    content_digest(&read.os, &read.architecture, &read.rootfs.diff_ids, &config)
}

/// Validates a path that can be written in only one way.
fn plain(path: &[u8], kind: EntryType) -> Result<String, ArchiveError> {
    let shown =
        || String::from_utf8_lossy(path).chars().take(200).collect::<String>().escape_debug().to_string();
    let odd = || bad(format!("the path `{}` in the images' archive is not plain", shown()));
    let name = std::str::from_utf8(path).map_err(|_| odd())?;
    let name = if kind == EntryType::Directory { name.strip_suffix('/').unwrap_or(name) } else { name };
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\0', '\\']);
    if name.len() > NAME || !name.split('/').all(is_plain) {
        return Err(odd());
    }
    Ok(name.to_owned())
}

/// Finds a member of an object as engines do, ignoring case; fails if the key occurs in two spellings.
fn member<'v>(object: &'v Map<String, Value>, key: &str) -> Result<Option<&'v Value>, ArchiveError> {
    if let Some(odd) = object.keys().find(|key| !key.is_ascii()) {
        return Err(bad(format!("the images' lists have the odd key `{}`", odd.escape_debug())));
    }
    let mut found = object.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key));
    let first = found.next();
    if found.next().is_some() {
        return Err(bad(format!("the images' lists say twice what `{key}` is")));
    }
    Ok(first.map(|(_, value)| value))
}

/// The references in the lists that other engines read.
fn names_in(name: &str, text: &[u8]) -> Result<Vec<String>, ArchiveError> {
    let value: Value =
        serde_json::from_slice(text).map_err(|error| bad(format!("`{name}` of the images: {error}")))?;
    let none = || bad(format!("`{name}` of the images is not what it is called"));
    let list = value.as_object().ok_or_else(none)?;
    if name == "repositories" {
        let tags = list.iter().flat_map(|(repository, tags)| {
            let tags = tags.as_object().into_iter().flatten();
            tags.map(move |(tag, _)| format!("{repository}:{tag}"))
        });
        return Ok(tags.collect());
    }
    let mut names = Vec::new();
    let manifests = match member(list, "manifests")? {
        None | Some(Value::Null) => return Ok(names),
        Some(manifests) => manifests.as_array().ok_or_else(none)?,
    };
    for one in manifests {
        let Some(notes) = member(one.as_object().ok_or_else(none)?, "annotations")? else { continue };
        let note = |key: &str| notes.get(key).and_then(Value::as_str);
        let named = note("io.containerd.image.name");
        // With a name this is a tag; without one it is used as the name.
        let other = note("org.opencontainers.image.ref.name");
        let other = other.filter(|other| named.is_none() || other.contains(['/', ':', '@']));
        names.extend(named.into_iter().chain(other).map(str::to_owned));
    }
    Ok(names)
}

/// A reference in the normalized form of engines.
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
        assert_eq!(found, [Archived { id, tags: vec!["db:1".to_owned()], content: None }]);
    }

    #[test]
    fn an_archive_cannot_bring_an_image_under_the_name_of_ours() {
        for name in ["sandbox-agent:1", "docker.io/library/sandbox-agent:1", "sandbox-agent", "sbx-context:1"]
        {
            let list = LIST.replace("db:1", name);
            archived(&mut &*archive(&[("c.json", "{}"), ("manifest.json", &list)])).expect_err(name);
        }
    }

    #[test]
    fn an_image_in_an_archive_has_the_content_that_the_engine_tells_of_it() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"ExposedPorts":{"80/tcp":{}}},
            "rootfs":{"type":"layers","diff_ids":["sha256:11"]}}"#;
        let found = archived(&mut &*archive(&[("c.json", text), ("manifest.json", LIST)])).unwrap();
        let exposed = vec![crate::engine::Port::tcp(80)];
        let config = ImageConfig { cmd: vec!["sh".to_owned()], exposed, ..ImageConfig::default() };
        let expected = content_digest("linux", "amd64", &["sha256:11".to_owned()], &config);
        assert!(expected.is_some());
        assert_eq!(found[0].content, expected);
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
        with(&[("index.json", &index.replace("io.containerd.image", "org.opencontainers.image.ref"))])
            .unwrap();
        with(&[("index.json", &hidden.replace("io.containerd.image", "org.opencontainers.image.ref"))])
            .unwrap_err();
        with(&[("index.json", "{")]).unwrap_err();
        with(&[("repositories", "[]")]).unwrap_err();
        archived(&mut &*archive(&[("c.json", "{}")])).unwrap_err();
    }

    /// Creates an archive with entries of these names and types.
    fn packed(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, text) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
            header.set_size(if is_link { 0 } else { text.len() as u64 });
            if is_link {
                header.set_link_name(text).unwrap();
            }
            header.set_cksum();
            tar.append(&header, if is_link { &b""[..] } else { text.as_bytes() }).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn odd(entries: &[(&str, EntryType, &str)]) -> Result<Vec<Archived>, ArchiveError> {
        archived(&mut &*packed(entries))
    }

    #[test]
    fn what_an_unpacker_might_put_in_the_place_of_a_list_is_refused() {
        use EntryType::{Char, Continuous, Directory, Fifo, Link, Regular, Symlink, XGlobalHeader};
        let whole = [("c.json", Regular, "{}"), ("manifest.json", Regular, LIST)];
        let other = LIST.replace("db:1", "postgres:16");
        let with = |more: &[(&str, EntryType, &str)]| odd(&[&whole, more].concat());
        with(&[
            ("a/", Directory, ""),
            ("a/layer.tar", Regular, "x"),
            ("b/layer.tar", Symlink, "../a/layer.tar"),
        ])
        .unwrap();
        with(&[("a/layer.tar", Regular, "x"), ("a/", Directory, "")]).unwrap();
        for name in [
            "./manifest.json",
            "manifest.json",
            "a/../manifest.json",
            "/manifest.json",
            ".//manifest.json",
            "a//manifest.json",
            "..",
            "manifest.json/",
        ] {
            with(&[(name, Regular, &other)]).expect_err(name);
        }
        for kind in [Symlink, Link, Char, Fifo, Directory, Continuous] {
            for name in ["manifest.json", "repositories", "index.json", "oci-layout"] {
                with(&[(name, kind, "other")]).expect_err(name);
            }
        }
        for kind in [Link, Char, Fifo, Continuous, XGlobalHeader] {
            with(&[("x", kind, "c.json")]).expect_err("a kind that nobody saves");
        }
        with(&[("x", Symlink, "."), ("x/manifest.json", Regular, &other)]).unwrap_err();
        with(&[("x/manifest.json", Regular, &other), ("x", Symlink, ".")]).unwrap_err();
        with(&[("x", Directory, ""), ("x", Symlink, ".")]).unwrap_err();
        odd(&[("c.json", Symlink, "d.json"), ("d.json", Regular, "{}"), whole[1]]).unwrap_err();
    }

    #[test]
    fn what_engines_with_two_kinds_of_lists_save_is_let_in() {
        use EntryType::{Directory, Regular};
        let index = r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:aa","size":9,"annotations":{
            "io.containerd.image.name":"docker.io/library/db:1","org.opencontainers.image.ref.name":"1"}}]}"#;
        let list = LIST.replace("c.json", "blobs/sha256/cc");
        let found = odd(&[
            ("blobs/", Directory, ""),
            ("blobs/sha256/", Directory, ""),
            ("blobs/sha256/cc", Regular, "{}"),
            ("blobs/sha256/dd", Regular, "a layer"),
            ("index.json", Regular, index),
            ("manifest.json", Regular, &list),
            ("oci-layout", Regular, r#"{"imageLayoutVersion":"1.0.0"}"#),
            ("repositories", Regular, r#"{"db":{"1":"dd"}}"#),
        ]);
        assert_eq!(found.unwrap()[0].tags, ["db:1"]);
    }

    #[test]
    fn a_list_too_large_to_be_one_is_refused() {
        let padding = " ".repeat(usize::try_from(SMALL).unwrap());
        let large = format!("{}{padding}", LIST.replace("db:1", "postgres:16"));
        archived(&mut &*archive(&[("c.json", "{}"), ("manifest.json", LIST), ("manifest.json", &large)]))
            .unwrap_err();
        archived(&mut &*archive(&[("c.json", "{}"), ("manifest.json", LIST), ("index.json", &large)]))
            .unwrap_err();
        archived(&mut &*archive(&[("c.json", "{}"), ("manifest.json", LIST), ("layer", &large)])).unwrap();
    }

    #[test]
    fn a_key_is_what_engines_take_for_it_in_whatever_case() {
        let listed = |list: &str| archived(&mut &*archive(&[("c.json", "{}"), ("manifest.json", list)]));
        let tags = |list: &str| listed(list).unwrap().remove(0).tags;
        assert_eq!(tags(r#"[{"config":"c.json","repotags":["db:1"]}]"#), ["db:1"]);
        assert!(tags(r#"[{"Config":"c.json","RepoTags":null}]"#).is_empty());
        listed(r#"[{"Config":"c.json","RepoTags":["db:1"],"repoTags":["postgres:16"]}]"#).unwrap_err();
        listed(r#"[{"Config":"c.json","RepoTags":["db:1"],"RepoTagſ":["postgres:16"]}]"#).unwrap_err();
        listed(r#"[{"Config":"c.json","RepoTags":"db:1"}]"#).unwrap_err();
        listed("{}").unwrap_err();
    }

    /// The list and the configuration that GNU tar extracts from an archive.
    fn unpacked(archive: &[u8]) -> [Option<String>; 2] {
        use std::io::Write;
        let ground = tempfile::tempdir().unwrap();
        let mut tar = std::process::Command::new("tar")
            .args(["-x", "-C"])
            .arg(ground.path())
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // It may exit before the end of the input.
        let _ = tar.stdin.take().unwrap().write_all(archive);
        let _ = tar.wait().unwrap();
        [MANIFEST, "c.json"].map(|name| std::fs::read_to_string(ground.path().join(name)).ok())
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

        /// For every accepted archive, an unpacker finds the list and the configuration that we read.
        #[test]
        fn an_archive_that_is_let_in_is_the_same_to_who_unpacks_it(
            more in proptest::collection::vec((0usize..12, 0usize..5, 0usize..5), 0..6),
            at in 0usize..6,
        ) {
            let names = [
                "manifest.json", "./manifest.json", "x/manifest.json", "x/../manifest.json", "x", "x/", "c.json", "x/c.json",
                "index.json", "y/x", "manifest.json/", "./c.json",
            ];
            let kinds = [
                EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Link, EntryType::Continuous,
            ];
            let other = LIST.replace("db:1", "postgres:16");
            let texts = [other.as_str(), ".", "..", "manifest.json", "c.json"];
            let mut entries: Vec<_> =
                more.iter().map(|(name, kind, text)| (names[*name], kinds[*kind], texts[*text])).collect();
            let at = at.min(entries.len());
            entries.splice(at..at, [("c.json", EntryType::Regular, "{}"), (MANIFEST, EntryType::Regular, LIST)]);
            let bytes = packed(&entries);
            if let Ok(images) = archived(&mut &*bytes) {
                let own = [LIST, "{}"].map(|text| Some(text.to_owned()));
                proptest::prop_assert_eq!(unpacked(&bytes), own, "{:?}", entries);
                proptest::prop_assert_eq!(&images[0].tags, &["db:1"]);
            }
        }

        /// The reader terminates on any mutation of an archive.
        #[test]
        fn no_mutation_breaks_the_reader_of_images(
            changes in proptest::collection::vec((0usize..6_000, 0u8..=255), 1..12),
        ) {
            let mut bytes = archive(&[("c.json", "{}"), (MANIFEST, LIST), ("index.json", "{}")]);
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            let _ = archived(&mut &*bytes);
        }
    }
}

//! The keeper's records in its volume: a small JSON file and the current spec for each sandbox, an event log, and what
//! destroyed sandboxes left. No destruction depends on them: a missing or damaged file is skipped.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::state::{Remembered, StoredSandbox};
use crate::agent::protocol::{Declared, Leftovers, Record};
use crate::engine::identity::{SandboxId, SandboxName};

/// How long events, logs and artifacts are kept.
pub const KEPT_FOR: Duration = Duration::from_hours(24);

/// The keeper's own folder in its volume.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the folder `keeper` in the volume's root; creates it if it is missing.
    pub fn open(volume: &Path) -> io::Result<Self> {
        let root = volume.join("keeper");
        fs::create_dir_all(root.join("sandboxes"))?;
        fs::create_dir_all(root.join("specs"))?;
        fs::create_dir_all(root.join("left"))?;
        Ok(Self { root })
    }

    /// Writes the record of a sandbox atomically.
    pub fn save(&self, kept: &StoredSandbox) -> io::Result<()> {
        let text = serde_json::to_vec(kept).map_err(io::Error::other)?;
        replace(&self.record(&kept.terms.sandbox), &text)
    }

    /// Removes the record and the current spec of a sandbox.
    pub fn forget(&self, sandbox: &SandboxId) -> io::Result<()> {
        remove(&self.declaration(sandbox))?;
        remove(&self.record(sandbox))
    }

    /// Writes the current spec of a sandbox atomically.
    pub fn declare(&self, sandbox: &SandboxId, declared: &Declared) -> io::Result<()> {
        replace(&self.declaration(sandbox), &serde_json::to_vec(declared).map_err(io::Error::other)?)
    }

    /// Reads the current spec of a sandbox. A damaged file counts as missing.
    pub fn declared(&self, sandbox: &SandboxId) -> Option<Declared> {
        serde_json::from_slice(&fs::read(self.declaration(sandbox)).ok()?).ok()
    }

    /// Reads all records. A damaged one counts as missing.
    pub fn records(&self) -> BTreeMap<SandboxId, StoredSandbox> {
        let Ok(entries) = fs::read_dir(self.root.join("sandboxes")) else { return BTreeMap::new() };
        entries
            .flatten()
            .filter_map(|entry| serde_json::from_slice::<StoredSandbox>(&fs::read(entry.path()).ok()?).ok())
            .map(|kept| (kept.terms.sandbox.clone(), kept))
            .collect()
    }

    /// Records that the container `own` has the socket of its engine.
    pub fn save_engine_found(&self, own: &str) -> io::Result<()> {
        replace(&self.root.join("engine-found"), own.as_bytes())
    }

    /// Whether the container `own` has reached its engine before, so that its socket is the right one.
    pub fn engine_was_found(&self, own: &str) -> bool {
        fs::read_to_string(self.root.join("engine-found")).is_ok_and(|found| found == own)
    }

    /// Writes what was done about disk pressure and has to be undone.
    pub fn save_disk_pressure(&self, strain: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(strain).map_err(io::Error::other)?;
        replace(&self.root.join("strain.json"), &text)
    }

    /// Reads what the previous keeper did about disk pressure. A damaged file counts as missing.
    pub fn disk_pressure<T: DeserializeOwned + Default>(&self) -> T {
        let text = fs::read(self.root.join("strain.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes the container state for the next keeper.
    pub fn remember(&self, remembered: &Remembered) -> io::Result<()> {
        let text = serde_json::to_vec(remembered).map_err(io::Error::other)?;
        replace(&self.root.join("containers.json"), &text)
    }

    /// Reads the container state of the previous keeper. A damaged file counts as missing.
    pub fn remembered(&self) -> Remembered {
        let text = fs::read(self.root.join("containers.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Appends a line to the event log.
    pub fn note(&self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record).map_err(io::Error::other)?;
        line.push(b'\n');
        fs::OpenOptions::new().append(true).create(true).open(self.events_file())?.write_all(&line)
    }

    /// Reads the events of the last day that are later than `since`, oldest first.
    pub fn events(&self, now: Timestamp, since: Option<Timestamp>) -> Vec<Record> {
        let oldest = now.checked_sub(KEPT_FOR).unwrap_or(Timestamp::MIN);
        let since = since.map_or(oldest, |it| it.max(oldest));
        let text = fs::read(self.events_file()).unwrap_or_default();
        text.split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<Record>(line).ok())
            .filter(|record| record.at > since)
            .collect()
    }

    /// Deletes events and leftovers that are older than a day.
    pub fn tidy(&self, now: Timestamp) -> io::Result<()> {
        let oldest = now.checked_sub(KEPT_FOR).unwrap_or(Timestamp::MIN);
        for left in self.left(None) {
            if left.at < oldest {
                fs::remove_dir_all(self.left_folder(&left.sandbox))?;
            }
        }
        let mut text = Vec::new();
        for record in self.events(now, None) {
            serde_json::to_writer(&mut text, &record).map_err(io::Error::other)?;
            text.push(b'\n');
        }
        replace(&self.events_file(), &text)
    }

    /// The folder for a sandbox's leftovers. It is emptied when the destruction starts over.
    pub fn left_folder(&self, sandbox: &SandboxId) -> PathBuf {
        self.root.join("left").join(sandbox.as_str())
    }

    /// Records the sandbox and the time of a leftovers folder; without this record the folder is not listed.
    pub fn name_left(&self, name: &SandboxName, sandbox: &SandboxId, at: Timestamp) -> io::Result<()> {
        let tag = serde_json::json!({ "name": name, "at": at });
        replace(&self.left_folder(sandbox).join(TAG), tag.to_string().as_bytes())
    }

    /// Lists what destroyed sandboxes left, latest first.
    pub fn left(&self, name: Option<&SandboxName>) -> Vec<Leftovers> {
        let Ok(entries) = fs::read_dir(self.root.join("left")) else { return Vec::new() };
        let mut found: Vec<_> = entries
            .flatten()
            .filter_map(|entry| read_left(&entry.path()))
            .filter(|left| name.is_none_or(|it| *it == left.name))
            .collect();
        found.sort_by_key(|left| std::cmp::Reverse(left.at));
        found
    }

    fn record(&self, sandbox: &SandboxId) -> PathBuf {
        self.root.join("sandboxes").join(format!("{sandbox}.json"))
    }

    fn declaration(&self, sandbox: &SandboxId) -> PathBuf {
        self.root.join("specs").join(format!("{sandbox}.json"))
    }

    fn events_file(&self) -> PathBuf {
        self.root.join("events.jsonl")
    }
}

/// The file in a leftovers folder that names the sandbox.
pub(crate) const TAG: &str = ".sandbox.json";

#[derive(serde::Deserialize)]
struct Tag {
    name: SandboxName,
    at: Timestamp,
}

fn read_left(folder: &Path) -> Option<Leftovers> {
    let tag: Tag = serde_json::from_slice(&fs::read(folder.join(TAG)).ok()?).ok()?;
    let sandbox = folder.file_name()?.to_str()?.parse().ok()?;
    let mut files = BTreeMap::new();
    list(folder, folder, &mut files);
    files.remove(TAG);
    Some(Leftovers { name: tag.name, sandbox, at: tag.at, folder: folder.display().to_string(), files })
}

fn list(root: &Path, folder: &Path, files: &mut BTreeMap<String, u64>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
        if meta.is_dir() {
            list(root, &path, files);
        } else if let Ok(relative) = path.strip_prefix(root) {
            files.insert(relative.display().to_string(), meta.len());
        }
    }
}

/// Removes a file; a missing one is fine.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Replaces a file atomically, so that a reader, or a crash, finds either the old or the new content.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_data()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::protocol::{Actor, Reason, RecordKind};

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    fn ago(hours: u64) -> Timestamp {
        Timestamp::now().checked_sub(Duration::from_hours(hours)).unwrap()
    }

    #[test]
    fn events_are_kept_for_a_day() {
        let (_folder, store) = store();
        let destroyed = |at| Record {
            at,
            name: Some("shop".parse().unwrap()),
            sandbox: None,
            what: RecordKind::Destroyed { reason: Reason::Ttl, by: Actor::Keeper, left: Vec::new() },
        };
        store.note(&destroyed(ago(25))).unwrap();
        store.note(&destroyed(ago(1))).unwrap();
        assert_eq!(store.events(Timestamp::now(), None).len(), 1);
        store.tidy(Timestamp::now()).unwrap();
        assert_eq!(fs::read_to_string(store.events_file()).unwrap().lines().count(), 1);
    }

    #[test]
    fn logs_and_artifacts_are_kept_for_a_day() {
        let (_folder, store) = store();
        let (name, old, young) = ("shop".parse().unwrap(), SandboxId::random(), SandboxId::random());
        for (sandbox, at) in [(&old, ago(25)), (&young, ago(23))] {
            fs::create_dir_all(store.left_folder(sandbox).join("logs")).unwrap();
            fs::write(store.left_folder(sandbox).join("logs/web.log"), "hello").unwrap();
            store.name_left(&name, sandbox, at).unwrap();
        }
        store.tidy(Timestamp::now()).unwrap();
        let left = store.left(None);
        assert_eq!(left.len(), 1);
        assert_eq!((&left[0].sandbox, left[0].files["logs/web.log"]), (&young, 5));
        assert!(!store.left_folder(&old).exists());
    }

    #[test]
    fn a_word_of_a_later_version_hides_no_other_record() {
        let (_folder, store) = store();
        let later = r#"{"at":"TIME","event":"moved-to-the-moon","how":{"by":"rocket"}}"#;
        let line = later.replace("TIME", &Timestamp::now().to_string());
        fs::write(store.events_file(), format!("{line}\nnot json\n")).unwrap();
        assert_eq!(store.events(Timestamp::now(), None)[0].what, RecordKind::Other);
    }
}

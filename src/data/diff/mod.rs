//! Compares a volume with what it was cloned from.

mod content;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::storage::VolumeName;
use crate::storage::tree::{Entry, EntryKind, TreeError, Visitor, walk};
use content::changed_bytes;

/// The most changes of one volume that are listed; the others are counted.
const LISTED: usize = 2000;
/// The most entries of a volume that are compared, since those of the origin are held in memory.
const ENTRIES: usize = 5_000_000;

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its content, type, link target, owner or mode is another.
    Changed,
}

/// A changed entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its path in the volume.
    pub path: String,
    /// What happened to it.
    #[serde(rename = "change")]
    pub what: ChangeKind,
    /// The length that it had, if it was a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_before: Option<u64>,
    /// The length that it has, if it is a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How many bytes of a file's content differ, in blocks of 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_bytes: Option<u64>,
}

/// The changes of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDiff {
    /// The volume.
    pub volume: VolumeName,
    /// The number of entries that are new.
    pub added: u64,
    /// The number of entries that are gone.
    pub removed: u64,
    /// The number of entries that differ.
    pub changed: u64,
    /// The changes, by path; not more than 2000.
    pub changes: Vec<Change>,
}

/// What is compared of an entry before its content is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    kind: u32,
    mode: u32,
    owner: (u32, u32),
    length: u64,
    modified: (i64, i64),
    target: Option<Vec<u8>>,
}

impl Facts {
    fn of(entry: &Entry<'_>) -> Result<Self, TreeError> {
        let stat = entry.stat;
        let is_link = entry.kind == EntryKind::Symlink;
        let target = if is_link { Some(entry.link_target()?.into_bytes()) } else { None };
        Ok(Self {
            kind: stat.st_mode & 0o170_000,
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            length: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            target,
        })
    }

    fn is_file(&self) -> bool {
        self.kind == 0o100_000
    }

    fn bytes(&self) -> Option<u64> {
        self.is_file().then_some(self.length)
    }

    /// Whether everything but the content and its time is the same.
    fn has_same_form(&self, other: &Self) -> bool {
        (self.kind, self.mode, self.owner, &self.target)
            == (other.kind, other.mode, other.owner, &other.target)
    }
}

/// Compares the tree at `now` with the one at `before`, which does not change. A file that changes meanwhile is compared
/// as it is read; one that disappears meanwhile counts as removed.
///
/// # Errors
/// Fails if a tree cannot be read, or has too many entries.
pub fn compare(volume: VolumeName, before: &Path, now: &Path) -> Result<VolumeDiff, TreeError> {
    let mut origin = Origin::default();
    walk(before, &mut origin)?;
    let diff = VolumeDiff { volume, added: 0, removed: 0, changed: 0, changes: Vec::new() };
    let mut comparison = Comparison { before, origin: origin.0, diff };
    walk(now, &mut comparison)?;
    let Comparison { origin, mut diff, .. } = comparison;
    for (path, facts) in origin {
        diff.removed += 1;
        diff.list(&path, ChangeKind::Removed, [facts.bytes(), None], None);
    }
    diff.changes.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(diff)
}

impl VolumeDiff {
    fn list(&mut self, path: &Path, what: ChangeKind, bytes: [Option<u64>; 2], changed: Option<u64>) {
        if self.changes.len() < LISTED {
            let path = String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
            let [bytes_before, bytes] = bytes;
            self.changes.push(Change { path, what, bytes_before, bytes, changed_bytes: changed });
        }
    }
}

/// The entries of the origin.
#[derive(Default)]
struct Origin(BTreeMap<PathBuf, Facts>);

impl Origin {
    fn add(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
        if self.0.len() >= ENTRIES {
            let error = std::io::Error::other(format!("there are more than {ENTRIES} entries"));
            return Err(TreeError::new("compare", entry.path, error));
        }
        self.0.insert(entry.path.to_owned(), Facts::of(entry)?);
        Ok(())
    }
}

impl Visitor for Origin {
    type Error = TreeError;

    fn enter(&mut self, folder: &Entry<'_>) -> Result<(), TreeError> {
        self.add(folder)
    }

    fn visit(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
        self.add(entry)
    }

    fn leave(&mut self, _: &Entry<'_>) -> Result<(), TreeError> {
        Ok(())
    }
}

struct Comparison<'a> {
    before: &'a Path,
    /// The entries of the origin that were not met.
    origin: BTreeMap<PathBuf, Facts>,
    diff: VolumeDiff,
}

impl Comparison<'_> {
    fn compare(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
        let now = match Facts::of(entry) {
            Ok(now) => now,
            // It disappeared meanwhile.
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(before) = self.origin.remove(entry.path) else {
            self.diff.added += 1;
            self.diff.list(entry.path, ChangeKind::Added, [None, now.bytes()], None);
            return Ok(());
        };
        let changed = self.content(entry, &before, &now)?;
        if before.has_same_form(&now) && changed == Some(0) {
            return Ok(());
        }
        self.diff.changed += 1;
        let changed = changed.filter(|changed| *changed > 0);
        self.diff.list(entry.path, ChangeKind::Changed, [before.bytes(), now.bytes()], changed);
        Ok(())
    }

    /// How many bytes of the content differ; `None` if that cannot be said.
    fn content(&self, entry: &Entry<'_>, before: &Facts, now: &Facts) -> Result<Option<u64>, TreeError> {
        if !(before.is_file() && now.is_file()) {
            return Ok(Some(0));
        }
        if before.length == now.length && before.modified == now.modified {
            return Ok(Some(0));
        }
        let new = match entry.open() {
            Ok(new) => std::fs::File::from(new),
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        changed_bytes(&self.before.join(entry.path), &new)
            .map(Some)
            .map_err(|error| TreeError::new("compare", entry.path, error))
    }
}

impl Visitor for Comparison<'_> {
    type Error = TreeError;

    fn enter(&mut self, folder: &Entry<'_>) -> Result<(), TreeError> {
        self.compare(folder)
    }

    fn visit(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
        self.compare(entry)
    }

    fn leave(&mut self, _: &Entry<'_>) -> Result<(), TreeError> {
        Ok(())
    }

    fn missed(&mut self, error: TreeError) -> Result<(), TreeError> {
        // It disappeared meanwhile, and is left among those that were not met.
        if error.source.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn shown(diff: &VolumeDiff) -> Vec<String> {
        let line = |change: &Change| {
            let sizes = [change.bytes_before, change.bytes, change.changed_bytes];
            let sizes = sizes.map(|size| size.map_or_else(|| "-".to_owned(), |size| size.to_string()));
            format!("{:?} {} {}", change.what, change.path, sizes.join(" "))
        };
        diff.changes.iter().map(line).collect()
    }

    #[test]
    fn what_changed_is_listed_and_what_did_not_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (before, now) = (folder.path().join("before"), folder.path().join("now"));
        for root in [&before, &now] {
            fs::create_dir_all(root.join("sub")).unwrap();
            fs::write(root.join("same"), "same").unwrap();
            fs::write(root.join("table"), vec![1; 100_000]).unwrap();
            std::os::unix::fs::symlink("same", root.join("link")).unwrap();
        }
        fs::write(before.join("sub/gone"), "gone").unwrap();
        fs::write(now.join("new"), "newer").unwrap();
        let mut table = vec![1; 110_000];
        table[50_000] = 2;
        fs::write(now.join("table"), table).unwrap();
        fs::remove_file(now.join("link")).unwrap();
        std::os::unix::fs::symlink("table", now.join("link")).unwrap();
        fs::set_permissions(now.join("sub"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();

        let diff = compare(VolumeName::new("data").unwrap(), &before, &now).unwrap();

        let expected = [
            "Changed link - - -",
            "Added new - 5 -",
            "Changed sub - - -",
            "Removed sub/gone 4 - -",
            // One block in the middle, and what was added.
            "Changed table 100000 110000 14096",
        ];
        assert_eq!(shown(&diff), expected);
        assert_eq!((diff.added, diff.removed, diff.changed), (1, 1, 3));
        assert_eq!(shown(&compare(VolumeName::new("data").unwrap(), &before, &before).unwrap()), [""; 0]);
    }
}

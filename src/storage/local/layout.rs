//! The atomic steps of the storage layout: data is created under `making/`, renamed to its place, and moved back under
//! `making/` before it is deleted.

use std::collections::HashMap;
use std::fs::{File, FileTimes};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::Backend;
use crate::storage::tree::Counter;
use crate::storage::{Namespace, Published, Result, SetName, SetPath, StorageError, VolumePath};

/// File beside a set's volumes that holds its manifest.
pub const MANIFEST: &str = "manifest.json";

/// Reads a volume and then checks that it is still in its place. A volume is moved away before it is deleted or
/// replaced, so a volume that is still in its place was complete during the read.
fn in_place<T>(volume: &VolumePath, folder: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    let identity = || folder.metadata().ok().map(|found| (found.dev(), found.ino()));
    let before = identity();
    let outcome = read();
    if before.is_none() || identity() != before {
        return Err(StorageError::NotFound { path: volume.to_string() });
    }
    outcome
}

/// The storage layout on a backend.
pub struct Layout {
    /// The backend that holds the data.
    pub medium: Box<dyn Backend>,
    /// Clones in progress, each with its progress counter.
    pub clones: Mutex<HashMap<VolumePath, Arc<Counter>>>,
}

impl Layout {
    pub(crate) fn folder(&self, set: &SetPath) -> PathBuf {
        self.medium.store().join(set.relative())
    }

    fn path(&self, volume: &VolumePath) -> PathBuf {
        self.medium.store().join(volume.relative())
    }

    /// Returns an unused name under `making/`.
    fn fresh(why: &str) -> Result<SetPath> {
        let name = format!("{why}-{:016x}", rand::rng().random::<u64>());
        let name = SetName::new(name).map_err(|e| StorageError::Refused { reason: e.to_string() })?;
        Ok(SetPath { shelf: Namespace::Making, name })
    }

    fn source(&self, volume: &VolumePath) -> Result<PathBuf> {
        let folder = self.path(volume);
        if folder.is_dir() { Ok(folder) } else { Err(StorageError::NotFound { path: volume.to_string() }) }
    }

    /// Creates a volume under `making/` with `make`, then calls `place` with it; removes the volume if either fails.
    fn aside(
        &self,
        make: impl FnOnce(&Path) -> Result<()>,
        place: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let made = self.folder(&Self::fresh("volume")?);
        let outcome = make(&made).and_then(|()| place(&made));
        if outcome.is_err() && made.exists() {
            // The first error is reported; leftovers are removed at the next start.
            let _ = self.medium.remove(&made);
        }
        outcome
    }

    /// Moves a new volume to its place, which must be free.
    fn put(&self, made: &Path, to: &VolumePath) -> Result<()> {
        let place = self.path(to);
        self.parent_of(to)?;
        match rustix::fs::renameat_with(CWD, made, CWD, &place, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST | Errno::NOTEMPTY) => Err(StorageError::Exists { path: to.to_string() }),
            Err(e) => Err(StorageError::io("move to its place", &place, e)),
        }
    }

    /// Prepares a set for a new volume: creates the folder of a live set; a set under `making/` must exist.
    fn parent_of(&self, volume: &VolumePath) -> Result<()> {
        let folder = self.folder(&volume.set);
        match volume.set.shelf {
            Namespace::Live => {
                std::fs::create_dir_all(&folder).map_err(|e| StorageError::io("make", &folder, e))
            }
            Namespace::Making if folder.is_dir() => Ok(()),
            Namespace::Making => Err(StorageError::NotFound { path: volume.set.to_string() }),
            Namespace::Baseline | Namespace::Snapshot => Err(StorageError::Refused {
                reason: format!("`{}` is published and does not change", volume.set),
            }),
        }
    }

    /// Creates an empty volume.
    pub fn create(&self, to: &VolumePath) -> Result<()> {
        self.medium.admit()?;
        self.vacant(to)?;
        self.aside(|made| self.medium.create(made), |made| self.put(made, to))
    }

    fn vacant(&self, to: &VolumePath) -> Result<()> {
        if self.path(to).exists() { Err(StorageError::Exists { path: to.to_string() }) } else { Ok(()) }
    }

    /// Creates a clone of a volume.
    pub fn clone_volume(&self, from: &VolumePath, to: &VolumePath) -> Result<()> {
        self.medium.admit()?;
        self.vacant(to)?;
        let source = self.source(from)?;
        self.counted(to, |counter| {
            self.aside(
                |made| in_place(from, &source, || self.medium.clone_into(&source, made, counter)),
                |made| self.put(made, to),
            )
        })
    }

    fn counted<T>(&self, to: &VolumePath, work: impl FnOnce(&Counter) -> T) -> T {
        let counter = Arc::new(Counter::default());
        let table = || self.clones.lock().unwrap_or_else(PoisonError::into_inner);
        table().insert(to.clone(), Arc::clone(&counter));
        let outcome = work(&counter);
        table().remove(to);
        outcome
    }

    /// Replaces a volume by a clone, or by an empty volume.
    pub fn replace(&self, from: Option<&VolumePath>, to: &VolumePath) -> Result<()> {
        self.medium.admit()?;
        let source = match from {
            Some(from) => Some((from, self.source(from)?)),
            None => None,
        };
        self.counted(to, |counter| {
            self.aside(
                |made| match &source {
                    Some((from, source)) => {
                        in_place(from, source, || self.medium.clone_into(source, made, counter))
                    }
                    None => self.medium.create(made),
                },
                |made| self.exchange(made, to),
            )
        })
    }

    /// Swaps a new volume with the existing one, then deletes the old one.
    fn exchange(&self, made: &Path, to: &VolumePath) -> Result<()> {
        let place = self.path(to);
        if !place.exists() {
            return self.put(made, to);
        }
        self.parent_of(to)?;
        let fail = |e| StorageError::io("replace", &place, e);
        let times = made.metadata().map_err(fail)?;
        rustix::fs::renameat_with(CWD, made, CWD, &place, RenameFlags::EXCHANGE)
            .map_err(|e| fail(e.into()))?;
        // XFS counts an exchange as a modification of the folder, so the times are restored.
        let times = FileTimes::new()
            .set_modified(times.modified().map_err(fail)?)
            .set_accessed(times.accessed().map_err(fail)?);
        File::open(&place).and_then(|folder| folder.set_times(times)).map_err(fail)?;
        self.medium.remove(made)
    }

    /// Creates an empty set under `making/`, to be filled and published.
    pub fn begin(&self) -> Result<SetPath> {
        self.medium.admit()?;
        let set = Self::fresh("set")?;
        let folder = self.folder(&set);
        std::fs::create_dir(&folder).map_err(|e| StorageError::io("make", &folder, e))?;
        Ok(set)
    }

    /// Freezes a set, syncs it to the disk and moves it to its place.
    pub fn publish(&self, making: &SetPath, to: &SetPath, manifest: &serde_json::Value) -> Result<Published> {
        if making.shelf != Namespace::Making || !matches!(to.shelf, Namespace::Baseline | Namespace::Snapshot)
        {
            return Err(StorageError::Refused {
                reason: format!("`{making}` cannot be published as `{to}`"),
            });
        }
        let folder = self.folder(making);
        let set = self.read(making)?.ok_or_else(|| StorageError::NotFound { path: making.to_string() })?;
        let file = folder.join(MANIFEST);
        let text = serde_json::to_vec_pretty(manifest)
            .map_err(|e| StorageError::io("write", &file, io::Error::other(e)))?;
        std::fs::write(&file, text).map_err(|e| StorageError::io("write", &file, e))?;
        for volume in set.volumes {
            self.medium.freeze(&folder.join(volume.as_str()))?;
        }
        self.medium.sync()?;
        let place = self.folder(to);
        match rustix::fs::renameat_with(CWD, &folder, CWD, &place, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.medium.sync()?;
                Ok(Published::New)
            }
            Err(Errno::EXIST | Errno::NOTEMPTY) => {
                self.clear(&folder)?;
                Ok(Published::Existed)
            }
            Err(e) => Err(StorageError::io("publish", &place, e)),
        }
    }

    /// Writes the manifest of a live set.
    pub fn note(&self, live: &SetPath, manifest: &serde_json::Value) -> Result<()> {
        if live.shelf != Namespace::Live {
            return Err(StorageError::Refused {
                reason: format!("`{live}` is published and does not change"),
            });
        }
        let folder = self.folder(live);
        let write = || {
            std::fs::create_dir_all(&folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&folder)?;
            serde_json::to_writer(&mut file, manifest)?;
            file.as_file().sync_all()?;
            file.persist(folder.join(MANIFEST))?;
            File::open(&folder)?.sync_all()
        };
        write().map_err(|e| StorageError::io("note in", &folder, e))
    }

    /// Deletes a set. A missing set is not an error.
    pub fn delete_set(&self, set: &SetPath) -> Result<()> {
        let folder = self.folder(set);
        let gone = self.folder(&Self::fresh("gone")?);
        match rustix::fs::renameat(CWD, &folder, CWD, &gone) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(StorageError::io("delete", &folder, e)),
        }
        let cleared = self.clear(&gone);
        if cleared.is_err() && set.shelf == Namespace::Live {
            // A set that cannot be deleted gets its name back, so that the next attempt finds it.
            let _ = rustix::fs::renameat_with(CWD, &gone, CWD, &folder, RenameFlags::NOREPLACE);
        }
        cleared
    }

    /// Deletes a volume. A missing volume is not an error.
    pub fn delete_volume(&self, volume: &VolumePath) -> Result<()> {
        if volume.set.shelf != Namespace::Live {
            self.parent_of(volume)?;
        }
        let folder = self.path(volume);
        let gone = self.folder(&Self::fresh("gone")?);
        match rustix::fs::renameat(CWD, &folder, CWD, &gone) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(StorageError::io("delete", &folder, e)),
        }
        // The set's folder is removed with its last volume.
        let _ = std::fs::remove_dir(self.folder(&volume.set));
        self.medium.remove(&gone)
    }

    /// Removes an entry of `making/`: a volume, or a set with its volumes.
    fn clear(&self, folder: &Path) -> Result<()> {
        let mut outcome = Ok(());
        if let Ok(entries) = std::fs::read_dir(folder) {
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    outcome = outcome.and(self.medium.remove(&entry.path()));
                }
            }
        }
        outcome.and_then(|()| self.medium.remove(folder))
    }

    /// Reattaches the backend if needed, and removes incomplete data.
    pub fn recover(&self) -> Result<()> {
        self.medium.reattach()?;
        let making = self.medium.store().join(Namespace::Making.as_str());
        let entries = std::fs::read_dir(&making).map_err(|e| StorageError::io("list", &making, e))?;
        for entry in entries.flatten() {
            let path = entry.path();
            // A volume contains the user's folders, which are not inspected; a set contains volumes.
            let is_volume = entry.file_name().as_encoded_bytes().starts_with(b"volume-");
            let removed = if is_volume { self.medium.remove(&path) } else { self.clear(&path) };
            if let Err(error) = removed {
                // Data that cannot be deleted must not make the storage unusable.
                tracing::warn!(%error, "cannot delete what is half-made");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::VolumeName;

    #[test]
    fn what_is_deleted_while_it_is_read_was_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("data");
        std::fs::create_dir(&place).unwrap();
        let volume = SetPath::baseline("k").unwrap().volume(VolumeName::new("data").unwrap());
        assert_eq!(in_place(&volume, &place, || Ok(1)), Ok(1));
        let full = StorageError::Short { free: 0, need: 1 };
        assert_eq!(in_place(&volume, &place, || Err::<(), _>(full.clone())), Err(full));
        let deleted = in_place(&volume, &place, || {
            std::fs::rename(&place, folder.path().join("gone")).unwrap();
            Ok(())
        });
        assert_eq!(deleted, Err(StorageError::NotFound { path: "baseline/k/data".to_owned() }));
        std::fs::create_dir(&place).unwrap();
        let replaced = in_place(&volume, &place, || {
            let (aside, gone) = (folder.path().join("aside"), folder.path().join("gone, too"));
            std::fs::create_dir(&aside).unwrap();
            std::fs::rename(&place, gone).unwrap();
            std::fs::rename(aside, &place).unwrap();
            Ok(())
        });
        assert!(replaced.is_err());
    }
}

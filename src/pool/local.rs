//! Storage on this machine: the layout and its atomic steps, the same for every kind. What differs is a [`Medium`].
//!
//! Everything is made under `making/` and moved to its place by one rename, and moved back there before it is
//! deleted. So what has a place is whole, and what is under `making/` is nobody's.

use std::collections::HashMap;
use std::fs::{File, FileTimes};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use rand::RngExt;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::space::HostSpace;
use super::tree::Counter;
use super::{
    Detail, Pressure, Progress, Published, Result, SetInfo, SetName, SetPath, SetSize, Shelf, Storage,
    StorageError, StorageKind, Usage, VolumeName, VolumeOptions, VolumePath,
};

const MANIFEST: &str = "manifest.json";

/// What a kind of storage does in its own way.
pub trait Medium: Send + Sync + 'static {
    /// The kind.
    fn kind(&self) -> StorageKind;
    /// The folder with the shelves.
    fn store(&self) -> PathBuf;
    /// The host's disk.
    fn space(&self) -> &HostSpace;
    /// Refuses new work where there is no room for it.
    fn admit(&self) -> Result<()> {
        self.space().admit()
    }
    /// Makes an empty volume.
    fn create(&self, folder: &Path) -> Result<()>;
    /// Makes `to`, which is not there, a clone.
    fn clone_into(&self, from: &Path, to: &Path, counter: &Counter) -> Result<()>;
    /// Keeps a volume from being changed, where that is possible.
    fn freeze(&self, folder: &Path) -> Result<()>;
    /// Removes a volume, or a folder.
    fn remove(&self, folder: &Path) -> Result<()>;
    /// Brings everything to the disk.
    fn sync(&self) -> Result<()>;
    /// Bytes taken on the host's disk.
    fn used(&self) -> Result<u64>;
    /// Bytes that may be taken.
    fn budget(&self) -> Result<u64>;
    /// Size of a set or a volume.
    fn size_of(&self, folder: &Path) -> Result<SetSize>;
    /// Whether writes fail by now.
    fn is_read_only(&self) -> bool;
    /// Makes it writable again.
    fn reattach(&self) -> Result<()>;
    /// How the engine mounts a path below the store.
    fn mount_options(&self, relative: &Path) -> VolumeOptions;
}

/// Makes the shelves.
pub fn prepare_shelves(store: &Path) -> Result<()> {
    for shelf in Shelf::ALL {
        let folder = store.join(shelf.as_str());
        std::fs::create_dir_all(&folder).map_err(|e| StorageError::io("make", &folder, e))?;
    }
    Ok(())
}

/// Removes a folder and all in it; nothing there is success.
pub fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StorageError::io("delete", folder, e)),
        _ => Ok(()),
    }
}

/// A [`Medium`] with the layout around it.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

struct Inner {
    medium: Box<dyn Medium>,
    clones: Mutex<HashMap<VolumePath, Arc<Counter>>>,
}

impl Local {
    /// Storage in a medium.
    pub fn new(medium: impl Medium) -> Self {
        Self { inner: Arc::new(Inner { medium: Box::new(medium), clones: Mutex::default() }) }
    }

    /// The folder that holds the shelves, for those who read and write volumes in the keeper itself.
    pub fn store(&self) -> PathBuf {
        self.inner.medium.store()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(outcome) => outcome,
            Err(error) => {
                Err(StorageError::Refused { reason: format!("the operation was cut short: {error}") })
            }
        }
    }
}

impl Inner {
    fn folder(&self, set: &SetPath) -> PathBuf {
        self.medium.store().join(set.relative())
    }

    fn path(&self, volume: &VolumePath) -> PathBuf {
        self.medium.store().join(volume.relative())
    }

    /// A name under `making/` that nobody has.
    fn fresh(why: &str) -> Result<SetPath> {
        let name = format!("{why}-{:016x}", rand::rng().random::<u64>());
        let name = SetName::new(name).map_err(|e| StorageError::Refused { reason: e.to_string() })?;
        Ok(SetPath { shelf: Shelf::Making, name })
    }

    fn source(&self, volume: &VolumePath) -> Result<PathBuf> {
        let folder = self.path(volume);
        if folder.is_dir() { Ok(folder) } else { Err(StorageError::NotFound { path: volume.to_string() }) }
    }

    /// Makes a volume aside by `make`, then hands it to `place`; takes it away again if that fails.
    fn aside(
        &self,
        make: impl FnOnce(&Path) -> Result<()>,
        place: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let made = self.folder(&Self::fresh("volume")?);
        let outcome = make(&made).and_then(|()| place(&made));
        if outcome.is_err() && made.exists() {
            // The first error is the one to tell; what is left here goes at the next start.
            let _ = self.medium.remove(&made);
        }
        outcome
    }

    /// Puts what was made to a place that must be free.
    fn put(&self, made: &Path, to: &VolumePath) -> Result<()> {
        let place = self.path(to);
        self.parent_of(to)?;
        match rustix::fs::renameat_with(CWD, made, CWD, &place, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST | Errno::NOTEMPTY) => Err(StorageError::Exists { path: to.to_string() }),
            Err(e) => Err(StorageError::io("move to its place", &place, e)),
        }
    }

    /// The set's folder; a live one comes to be with its first volume, one being made must have been begun.
    fn parent_of(&self, volume: &VolumePath) -> Result<()> {
        let folder = self.folder(&volume.set);
        match volume.set.shelf {
            Shelf::Live => std::fs::create_dir_all(&folder).map_err(|e| StorageError::io("make", &folder, e)),
            Shelf::Making if folder.is_dir() => Ok(()),
            Shelf::Making => Err(StorageError::NotFound { path: volume.set.to_string() }),
            Shelf::Baseline | Shelf::Snapshot => Err(StorageError::Refused {
                reason: format!("`{}` is published and does not change", volume.set),
            }),
        }
    }

    fn create(&self, to: &VolumePath) -> Result<()> {
        self.medium.admit()?;
        self.vacant(to)?;
        self.aside(|made| self.medium.create(made), |made| self.put(made, to))
    }

    fn vacant(&self, to: &VolumePath) -> Result<()> {
        if self.path(to).exists() { Err(StorageError::Exists { path: to.to_string() }) } else { Ok(()) }
    }

    fn clone_volume(&self, from: &VolumePath, to: &VolumePath) -> Result<()> {
        self.medium.admit()?;
        self.vacant(to)?;
        let source = self.source(from)?;
        self.counted(to, |counter| {
            self.aside(|made| self.medium.clone_into(&source, made, counter), |made| self.put(made, to))
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

    fn replace(&self, from: Option<&VolumePath>, to: &VolumePath) -> Result<()> {
        self.medium.admit()?;
        let source = from.map(|from| self.source(from)).transpose()?;
        self.counted(to, |counter| {
            self.aside(
                |made| match &source {
                    Some(source) => self.medium.clone_into(source, made, counter),
                    None => self.medium.create(made),
                },
                |made| self.exchange(made, to),
            )
        })
    }

    /// Puts what was made in the place of what is there, which then goes.
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
        // XFS counts an exchange as a change of what is in the folder.
        let times = FileTimes::new()
            .set_modified(times.modified().map_err(fail)?)
            .set_accessed(times.accessed().map_err(fail)?);
        File::open(&place).and_then(|folder| folder.set_times(times)).map_err(fail)?;
        self.medium.remove(made)
    }

    fn begin(&self) -> Result<SetPath> {
        self.medium.admit()?;
        let set = Self::fresh("set")?;
        let folder = self.folder(&set);
        std::fs::create_dir(&folder).map_err(|e| StorageError::io("make", &folder, e))?;
        Ok(set)
    }

    fn publish(&self, making: &SetPath, to: &SetPath, manifest: &serde_json::Value) -> Result<Published> {
        if making.shelf != Shelf::Making || !matches!(to.shelf, Shelf::Baseline | Shelf::Snapshot) {
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

    fn note(&self, live: &SetPath, manifest: &serde_json::Value) -> Result<()> {
        if live.shelf != Shelf::Live {
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

    fn delete_set(&self, set: &SetPath) -> Result<()> {
        let folder = self.folder(set);
        let gone = self.folder(&Self::fresh("gone")?);
        match rustix::fs::renameat(CWD, &folder, CWD, &gone) {
            Ok(()) => self.clear(&gone),
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(StorageError::io("delete", &folder, e)),
        }
    }

    fn delete_volume(&self, volume: &VolumePath) -> Result<()> {
        if volume.set.shelf != Shelf::Live {
            self.parent_of(volume)?;
        }
        let folder = self.path(volume);
        let gone = self.folder(&Self::fresh("gone")?);
        match rustix::fs::renameat(CWD, &folder, CWD, &gone) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(StorageError::io("delete", &folder, e)),
        }
        // The set's folder goes with its last volume.
        let _ = std::fs::remove_dir(self.folder(&volume.set));
        self.medium.remove(&gone)
    }

    /// Removes what is under `making/`: a volume, or a set with its volumes.
    fn clear(&self, folder: &Path) -> Result<()> {
        if let Ok(entries) = std::fs::read_dir(folder) {
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    self.medium.remove(&entry.path())?;
                }
            }
        }
        self.medium.remove(folder)
    }

    fn recover(&self) -> Result<()> {
        self.medium.reattach()?;
        let making = self.medium.store().join(Shelf::Making.as_str());
        let entries = std::fs::read_dir(&making).map_err(|e| StorageError::io("list", &making, e))?;
        for entry in entries.flatten() {
            let path = entry.path();
            // A volume holds the user's folders, which are not looked into; a set holds volumes.
            let is_volume = entry.file_name().as_encoded_bytes().starts_with(b"volume-");
            if is_volume { self.medium.remove(&path)? } else { self.clear(&path)? }
        }
        Ok(())
    }

    fn read(&self, set: &SetPath) -> Result<Option<SetInfo>> {
        let folder = self.folder(set);
        let fail = |e| StorageError::io("read", &folder, e);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail(e)),
        };
        let mut volumes = Vec::new();
        for entry in entries {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().into_string().ok().and_then(|name| VolumeName::new(name).ok());
            if let Some(name) = name.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                volumes.push(name);
            }
        }
        volumes.sort();
        let (manifest, last_used) = read_manifest(&folder.join(MANIFEST))?;
        if manifest.is_none() && matches!(set.shelf, Shelf::Baseline | Shelf::Snapshot) {
            return Ok(None);
        }
        Ok(Some(SetInfo { path: set.clone(), volumes, manifest, last_used }))
    }

    fn list(&self, shelf: Shelf) -> Result<Vec<SetInfo>> {
        let folder = self.medium.store().join(shelf.as_str());
        let entries = std::fs::read_dir(&folder).map_err(|e| StorageError::io("list", &folder, e))?;
        let mut sets = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name().into_string().ok().and_then(|name| SetName::new(name).ok());
            if let Some(name) = name
                && let Some(info) = self.read(&SetPath { shelf, name })?
            {
                sets.push(info);
            }
        }
        sets.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(sets)
    }

    fn touch(&self, set: &SetPath) -> Result<()> {
        let file = self.folder(set).join(MANIFEST);
        let touched = File::options().append(true).open(&file);
        match touched.and_then(|open| open.set_modified(SystemTime::now())) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(StorageError::NotFound { path: set.to_string() })
            }
            Err(e) => Err(StorageError::io("touch", &file, e)),
        }
    }

    fn usage(&self, detail: Detail) -> Result<Usage> {
        let space = self.medium.space().read()?;
        let mut sets = Vec::new();
        if detail == Detail::Sets {
            for shelf in [Shelf::Live, Shelf::Baseline, Shelf::Snapshot] {
                for set in self.list(shelf)? {
                    let size = self.medium.size_of(&self.folder(&set.path))?;
                    sets.push((set.path, size));
                }
            }
        }
        Ok(Usage {
            kind: self.medium.kind(),
            used: self.medium.used()?,
            budget: self.medium.budget()?,
            host_free: space.free,
            host_total: space.total,
            pressure: if self.medium.is_read_only() { Pressure::ReadOnly } else { space.pressure() },
            sets,
        })
    }

    fn check(&self) -> Result<Pressure> {
        // The reserve is given up for a pool that turned read-only as well: to be mended it needs room.
        let host = self.medium.space().check();
        if self.medium.is_read_only() { Ok(Pressure::ReadOnly) } else { host }
    }
}

fn read_manifest(file: &Path) -> Result<(Option<serde_json::Value>, i64)> {
    let fail = |e| StorageError::io("read", file, e);
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((None, 0)),
        Err(e) => return Err(fail(e)),
    };
    let last_used = file.metadata().map_err(fail)?.mtime();
    let manifest = serde_json::from_slice(&text).map_err(|e| fail(io::Error::other(e)))?;
    Ok((Some(manifest), last_used))
}

#[async_trait]
impl Storage for Local {
    fn kind(&self) -> StorageKind {
        self.inner.medium.kind()
    }

    async fn create(&self, volume: &VolumePath) -> Result<()> {
        let volume = volume.clone();
        self.run(move |inner| inner.create(&volume)).await
    }

    async fn clone_volume(&self, from: &VolumePath, to: &VolumePath) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.run(move |inner| inner.clone_volume(&from, &to)).await
    }

    async fn replace(&self, from: &VolumePath, to: &VolumePath) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.run(move |inner| inner.replace(Some(&from), &to)).await
    }

    async fn empty(&self, volume: &VolumePath) -> Result<()> {
        let volume = volume.clone();
        self.run(move |inner| inner.replace(None, &volume)).await
    }

    async fn begin(&self) -> Result<SetPath> {
        self.run(Inner::begin).await
    }

    async fn publish(
        &self,
        making: &SetPath,
        to: &SetPath,
        manifest: &serde_json::Value,
    ) -> Result<Published> {
        let (making, to, manifest) = (making.clone(), to.clone(), manifest.clone());
        self.run(move |inner| inner.publish(&making, &to, &manifest)).await
    }

    async fn note(&self, live: &SetPath, manifest: &serde_json::Value) -> Result<()> {
        let (live, manifest) = (live.clone(), manifest.clone());
        self.run(move |inner| inner.note(&live, &manifest)).await
    }

    async fn delete_set(&self, set: &SetPath) -> Result<()> {
        let set = set.clone();
        self.run(move |inner| inner.delete_set(&set)).await
    }

    async fn delete_volume(&self, volume: &VolumePath) -> Result<()> {
        let volume = volume.clone();
        self.run(move |inner| inner.delete_volume(&volume)).await
    }

    async fn inspect(&self, set: &SetPath) -> Result<Option<SetInfo>> {
        let set = set.clone();
        self.run(move |inner| inner.read(&set)).await
    }

    async fn list(&self, shelf: Shelf) -> Result<Vec<SetInfo>> {
        self.run(move |inner| inner.list(shelf)).await
    }

    async fn touch(&self, set: &SetPath) -> Result<()> {
        let set = set.clone();
        self.run(move |inner| inner.touch(&set)).await
    }

    async fn usage(&self, detail: Detail) -> Result<Usage> {
        self.run(move |inner| inner.usage(detail)).await
    }

    async fn sync(&self) -> Result<()> {
        self.run(|inner| inner.medium.sync()).await
    }

    async fn check(&self) -> Result<Pressure> {
        self.run(Inner::check).await
    }

    async fn recover(&self) -> Result<()> {
        self.run(Inner::recover).await
    }

    async fn mount(&self, volume: &VolumePath) -> Result<VolumeOptions> {
        Ok(self.inner.medium.mount_options(&volume.relative()))
    }

    async fn progress(&self, to: &VolumePath) -> Result<Option<Progress>> {
        let table = self.inner.clones.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(table.get(to).map(|counter| Progress {
            done: counter.done.load(Ordering::Relaxed),
            total: counter.total.load(Ordering::Relaxed),
        }))
    }
}

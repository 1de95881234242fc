//! Reads the storage: sets, sizes, usage and disk pressure.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use super::layout::{Layout, MANIFEST};
use crate::storage::{
    Detail, Namespace, Pressure, Result, SetInfo, SetName, SetPath, StorageError, Usage, VolumeName,
};

impl Layout {
    /// Reads a set, `None` if it does not exist. A published set has a manifest.
    pub fn read(&self, set: &SetPath) -> Result<Option<SetInfo>> {
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
        if manifest.is_none() && matches!(set.shelf, Namespace::Baseline | Namespace::Snapshot) {
            return Ok(None);
        }
        Ok(Some(SetInfo { path: set.clone(), volumes, manifest, last_used }))
    }

    /// Lists the sets of a namespace, sorted by name.
    pub fn list(&self, shelf: Namespace) -> Result<Vec<SetInfo>> {
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

    /// Records that a set was used now.
    pub fn touch(&self, set: &SetPath) -> Result<()> {
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

    /// Returns used and free bytes.
    pub fn usage(&self, detail: Detail) -> Result<Usage> {
        let space = self.medium.space().read()?;
        let mut sets = Vec::new();
        if detail == Detail::Sets {
            for shelf in [Namespace::Live, Namespace::Baseline, Namespace::Snapshot] {
                for set in self.list(shelf)? {
                    let folder = self.folder(&set.path);
                    match self.medium.size_of(&folder) {
                        Ok(size) => sets.push((set.path, size)),
                        // The set was deleted after it was listed.
                        Err(_) if !folder.exists() => {}
                        Err(error) => return Err(error),
                    }
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

    /// Returns the disk pressure, and releases or refills the reserve.
    pub fn check(&self) -> Result<Pressure> {
        // The reserve is released for a read-only pool too, because a recovery needs space.
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
    let last_used = match file.metadata() {
        Ok(metadata) => metadata.mtime(),
        // The file was deleted after it was listed.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((None, 0)),
        Err(e) => return Err(fail(e)),
    };
    let manifest = serde_json::from_slice(&text).map_err(|e| fail(io::Error::other(e)))?;
    Ok((Some(manifest), last_used))
}

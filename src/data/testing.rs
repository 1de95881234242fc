//! Shared by the tests of this module: storage in a folder.

use std::path::Path;

use crate::storage::{Local, SetPath, Settings, Storage, StorageKind, VolumeName, VolumePath, open_local};

/// `copy` storage in a temporary folder.
pub struct TestStorage {
    pub local: Local,
    _folder: tempfile::TempDir,
}

impl TestStorage {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { kind: Some(StorageKind::Copy), budget: None };
        let (local, _) = open_local(folder.path(), Path::new("/host"), &settings).unwrap();
        Self { local, _folder: folder }
    }

    /// Writes a file to a volume, which is created if it does not exist.
    pub async fn write(&self, set: &SetPath, volume: &str, file: &str, text: &str) {
        let path = set.volume(VolumeName::new(volume).unwrap());
        let folder = self.local.store().join(path.relative());
        if !folder.exists() {
            self.local.create(&path).await.unwrap();
        }
        std::fs::write(folder.join(file), text).unwrap();
    }

    pub fn has(&self, volume: &VolumePath, file: &str) -> bool {
        self.local.store().join(volume.relative()).join(file).exists()
    }

    pub fn read(&self, volume: &VolumePath, file: &str) -> String {
        std::fs::read_to_string(self.local.store().join(volume.relative()).join(file)).unwrap()
    }
}

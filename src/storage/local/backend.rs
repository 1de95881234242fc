//! What each kind of storage does in its own way.

use std::path::{Path, PathBuf};

use crate::storage::space::HostSpace;
use crate::storage::tree::Counter;
use crate::storage::{Namespace, Result, SetSize, StorageError, StorageKind, VolumeOptions};

/// What a kind of storage does in its own way.
pub trait Backend: Send + Sync + 'static {
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
    for shelf in Namespace::ALL {
        let folder = store.join(shelf.as_str());
        std::fs::create_dir_all(&folder).map_err(|e| StorageError::io("make", &folder, e))?;
    }
    Ok(())
}

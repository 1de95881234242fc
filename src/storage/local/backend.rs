//! The operations that differ between the kinds of storage.

use std::path::{Path, PathBuf};

use crate::storage::space::HostSpace;
use crate::storage::tree::Counter;
use crate::storage::{Namespace, Result, SetSize, StorageError, StorageKind, VolumeOptions};

/// A kind of storage: the operations that [`super::Local`] needs from it.
pub trait Backend: Send + Sync + 'static {
    /// The kind of storage.
    fn kind(&self) -> StorageKind;
    /// The folder that contains the namespaces.
    fn store(&self) -> PathBuf;
    /// The host's disk.
    fn space(&self) -> &HostSpace;
    /// Fails if there is no room for new work.
    fn admit(&self) -> Result<()> {
        self.space().admit()
    }
    /// Creates an empty volume.
    fn create(&self, folder: &Path) -> Result<()>;
    /// Creates `to`, which must not exist, as a clone of `from`.
    fn clone_into(&self, from: &Path, to: &Path, counter: &Counter) -> Result<()>;
    /// Makes a volume read-only, if the backend can.
    fn freeze(&self, folder: &Path) -> Result<()>;
    /// Removes a volume, or a folder.
    fn remove(&self, folder: &Path) -> Result<()>;
    /// Writes all pending data to the disk.
    fn sync(&self) -> Result<()>;
    /// Bytes used on the host's disk.
    fn used(&self) -> Result<u64>;
    /// Maximum number of bytes that may be used.
    fn budget(&self) -> Result<u64>;
    /// Size of a set or a volume.
    fn size_of(&self, folder: &Path) -> Result<SetSize>;
    /// Whether the file system is read-only, so that writes fail.
    fn is_read_only(&self) -> bool;
    /// Makes a read-only file system writable again.
    fn reattach(&self) -> Result<()>;
    /// How the engine mounts a path below the store.
    fn mount_options(&self, relative: &Path) -> VolumeOptions;
}

/// Creates the folders of the namespaces.
pub fn prepare_shelves(store: &Path) -> Result<()> {
    for shelf in Namespace::ALL {
        let folder = store.join(shelf.as_str());
        std::fs::create_dir_all(&folder).map_err(|e| StorageError::io("make", &folder, e))?;
    }
    Ok(())
}

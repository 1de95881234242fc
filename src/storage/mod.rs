//! Storage of volume data: the [`Storage`] trait and its three kinds.
//!
//! This module owns the layout below the keeper's root (`live/`, `baseline/`, `snapshot/`, `making/`): it creates,
//! clones, publishes and deletes volumes, and returns the options by which the engine mounts one. It never calls the
//! engine; the caller checks that no container uses a volume before it deletes one.
//!
//! - `pool`: subvolumes of a Btrfs file system in a sparse file; a clone is a snapshot
//! - `reflink`: folders on a file system that clones files
//! - `copy`: folders anywhere

mod btrfs;
mod error;
mod folder;
mod local;
mod open;
mod path;
mod request;
mod space;
#[cfg(test)]
mod tests;
pub mod tree;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use crate::storage::error::StorageError;
pub use crate::storage::local::Local;
pub use crate::storage::open::{Probe, Settings, open_local, reflink_works};
pub use crate::storage::path::{BadName, Namespace, SetName, SetPath, VolumeName, VolumePath, store_folder};
pub use crate::storage::request::{RemoteStorage, Reply, Request, Transport, perform};

/// Result of a storage operation.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// The kinds of storage, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// Btrfs subvolumes in a file system that we create.
    Pool,
    /// Folders whose files share blocks with their originals.
    Reflink,
    /// Folders that are copied completely.
    Copy,
}

impl StorageKind {
    /// The name used in `SANDBOX_STORAGE`, in messages and by `doctor`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Reflink => "reflink",
            Self::Copy => "copy",
        }
    }
}

impl std::fmt::Display for StorageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for StorageKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pool" => Ok(Self::Pool),
            "reflink" => Ok(Self::Reflink),
            "copy" => Ok(Self::Copy),
            other => Err(format!("`{other}` is no kind of storage: `pool`, `reflink` or `copy`")),
        }
    }
}

/// Options for an engine volume of the `local` driver that mounts a path of the storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeOptions {
    /// The driver's name, always `local`.
    pub driver: String,
    /// The driver's options: `type`, `device`, `o`.
    pub options: BTreeMap<String, String>,
}

/// A published or live set, as listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetInfo {
    /// Namespace and name of the set.
    pub path: SetPath,
    /// Its volumes, sorted.
    pub volumes: Vec<VolumeName>,
    /// Its manifest; a live set has one only after [`Storage::note`].
    pub manifest: Option<serde_json::Value>,
    /// Last use, in seconds since the epoch (see [`Storage::touch`]).
    pub last_used: i64,
}

/// Bytes of one set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSize {
    /// Bytes that would be freed if the set were deleted.
    pub own: u64,
    /// Bytes shared with other sets.
    pub shared: u64,
}

/// Used and available space of the storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The kind of storage.
    pub kind: StorageKind,
    /// Bytes that all sets together use on the host's disk.
    pub used: u64,
    /// Maximum number of bytes that they may use.
    pub budget: u64,
    /// Bytes free on the host's disk.
    pub host_free: u64,
    /// The host disk's size.
    pub host_total: u64,
    /// Whether there is room for new work.
    pub pressure: Pressure,
    /// Size of each set, if asked for (it reads every file's extents).
    pub sets: Vec<(SetPath, SetSize)>,
}

impl Usage {
    /// The pressure on the host's disk alone, whatever the state of the pool on it.
    pub fn host_pressure(&self) -> Pressure {
        space::Space { total: self.host_total, free: self.host_free }.pressure()
    }
}

/// How full the host's disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pressure {
    /// There is room for new work.
    Fine,
    /// New work is refused.
    Short,
    /// The reserve has been released: writers must be paused now.
    Critical,
    /// The file system is read-only: everything that uses it must stop before [`Storage::recover`].
    ReadOnly,
}

/// Progress of a clone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes copied so far.
    pub done: u64,
    /// Bytes in total; 0 while unknown.
    pub total: u64,
}

/// Whether a [`Usage`] includes the sizes of the sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// Totals only; cheap.
    Totals,
    /// Each set's own and shared bytes too; reads every file's extents.
    Sets,
}

/// Result of [`Storage::publish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Published {
    /// The set was published under its name.
    New,
    /// A set with this name already existed; the new one was deleted.
    Existed,
}

/// Storage for volumes. The keeper uses it directly, everything else by messages; the layout is the same for every
/// kind.
///
/// Every operation is atomic: it either completes or leaves nothing usable.
#[async_trait]
pub trait Storage: Send + Sync {
    /// The kind of storage.
    fn kind(&self) -> StorageKind;

    /// Creates an empty volume in a set that is live or being made. Fails with [`StorageError::Exists`] if it exists.
    async fn create(&self, volume: &VolumePath) -> Result<()>;

    /// Creates `to` as a clone of `from`. Fails with [`StorageError::Exists`] if `to` exists.
    async fn clone_volume(&self, from: &VolumePath, to: &VolumePath) -> Result<()>;

    /// Atomically replaces `to` (which need not exist) by a clone of `from`: a reset. `to` must not be mounted.
    async fn replace(&self, from: &VolumePath, to: &VolumePath) -> Result<()>;

    /// Atomically empties a volume: a reset to no data. It must not be mounted.
    async fn empty(&self, volume: &VolumePath) -> Result<()>;

    /// Creates an empty set under `making/`, to be filled by `create` and `clone_volume` and then published.
    async fn begin(&self) -> Result<SetPath>;

    /// Syncs a new set, writes its manifest and atomically gives it its name.
    async fn publish(
        &self,
        making: &SetPath,
        to: &SetPath,
        manifest: &serde_json::Value,
    ) -> Result<Published>;

    /// Atomically writes and syncs the manifest of a live set: data about its volumes that must survive a power cut.
    /// It is deleted with the set.
    async fn note(&self, live: &SetPath, manifest: &serde_json::Value) -> Result<()>;

    /// Deletes a set with its volumes. A missing set is not an error. The set is unusable from the start of the
    /// deletion. The caller checks that no engine volume uses it, because the kernel would not refuse the deletion.
    async fn delete_set(&self, set: &SetPath) -> Result<()>;

    /// Deletes one volume of a set. A missing volume is not an error. The caller checks as for
    /// [`Storage::delete_set`].
    async fn delete_volume(&self, volume: &VolumePath) -> Result<()>;

    /// Returns one set, or `None` if it does not exist.
    async fn inspect(&self, set: &SetPath) -> Result<Option<SetInfo>>;

    /// Lists the sets of a namespace, sorted by name.
    async fn list(&self, shelf: Namespace) -> Result<Vec<SetInfo>>;

    /// Records that a published set is used now.
    async fn touch(&self, set: &SetPath) -> Result<()>;

    /// Returns used and available space.
    async fn usage(&self, detail: Detail) -> Result<Usage>;

    /// Writes all pending data to the disk.
    async fn sync(&self) -> Result<()>;

    /// Returns the space of deleted data to the host and measures the disk pressure. The keeper calls it every few
    /// seconds; it releases the reserve when the host's disk is nearly full.
    async fn check(&self) -> Result<Pressure>;

    /// Removes incomplete data, and reattaches a file system that became read-only (none of its volumes may be mounted
    /// then). The keeper calls it when it starts.
    async fn recover(&self) -> Result<()>;

    /// The options by which the engine mounts a volume.
    async fn mount(&self, volume: &VolumePath) -> Result<VolumeOptions>;

    /// Progress of the clone that creates `to`; `None` if no such clone is running.
    async fn progress(&self, to: &VolumePath) -> Result<Option<Progress>>;
}

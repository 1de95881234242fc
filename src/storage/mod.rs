//! Where data lives: one [`Storage`] trait and its three kinds.
//!
//! Owns the layout below the keeper's root (`live/`, `baseline/`, `snapshot/`, `making/`), how a volume is made,
//! cloned, published and deleted, and how the engine is told to mount one. It never asks the engine anything: that
//! no container uses a volume any more is for the caller to know before it deletes one.
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
pub use crate::storage::open::{Probe, Settings, open_local, reflink_works, store_folder};
pub use crate::storage::path::{BadName, Namespace, SetName, SetPath, VolumeName, VolumePath};
pub use crate::storage::request::{RemoteStorage, Reply, Request, Transport, perform};

/// Result of a storage operation.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// The ways of keeping volumes, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// Btrfs subvolumes in a file system of our own.
    Pool,
    /// Folders whose files share blocks with what they were cloned from.
    Reflink,
    /// Folders, copied whole.
    Copy,
}

impl StorageKind {
    /// The word used in `SANDBOX_STORAGE`, in messages and by `doctor`.
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

/// How an engine volume of the `local` driver is to be made for a path of the storage.
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
    /// Which set.
    pub path: SetPath,
    /// Its volumes, sorted.
    pub volumes: Vec<VolumeName>,
    /// Its manifest; a live set has one if something was noted of it.
    pub manifest: Option<serde_json::Value>,
    /// Last use, in seconds since the epoch (see [`Storage::touch`]).
    pub last_used: i64,
}

/// Bytes of one set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSize {
    /// Bytes that deleting the set would give back.
    pub own: u64,
    /// Bytes that it shares with other sets.
    pub shared: u64,
}

/// What the storage holds and what it may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The kind of storage.
    pub kind: StorageKind,
    /// Bytes that all sets together take on the host's disk.
    pub used: u64,
    /// Bytes that they may take.
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
    /// How near its end the host's disk is, whatever has become of the pool on it.
    pub fn host_pressure(&self) -> Pressure {
        space::Space { total: self.host_total, free: self.host_free }.pressure()
    }
}

/// How near the end of the host's disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pressure {
    /// Room for more.
    Fine,
    /// New work is refused.
    Short,
    /// The reserve has been released: whoever writes must be paused now.
    Critical,
    /// The file system went read-only: everything that uses it must stop, then [`Storage::recover`].
    ReadOnly,
}

/// How far a clone has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0 while unknown.
    pub total: u64,
}

/// Whether the sizes of sets are wanted with a [`Usage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// Totals only; cheap.
    Totals,
    /// Each set's own and shared bytes too.
    Sets,
}

/// What [`Storage::publish`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Published {
    /// The set is now there under its name.
    New,
    /// Another one of the name was there already; what had been made is gone.
    Existed,
}

/// A place for volumes. Local in the keeper, by messages everywhere else; the same layout for every kind.
///
/// Every operation either happens whole or leaves nothing that can be used.
#[async_trait]
pub trait Storage: Send + Sync {
    /// The kind of storage.
    fn kind(&self) -> StorageKind;

    /// Makes an empty volume. Its set must be live or being made; [`StorageError::Exists`] if it is there.
    async fn create(&self, volume: &VolumePath) -> Result<()>;

    /// Makes `to` a clone of `from`. [`StorageError::Exists`] if `to` is there.
    async fn clone_volume(&self, from: &VolumePath, to: &VolumePath) -> Result<()>;

    /// Puts a clone of `from` in the place of `to` (which need not exist) in one step: a reset. Nothing may have
    /// `to` mounted.
    async fn replace(&self, from: &VolumePath, to: &VolumePath) -> Result<()>;

    /// Empties a volume in one step: a reset to nothing. Nothing may have it mounted.
    async fn empty(&self, volume: &VolumePath) -> Result<()>;

    /// Begins a set: a fresh place under `making/`, to be filled by `create` and `clone_volume` and then published.
    async fn begin(&self) -> Result<SetPath>;

    /// Syncs what was made, writes its manifest and gives it its name in one step.
    async fn publish(
        &self,
        making: &SetPath,
        to: &SetPath,
        manifest: &serde_json::Value,
    ) -> Result<Published>;

    /// Writes the manifest of a live set, in one step and through to the disk: what belongs to its data and has to be
    /// known again after a power cut. It goes with the set.
    async fn note(&self, live: &SetPath, manifest: &serde_json::Value) -> Result<()>;

    /// Deletes a set with its volumes; nothing there is success. It can no longer be used from the first moment on.
    /// The caller has made sure that the engine has no volume on it: the kernel would not object.
    async fn delete_set(&self, set: &SetPath) -> Result<()>;

    /// Deletes one volume of a set; nothing there is success. The same caution applies.
    async fn delete_volume(&self, volume: &VolumePath) -> Result<()>;

    /// One set, or `None` if it is not there.
    async fn inspect(&self, set: &SetPath) -> Result<Option<SetInfo>>;

    /// All sets of a shelf, sorted by name.
    async fn list(&self, shelf: Namespace) -> Result<Vec<SetInfo>>;

    /// Notes that a published set is used now.
    async fn touch(&self, set: &SetPath) -> Result<()>;

    /// What is held, and what may be.
    async fn usage(&self, detail: Detail) -> Result<Usage>;

    /// Brings everything written so far to the disk.
    async fn sync(&self) -> Result<()>;

    /// Gives back to the host what deleted data took, and judges whether it runs short. The keeper calls it every
    /// few seconds; it releases the reserve when the host is nearly full.
    async fn check(&self) -> Result<Pressure>;

    /// Removes what was half-made and, where the file system went read-only, attaches it anew (nothing may have a
    /// volume of it mounted then). The keeper calls it at its start.
    async fn recover(&self) -> Result<()>;

    /// How the engine is to mount a volume.
    async fn mount(&self, volume: &VolumePath) -> Result<VolumeOptions>;

    /// How far the clone that makes `to` has come; `None` when none is under way.
    async fn progress(&self, to: &VolumePath) -> Result<Option<Progress>>;
}

//! Selects the kind of storage that works on this machine, and opens it.

use std::path::Path;

use super::btrfs::{self, Pool};
use super::folder::{Folders, can_reflink};
use super::local::Local;
use super::tree::Cloning;
use super::{Result, StorageError, StorageKind};

/// Result of the selection, shown by `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Probe {
    /// The selected kind.
    pub kind: StorageKind,
    /// Why better kinds cannot be used.
    pub refused: Vec<(StorageKind, String)>,
}

/// Options for opening the storage.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The kind (`SANDBOX_STORAGE`); by default the best one that works.
    pub kind: Option<StorageKind>,
    /// Maximum number of bytes of stored data; by default half of the free space at the first start.
    pub budget: Option<u64>,
}

/// Opens the storage below `root`, which the engine's host sees as `host_root`. Each kind has its own data: an
/// existing pool is used until another kind is requested.
pub fn open_local(root: &Path, host_root: &Path, settings: &Settings) -> Result<(Local, Probe)> {
    if let Some(kind) = settings.kind {
        let local = open_kind(root, host_root, kind, settings.budget)?;
        return Ok((local, Probe { kind, refused: Vec::new() }));
    }
    let mut refused = Vec::new();
    for kind in [StorageKind::Pool, StorageKind::Reflink] {
        match open_kind(root, host_root, kind, settings.budget) {
            Ok(local) => return Ok((local, Probe { kind, refused })),
            // Do not silently skip a pool that contains data.
            Err(error) if kind == StorageKind::Pool && btrfs::exists(root) && is_attachable(&error) => {
                return Err(error);
            }
            Err(error) => refused.push((kind, error.to_string())),
        }
    }
    let local = open_kind(root, host_root, StorageKind::Copy, settings.budget)?;
    Ok((local, Probe { kind: StorageKind::Copy, refused }))
}

/// Whether a later attempt to attach the pool may succeed, because the failure was not a missing permission.
fn is_attachable(error: &StorageError) -> bool {
    let denied = ["Operation not permitted", "Permission denied", "No such device"];
    !denied.iter().any(|words| error.to_string().contains(words))
}

fn open_kind(root: &Path, host_root: &Path, kind: StorageKind, budget: Option<u64>) -> Result<Local> {
    Ok(match kind {
        StorageKind::Pool => Local::new(Pool::open(root, host_root, budget)?),
        StorageKind::Reflink => Local::new(Folders::open(root, host_root, Cloning::Reflink, budget)?),
        StorageKind::Copy => Local::new(Folders::open(root, host_root, Cloning::Copy, budget)?),
    })
}

/// Whether files below a folder can be cloned. This is the only probe that needs no permissions.
pub fn reflink_works(root: &Path) -> bool {
    can_reflink(root)
}

//! Which kind of storage works here, and opening it.

use std::path::{Path, PathBuf};

use super::btrfs::{self, Pool};
use super::folder::{Folders, can_reflink};
use super::local::Local;
use super::tree::Cloning;
use super::{Result, StorageError, StorageKind};

/// What the probe found, for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Probe {
    /// The kind that is used.
    pub kind: StorageKind,
    /// Why better kinds are not.
    pub refused: Vec<(StorageKind, String)>,
}

/// How storage is to be opened.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The kind (`SANDBOX_STORAGE`); without one, the best that works.
    pub kind: Option<StorageKind>,
    /// Bytes that stored data may take; without one, half of what was free at the beginning.
    pub budget: Option<u64>,
}

/// Opens the storage below `root`, which the engine's host sees as `host_root`. What a kind has stored stays with it:
/// where a pool has been made, it is used until another kind is asked for.
pub fn open_local(root: &Path, host_root: &Path, settings: &Settings) -> Result<(Local, Probe)> {
    if let Some(kind) = settings.kind {
        let local = open_kind(root, host_root, kind, settings.budget)?;
        return Ok((local, Probe { kind, refused: Vec::new() }));
    }
    let mut refused = Vec::new();
    for kind in [StorageKind::Pool, StorageKind::Reflink] {
        match open_kind(root, host_root, kind, settings.budget) {
            Ok(local) => return Ok((local, Probe { kind, refused })),
            // A pool that holds data is not to be passed over in silence.
            Err(error) if kind == StorageKind::Pool && btrfs::exists(root) && is_attachable(&error) => {
                return Err(error);
            }
            Err(error) => refused.push((kind, error.to_string())),
        }
    }
    let local = open_kind(root, host_root, StorageKind::Copy, settings.budget)?;
    Ok((local, Probe { kind: StorageKind::Copy, refused }))
}

/// The folder with the shelves, below the root, of a kind of storage.
pub fn store_folder(root: &Path, kind: StorageKind) -> PathBuf {
    root.join(match kind {
        StorageKind::Pool => "pool",
        StorageKind::Reflink | StorageKind::Copy => "store",
    })
}

/// Whether a pool that could not be attached might be on another try: it was not for want of permission.
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

/// Whether files below a folder can be cloned; the one probe that needs no permission.
pub fn reflink_works(root: &Path) -> bool {
    can_reflink(root)
}

//! The status that the keeper reports: its own, that of its sandboxes, and what destroyed sandboxes left.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Build;
use crate::agent::cgroup::Grouping;
use crate::engine::identity::{SandboxId, SandboxName};
use crate::spec::Limits;
use crate::storage::StorageKind;
use crate::sweep::Swept;

/// What the keeper reports about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// Its binary.
    pub build: Build,
    /// The storage that it serves, if any.
    #[serde(default)]
    pub storage: Option<StorageKind>,
    /// Why better kinds of storage, or all kinds, are unavailable here.
    #[serde(default)]
    pub storage_refused: Vec<(StorageKind, String)>,
    /// How the control groups of sandboxes are named, if the engine allows any.
    #[serde(default)]
    pub groups: Option<Grouping>,
    /// Why there can be no control groups.
    #[serde(default)]
    pub groups_refused: Option<String>,
    /// How many sandboxes it knows.
    #[serde(default)]
    pub sandboxes: usize,
    /// The space on the disk of its volume when it started.
    #[serde(default)]
    pub disk: Option<DiskSpace>,
}

/// Bytes of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpace {
    /// The free bytes.
    pub free: u64,
    /// The size.
    pub total: u64,
}

impl DiskSpace {
    /// Reads the space on the disk of a folder.
    pub fn of(folder: &std::path::Path) -> Option<Self> {
        let disk = rustix::fs::statvfs(folder).ok()?;
        Some(Self {
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            total: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }
}

/// The status of a sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The sandbox's name.
    pub name: SandboxName,
    /// Its instance id.
    pub sandbox: SandboxId,
    /// Whether a lease keeps it alive.
    pub hold: LeaseStatus,
    /// When it ends if no user intervenes; `None` for a session without a fixed deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
    /// Whether each use defers that end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unless_used: bool,
    /// Its last known use.
    pub used: Timestamp,
    /// The limits of its control group, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// How many of its containers have exited and are being restarted.
    #[serde(default)]
    pub restarts: usize,
}

/// The state of the lease on a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseStatus {
    /// A client holds the lease.
    Held,
    /// A client holds the lease, and has announced that it is stopped (Ctrl-Z).
    Suspended,
    /// The lease broke less than `grace` ago.
    Lost,
    /// No lease: the sandbox lives until its deadline.
    Detached,
    /// No lease: the sandbox is being destroyed.
    Ending,
}

/// The result of a destruction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destroyed {
    /// How many objects were removed, by kind (`container`, `network`, `volume`).
    #[serde(default)]
    pub removed: BTreeMap<String, usize>,
    /// What could not be removed, each with the cause.
    #[serde(default)]
    pub left: Vec<LeftObject>,
}

/// An object that could not be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftObject {
    /// Its kind: container, network, volume, path.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Why it is still there.
    pub cause: String,
}

impl std::fmt::Display for LeftObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, name, cause } = self;
        if name.is_empty() { write!(f, "{kind}: {cause}") } else { write!(f, "{kind} `{name}`: {cause}") }
    }
}

impl From<&Swept> for Destroyed {
    fn from(swept: &Swept) -> Self {
        let mut destroyed = Self::default();
        for (kind, _) in &swept.removed {
            *destroyed.removed.entry(kind.to_string()).or_default() += 1;
        }
        let left = swept.left.iter().map(|left| LeftObject {
            kind: left.kind.to_string(),
            name: left.name.clone(),
            cause: left.cause.clone(),
        });
        destroyed.left = left.collect();
        destroyed
    }
}

/// What a destroyed sandbox left in the keeper's volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftovers {
    /// The sandbox's name.
    pub name: SandboxName,
    /// Its instance id.
    pub sandbox: SandboxId,
    /// When it was destroyed.
    pub at: Timestamp,
    /// The folder, as the keeper sees it.
    pub folder: String,
    /// The files in it, relative to `folder`, with their sizes in bytes.
    pub files: BTreeMap<String, u64>,
}

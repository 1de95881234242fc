//! The mounts of a service.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{At, VolumeName};

/// One mount (`volumes` of a service).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// The type and source of the mount.
    pub kind: MountKind,
    /// The absolute mount point in the container.
    pub target: String,
    /// Whether it is mounted read-only.
    #[serde(default)]
    pub read_only: bool,
    /// `consistency`, kept only for display; engines on Linux ignore it.
    #[serde(default)]
    pub consistency: Option<String>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

/// The type and source of a mount. `options` is `None` if the spec has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A named volume of the spec.
    Named {
        /// Its key.
        volume: VolumeName,
        /// Its options.
        options: Option<VolumeOptions>,
    },
    /// An anonymous volume, owned by the container.
    Anonymous {
        /// Its options.
        options: Option<VolumeOptions>,
    },
    /// A path of the host.
    Bind {
        /// The absolute path.
        source: PathBuf,
        /// Its options.
        options: Option<BindOptions>,
    },
    /// A file system in memory (tmpfs).
    Tmpfs {
        /// Its options.
        options: Option<TmpfsOptions>,
    },
    /// Files of an image (`type: image`).
    Image {
        /// The image.
        image: String,
        /// The path within it.
        subpath: Option<String>,
    },
}

/// Options of a volume mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeOptions {
    /// Whether to skip copying the image's content into an empty volume.
    pub nocopy: bool,
    /// A path in the volume to mount instead of its root.
    pub subpath: Option<String>,
}

/// Options of a bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BindOptions {
    /// Propagation: `rprivate`, `rslave`, ….
    pub propagation: Option<String>,
    /// Whether to create a folder on the host if the source does not exist.
    pub create_host_path: bool,
    /// SELinux relabelling: `z` or `Z`.
    pub selinux: Option<String>,
    /// `enabled`, `disabled`, `writable` or `readonly`: how mounts below the source are handled.
    pub recursive: Option<String>,
}

/// Options of a tmpfs mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsOptions {
    /// Maximum size in bytes; unlimited if `None`.
    pub size: Option<u64>,
    /// Permission bits of its root.
    pub mode: Option<u32>,
}

impl Mount {
    /// Whether database images run the files at this mount point when they initialize.
    pub fn is_initdb(&self) -> bool {
        self.target.trim_end_matches('/') == "/docker-entrypoint-initdb.d"
            || self.target.starts_with("/docker-entrypoint-initdb.d/")
    }
}

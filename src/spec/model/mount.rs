//! What is mounted into a container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{At, VolumeName};

/// One mount (`volumes` of a service).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where: an absolute path in the container.
    pub target: String,
    /// Whether it cannot be written to.
    #[serde(default)]
    pub read_only: bool,
    /// Consistency, kept for display; engines on Linux ignore it.
    #[serde(default)]
    pub consistency: Option<String>,
    /// Where it stands.
    #[serde(skip)]
    pub at: At,
}

/// What is mounted. `options` is `None` where none were written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A volume of the spec.
    Named {
        /// Its key.
        volume: VolumeName,
        /// Its options.
        options: Option<VolumeOptions>,
    },
    /// A volume without a name: the container's own.
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
    /// Memory.
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

/// Options of a volume's mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeOptions {
    /// Whether the image's content at the target is *not* copied into an empty volume.
    pub nocopy: bool,
    /// A path in the volume to mount in place of its root.
    pub subpath: Option<String>,
}

/// Options of a bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BindOptions {
    /// Propagation: `rprivate`, `rslave`, ….
    pub propagation: Option<String>,
    /// Whether a folder is made on the host if nothing is there.
    pub create_host_path: bool,
    /// SELinux relabelling: `z` or `Z`.
    pub selinux: Option<String>,
    /// `enabled`, `disabled`, `writable` or `readonly`: how mounts below the source are treated.
    pub recursive: Option<String>,
}

/// Options of a tmpfs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsOptions {
    /// Bytes; unlimited if none.
    pub size: Option<u64>,
    /// Mode of its root.
    pub mode: Option<u32>,
}

impl Mount {
    /// Whether the images of databases read seeds from here, at their first start.
    pub fn is_initdb(&self) -> bool {
        self.target.trim_end_matches('/') == "/docker-entrypoint-initdb.d"
            || self.target.starts_with("/docker-entrypoint-initdb.d/")
    }
}

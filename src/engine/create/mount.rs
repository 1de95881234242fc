//! The mounts of a container to create.

use serde::Serialize;

/// A mount of a container to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// The path in the container.
    pub target: String,
    /// Mount read-only.
    pub read_only: bool,
    /// The type and source of the mount.
    pub kind: MountKind,
}

/// The type and source of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum MountKind {
    /// A volume.
    Volume {
        /// The volume's name; empty for an anonymous volume.
        name: String,
        /// Do not copy the image's files into an empty volume.
        no_copy: bool,
        /// Mount only this path of the volume; API 1.45 and later.
        subpath: Option<String>,
    },
    /// A volume that the engine creates with the container if no volume has its name.
    NewVolume {
        /// The parameters of the volume.
        create: crate::engine::CreateVolume,
        /// Do not copy the image's files into an empty volume.
        no_copy: bool,
    },
    /// A path of the engine's host.
    Bind {
        /// The path on the engine's host.
        source: String,
        /// `rprivate`, `rshared`, …
        propagation: Option<String>,
        /// Create a directory if the path does not exist.
        create_host_path: bool,
        /// Relabel the path for SELinux.
        selinux: Option<SelinuxLabel>,
    },
    /// A file system in memory.
    Tmpfs {
        /// Maximum size in bytes.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: Option<u32>,
    },
    /// An image's files; API 1.48 and later.
    Image {
        /// The image's reference.
        reference: String,
        /// Mount only this path of the image.
        subpath: Option<String>,
    },
}

impl Mount {
    /// Mounts a volume; an empty volume is filled from the image.
    pub fn volume(name: impl Into<String>, target: impl Into<String>) -> Self {
        let kind = MountKind::Volume { name: name.into(), no_copy: false, subpath: None };
        Self { target: target.into(), read_only: false, kind }
    }

    /// Bind-mounts a path of the engine's host, which must exist.
    pub fn bind(source: impl Into<String>, target: impl Into<String>) -> Self {
        let kind = MountKind::Bind {
            source: source.into(),
            propagation: None,
            create_host_path: false,
            selinux: None,
        };
        Self { target: target.into(), read_only: false, kind }
    }

    /// Makes the mount read-only.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}

/// The SELinux label of a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum SelinuxLabel {
    /// `z`: shared by all containers.
    Shared,
    /// `Z`: private to this container.
    Private,
}

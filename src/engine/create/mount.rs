//! What is mounted in a container.

use serde::Serialize;

/// Something to be mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// The path in the container.
    pub target: String,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// What is mounted.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum MountKind {
    /// A volume.
    Volume {
        /// Its name; empty: an anonymous one.
        name: String,
        /// Do not fill an empty volume with the image's files.
        no_copy: bool,
        /// Mount only this path of it; engines from API 1.45 on.
        subpath: Option<String>,
    },
    /// A volume that the engine makes along with the container, as described, if there is none of the name.
    NewVolume {
        /// The volume.
        create: crate::engine::CreateVolume,
        /// Do not fill an empty volume with the image's files.
        no_copy: bool,
    },
    /// A path of the engine's machine.
    Bind {
        /// That path.
        source: String,
        /// `rprivate`, `rshared`, …
        propagation: Option<String>,
        /// Make a folder where there is nothing.
        create_host_path: bool,
        /// Relabel for SELinux.
        selinux: Option<SelinuxLabel>,
    },
    /// Memory.
    Tmpfs {
        /// Bytes at most.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: Option<u32>,
    },
    /// An image's files; engines from API 1.48 on.
    Image {
        /// The image's reference.
        reference: String,
        /// Mount only this path of it.
        subpath: Option<String>,
    },
}

impl Mount {
    /// A volume at a path, filled from the image if it is empty.
    pub fn volume(name: impl Into<String>, target: impl Into<String>) -> Self {
        let kind = MountKind::Volume { name: name.into(), no_copy: false, subpath: None };
        Self { target: target.into(), read_only: false, kind }
    }

    /// A path of the engine's machine (which must exist) at a path.
    pub fn bind(source: impl Into<String>, target: impl Into<String>) -> Self {
        let kind = MountKind::Bind {
            source: source.into(),
            propagation: None,
            create_host_path: false,
            selinux: None,
        };
        Self { target: target.into(), read_only: false, kind }
    }

    /// The same, but not to be written.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}

/// How a bind mount is relabelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum SelinuxLabel {
    /// `z`: for all containers.
    Shared,
    /// `Z`: for this container only.
    Private,
}

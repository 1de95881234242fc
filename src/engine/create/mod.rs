//! The parameters of a container to create.
//!
//! The fields cover what the service keys of the Compose Specification need; they mean the same as in
//! `ContainerCreate` of the Docker Engine API.

mod health;
mod mount;
mod network;
mod port;
mod resources;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::spec::ContainerSettings;

pub use health::{HealthTest, Healthcheck, RestartPolicy};
pub use mount::{Mount, MountKind, SelinuxLabel};
pub use network::{Attachment, NetworkMode};
pub use port::{Port, Protocol, PublishedPort};
pub use resources::{BlkioLimit, Device, DeviceRequest, Resources, Ulimit};

/// The parameters of a container to create.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CreateContainer {
    /// The name, which must be free.
    pub name: String,
    /// The image's reference or id.
    pub image: String,
    /// The platform, such as `linux/arm64`; `None` for the engine's own.
    pub platform: Option<String>,
    /// The command; `None` for the image's.
    pub cmd: Option<Vec<String>>,
    /// The entrypoint; `None` for the image's, empty for no entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Environment variables; `None` removes one of the image.
    pub env: BTreeMap<String, Option<String>>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The settings that come from the spec as they are written.
    pub settings: ContainerSettings,
    /// Close stdin when the first attached client disconnects.
    pub stdin_once: bool,
    /// The healthcheck; `None` for the image's.
    pub healthcheck: Option<Healthcheck>,
    /// The engine's restart policy.
    pub restart: RestartPolicy,
    /// Remove the container and its anonymous volumes when it exits.
    pub auto_remove: bool,

    /// The network stack of the container.
    pub network_mode: NetworkMode,
    /// The networks to connect to; the first is the main one.
    pub networks: Vec<Attachment>,
    /// Ports that are exposed to other containers.
    pub exposed: Vec<Port>,
    /// Ports that the engine publishes on the host.
    pub published: Vec<PublishedPort>,
    /// DNS servers.
    pub dns: Vec<String>,
    /// DNS search domains.
    pub dns_search: Vec<String>,
    /// DNS resolver options.
    pub dns_options: Vec<String>,
    /// Additional `HOST:ADDRESS` entries for `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// `CONTAINER:ALIAS` links of the default bridge.
    pub links: Vec<String>,

    /// Mounts of the container.
    pub mounts: Vec<Mount>,
    /// Mounted tmpfs paths, each with its mount options (`size=64m,mode=1777`).
    pub tmpfs: BTreeMap<String, String>,
    /// Containers whose mounts are also mounted (`NAME[:ro]`).
    pub volumes_from: Vec<String>,
    /// The driver of volumes that are created with the container.
    pub volume_driver: Option<String>,
    /// Options of the storage driver, such as `size`.
    pub storage_opt: BTreeMap<String, String>,

    /// Resource limits of its processes (`setrlimit`).
    pub ulimits: Vec<Ulimit>,
    /// Devices of the host to add.
    pub devices: Vec<Device>,
    /// Requests for GPUs and similar devices.
    pub device_requests: Vec<DeviceRequest>,
    /// Read-only paths in `/proc`; `None` for the engine's default.
    pub readonly_paths: Option<Vec<String>>,
    /// IPC namespace: `private`, `shareable`, `host`, `container:NAME`.
    pub ipc: Option<String>,
    /// PID namespace: `host`, `container:NAME`.
    pub pid: Option<String>,
    /// Control group namespace: `private`, `host`.
    pub cgroup: Option<String>,

    /// Resource limits.
    pub resources: Resources,
    /// The log driver; `None` for the engine's default.
    pub logging: Option<Logging>,
}

impl CreateContainer {
    /// A container with this name and image and default settings, on no network.
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        Self { name: name.into(), image: image.into(), ..Self::default() }
    }
}

/// The log driver of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Logging {
    /// The driver, such as `json-file`; `None` for the engine's default.
    pub driver: Option<String>,
    /// Options of the log driver.
    pub options: BTreeMap<String, String>,
}

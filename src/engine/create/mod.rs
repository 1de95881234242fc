//! A container to be made, in full.
//!
//! The fields cover what the Compose Specification's service keys ask of an engine; their meanings are those of the
//! Docker Engine API's `ContainerCreate`.

mod health;
mod mount;
mod network;
mod port;
mod resources;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

pub use health::{HealthTest, Healthcheck, RestartPolicy};
pub use mount::{Mount, MountKind, SelinuxLabel};
pub use network::{Attachment, NetworkMode};
pub use port::{NotAPort, Port, Protocol, PublishedPort};
pub use resources::{BlkioLimit, Device, DeviceRequest, Resources, Ulimit};

/// A container to be made.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CreateContainer {
    /// Its name, which must be free.
    pub name: String,
    /// The image's reference or id.
    pub image: String,
    /// Such as `linux/arm64`; `None`: the engine's own.
    pub platform: Option<String>,
    /// The command; `None`: the image's.
    pub cmd: Option<Vec<String>>,
    /// The entrypoint; `None`: the image's, empty: none at all.
    pub entrypoint: Option<Vec<String>>,
    /// Variables; `None` takes away one of the image.
    pub env: BTreeMap<String, Option<String>>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations for the runtime.
    pub annotations: BTreeMap<String, String>,
    /// User, perhaps with a group; `None`: the image's.
    pub user: Option<String>,
    /// Groups that the process is in besides.
    pub group_add: Vec<String>,
    /// Where it starts; `None`: the image's.
    pub workdir: Option<String>,
    /// Its host name; `None`: its short id.
    pub hostname: Option<String>,
    /// Its domain name.
    pub domainname: Option<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Hold its stdin open.
    pub stdin_open: bool,
    /// Its stdin ends with the first client that was attached to it.
    pub stdin_once: bool,
    /// Run a small init as its first process.
    pub init: Option<bool>,
    /// The runtime, such as `runsc`.
    pub runtime: Option<String>,
    /// The signal that stops it.
    pub stop_signal: Option<String>,
    /// How long a stop waits before it kills.
    pub stop_timeout: Option<Duration>,
    /// How its health is told; `None`: the image's way.
    pub healthcheck: Option<Healthcheck>,
    /// Whether the engine starts it again.
    pub restart: RestartPolicy,
    /// Remove it, with its anonymous volumes, when it ends.
    pub auto_remove: bool,

    /// Which network stack it has.
    pub network_mode: NetworkMode,
    /// The networks it is on; the first is its main one.
    pub networks: Vec<Attachment>,
    /// Ports it listens on.
    pub exposed: Vec<Port>,
    /// Ports that the engine publishes on the host.
    pub published: Vec<PublishedPort>,
    /// Servers that its resolver asks.
    pub dns: Vec<String>,
    /// Domains that its resolver appends.
    pub dns_search: Vec<String>,
    /// Options of its resolver.
    pub dns_options: Vec<String>,
    /// `HOST:ADDRESS` lines of its `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// `CONTAINER:ALIAS` links of the default bridge.
    pub links: Vec<String>,

    /// What is mounted in it.
    pub mounts: Vec<Mount>,
    /// Folders in memory, each with its mount options (`size=64m,mode=1777`).
    pub tmpfs: BTreeMap<String, String>,
    /// Containers whose mounts it gets too (`NAME[:ro]`).
    pub volumes_from: Vec<String>,
    /// The driver of volumes made along the way.
    pub volume_driver: Option<String>,
    /// Its root file system cannot be written.
    pub read_only: bool,
    /// Options of the storage driver, such as `size`.
    pub storage_opt: BTreeMap<String, String>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<u64>,

    /// All capabilities, all devices, no confinement.
    pub privileged: bool,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// Capabilities taken away.
    pub cap_drop: Vec<String>,
    /// `seccomp=JSON`, `no-new-privileges:true`, …
    pub security_opt: Vec<String>,
    /// Kernel parameters of its own.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// `b 7:* rwm` and the like.
    pub device_cgroup_rules: Vec<String>,
    /// GPUs and their kin.
    pub device_requests: Vec<DeviceRequest>,
    /// What of `/proc` is read-only; `None`: what the engine has so.
    pub readonly_paths: Option<Vec<String>>,
    /// `private`, `shareable`, `host`, `container:NAME`.
    pub ipc: Option<String>,
    /// `host`, `container:NAME`.
    pub pid: Option<String>,
    /// `host`.
    pub uts: Option<String>,
    /// `host`.
    pub userns: Option<String>,
    /// `private`, `host`.
    pub cgroup: Option<String>,
    /// The control group above its own.
    pub cgroup_parent: Option<String>,
    /// Windows: `process`, `hyperv`, `default`.
    pub isolation: Option<String>,

    /// How much it may use.
    pub resources: Resources,
    /// Where its output goes; `None`: the engine's default.
    pub logging: Option<Logging>,
}

impl CreateContainer {
    /// A container of this name and image and nothing else; on no network.
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        Self { name: name.into(), image: image.into(), ..Self::default() }
    }
}

/// Where a container's output goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Logging {
    /// Such as `json-file`; `None`: the engine's default.
    pub driver: Option<String>,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

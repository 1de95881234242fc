//! Containers as the engine reports them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;

use super::create::{Healthcheck, PublishedPort};

/// A container in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSummary {
    /// The container's id on the engine.
    pub id: String,
    /// Its name, without a leading slash.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The current state.
    pub state: ContainerState,
    /// The engine's description of the state, such as `Up 3 minutes (healthy)`.
    pub status: String,
    /// The image's reference as it was requested.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// Creation time.
    pub created: Option<Timestamp>,
    /// Ports that are published now.
    pub ports: Vec<PublishedPort>,
    /// Its networks by name.
    pub networks: BTreeMap<String, Endpoint>,
    /// Mounts of the container.
    pub mounts: Vec<MountPoint>,
}

/// The state of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// Created, never started.
    Created,
    /// Its main process runs.
    Running,
    /// Its processes are paused.
    Paused,
    /// The engine is restarting it.
    Restarting,
    /// It is being removed.
    Removing,
    /// Its main process has exited.
    Exited,
    /// Its removal failed half-way.
    Dead,
}

impl ContainerState {
    /// Whether it has running or paused processes.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

impl fmt::Display for ContainerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        })
    }
}

/// The full description of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The container's id on the engine.
    pub id: String,
    /// Its name, without a leading slash.
    pub name: String,
    /// The image's reference as it was requested.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The current state.
    pub state: ContainerState,
    /// The last exit code; `None` if it never exited.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it because it exceeded its memory limit.
    pub oom_killed: bool,
    /// The error of a failed start; empty in most cases.
    pub error: String,
    /// The process id on the engine's host, if it runs.
    pub pid: Option<u32>,
    /// The health status, if it has a healthcheck.
    pub health: Option<Health>,
    /// Number of restarts by the engine.
    pub restart_count: u64,
    /// Creation time.
    pub created: Option<Timestamp>,
    /// Time of the last start.
    pub started_at: Option<Timestamp>,
    /// Time of the last exit.
    pub finished_at: Option<Timestamp>,
    /// Its networks by name.
    pub networks: BTreeMap<String, Endpoint>,
    /// Ports that are published now.
    pub ports: Vec<PublishedPort>,
    /// Mounts of the container.
    pub mounts: Vec<MountPoint>,
    /// Environment as `KEY=VALUE`, including the image's.
    pub env: Vec<String>,
    /// Its command.
    pub cmd: Vec<String>,
    /// Its entrypoint.
    pub entrypoint: Vec<String>,
    /// Its user.
    pub user: String,
    /// Working directory.
    pub workdir: String,
    /// Its hostname.
    pub hostname: String,
    /// Whether a terminal is allocated.
    pub tty: bool,
    /// Whether stdin is kept open.
    pub stdin_open: bool,
    /// Its healthcheck.
    pub healthcheck: Option<Healthcheck>,
    /// The signal that requests a stop.
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and the kill.
    pub stop_timeout: Option<i64>,
}

/// The endpoint of a container on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The network's id.
    pub network_id: String,
    /// IPv4 address; `None` while the container is stopped.
    pub ipv4: Option<IpAddr>,
    /// Its IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// The default gateway on this network.
    pub gateway: Option<IpAddr>,
    /// Names that the network's DNS resolves to this container.
    pub aliases: Vec<String>,
    /// MAC address.
    pub mac: Option<String>,
}

/// The health status of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The current status.
    pub status: HealthStatus,
    /// Consecutive failed probes.
    pub failing_streak: u64,
    /// The most recent probes, oldest first.
    pub log: Vec<HealthProbe>,
}

/// The status that the engine derives from the probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthStatus {
    /// No probe has succeeded yet, and not enough have failed.
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// Too many consecutive probes failed.
    Unhealthy,
}

/// The result of one health probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthProbe {
    /// 0 means healthy.
    pub exit_code: i64,
    /// The output of the probe.
    pub output: String,
    /// Start time.
    pub start: Option<Timestamp>,
    /// End time.
    pub end: Option<Timestamp>,
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// The type of the mount.
    pub kind: MountPointKind,
    /// The volume's name; empty for other types.
    pub name: String,
    /// The path on the engine's host.
    pub source: String,
    /// The path in the container.
    pub target: String,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// The type of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MountPointKind {
    /// A volume.
    Volume,
    /// A path of the engine's host.
    Bind,
    /// A file system in memory.
    Tmpfs,
    /// Any other type.
    Other,
}

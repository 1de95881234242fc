//! Containers as the engine keeps them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;

use super::create::{Healthcheck, PublishedPort};

/// A container in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSummary {
    /// Its id.
    pub id: String,
    /// Its name, without a leading slash.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it does.
    pub state: ContainerState,
    /// The engine's words for it, such as `Up 3 minutes (healthy)`.
    pub status: String,
    /// The image's reference as it was asked for.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Ports that are published now.
    pub ports: Vec<PublishedPort>,
    /// Its networks by name.
    pub networks: BTreeMap<String, Endpoint>,
    /// What is mounted in it.
    pub mounts: Vec<MountPoint>,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// The engine starts it again.
    Restarting,
    /// It is being removed.
    Removing,
    /// Its process has ended.
    Exited,
    /// Its removal failed half-way.
    Dead,
}

impl ContainerState {
    /// Whether it has processes.
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

/// All about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name, without a leading slash.
    pub name: String,
    /// The image's reference as it was asked for.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it does.
    pub state: ContainerState,
    /// The last exit code; `None` if it has never ended.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for want of memory.
    pub oom_killed: bool,
    /// Why it could not be started; mostly empty.
    pub error: String,
    /// The process id on the engine's machine, if it runs.
    pub pid: Option<u32>,
    /// Its health, if it has a healthcheck.
    pub health: Option<Health>,
    /// How often the engine started it again.
    pub restart_count: u64,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
    /// When it last ended.
    pub finished_at: Option<Timestamp>,
    /// Its networks by name.
    pub networks: BTreeMap<String, Endpoint>,
    /// Ports that are published now.
    pub ports: Vec<PublishedPort>,
    /// What is mounted in it.
    pub mounts: Vec<MountPoint>,
    /// The `KEY=VALUE`s of its environment, the image's included.
    pub env: Vec<String>,
    /// Its command.
    pub cmd: Vec<String>,
    /// Its entrypoint.
    pub entrypoint: Vec<String>,
    /// Its user.
    pub user: String,
    /// Where it starts.
    pub workdir: String,
    /// Its hostname.
    pub hostname: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its stdin is held open.
    pub stdin_open: bool,
    /// Its healthcheck.
    pub healthcheck: Option<Healthcheck>,
    /// The signal that stops it.
    pub stop_signal: Option<String>,
    /// Seconds before a stop becomes a kill.
    pub stop_timeout: Option<i64>,
}

/// A container's place on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The network's id.
    pub network_id: String,
    /// Its address; `None` while it does not run.
    pub ipv4: Option<IpAddr>,
    /// Its IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// The address of its default route on this network.
    pub gateway: Option<IpAddr>,
    /// Names that the network's resolver answers for it.
    pub aliases: Vec<String>,
    /// Its hardware address.
    pub mac: Option<String>,
}

/// A container's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// Failed probes in a row.
    pub failing_streak: u64,
    /// The last probes, oldest first.
    pub log: Vec<HealthProbe>,
}

/// The engine's verdict on a container's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthStatus {
    /// No probe has succeeded and not enough have failed.
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// Too many probes failed in a row.
    Unhealthy,
}

/// One probe of a container's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthProbe {
    /// 0 is healthy.
    pub exit_code: i64,
    /// What it wrote.
    pub output: String,
    /// When it began.
    pub start: Option<Timestamp>,
    /// When it ended.
    pub end: Option<Timestamp>,
}

/// Something that is mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// What kind of thing.
    pub kind: MountPointKind,
    /// The volume's name; empty for others.
    pub name: String,
    /// The path on the engine's machine.
    pub source: String,
    /// The path in the container.
    pub target: String,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// What kind of thing is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MountPointKind {
    /// A volume.
    Volume,
    /// A path of the engine's machine.
    Bind,
    /// Memory.
    Tmpfs,
    /// Something else.
    Other,
}

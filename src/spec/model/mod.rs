//! The resolved model: everything a spec says, with nothing left to look up, interpolate or merge.
//!
//! Keys of the Compose Specification keep their names and meanings
//! (<https://github.com/compose-spec/compose-spec/blob/main/spec.md>). Sizes are bytes, durations
//! [`std::time::Duration`]. Secrets' values are never in here.

mod build;
mod data;
mod develop;
mod egress;
mod health;
mod lifecycle;
mod mount;
mod names;
mod network;
mod resources;
mod sandbox_policy;
mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use build::{Build, BuildSecret, Dockerfile, ImageSource, PullPolicy};
pub use data::{Config, ConfigSource, FileGrant, Secret, SecretSource, Seed, SnapshotRef, Volume};
pub use develop::{WatchAction, WatchRule};
pub use egress::{EgressPolicy, EgressRule, GatewayMode, NamePattern, PolicyError, RuleError, is_label};
pub use health::{Condition, Dependency, HealthTest, Healthcheck, Probe, Readiness};
pub use lifecycle::{Hook, Logging, RestartPolicy};
pub use mount::{BindOptions, Mount, MountKind, TmpfsOptions, VolumeOptions};
pub use names::{
    ConfigName, InvalidName, NetworkName, ProjectName, SandboxName, SecretName, ServiceName, TaskName,
    VolumeName,
};
pub use network::{Attachment, Ipam, IpamPool, Network, NetworkMode, Port, PortRange, Protocol};
pub use resources::{
    BlkioConfig, Deploy, Device, DeviceRate, DeviceRequest, DeviceWeight, ResourceBounds, Resources, Ulimit,
};
pub use sandbox_policy::{Artifact, Lifetime, Limits, Task};
pub use service::Service;

/// How many services a network is followed through: more than any spec may have containers.
const LONGEST_CHAIN: usize = 512;

/// A free value under an `x-` key, or a driver's option.
pub type Json = serde_json::Value;

/// A fully resolved spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The spec's name; a sandbox's own name adds the git branch.
    pub name: ProjectName,
    /// The folder that relative paths were resolved against.
    pub folder: PathBuf,
    /// The files that it was read from, in the order of merging.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// The profiles that were active.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// Where the spec came from, hence how far it is trusted.
    #[serde(default)]
    pub origin: SpecOrigin,
    /// How long a sandbox lives.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// What may leave it.
    #[serde(default)]
    pub egress: EgressPolicy,
    /// Limits shared by all its services.
    #[serde(default)]
    pub limits: Limits,
    /// The active services.
    #[serde(default)]
    pub services: BTreeMap<ServiceName, Service>,
    /// Services that are not asked for, and whose images builds of others need.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub build_only: BTreeMap<ServiceName, Service>,
    /// The networks that active services use.
    #[serde(default)]
    pub networks: BTreeMap<NetworkName, Network>,
    /// The named volumes.
    #[serde(default)]
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// Secrets: where their values come from, never the values.
    #[serde(default)]
    pub secrets: BTreeMap<SecretName, Secret>,
    /// Configs.
    #[serde(default)]
    pub configs: BTreeMap<ConfigName, Config>,
    /// Whether fsync means fsync.
    #[serde(default)]
    pub durable: Durability,
    /// What is brought out before anything is destroyed.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// Named commands.
    #[serde(default)]
    pub tasks: BTreeMap<TaskName, Task>,
    /// Free `x-` keys at the top level, `x-sandbox` excepted.
    #[serde(default)]
    pub extensions: BTreeMap<String, Json>,
}

impl Spec {
    /// A spec with nothing in it.
    pub fn new(name: ProjectName, folder: &Path) -> Self {
        Self {
            name,
            folder: folder.to_owned(),
            files: Vec::new(),
            profiles: Vec::new(),
            origin: SpecOrigin::Local,
            lifetime: Lifetime::default(),
            egress: EgressPolicy::default(),
            limits: Limits::default(),
            services: BTreeMap::new(),
            build_only: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            secrets: BTreeMap::new(),
            configs: BTreeMap::new(),
            durable: Durability::default(),
            artifacts: Vec::new(),
            tasks: BTreeMap::new(),
            extensions: BTreeMap::new(),
        }
    }

    /// The service whose network a service is in: itself, if not that of another's first container.
    pub fn network_owner<'a>(&'a self, service: &'a Service) -> &'a Service {
        let mut owner = service;
        // One that is in its own network, by whatever circle, has none.
        for _ in 0..self.services.len().min(LONGEST_CHAIN) {
            match &owner.network_mode {
                Some(NetworkMode::Service(other)) => match self.services.get(other) {
                    Some(other) => owner = other,
                    None => break,
                },
                _ => break,
            }
        }
        owner
    }

    /// Whether a network has IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.networks.values().any(Network::has_ipv6)
    }

    /// The most memory that all its services together may use, bytes; `None` if one of them may use any.
    pub fn memory_limit(&self) -> Option<u64> {
        let each =
            |service: &Service| Some(service.memory_limit()?.saturating_mul(u64::from(service.replicas())));
        let sum = |sum: u64, of: Option<u64>| Some(sum.saturating_add(of?));
        self.limits.memory.or_else(|| self.services.values().map(each).try_fold(0, sum))
    }
}

/// Where a spec came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpecOrigin {
    /// The user's own files.
    #[default]
    Local,
    /// A snapshot file that someone else may have made: not trusted with the host.
    SnapshotFile,
}

/// Whether what a service syncs must survive a crash of the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// fsync is answered at once: a crash of the host is the end of a sandbox anyway.
    #[default]
    Throwaway,
    /// fsync means fsync.
    Durable,
}

/// A place in one of the spec's files, for errors that are found later.
///
/// It is not part of what a spec means: any two are equal, and it is never written out.
#[derive(Debug, Clone, Default)]
pub struct At {
    /// The file, if the thing was written in one.
    pub file: Option<PathBuf>,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
}

impl PartialEq for At {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for At {}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}:{}:{}", file.display(), self.line, self.column),
            None => f.write_str("the spec"),
        }
    }
}

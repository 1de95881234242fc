//! The resolved model of a spec: everything is looked up, interpolated and merged.
//!
//! Keys of the Compose Specification keep their names and meanings
//! (<https://github.com/compose-spec/compose-spec/blob/main/spec.md>). Sizes are in bytes, durations are
//! [`std::time::Duration`]. The model never contains the values of secrets.

mod build;
mod data;
mod develop;
mod egress;
mod health;
mod lifecycle;
mod mount;
mod names;
mod network;
pub(in crate::spec) mod onboarding;
mod resources;
mod sandbox_policy;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use build::{Build, BuildSecret, Dockerfile, ImageSource, PullPolicy};
pub use data::{Config, ConfigSource, FileGrant, Secret, SecretSource, SnapshotRef, Volume};
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
pub use onboarding::{EngineVersion, HostValue, HostVariable, Page, Requirements};
pub use resources::{
    BlkioConfig, Deploy, Device, DeviceRate, DeviceRequest, DeviceWeight, ResourceBounds, Resources, Ulimit,
};
pub use sandbox_policy::{Artifact, Lifetime, Limits, Task};
pub use service::Service;

/// Maximum length of a chain of shared networks: more than the maximum number of containers.
const LONGEST_CHAIN: usize = 512;

/// A value of an extension key (`x-…`), or of a driver's option.
pub type Json = serde_json::Value;

/// A fully resolved spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The project name; a sandbox's own name adds the git branch.
    pub name: ProjectName,
    /// The folder that relative paths were resolved against.
    pub folder: PathBuf,
    /// The files of the spec, in the order of merging.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// The active profiles.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// The origin of the spec, which determines how far it is trusted.
    #[serde(default)]
    pub origin: SpecOrigin,
    /// The git branch of its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<GitBranch>,
    /// The lifetime settings of a sandbox.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// The egress policy of a sandbox.
    #[serde(default)]
    pub egress: EgressPolicy,
    /// Limits shared by all its services.
    #[serde(default)]
    pub limits: Limits,
    /// The active services.
    #[serde(default)]
    pub services: BTreeMap<ServiceName, Service>,
    /// Services that are not selected, but whose images are contexts of other builds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub build_only: BTreeMap<ServiceName, Service>,
    /// The networks that active services use.
    #[serde(default)]
    pub networks: BTreeMap<NetworkName, Network>,
    /// The named volumes that active services use.
    #[serde(default)]
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// Secrets: the sources of their values, never the values.
    #[serde(default)]
    pub secrets: BTreeMap<SecretName, Secret>,
    /// The configs that active services use.
    #[serde(default)]
    pub configs: BTreeMap<ConfigName, Config>,
    /// Whether fsync writes to disk.
    #[serde(default)]
    pub durable: Durability,
    /// Files that are copied out before a sandbox is destroyed.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// Named commands (`sandbox task`).
    #[serde(default)]
    pub tasks: BTreeMap<TaskName, Task>,
    /// What the user reads once the sandbox is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub welcome: Option<String>,
    /// The pages that `sandbox open` opens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<Page>,
    /// What the machine must have.
    #[serde(default)]
    pub requires: Requirements,
    /// More variables for commands on this machine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, HostVariable>,
    /// Extension keys (`x-…`) at the top level, except `x-sandbox`.
    #[serde(default)]
    pub extensions: BTreeMap<String, Json>,
    /// Paths of values (`services.a.command`) that hold something of the user's own variables, except `environment` of
    /// services.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub user_values: BTreeSet<String>,
}

impl Spec {
    /// An empty spec.
    pub fn new(name: ProjectName, folder: &Path) -> Self {
        Self {
            name,
            folder: folder.to_owned(),
            files: Vec::new(),
            profiles: Vec::new(),
            origin: SpecOrigin::Local,
            branch: None,
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
            welcome: None,
            open: Vec::new(),
            requires: Requirements::default(),
            env: BTreeMap::new(),
            extensions: BTreeMap::new(),
            user_values: BTreeSet::new(),
        }
    }

    /// The service whose network namespace this service uses: itself, unless it joins another's.
    pub fn network_owner<'a>(&'a self, service: &'a Service) -> &'a Service {
        let mut owner = service;
        // In a cycle no service owns the network; the loop is bounded.
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

    /// Removes the extension keys (`x-…`), which have no meaning in a sandbox.
    pub fn clear_extensions(&mut self) {
        self.extensions.clear();
        for service in self.services.values_mut().chain(self.build_only.values_mut()) {
            service.extensions.clear();
            service.networks.values_mut().for_each(|attachment| attachment.extensions.clear());
            service.ports.iter_mut().for_each(|port| port.extensions.clear());
            if let ImageSource::Build(build) = &mut service.source {
                build.extensions.clear();
            }
        }
        self.networks.values_mut().for_each(|network| network.extensions.clear());
        self.volumes.values_mut().for_each(|volume| volume.extensions.clear());
        self.secrets.values_mut().for_each(|secret| secret.extensions.clear());
        self.configs.values_mut().for_each(|config| config.extensions.clear());
    }

    /// Whether any network has IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.networks.values().any(Network::has_ipv6)
    }

    /// Maximum memory of all services together, in bytes; `None` if one of them is unlimited.
    pub fn memory_limit(&self) -> Option<u64> {
        let each =
            |service: &Service| Some(service.memory_limit()?.saturating_mul(u64::from(service.replicas())));
        let sum = |sum: u64, of: Option<u64>| Some(sum.saturating_add(of?));
        self.limits.memory.or_else(|| self.services.values().map(each).try_fold(0, sum))
    }
}

/// The origin of a spec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpecOrigin {
    /// The user's own files.
    #[default]
    Local,
    /// A snapshot file that someone else may have made: not trusted with host access. It brings no files.
    SnapshotFile,
    /// A git repository that someone else may have made, with its files: not trusted with host access.
    Repository,
}

impl SpecOrigin {
    /// Where the spec is from, for messages: "the spec, which …".
    pub fn came(self) -> &'static str {
        match self {
            Self::Local => "is in your own folder",
            Self::SnapshotFile => "came out of a snapshot file",
            Self::Repository => "came out of a git repository",
        }
    }
}

/// A git branch of this machine. It is not part of a spec's meaning: all compare as equal.
#[derive(Debug, Clone, Eq, Serialize, Deserialize)]
pub struct GitBranch {
    /// Its short name.
    pub name: String,
    /// The folder in which git keeps what all worktrees of its repository share.
    pub repository: PathBuf,
}

impl PartialEq for GitBranch {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Whether synced data must survive a crash of the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// fsync is a no-op: after a crash of the host the sandbox is lost anyway.
    #[default]
    Throwaway,
    /// fsync writes to disk.
    Durable,
}

/// A location in one of the spec's files, for errors that are found later.
///
/// It is not part of a spec's meaning: all locations compare as equal, and none is serialized.
#[derive(Debug, Clone, Default)]
pub struct At {
    /// The file, if there is one.
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

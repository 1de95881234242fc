//! A service of the model.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::container_settings::ContainerSettings;
use super::super::seed::Seed;
use super::{
    At, Attachment, Build, Dependency, Deploy, Device, Durability, FileGrant, Healthcheck, Hook, ImageSource,
    Json, Logging, Mount, NetworkMode, NetworkName, Port, PullPolicy, Readiness, Resources, RestartPolicy,
    ServiceName, WatchRule,
};

/// A resolved service. `None` and empty mean "not set": the image's or the engine's default applies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// The key in the spec.
    pub name: ServiceName,
    /// The source of its image.
    pub source: ImageSource,
    /// `platform`.
    #[serde(default)]
    pub platform: Option<String>,
    /// `pull_policy`.
    #[serde(default)]
    pub pull_policy: Option<PullPolicy>,
    /// `command`.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// `entrypoint`; empty clears the image's.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// The keys of `environment` whose values contain the user's variables.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub user_environment: BTreeSet<String>,
    /// `environment`, including `env_file`s. A variable without a value is not set.
    #[serde(default)]
    pub environment: BTreeMap<String, Option<String>>,
    /// The keys that its container gets as they are written.
    #[serde(default)]
    pub settings: ContainerSettings,
    /// `mac_address`.
    #[serde(default)]
    pub mac_address: Option<String>,
    /// `container_name`: applied as a host name inside the sandbox. As a container name it would prevent two sandboxes
    /// from running at the same time.
    #[serde(default)]
    pub container_name: Option<String>,
    /// `labels`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `profiles`.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// `attach`: whether `up` follows its logs.
    #[serde(default)]
    pub attach: Option<bool>,
    /// `devices` (host access).
    #[serde(default)]
    pub devices: Vec<Device>,
    /// `cgroup`: `host` or `private`.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// `pid`: `host` (host access) or `service:NAME`.
    #[serde(default)]
    pub pid: Option<String>,
    /// `ipc`: `shareable`, `private`, `none`, `service:NAME` or `host` (host access).
    #[serde(default)]
    pub ipc: Option<String>,
    /// `storage_opt`.
    #[serde(default)]
    pub storage_opt: BTreeMap<String, String>,
    /// Limits of memory, processors, processes and the like.
    #[serde(default)]
    pub resources: Resources,
    /// `deploy`.
    #[serde(default)]
    pub deploy: Option<Deploy>,
    /// `scale`.
    #[serde(default)]
    pub scale: Option<u32>,
    /// `network_mode`.
    #[serde(default)]
    pub network_mode: Option<NetworkMode>,
    /// `networks`. Never empty unless `network_mode` is set.
    #[serde(default)]
    pub networks: BTreeMap<NetworkName, Attachment>,
    /// `ports`.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// `expose`: `8080`, `53/udp`, `3000-3005`.
    #[serde(default)]
    pub expose: Vec<String>,
    /// `links` as written: `SERVICE` or `SERVICE:ALIAS`.
    #[serde(default)]
    pub links: Vec<String>,
    /// `external_links` as written; rejected.
    #[serde(default)]
    pub external_links: Vec<String>,
    /// `extra_hosts`: name → addresses.
    #[serde(default)]
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// `dns`.
    #[serde(default)]
    pub dns: Vec<String>,
    /// `dns_search`.
    #[serde(default)]
    pub dns_search: Vec<String>,
    /// `dns_opt`.
    #[serde(default)]
    pub dns_opt: Vec<String>,
    /// `volumes`, in order.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// `volumes_from` as written.
    #[serde(default)]
    pub volumes_from: Vec<String>,
    /// `tmpfs`: `/run` or `/run:size=64m`.
    #[serde(default)]
    pub tmpfs: Vec<String>,
    /// `secrets`.
    #[serde(default)]
    pub secrets: Vec<FileGrant>,
    /// `configs`.
    #[serde(default)]
    pub configs: Vec<FileGrant>,
    /// `depends_on`, and dependencies implied by `links`, `volumes_from` and the `service:` modes.
    #[serde(default)]
    pub depends_on: BTreeMap<ServiceName, Dependency>,
    /// `healthcheck`.
    #[serde(default)]
    pub healthcheck: Option<Healthcheck>,
    /// `restart`; implemented by the keeper, never passed to the engine.
    #[serde(default)]
    pub restart: Option<RestartPolicy>,
    /// `logging`.
    #[serde(default)]
    pub logging: Option<Logging>,
    /// `pre_start`: commands that run to completion before the start, each in a container of its own.
    #[serde(default)]
    pub pre_start: Vec<Hook>,
    /// `post_start`: commands in the container after it has started.
    #[serde(default)]
    pub post_start: Vec<Hook>,
    /// `pre_stop`: commands in the container before it is stopped.
    #[serde(default)]
    pub pre_stop: Vec<Hook>,
    /// `develop.watch`.
    #[serde(default)]
    pub watch: Vec<WatchRule>,
    /// `ready`: the readiness probe (our own key).
    #[serde(default)]
    pub ready: Option<Readiness>,
    /// `seed`: seeds that run once the service is ready, in order.
    #[serde(default)]
    pub seed: Vec<Seed>,
    /// `durable`, if set for this service.
    #[serde(default)]
    pub durable: Option<Durability>,
    /// Extension keys (`x-…`) except `x-sandbox`.
    #[serde(default)]
    pub extensions: BTreeMap<String, Json>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

impl Service {
    /// A service with this image and default settings.
    pub fn new(name: ServiceName, image: impl Into<String>) -> Self {
        Self {
            name,
            source: ImageSource::Image(image.into()),
            platform: None,
            pull_policy: None,
            command: None,
            entrypoint: None,
            user_environment: BTreeSet::new(),
            environment: BTreeMap::new(),
            settings: ContainerSettings::default(),
            mac_address: None,
            container_name: None,
            labels: BTreeMap::new(),
            profiles: Vec::new(),
            attach: None,
            devices: Vec::new(),
            cgroup: None,
            pid: None,
            ipc: None,
            storage_opt: BTreeMap::new(),
            resources: Resources::default(),
            deploy: None,
            scale: None,
            network_mode: None,
            networks: BTreeMap::new(),
            ports: Vec::new(),
            expose: Vec::new(),
            links: Vec::new(),
            external_links: Vec::new(),
            extra_hosts: BTreeMap::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_opt: Vec::new(),
            mounts: Vec::new(),
            volumes_from: Vec::new(),
            tmpfs: Vec::new(),
            secrets: Vec::new(),
            configs: Vec::new(),
            depends_on: BTreeMap::new(),
            healthcheck: None,
            restart: None,
            logging: None,
            pre_start: Vec::new(),
            post_start: Vec::new(),
            pre_stop: Vec::new(),
            watch: Vec::new(),
            ready: None,
            seed: Vec::new(),
            durable: None,
            extensions: BTreeMap::new(),
            at: At::default(),
        }
    }

    /// The image reference, or the tag of a build if it is set.
    pub fn image(&self) -> Option<&str> {
        match &self.source {
            ImageSource::Image(reference) => Some(reference),
            ImageSource::Build(build) => build.tag.as_deref(),
        }
    }

    /// The build parameters, if the image is built.
    pub fn build(&self) -> Option<&Build> {
        match &self.source {
            ImageSource::Image(_) => None,
            ImageSource::Build(build) => Some(build),
        }
    }

    /// Names of the services whose network, namespaces or volumes it shares.
    pub fn joined(&self) -> impl Iterator<Item = &str> {
        let network = match &self.network_mode {
            Some(NetworkMode::Service(name)) => Some(name.as_str()),
            _ => None,
        };
        let modes = [&self.ipc, &self.pid, &self.settings.uts, &self.cgroup];
        let modes = modes.into_iter().filter_map(|mode| mode.as_deref()?.strip_prefix("service:"));
        let volumes = self.volumes_from.iter().map(|from| from.split(':').next().unwrap_or(from));
        network.into_iter().chain(modes).chain(volumes)
    }

    /// Number of containers.
    pub fn replicas(&self) -> u32 {
        self.scale.or_else(|| self.deploy.as_ref().and_then(|deploy| deploy.replicas)).unwrap_or(1)
    }

    /// Memory limit in bytes: `deploy.resources.limits.memory`, otherwise `mem_limit`.
    pub fn memory_limit(&self) -> Option<u64> {
        let deploy = self.deploy.as_ref().and_then(|deploy| deploy.limits.as_ref()?.memory);
        deploy.or(self.resources.mem_limit)
    }

    /// Memory reservation in bytes: `deploy.resources.reservations.memory`, otherwise `mem_reservation`.
    pub fn memory_reservation(&self) -> Option<u64> {
        let deploy = self.deploy.as_ref().and_then(|deploy| deploy.reservations.as_ref()?.memory);
        deploy.or(self.resources.mem_reservation)
    }

    /// CPU limit: `deploy.resources.limits.cpus`, otherwise `cpus`.
    pub fn cpu_limit(&self) -> Option<f64> {
        let deploy = self.deploy.as_ref().and_then(|deploy| deploy.limits.as_ref()?.cpus());
        deploy.or(self.resources.cpus)
    }

    /// Process limit: `deploy.resources.limits.pids`, otherwise `pids_limit`.
    pub fn pids_limit(&self) -> Option<i64> {
        let deploy = self.deploy.as_ref().and_then(|deploy| deploy.limits.as_ref()?.pids);
        deploy.or(self.resources.pids_limit)
    }

    /// Restart policy: `restart`, otherwise `deploy.restart_policy.condition`, otherwise none.
    pub fn restart_policy(&self) -> RestartPolicy {
        if let Some(policy) = self.restart {
            return policy;
        }
        let Some(policy) = self.deploy.as_ref().and_then(|deploy| deploy.restart_policy.as_ref()) else {
            return RestartPolicy::No;
        };
        match policy.get("condition").and_then(Json::as_str) {
            Some("none") => RestartPolicy::No,
            Some("on-failure") => RestartPolicy::OnFailure {
                max: policy.get("max_attempts").and_then(Json::as_u64).and_then(|n| u32::try_from(n).ok()),
            },
            _ => RestartPolicy::Always,
        }
    }

    /// Mounts whose files database images run when they initialize.
    pub fn initdb_mounts(&self) -> impl Iterator<Item = &Mount> {
        self.mounts.iter().filter(|mount| mount.is_initdb())
    }

    /// Whether its data must be prepared: it has seeds, or mounts that count as seeds.
    pub fn is_seeded(&self) -> bool {
        !self.seed.is_empty() || self.initdb_mounts().next().is_some()
    }
}

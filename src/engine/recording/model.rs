//! The objects of the engine in memory and the rules among them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ipnet::IpNet;
use jiff::Timestamp;

use super::now;
use super::script::Behaviour;
use crate::engine::network::{NetworkMember, Subnet};
use crate::engine::{
    Attachment, Container, ContainerState, ContainerSummary, CreateContainer, CreateNetwork, CreateVolume,
    Endpoint, EngineError, EngineEvent, ErrorKind, Filter, Health, HealthProbe, HealthStatus, HealthTest,
    Image, ImageConfig, LogChunk, MountKind, MountPoint, MountPointKind, Network, ObjectKind, PublishedPort,
    Result, StdStream, Volume,
};

type Labels = BTreeMap<String, String>;
/// Exit codes of commands; `None` while they run. Shared with the commands, which outlive a look at the model.
pub(super) type ExitCodes = Arc<Mutex<BTreeMap<String, Option<i64>>>>;

#[derive(Default)]
pub(super) struct Model {
    next: u64,
    pub(super) images: Vec<Image>,
    pub(super) registry: BTreeMap<String, ImageConfig>,
    pub(super) networks: Vec<Network>,
    pub(super) volumes: Vec<Volume>,
    pub(super) containers: Vec<Kept>,
    pub(super) behaviours: BTreeMap<String, Behaviour>,
    pub(super) uploads: Vec<(String, String, Vec<u8>)>,
    pub(super) downloads: BTreeMap<(String, String), Vec<u8>>,
    execs: ExitCodes,
    /// What has happened and was not told yet.
    pub(super) events: Vec<EngineEvent>,
}

/// A container as it was asked for and as it is.
pub(super) struct Kept {
    pub(super) create: CreateContainer,
    pub(super) seen: Container,
    pub(super) logs: Vec<(Timestamp, LogChunk)>,
    /// Volumes that go with it.
    anonymous: Vec<String>,
}

fn refuse<T>(
    operation: &'static str,
    object: ObjectKind,
    name: &str,
    kind: ErrorKind,
    words: impl Into<String>,
) -> Result<T> {
    Err(EngineError::new(operation, object, name, kind, words))
}

impl Model {
    pub(super) fn new_id(&mut self) -> String {
        self.next += 1;
        format!("{:064x}", u128::from(self.next) << 64)
    }

    pub(super) fn execs_shared(&self) -> ExitCodes {
        Arc::clone(&self.execs)
    }

    pub(super) fn objects(&self) -> Vec<String> {
        let containers = self.containers.iter().map(|kept| format!("container {}", kept.seen.name));
        let networks = self.networks.iter().map(|network| format!("network {}", network.name));
        let volumes = self.volumes.iter().map(|volume| format!("volume {}", volume.name));
        let mut all: Vec<String> = containers.chain(networks).chain(volumes).collect();
        all.sort();
        all
    }

    fn tell(&mut self, object: ObjectKind, action: &str, id: &str, name: &str, labels: Labels) {
        let (action, id, name) = (action.to_owned(), id.to_owned(), name.to_owned());
        self.events.push(EngineEvent { time: now(), object, action, id, name, attributes: labels });
    }

    pub(super) fn add_image(&mut self, reference: &str, config: ImageConfig) -> Image {
        let id = format!("sha256:{}", self.new_id());
        self.images.iter_mut().for_each(|image| image.tags.retain(|tag| tag != reference));
        let image = Image {
            id,
            digests: Vec::new(),
            tags: vec![reference.to_owned()],
            arch: "amd64".into(),
            variant: String::new(),
            os: "linux".into(),
            size: 1 << 20,
            created: Some(now()),
            config,
        };
        self.images.push(image.clone());
        image
    }

    pub(super) fn image(&self, reference: &str) -> Option<&Image> {
        let tagged = format!("{reference}:latest");
        self.images.iter().find(|image| {
            image.id == reference
                || image.tags.iter().chain(&image.digests).any(|tag| *tag == reference || *tag == tagged)
        })
    }

    pub(super) fn remove_image(&mut self, reference: &str) -> Result<()> {
        let Some(id) = self.image(reference).map(|image| image.id.clone()) else {
            return refuse("remove", ObjectKind::Image, reference, ErrorKind::NotFound, "no such image");
        };
        if self.containers.iter().any(|kept| kept.seen.image_id == id) {
            return refuse("remove", ObjectKind::Image, reference, ErrorKind::InUse, "a container uses it");
        }
        self.images.retain(|image| image.id != id);
        Ok(())
    }

    pub(super) fn create_network(&mut self, create: &CreateNetwork) -> Result<String> {
        let subnets =
            if create.subnets.is_empty() { vec![self.free_subnet()?] } else { create.subnets.clone() };
        for subnet in &subnets {
            if let Some(other) = self.overlapping(&subnet.subnet) {
                let words = format!("Pool overlaps with other one on this address space ({other})");
                return refuse("create", ObjectKind::Network, &create.name, ErrorKind::SubnetOverlap, words);
            }
        }
        let id = self.new_id();
        self.networks.push(Network {
            id: id.clone(),
            name: create.name.clone(),
            driver: create.driver.clone(),
            labels: create.labels.clone(),
            options: create.options.clone(),
            internal: create.internal,
            ipv6: create.ipv6,
            subnets,
            containers: Vec::new(),
            created: Some(now()),
        });
        self.tell(ObjectKind::Network, "create", &id, &create.name, create.labels.clone());
        Ok(id)
    }

    fn overlapping(&self, subnet: &IpNet) -> Option<&str> {
        let overlaps = |other: &Subnet| other.subnet.contains(subnet) || subnet.contains(&other.subnet);
        self.networks
            .iter()
            .find(|network| network.subnets.iter().any(overlaps))
            .map(|network| network.name.as_str())
    }

    fn free_subnet(&self) -> Result<Subnet> {
        let candidates = (17..=47).filter_map(|n| format!("172.{n}.0.0/16").parse::<IpNet>().ok());
        match candidates.into_iter().find(|subnet| self.overlapping(subnet).is_none()) {
            Some(subnet) => Ok(Subnet::new(subnet)),
            None => refuse(
                "create",
                ObjectKind::Network,
                "",
                ErrorKind::AddressPool,
                "could not find an available, non-overlapping IPv4 address pool",
            ),
        }
    }

    fn network_index(&self, name: &str, operation: &'static str) -> Result<usize> {
        let found = self.networks.iter().position(|network| network.id == name);
        let found = found.or_else(|| self.networks.iter().position(|network| network.name == name));
        found.ok_or_else(|| {
            let words = format!("network {name} not found");
            EngineError::new(operation, ObjectKind::Network, name, ErrorKind::NotFound, words)
        })
    }

    pub(super) fn network(&self, name: &str) -> Option<Network> {
        let mut network = self.networks.get(self.network_index(name, "inspect").ok()?)?.clone();
        network.containers = self.members(&network.name);
        Some(network)
    }

    fn members(&self, network: &str) -> Vec<NetworkMember> {
        let alive = self.containers.iter().filter(|kept| kept.seen.state.is_alive());
        let on_it = alive.filter_map(|kept| {
            let endpoint = kept.seen.networks.get(network)?;
            Some(NetworkMember {
                id: kept.seen.id.clone(),
                name: kept.seen.name.clone(),
                address: endpoint.ipv4,
            })
        });
        on_it.collect()
    }

    pub(super) fn remove_network(&mut self, name: &str) -> Result<()> {
        let index = self.network_index(name, "remove")?;
        if !self.members(&self.networks[index].name).is_empty() {
            let words = format!("network {name} has active endpoints");
            return refuse("remove", ObjectKind::Network, name, ErrorKind::InUse, words);
        }
        let network = self.networks.remove(index);
        self.tell(ObjectKind::Network, "destroy", &network.id, &network.name, network.labels);
        Ok(())
    }

    pub(super) fn connect(&mut self, container: &str, attachment: &Attachment) -> Result<()> {
        let network =
            self.networks[self.network_index(&attachment.network, "connect a container to")?].clone();
        let index = self.container_index(container, "connect")?;
        let endpoint = self.endpoint(&network, attachment)?;
        self.containers[index].seen.networks.insert(network.name, endpoint);
        Ok(())
    }

    pub(super) fn disconnect(&mut self, network: &str, container: &str) -> Result<()> {
        let name = self.networks[self.network_index(network, "disconnect a container from")?].name.clone();
        let index = self.container_index(container, "disconnect")?;
        match self.containers[index].seen.networks.remove(&name) {
            Some(_) => Ok(()),
            None => refuse(
                "disconnect a container from",
                ObjectKind::Network,
                network,
                ErrorKind::NotFound,
                format!("container {container} is not connected to the network {network}"),
            ),
        }
    }

    fn endpoint(&self, network: &Network, attachment: &Attachment) -> Result<Endpoint> {
        let on_it = |kept: &Kept| kept.seen.networks.get(&network.name).and_then(|endpoint| endpoint.ipv4);
        let mut taken: BTreeSet<IpAddr> = self.containers.iter().filter_map(on_it).collect();
        let subnet = network.subnets.first();
        let gateway = subnet.and_then(|subnet| subnet.gateway.or_else(|| subnet.subnet.hosts().next()));
        taken.extend(gateway);
        let ipv4 = match attachment.ipv4 {
            Some(address) if taken.contains(&address) => {
                return refuse(
                    "connect a container to",
                    ObjectKind::Network,
                    &network.name,
                    ErrorKind::Conflict,
                    "Address already in use",
                );
            }
            Some(address) => Some(address),
            None => subnet.and_then(|subnet| subnet.subnet.hosts().find(|address| !taken.contains(address))),
        };
        Ok(Endpoint {
            network_id: network.id.clone(),
            ipv4,
            ipv6: attachment.ipv6,
            gateway,
            aliases: attachment.aliases.clone(),
            mac: attachment.mac.clone(),
        })
    }

    pub(super) fn create_volume(&mut self, create: &CreateVolume) -> Volume {
        if let Some(old) = self.volumes.iter().find(|volume| volume.name == create.name) {
            return old.clone();
        }
        let volume = Volume {
            name: create.name.clone(),
            driver: create.driver.clone().unwrap_or_else(|| "local".into()),
            options: create.options.clone(),
            labels: create.labels.clone(),
            mountpoint: format!("/var/lib/docker/volumes/{}/_data", create.name),
            created: Some(now()),
        };
        self.volumes.push(volume.clone());
        self.tell(ObjectKind::Volume, "create", &volume.name, &volume.name, volume.labels.clone());
        volume
    }

    pub(super) fn remove_volume(&mut self, name: &str) -> Result<()> {
        if !self.volumes.iter().any(|volume| volume.name == name) {
            return refuse("remove", ObjectKind::Volume, name, ErrorKind::NotFound, "no such volume");
        }
        let has_it = |kept: &&Kept| kept.seen.mounts.iter().any(|mount| mount.name == name);
        if let Some(kept) = self.containers.iter().find(has_it) {
            let words = format!("volume is in use - [{}]", kept.seen.id);
            return refuse("remove", ObjectKind::Volume, name, ErrorKind::InUse, words);
        }
        self.volumes.retain(|volume| volume.name != name);
        self.tell(ObjectKind::Volume, "destroy", name, name, Labels::new());
        Ok(())
    }

    fn container_index(&self, name: &str, operation: &'static str) -> Result<usize> {
        let is_it = |kept: &Kept| kept.seen.name == name || kept.seen.id == name;
        self.containers.iter().position(is_it).ok_or_else(|| {
            let words = format!("No such container: {name}");
            EngineError::new(operation, ObjectKind::Container, name, ErrorKind::NotFound, words)
        })
    }

    pub(super) fn kept(&mut self, name: &str, operation: &'static str) -> Result<&mut Kept> {
        let index = self.container_index(name, operation)?;
        Ok(&mut self.containers[index])
    }

    pub(super) fn create_container(&mut self, create: &CreateContainer) -> Result<String> {
        if let Some(kept) = self.containers.iter().find(|kept| kept.seen.name == create.name) {
            let words = format!(
                "The container name \"/{}\" is already in use by container \"{}\"",
                create.name, kept.seen.id
            );
            return refuse("create", ObjectKind::Container, &create.name, ErrorKind::Conflict, words);
        }
        let Some(image) = self.image(&create.image).cloned() else {
            let words = format!("No such image: {}", create.image);
            return refuse("use", ObjectKind::Image, &create.image, ErrorKind::NotFound, words);
        };
        let mut networks = BTreeMap::new();
        for attachment in &create.networks {
            let network =
                self.networks[self.network_index(&attachment.network, "connect a container to")?].clone();
            let endpoint = self.endpoint(&network, attachment)?;
            networks.insert(network.name, endpoint);
        }
        let id = self.new_id();
        let (mounts, anonymous) = self.mounts(create, &image);
        let seen = described(id.clone(), create, image, networks, mounts);
        self.containers.push(Kept { create: create.clone(), seen, logs: Vec::new(), anonymous });
        self.tell(ObjectKind::Container, "create", &id, &create.name, create.labels.clone());
        Ok(id)
    }

    /// What is mounted, and the volumes made for it that go with the container.
    fn mounts(&mut self, create: &CreateContainer, image: &Image) -> (Vec<MountPoint>, Vec<String>) {
        let mut mounts = Vec::new();
        let mut anonymous = Vec::new();
        for mount in &create.mounts {
            let (kind, name, source) = match &mount.kind {
                MountKind::Volume { name, .. } if name.is_empty() => {
                    anonymous.push(self.new_id());
                    (MountPointKind::Volume, anonymous[anonymous.len() - 1].clone(), String::new())
                }
                MountKind::Volume { name, .. } => (MountPointKind::Volume, name.clone(), String::new()),
                MountKind::NewVolume { create, .. } => {
                    (MountPointKind::Volume, self.create_volume(create).name, String::new())
                }
                MountKind::Bind { source, .. } => (MountPointKind::Bind, String::new(), source.clone()),
                MountKind::Tmpfs { .. } => (MountPointKind::Tmpfs, String::new(), String::new()),
                MountKind::Image { .. } => (MountPointKind::Other, String::new(), String::new()),
            };
            mounts.push(MountPoint {
                kind,
                name,
                source,
                target: mount.target.clone(),
                read_only: mount.read_only,
            });
        }
        for target in &image.config.volumes {
            if mounts.iter().all(|mount| mount.target != *target) && !create.tmpfs.contains_key(target) {
                let name = self.new_id();
                anonymous.push(name.clone());
                let (source, target) = (String::new(), target.clone());
                mounts.push(MountPoint {
                    kind: MountPointKind::Volume,
                    name,
                    source,
                    target,
                    read_only: false,
                });
            }
        }
        for mount in mounts.iter().filter(|mount| mount.kind == MountPointKind::Volume) {
            // As the engine does: a volume that is not there is made, without labels.
            self.create_volume(&CreateVolume { name: mount.name.clone(), ..CreateVolume::default() });
        }
        (mounts, anonymous)
    }

    pub(super) fn start(&mut self, name: &str) -> Result<()> {
        let index = self.container_index(name, "start")?;
        if self.containers[index].seen.state.is_alive() {
            return Ok(());
        }
        let behaviour = self.behaviour(&self.containers[index].create);
        if let Behaviour::CannotStart(words) = behaviour {
            self.containers[index].seen.error.clone_from(&words);
            return refuse("start", ObjectKind::Container, name, ErrorKind::Other, words);
        }
        let ports = self.bind_ports(index)?;
        let seen = &mut self.containers[index].seen;
        seen.ports = ports;
        seen.state = ContainerState::Running;
        seen.started_at = Some(now());
        seen.pid = Some(4242);
        let checked = seen.healthcheck.as_ref().is_some_and(|check| check.test != HealthTest::Disabled);
        seen.health =
            checked.then(|| Health { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() });
        let (id, name, labels) = (seen.id.clone(), seen.name.clone(), seen.labels.clone());
        self.tell(ObjectKind::Container, "start", &id, &name, labels);
        match behaviour {
            Behaviour::Exits(code) => self.exit(&name, code),
            Behaviour::WritesAndExits(text, code) => {
                self.write(&name, StdStream::Stderr, &text);
                self.exit(&name, code);
            }
            _ => {}
        }
        Ok(())
    }

    fn behaviour(&self, create: &CreateContainer) -> Behaviour {
        let by_end = create.name.rsplit_once('.').and_then(|(_, service)| self.behaviours.get(service));
        let found =
            self.behaviours.get(&create.name).or(by_end).or_else(|| self.behaviours.get(&create.image));
        found.cloned().unwrap_or(Behaviour::Runs)
    }

    fn bind_ports(&self, index: usize) -> Result<Vec<PublishedPort>> {
        let alive = self.containers.iter().filter(|kept| kept.seen.state.is_alive());
        let mut taken: BTreeSet<u16> =
            alive.flat_map(|kept| &kept.seen.ports).filter_map(|port| port.host_port).collect();
        let mut bound = Vec::new();
        for port in &self.containers[index].create.published {
            let host_port = match port.host_port {
                Some(wanted) if taken.contains(&wanted) => {
                    let words = format!("Bind for 127.0.0.1:{wanted} failed: port is already allocated");
                    let name = &self.containers[index].seen.name;
                    return refuse("start", ObjectKind::Container, name, ErrorKind::PortTaken, words);
                }
                Some(wanted) => Some(wanted),
                None => (49152..=u16::MAX).find(|port| !taken.contains(port)),
            };
            taken.extend(host_port);
            bound.push(PublishedPort { host_port, ..*port });
        }
        Ok(bound)
    }

    /// Ends a container's processes, if it has any.
    pub(super) fn exit(&mut self, name: &str, code: i64) {
        let Ok(index) = self.container_index(name, "end") else { return };
        let seen = &mut self.containers[index].seen;
        if !seen.state.is_alive() {
            return;
        }
        seen.state = ContainerState::Exited;
        seen.exit_code = Some(code);
        seen.finished_at = Some(now());
        seen.pid = None;
        seen.ports.clear();
        let (id, name, mut labels) = (seen.id.clone(), seen.name.clone(), seen.labels.clone());
        labels.insert("exitCode".into(), code.to_string());
        self.tell(ObjectKind::Container, "die", &id, &name, labels);
    }

    pub(super) fn stop(&mut self, name: &str) -> Result<()> {
        let index = self.container_index(name, "stop")?;
        let name = self.containers[index].seen.name.clone();
        let ignores = self.behaviour(&self.containers[index].create) == Behaviour::IgnoresStop;
        self.exit(&name, if ignores { 137 } else { 0 });
        Ok(())
    }

    pub(super) fn kill(&mut self, name: &str, signal: &str) -> Result<()> {
        let index = self.container_index(name, "kill")?;
        let seen = &self.containers[index].seen;
        if !seen.state.is_alive() {
            let words = format!("Container {} is not running", seen.id);
            return refuse("kill", ObjectKind::Container, name, ErrorKind::Conflict, words);
        }
        let name = seen.name.clone();
        match signal.trim_start_matches("SIG") {
            "KILL" => self.exit(&name, 137),
            "TERM" | "INT" | "QUIT" => self.stop(&name)?,
            _ => {}
        }
        Ok(())
    }

    pub(super) fn set_state(
        &mut self,
        name: &str,
        operation: &'static str,
        to: ContainerState,
    ) -> Result<()> {
        let seen = &mut self.kept(name, operation)?.seen;
        if !seen.state.is_alive() {
            return refuse(
                operation,
                ObjectKind::Container,
                name,
                ErrorKind::Conflict,
                "Container is not running",
            );
        }
        seen.state = to;
        Ok(())
    }

    pub(super) fn rename(&mut self, name: &str, to: &str) -> Result<()> {
        if self.containers.iter().any(|kept| kept.seen.name == to) {
            let words = format!("The container name \"/{to}\" is already in use");
            return refuse("rename", ObjectKind::Container, name, ErrorKind::Conflict, words);
        }
        let kept = self.kept(name, "rename")?;
        to.clone_into(&mut kept.seen.name);
        to.clone_into(&mut kept.create.name);
        Ok(())
    }

    pub(super) fn remove_container(&mut self, name: &str, force: bool, volumes: bool) -> Result<()> {
        let index = self.container_index(name, "remove")?;
        if self.containers[index].seen.state.is_alive() {
            if !force {
                let words =
                    "You cannot remove a running container. Stop the container before attempting removal";
                return refuse("remove", ObjectKind::Container, name, ErrorKind::Conflict, words);
            }
            let name = self.containers[index].seen.name.clone();
            self.exit(&name, 137);
        }
        let kept = self.containers.remove(index);
        if volumes {
            self.volumes.retain(|volume| !kept.anonymous.contains(&volume.name));
        }
        self.tell(ObjectKind::Container, "destroy", &kept.seen.id, &kept.seen.name, kept.seen.labels);
        Ok(())
    }

    pub(super) fn list_containers(&self, filter: &Filter) -> Vec<ContainerSummary> {
        let seen = self.containers.iter().map(|kept| &kept.seen);
        let ours = seen
            .filter(|c| filter.matches(&c.name, &c.labels) && (!filter.only_running || c.state.is_alive()));
        ours.map(summary).collect()
    }

    pub(super) fn set_health(&mut self, name: &str, status: HealthStatus, output: &str) {
        let Ok(kept) = self.kept(name, "check") else { return };
        let exit_code = i64::from(status == HealthStatus::Unhealthy);
        let probe =
            HealthProbe { exit_code, output: output.to_owned(), start: Some(now()), end: Some(now()) };
        let health = kept.seen.health.get_or_insert(Health { status, failing_streak: 0, log: Vec::new() });
        health.status = status;
        health.log.push(probe);
        let word = match status {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        };
        let (id, name, labels) = (kept.seen.id.clone(), kept.seen.name.clone(), kept.seen.labels.clone());
        self.tell(ObjectKind::Container, &format!("health_status: {word}"), &id, &name, labels);
    }

    pub(super) fn write(&mut self, name: &str, stream: StdStream, text: &str) {
        if let Ok(kept) = self.kept(name, "write") {
            kept.logs.push((now(), LogChunk { stream, bytes: Bytes::copy_from_slice(text.as_bytes()) }));
        }
    }
}

fn summary(container: &Container) -> ContainerSummary {
    ContainerSummary {
        id: container.id.clone(),
        name: container.name.clone(),
        labels: container.labels.clone(),
        state: container.state,
        status: container.state.to_string(),
        image: container.image.clone(),
        image_id: container.image_id.clone(),
        created: container.created,
        ports: container.ports.clone(),
        networks: container.networks.clone(),
        mounts: container.mounts.clone(),
    }
}

fn described(
    id: String,
    create: &CreateContainer,
    image: Image,
    networks: BTreeMap<String, Endpoint>,
    mounts: Vec<MountPoint>,
) -> Container {
    let given = create.env.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)));
    let inherited = image.config.env.iter().filter(|pair| {
        let key = pair.split('=').next().unwrap_or_default();
        !create.env.contains_key(key)
    });
    let env = inherited.cloned().chain(given).collect();
    Container {
        hostname: create.hostname.clone().unwrap_or_else(|| id[..12].to_owned()),
        id,
        name: create.name.clone(),
        image: create.image.clone(),
        image_id: image.id,
        labels: image.config.labels.into_iter().chain(create.labels.clone()).collect(),
        state: ContainerState::Created,
        exit_code: None,
        oom_killed: false,
        error: String::new(),
        pid: None,
        health: None,
        restart_count: 0,
        created: Some(now()),
        started_at: None,
        finished_at: None,
        networks,
        ports: Vec::new(),
        mounts,
        env,
        cmd: create.cmd.clone().unwrap_or(image.config.cmd),
        entrypoint: create.entrypoint.clone().unwrap_or(image.config.entrypoint),
        user: create.user.clone().unwrap_or(image.config.user),
        workdir: create.workdir.clone().unwrap_or(image.config.workdir),
        tty: create.tty,
        stdin_open: create.stdin_open,
        healthcheck: create.healthcheck.clone().or(image.config.healthcheck),
        stop_signal: create.stop_signal.clone().or(image.config.stop_signal),
        stop_timeout: create.stop_timeout.and_then(|timeout| i64::try_from(timeout.as_secs()).ok()),
    }
}

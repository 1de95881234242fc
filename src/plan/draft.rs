//! Puts the operations together: what is missing is made, what has changed is made anew, what is there stays.

use std::collections::{BTreeMap, BTreeSet};

use super::fingerprint::fingerprint;
use super::network::{self, Laid};
use super::op::Op;
use super::port::{self, PublishedService};
use super::volume::{self, ServiceVolume, VolumeSource, Volumes};
use super::wish::{Age, Seeding};
use super::{
    Observed, Plan, PlanError, Step, StepId, Subnet, Wish, container, gateway, grant, images, service,
};
use crate::engine::identity::{self, Role};
use crate::engine::{Attachment, CreateContainer, CreateVolume, Image};
use crate::pool::SetPath;
use crate::spec::{Condition, NetworkName, Seed, Service, ServiceName};

/// Sizes of the edge network, which has an address for each sandbox's gateway: the first that there is room for. Where
/// many have taken small subnets here and there, little is left in one piece.
const EDGE_CONTAINERS: [usize; 4] = [1000, 250, 60, 14];

pub(super) fn draft(wish: &Wish<'_>, observed: &Observed) -> Result<Plan, PlanError> {
    let edge = match observed.edge {
        Some(edge) => edge,
        None => EDGE_CONTAINERS
            .into_iter()
            .find_map(|containers| wish.subnets.pick(containers, &observed.taken, 0))
            .ok_or_else(|| PlanError::NoSubnet { network: "edge".to_owned() })?,
    };
    let mut around = observed.clone();
    around.taken.push(edge.net());
    let laid = network::lay(wish, &around)?;
    let published = port::published(wish.spec, observed);
    let mut draft = Draft { wish, observed, laid, published, plan: Plan::default() };
    draft.orphans();
    draft.gateway(edge);
    draft.networks();
    draft.start_gateway(edge);
    draft.volumes();
    draft.services();
    Ok(draft.plan)
}

struct Draft<'a> {
    wish: &'a Wish<'a>,
    observed: &'a Observed,
    laid: BTreeMap<NetworkName, Laid>,
    published: Vec<PublishedService>,
    plan: Plan,
}

impl Draft<'_> {
    fn add(&mut self, id: StepId, op: Op, cause: impl Into<String>, needs: impl IntoIterator<Item = StepId>) {
        self.add_for(None, id, op, cause, needs);
    }

    fn add_for(
        &mut self,
        service: Option<&ServiceName>,
        id: StepId,
        op: Op,
        cause: impl Into<String>,
        needs: impl IntoIterator<Item = StepId>,
    ) {
        let needs = needs.into_iter().collect();
        self.plan.push(Step { id, op, cause: cause.into(), service: service.cloned(), needs });
    }

    fn image(&self, service: &Service) -> Option<&Image> {
        self.observed.images.get(&images::reference(self.wish.spec, service))
    }

    /// Containers of services (or replicas) that the spec does not have any more.
    fn orphans(&mut self) {
        for (name, existing) in &self.observed.containers {
            let service = self.wish.spec.services.get(&existing.service);
            let wanted = service.is_some_and(|service| {
                (1..=service.replicas()).any(|replica| self.wish.container(&service.name, replica) == *name)
            });
            if wanted || (service.is_none() && !self.wish.remove_orphans) {
                continue;
            }
            let cause =
                format!("services.{} is not in the spec any more, or has fewer replicas", existing.service);
            self.remove(&existing.service.clone(), &name.clone(), existing.running, &cause);
        }
    }

    fn remove(&mut self, service: &ServiceName, name: &str, running: bool, cause: &str) {
        if running {
            let op = Op::Stop { container: name.to_owned() };
            self.add_for(Some(service), StepId::new("stop", name), op, cause, []);
        }
        let op = Op::RemoveContainer { container: name.to_owned() };
        let needs = [StepId::new("stop", name)];
        self.add_for(Some(service), StepId::new("remove", name), op, cause, needs);
    }

    /// The claim on the name, before anything else of the sandbox.
    fn gateway(&mut self, edge: Subnet) {
        let mut create = gateway::create(self.wish, &self.published);
        let hash = self.gateway_hash(&create, edge);
        create.labels.insert(identity::CONFIG_HASH.to_owned(), hash.clone());
        let name = create.name.clone();
        if self.observed.edge.is_none() {
            let network = network::create_edge(self.wish, edge);
            self.add(
                StepId::new("network", "edge"),
                Op::CreateEdge(network),
                "the first sandbox on this engine",
                [],
            );
        }
        let cause = match &self.observed.gateway {
            Some(existing) if existing.config_hash == hash => return,
            Some(existing) => {
                let cause = "its ports, networks or egress have changed";
                if existing.running {
                    let op = Op::Stop { container: name.clone() };
                    self.add(StepId::new("stop", &name), op, cause, []);
                }
                let op = Op::RemoveContainer { container: name.clone() };
                self.add(StepId::new("remove", &name), op, cause, [StepId::new("stop", &name)]);
                cause
            }
            None => "its name is the lock on the sandbox's name",
        };
        let needs = [StepId::new("network", "edge"), StepId::new("remove", &name)];
        self.add(StepId::new("claim", &name), Op::Claim(Box::new(create)), cause, needs);
    }

    /// The gateway depends on all that it is told, too.
    fn gateway_hash(&self, create: &CreateContainer, edge: Subnet) -> String {
        let config = gateway::config(self.wish, self.observed, &self.laid, edge, &self.published);
        let mut whole = create.clone();
        whole.labels.clear();
        // Which host port was free is no reason to make it anew, nor are networks that came and went meanwhile.
        whole.published.iter_mut().for_each(|port| port.host_port = None);
        let told = (&config.networks, &config.forwards, &config.egress, &config.services);
        // Another build of this program serves a standing sandbox as well.
        whole.image.clear();
        fingerprint(&whole, &told)
    }

    fn networks(&mut self) {
        let claim = StepId::new("claim", self.wish.gateway());
        let laid = self.laid.clone();
        for (key, laid) in &laid {
            let Some(network) = self.wish.spec.networks.get(key) else { continue };
            if !laid.exists {
                let mut create = network::create(self.wish, key, network, laid);
                if let Ok(resolved) = serde_json::to_string(self.wish.spec) {
                    create.labels.insert(identity::RESOLVED.to_owned(), resolved);
                }
                let cause = format!("networks.{key}");
                self.add(StepId::new("network", key), Op::CreateNetwork(create), cause, [claim.clone()]);
            }
        }
    }

    fn claims(&self) -> bool {
        let claim = StepId::new("claim", self.wish.gateway());
        self.plan.steps().iter().any(|step| step.id == claim)
    }

    fn start_gateway(&mut self, edge: Subnet) {
        let name = self.wish.gateway();
        let start = StepId::new("start", &name);
        if !self.claims() {
            if self.observed.gateway.as_ref().is_some_and(|gateway| !gateway.running) {
                self.add(start, Op::Start { container: name }, "it is stopped", []);
            }
            return;
        }
        let claim = StepId::new("claim", &name);
        let mut before: Vec<StepId> = vec![claim.clone()];
        let laid = self.laid.clone();
        for (key, laid) in &laid {
            let attachment = Attachment {
                ipv4: Some(std::net::IpAddr::V4(laid.subnet.gateway())),
                ..Attachment::new(&laid.name)
            };
            let op = Op::Connect { container: name.clone(), attachment };
            let id = StepId::new("connect", key);
            self.add(id.clone(), op, format!("networks.{key}"), [StepId::new("network", key), claim.clone()]);
            before.push(id);
        }
        let config = gateway::config(self.wish, self.observed, &self.laid, edge, &self.published);
        let configure = StepId::new("configure", &name);
        let op = Op::Configure { container: name.clone(), config: Box::new(config) };
        self.add(configure.clone(), op, "ports and egress of the spec", [claim]);
        before.push(configure);
        self.add(start, Op::Start { container: name }, "names, ports and egress pass through it", before);
    }

    fn volumes(&mut self) {
        let images = &self.observed.images;
        let volumes =
            volume::all(self.wish.spec, self.wish.name.as_str(), |image| images.get(image).cloned());
        for volume in volumes {
            if !self.observed.volumes.contains(&volume.name) {
                self.volume(&volume);
            }
        }
    }

    fn volume(&mut self, volume: &ServiceVolume) {
        let Some(path) = volume::stored(self.wish, &volume.key) else { return };
        let source = self.wish.sources.get(&volume.key).cloned().unwrap_or(VolumeSource::Empty);
        let provide = StepId::new("provide", &volume.key);
        let op = Op::ProvideData { path: path.clone(), source };
        self.add(provide.clone(), op, &volume.cause, [StepId::new("claim", self.wish.gateway())]);
        let written = crate::spec::VolumeName::new(volume.key.as_str())
            .ok()
            .and_then(|key| self.wish.spec.volumes.get(&key));
        let mut labels = written.map(|volume| volume.labels.clone()).unwrap_or_default();
        labels.extend(self.wish.labels(Role::Volume));
        labels.insert(identity::KEY.to_owned(), volume.key.clone());
        if let Some(VolumeSource::Clone(from)) = self.wish.sources.get(&volume.key) {
            labels.insert(identity::FROM.to_owned(), from.set.to_string());
        }
        let create = CreateVolume { name: volume.name.clone(), labels, ..CreateVolume::default() };
        let op = Op::CreateVolume { volume: create, path };
        self.add(StepId::new("volume", &volume.key), op, &volume.cause, [provide]);
    }

    fn services(&mut self) {
        let names = in_order(&self.wish.spec.services);
        for name in names {
            let Some(service) = self.wish.spec.services.get(&name) else { continue };
            for replica in 1..=service.replicas() {
                self.replica(service, replica);
            }
        }
    }

    fn replica(&mut self, service: &Service, replica: u32) {
        let name = self.wish.container(&service.name, replica);
        let volumes = volume::volumes_of(self.wish.name.as_str(), service, replica, self.image(service));
        let create =
            container::create(self.wish, service, replica, self.image(service), &volumes, &self.laid);
        let hash = create.labels.get(identity::CONFIG_HASH).cloned().unwrap_or_default();
        let owner = format!("services.{}", service.name);
        let anew = self.wish.recreate.contains(&service.name);
        match self.observed.containers.get(&name) {
            Some(existing) if existing.config_hash == hash && !anew => {
                if existing.running || existing.exit_code == Some(0) {
                    return;
                }
                match self.wish.age {
                    Age::New => self.furnish(service, &name, &volumes, &owner),
                    Age::Standing => {
                        let held = if self.forgot(service) { self.hold(service, &name, []) } else { None };
                        self.start(service, &name, "it is stopped", held);
                    }
                }
            }
            Some(existing) => {
                let cause = format!("{owner} has changed");
                let running = existing.running;
                self.remove(&service.name, &name, running, &cause);
                self.create(service, &name, create, &volumes, &cause);
            }
            None => self.create(service, &name, create, &volumes, &owner),
        }
        if !self.wish.only_made.contains(&service.name) {
            self.settle(service, &name);
        }
    }

    fn create(
        &mut self,
        service: &Service,
        name: &str,
        create: CreateContainer,
        volumes: &Volumes,
        cause: &str,
    ) {
        let gateway = self.wish.gateway();
        let mut needs: Vec<StepId> = vec![StepId::new("claim", &gateway), StepId::new("remove", name)];
        needs.extend(service.networks.keys().map(|key| StepId::new("network", key)));
        needs.extend(volumes.values().map(|volume| StepId::new("volume", &volume.key)));
        if let crate::engine::NetworkMode::Container(other) = &create.network_mode {
            needs.push(StepId::new("start", other));
        }
        for other in [&create.pid, &create.ipc].into_iter().flatten() {
            needs.extend(other.strip_prefix("container:").map(|other| StepId::new("start", other)));
        }
        for other in &create.volumes_from {
            needs.push(StepId::new("create", other.split(':').next().unwrap_or(other)));
        }
        let made = StepId::new("create", name);
        self.add_for(Some(&service.name), made.clone(), Op::CreateContainer(Box::new(create)), cause, needs);
        self.furnish(service, name, volumes, cause);
    }

    /// Gives a container that was just made its files and its volumes' seeds, and starts it.
    fn furnish(&mut self, service: &Service, name: &str, volumes: &Volumes, cause: &str) {
        let made = StepId::new("create", name);
        let mut before = vec![made.clone()];
        before.extend(self.upload(service, name, &made));
        before.extend(self.fills(service, name, volumes, &made));
        if !self.wish.only_made.contains(&service.name) {
            self.start(service, name, cause, before);
        }
    }

    /// Secrets go to the gateway, which holds their memory; configs (and links to secrets) into the container.
    fn upload(&mut self, service: &Service, name: &str, made: &StepId) -> Vec<StepId> {
        let mut done: Vec<StepId> = self.hold(service, name, [made.clone()]).into_iter().collect();
        let placed = grant::placed(service);
        if !placed.is_empty() {
            let id = StepId::new("configs", name);
            let op = Op::Upload { container: name.to_owned(), files: placed };
            let cause = format!("services.{}.configs", service.name);
            self.add_for(Some(&service.name), id.clone(), op, cause, [made.clone()]);
            done.push(id);
        }
        done
    }

    /// Gives the gateway a service's secrets, once the generated ones among them are kept for good.
    fn hold(
        &mut self,
        service: &Service,
        name: &str,
        before: impl IntoIterator<Item = StepId>,
    ) -> Option<StepId> {
        let files = grant::held(service);
        if files.is_empty() {
            return None;
        }
        let gateway = self.wish.gateway();
        let cause = format!("services.{}.secrets", service.name);
        let mut needs: Vec<StepId> = before.into_iter().collect();
        needs.push(StepId::new("start", &gateway));
        needs.extend(self.keep());
        let id = StepId::new("secrets", name);
        let op = Op::Upload { container: gateway, files };
        self.add_for(Some(&service.name), id.clone(), op, cause, needs);
        Some(id)
    }

    /// Keeps the generated secrets with the data that is made with them: memory does not outlive a reboot.
    fn keep(&mut self) -> Option<StepId> {
        let spec = self.wish.spec;
        let secrets: BTreeSet<_> =
            spec.services.values().flat_map(|service| grant::generated(spec, service)).collect();
        let id = StepId::new("keep", "secrets");
        if secrets.is_empty() || self.plan.steps().iter().any(|step| step.id == id) {
            return (!secrets.is_empty()).then_some(id);
        }
        let set = SetPath::live(self.wish.id.as_str()).ok()?;
        let op = Op::Keep { set, secrets: secrets.into_iter().collect() };
        let claim = StepId::new("claim", self.wish.gateway());
        self.add(id.clone(), op, "they have to outlive a reboot with the data", [claim]);
        Some(id)
    }

    /// Whether the gateway does not hold a service's secrets any more.
    fn forgot(&self, service: &Service) -> bool {
        self.claims() || self.observed.forgotten.contains(&service.name)
    }

    /// Copy seeds of volumes that are new, each through the first container that mounts it.
    fn fills(&mut self, service: &Service, name: &str, volumes: &Volumes, made: &StepId) -> Vec<StepId> {
        let mut after = Vec::new();
        for volume in volumes.values() {
            let provided = StepId::new("volume", &volume.key);
            let fresh = self.wish.age == Age::New || self.plan.steps().iter().any(|step| step.id == provided);
            let key = crate::spec::VolumeName::new(volume.key.as_str()).ok();
            let written = key.and_then(|key| self.wish.spec.volumes.get(&key));
            let Some(written) = written.filter(|_| fresh && self.wish.seeding == Seeding::Run) else {
                continue;
            };
            let seeds = written.seed.iter().filter(|seed| matches!(seed, Seed::Copy { .. })).cloned();
            let mut previous = made.clone();
            for (index, seed) in seeds.enumerate() {
                let id = StepId::new("fill", format!("{}.{index}", volume.key));
                if !self.plan.steps().iter().any(|step| step.id == id) {
                    let op = Op::Fill { container: name.to_owned(), target: volume.target.clone(), seed };
                    let cause = format!("volumes.{}.seed[{index}]", volume.key);
                    self.add_for(Some(&service.name), id.clone(), op, cause, [previous.clone()]);
                }
                previous = id.clone();
                after.push(id);
            }
        }
        after
    }

    fn start(
        &mut self,
        service: &Service,
        name: &str,
        cause: &str,
        before: impl IntoIterator<Item = StepId>,
    ) {
        let mut needs: BTreeSet<StepId> = before.into_iter().collect();
        for (other, on) in &service.depends_on {
            let Some(depended) = self.wish.spec.services.get(other) else { continue };
            for replica in 1..=depended.replicas() {
                let container = self.wish.container(other, replica);
                match on.condition {
                    Condition::Started => {
                        needs.insert(StepId::new("start", &container));
                    }
                    Condition::CompletedSuccessfully => {
                        needs.insert(StepId::new("await", &container));
                    }
                    Condition::Healthy => {
                        needs.insert(StepId::new("await", &container));
                        needs.extend(self.seeds(depended, &container).map(|(id, _)| id));
                    }
                }
            }
        }
        let started = StepId::new("start", name);
        let op = Op::Start { container: name.to_owned() };
        self.add_for(Some(&service.name), started.clone(), op, cause, needs);
        let mut previous = started;
        for (index, hook) in service.post_start.iter().enumerate() {
            let id = StepId::new("hook", format!("{name}.{index}"));
            let op = Op::RunHook { container: name.to_owned(), hook: hook.clone() };
            let cause = format!("services.{}.post_start[{index}]", service.name);
            self.add_for(Some(&service.name), id.clone(), op, cause, [previous]);
            previous = id;
        }
    }

    /// The seeds of a service that run in this plan: of its first container, if its data is new.
    fn seeds<'s>(
        &self,
        service: &'s Service,
        container: &str,
    ) -> impl Iterator<Item = (StepId, &'s Seed)> + use<'s> {
        let first = container == self.wish.container(&service.name, 1);
        let fresh = self.wish.age == Age::New || !self.observed.containers.contains_key(container);
        let run = first && fresh && self.wish.seeding == Seeding::Run;
        let name = service.name.clone();
        let seeds = if run { service.seed.as_slice() } else { &[] };
        seeds
            .iter()
            .enumerate()
            .map(move |(index, seed)| (StepId::new("seed", format!("{name}.{index}")), seed))
    }

    /// Waits for a container and seeds its service.
    fn settle(&mut self, service: &Service, name: &str) {
        let until = service::until(self.wish.spec, service, self.image(service));
        let awaited = StepId::new("await", name);
        let op = Op::Await { container: name.to_owned(), until };
        let cause = format!("services.{}", service.name);
        let needs = [StepId::new("start", name), StepId::new("start", self.wish.gateway())];
        self.add_for(Some(&service.name), awaited.clone(), op, cause, needs);
        let mut previous = awaited;
        let seeds: Vec<(StepId, Seed)> =
            self.seeds(service, name).map(|(id, seed)| (id, seed.clone())).collect();
        for (index, (id, seed)) in seeds.into_iter().enumerate() {
            let image = images::reference(self.wish.spec, service);
            let op = Op::Seed { container: name.to_owned(), image, seed };
            let cause = format!("services.{}.seed[{index}]", service.name);
            self.add_for(Some(&service.name), id.clone(), op, cause, [previous]);
            previous = id;
        }
    }
}

/// Services after those they depend on. The spec has refused cycles.
pub(super) fn in_order(services: &BTreeMap<ServiceName, Service>) -> Vec<ServiceName> {
    fn visit(name: &ServiceName, services: &BTreeMap<ServiceName, Service>, order: &mut Vec<ServiceName>) {
        let Some(service) = services.get(name).filter(|_| !order.contains(name)) else { return };
        for other in service.depends_on.keys() {
            visit(other, services, order);
        }
        order.push(name.clone());
    }
    let mut order = Vec::new();
    services.keys().for_each(|name| visit(name, services, &mut order));
    order
}

//! Plans a service's containers: creates them and provides their files and the initial content of their volumes.

use std::collections::BTreeSet;

use super::{Planner, in_order, limit, unmade};
use crate::engine::{CreateContainer, identity};
use crate::plan::desired_state::{Age, AnonymousVolumes, Seeding};
use crate::plan::op::Op;
use crate::plan::volume::{self, Volumes};
use crate::plan::{ExistingContainer, StepId, container, readiness, secret_files};
use crate::spec::{SeedStage, Service};
use crate::storage::SetPath;

impl Planner<'_> {
    pub(super) fn services(&mut self) {
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
        let group = self.wish.shared(self.observed);
        let image = self.image(service);
        let mut create = container::create(self.wish, service, replica, image, &volumes, &self.laid, group);
        if self.observed.sends_logs {
            // A log driver that sends logs away would bypass the egress policy.
            create.logging.get_or_insert_default().driver.get_or_insert_with(|| "json-file".to_owned());
        }
        let hash = create.labels.get(identity::CONFIG_HASH).cloned().unwrap_or_default();
        let owner = format!("services.{}", service.name);
        let displaced = self.displaced(service);
        let recreate = self.wish.recreate.contains(&service.name);
        let unfinished = self.is_unfinished(service).then_some("was not finished");
        let renewed = recreate
            || unfinished.is_some()
            || displaced.is_some_and(|_| !self.is_over(service, &name, &hash));
        match self.observed.containers.get(&name) {
            Some(existing) if existing.config_hash == hash && !renewed => {
                if existing.running && self.follows_a_restart(service) {
                    self.restart(service, &name);
                    self.settle(service, &name);
                    return;
                }
                if existing.running || self.is_done(service, existing) {
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
                let cause = format!("{owner} {}", unfinished.or(displaced).unwrap_or("has changed"));
                let running = existing.running;
                self.remove(&service.name, &name, running, &cause);
                if self.wish.anonymous_volumes == AnonymousVolumes::Renewed {
                    self.renew(service, &name, &volumes);
                }
                self.create(service, &name, create, &volumes, &cause);
            }
            None => self.create(service, &name, create, &volumes, &owner),
        }
        if !self.wish.only_made.contains(&service.name) {
            self.settle(service, &name);
        }
    }

    /// Removes the anonymous volumes of a container that is recreated, and creates them again, unless another service
    /// shares them.
    fn renew(&mut self, service: &Service, name: &str, volumes: &Volumes) {
        let shares = |other: &Service| {
            other.volumes_from.iter().any(|from| from.split(':').next() == Some(service.name.as_str()))
        };
        if self.wish.spec.services.values().any(shares) {
            return;
        }
        for volume in volumes.values().filter(|volume| volume.is_anonymous()) {
            if self.observed.volumes.contains(&volume.name) && !self.has_step(&unmade(volume)) {
                let cause = format!("services.{}: anonymous volumes are renewed", service.name);
                self.remove_volume(volume, Some(&service.name), &cause, vec![StepId::new("remove", name)]);
                self.volume(volume);
            }
        }
    }

    /// Whether an earlier plan did not complete the service's container, or a volume that it mounts.
    fn is_unfinished(&self, service: &Service) -> bool {
        let unfinished = &self.wish.unfinished;
        let image = self.image(service);
        let mounts_one = |replica| {
            let volumes = volume::volumes_of(self.wish.name.as_str(), service, replica, image);
            volumes.values().any(|volume| unfinished.volumes.contains(&volume.key))
        };
        unfinished.services.contains(&service.name) || (1..=service.replicas()).any(mounts_one)
    }

    /// Whether a service restarts because one that it depends on stops in this plan.
    fn follows_a_restart(&self, service: &Service) -> bool {
        let stops = |container: String| {
            let (stop, remove) = (StepId::new("stop", &container), StepId::new("remove", &container));
            self.plan.steps().iter().any(|step| step.id == stop || step.id == remove)
        };
        let restarting = service.depends_on.iter().filter(|(_, dependency)| dependency.restart);
        restarting.filter_map(|(name, _)| self.wish.spec.services.get(name)).any(|other| {
            (1..=other.replicas()).any(|replica| stops(self.wish.container(&other.name, replica)))
        })
    }

    /// Stops an unchanged container and starts it again.
    fn restart(&mut self, service: &Service, name: &str) {
        let cause = format!("services.{}.depends_on: what it depends on is recreated", service.name);
        let stop = StepId::new("stop", name);
        let first: Vec<StepId> =
            self.dependents(&service.name).map(|name| StepId::new("stop", name)).collect();
        let op = Op::Stop { container: name.to_owned() };
        self.add_for(Some(&service.name), stop.clone(), op, &cause, first);
        self.start(service, name, &cause, [stop]);
    }

    /// Whether an unchanged container has completed: changes of its network or shared container no longer matter.
    fn is_over(&self, service: &Service, name: &str, hash: &str) -> bool {
        let existing = self.observed.containers.get(name).filter(|existing| existing.config_hash == hash);
        existing.is_some_and(|existing| !existing.running && self.is_done(service, existing))
    }

    /// Whether an exited container has completed: it exited with 0 and is not known to be a server. A server that was
    /// stopped and exited with 0 must run again.
    fn is_done(&self, service: &Service, existing: &ExistingContainer) -> bool {
        existing.exit_code == Some(0) && !readiness::serves(self.wish.spec, service, self.image(service))
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
        let mut needs: Vec<StepId> =
            vec![StepId::new("claim", &gateway), limit(), StepId::new("remove", name)];
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
        // The engine fills an empty volume from the image of the first container created on it: the service that the
        // others depend on.
        for volume in volumes.values() {
            let before = self.last_on.insert(volume.key.clone(), made.clone());
            // One container may mount a volume at several targets.
            needs.extend(before.filter(|before| *before != made && self.is_new(&volume.key)));
        }
        self.add_for(Some(&service.name), made.clone(), Op::CreateContainer(Box::new(create)), cause, needs);
        self.furnish(service, name, volumes, cause);
    }

    /// Whether this plan creates the volume.
    fn is_new(&self, volume: &str) -> bool {
        self.has_step(&StepId::new("volume", volume))
    }

    /// Provides a new container's files and its volumes' seeds, and starts it.
    fn furnish(&mut self, service: &Service, name: &str, volumes: &Volumes, cause: &str) {
        let made = StepId::new("create", name);
        let mut before = vec![made.clone()];
        before.extend(self.upload(service, name, &made));
        before.extend(self.fills(service, name, volumes, &made));
        if !self.wish.only_made.contains(&service.name) {
            self.start(service, name, cause, before);
        }
    }

    /// Copies secrets to the gateway, which holds them in memory, and configs (and links to secrets) to the container.
    fn upload(&mut self, service: &Service, name: &str, made: &StepId) -> Vec<StepId> {
        let mut done: Vec<StepId> = self.hold(service, name, [made.clone()]).into_iter().collect();
        let placed = secret_files::placed(service);
        if !placed.is_empty() {
            let id = StepId::new("configs", name);
            let op = Op::Upload { container: name.to_owned(), files: placed };
            let cause = format!("services.{}.configs", service.name);
            self.add_for(Some(&service.name), id.clone(), op, cause, [made.clone()]);
            done.push(id);
        }
        done
    }

    /// Copies a service's secrets to the gateway, once the generated ones are stored.
    pub(super) fn hold(
        &mut self,
        service: &Service,
        name: &str,
        before: impl IntoIterator<Item = StepId>,
    ) -> Option<StepId> {
        let files = secret_files::held(service);
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

    /// Stores the generated secrets with the data that depends on them, because memory does not survive a reboot.
    fn keep(&mut self) -> Option<StepId> {
        let spec = self.wish.spec;
        let secrets: BTreeSet<_> =
            spec.services.values().flat_map(|service| secret_files::generated(spec, service)).collect();
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

    /// Whether the gateway no longer holds a service's secrets.
    pub(super) fn forgot(&self, service: &Service) -> bool {
        self.claims() || self.observed.forgotten.contains(&service.name)
    }

    /// Copy seeds of new volumes, each run through the first container that mounts the volume.
    fn fills(&mut self, service: &Service, name: &str, volumes: &Volumes, made: &StepId) -> Vec<StepId> {
        let mut after = Vec::new();
        for volume in volumes.values() {
            let fresh = self.wish.age == Age::New || self.is_new(&volume.key);
            let key = crate::spec::VolumeName::new(volume.key.as_str()).ok();
            let written = key.and_then(|key| self.wish.spec.volumes.get(&key));
            let Some(written) = written.filter(|_| fresh && self.wish.seeding == Seeding::Run) else {
                continue;
            };
            let seeds = written.seed.iter().filter(|seed| seed.stage() == SeedStage::Fill).cloned();
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
}

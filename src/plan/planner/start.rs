//! Plans a container's start: what it waits for, the hooks around it, and the seeds that run once it is ready.

use std::collections::BTreeSet;

use super::network::host_firewall;
use super::{Planner, in_order, unmade};
use crate::engine::identity;
use crate::plan::desired_state::{Age, PreStart, Seeding};
use crate::plan::op::{Handover, Op};
use crate::plan::volume::ServiceVolume;
use crate::plan::{StepId, container, images, readiness, volume};
use crate::spec::{Condition, MountKind, Seed, Service, ServiceName};

impl Planner<'_> {
    /// Starts a container, with the hooks around it.
    pub(super) fn start(
        &mut self,
        service: &Service,
        name: &str,
        cause: &str,
        before: impl IntoIterator<Item = StepId>,
    ) {
        let mut needs = self.starts_after(service, before);
        self.pre_start(service, name, &mut needs);
        let mut previous = self.start_container(service, name, cause, needs);
        for (index, hook) in service.post_start.iter().enumerate() {
            let id = StepId::new("hook", format!("{name}.{index}"));
            let op = Op::RunHook { container: name.to_owned(), hook: hook.clone() };
            let cause = format!("services.{}.post_start[{index}]", service.name);
            self.add_for(Some(&service.name), id.clone(), op, cause, [previous]);
            previous = id;
        }
    }

    /// Starts the stopped containers of these services, without `post_start` hooks, and waits for each. Secrets that the
    /// gateway no longer holds are uploaded before, and `pre_start` commands run only where no replica runs.
    pub(super) fn start_stopped(&mut self, which: &BTreeSet<ServiceName>, pre_start: PreStart) {
        for name in in_order(&self.wish.spec.services).into_iter().filter(|name| which.contains(name)) {
            let Some(service) = self.wish.spec.services.get(&name) else { continue };
            let first = self.wish.container(&service.name, 1);
            let held = self.forgot(service).then(|| self.hold(service, &first, [])).flatten();
            let runs = (1..=service.replicas()).any(|replica| self.runs(service, replica));
            for replica in 1..=service.replicas() {
                let name = self.wish.container(&service.name, replica);
                let mut needs = self.starts_after(service, held.clone());
                if pre_start == PreStart::Run && !runs {
                    self.pre_start(service, &name, &mut needs);
                }
                self.start_container(service, &name, &format!("services.{}", service.name), needs);
                self.settle(service, &name);
            }
        }
    }

    fn runs(&self, service: &Service, replica: u32) -> bool {
        let name = self.wish.container(&service.name, replica);
        self.observed.containers.get(&name).is_some_and(|existing| existing.running)
    }

    fn start_container(
        &mut self,
        service: &Service,
        name: &str,
        cause: &str,
        needs: BTreeSet<StepId>,
    ) -> StepId {
        let id = StepId::new("start", name);
        let op = Op::Start { container: name.to_owned() };
        self.add_for(Some(&service.name), id.clone(), op, cause, needs);
        id
    }

    /// The steps before a service's start: `before`, the host firewall, and what its dependencies have to reach.
    fn starts_after(&self, service: &Service, before: impl IntoIterator<Item = StepId>) -> BTreeSet<StepId> {
        let mut needs: BTreeSet<StepId> = before.into_iter().chain([host_firewall()]).collect();
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
        needs
    }

    /// Runs the `pre_start` commands of a service in sequence, before its first replica (or this one) starts.
    fn pre_start(&mut self, service: &Service, name: &str, needs: &mut BTreeSet<StepId>) {
        let first = self.wish.container(&service.name, 1);
        for (index, hook) in service.pre_start.iter().enumerate() {
            let of = if hook.per_replica { name } else { &first };
            let id = StepId::new("pre_start", format!("{of}.{index}"));
            if of == name {
                let replica = self.replica_number(service, name);
                let image = self.image(service);
                let volumes = volume::volumes_of(self.wish.name.as_str(), service, replica, image);
                let group = self.wish.shared(self.observed);
                let create =
                    container::create(self.wish, service, replica, image, &volumes, &self.laid, group);
                let what = format!("{}.{replica}.{index}", service.name);
                let own = identity::probe(self.wish.name.as_str(), &what);
                let op = Op::RunInit(Box::new(container::init(self.wish, service, &create, &own, hook)));
                let cause = format!("services.{}.pre_start[{index}]", service.name);
                let gateway = StepId::new("start", self.wish.gateway());
                let needs: BTreeSet<StepId> = needs.iter().cloned().chain([gateway]).collect();
                self.add_for(Some(&service.name), id.clone(), op, cause, needs);
            }
            needs.insert(id);
        }
    }

    fn replica_number(&self, service: &Service, name: &str) -> u32 {
        (1..=service.replicas())
            .find(|replica| self.wish.container(&service.name, *replica) == name)
            .unwrap_or(1)
    }

    /// The seeds of a service that run in this plan: in its first container, if its data is new.
    fn seeds<'s>(
        &self,
        service: &'s Service,
        container: &str,
    ) -> impl Iterator<Item = (StepId, &'s Seed)> + use<'s> {
        let first = container == self.wish.container(&service.name, 1);
        let fresh = self.wish.age == Age::New || self.has_nothing_of(service, container);
        let run = first && fresh && self.wish.seeding == Seeding::Run;
        let name = service.name.clone();
        let seeds = if run { service.seed.as_slice() } else { &[] };
        seeds
            .iter()
            .enumerate()
            .map(move |(index, seed)| (StepId::new("seed", format!("{name}.{index}")), seed))
    }

    /// Whether nothing of a service's data exists, or this plan removes it: its volumes and, where it has none, what is
    /// in its container. With volumes, a missing container may have been in the middle of a recreation.
    fn has_nothing_of(&self, service: &Service, container: &str) -> bool {
        let volumes = volume::volumes_of(self.wish.name.as_str(), service, 1, self.image(service));
        let is_kept = |volume: &ServiceVolume| {
            self.observed.volumes.contains(&volume.name) && !self.has_step(&unmade(volume))
        };
        let elsewhere = !service.volumes_from.is_empty()
            || service.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Bind { .. }));
        let removed = !elsewhere && self.has_step(&StepId::new("remove", container));
        let there = self.observed.containers.contains_key(container) && !removed;
        !volumes.values().any(is_kept) && !there
    }

    fn handover(&self, service: &Service) -> Handover {
        let seeded = self.wish.spec.services.values().any(Service::is_seeded);
        match self.wish.seeding {
            Seeding::Run if service.initdb_mounts().next().is_some() => Handover::Proven,
            Seeding::Run if seeded => Handover::Required,
            _ => Handover::Expected,
        }
    }

    /// Waits for a container and seeds its service.
    pub(super) fn settle(&mut self, service: &Service, name: &str) {
        let until = readiness::until(self.wish.spec, service, self.image(service));
        let awaited = StepId::new("await", name);
        let cause = format!("services.{}", service.name);
        let mut needs = BTreeSet::from([StepId::new("start", name)]);
        if until.is_tried_by_gateway() {
            needs.insert(StepId::new("start", self.wish.gateway()));
        }
        let handover = self.handover(service);
        let optional = readiness::is_optional(self.wish.spec, &service.name);
        let op = Op::Await { container: name.to_owned(), until, handover, optional };
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

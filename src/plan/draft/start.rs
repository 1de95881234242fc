//! A container's start: what it waits for, what follows it, and the seeds that run once it is ready.

use std::collections::BTreeSet;

use super::Draft;
use super::network::ingress;
use crate::plan::op::Op;
use crate::plan::wish::{Age, Seeding};
use crate::plan::{StepId, images, service, volume};
use crate::spec::{Condition, Seed, Service};

impl Draft<'_> {
    pub(super) fn start(
        &mut self,
        service: &Service,
        name: &str,
        cause: &str,
        before: impl IntoIterator<Item = StepId>,
    ) {
        let mut needs: BTreeSet<StepId> = before.into_iter().chain([ingress()]).collect();
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
        let fresh = self.wish.age == Age::New || self.has_nothing_of(service, container);
        let run = first && fresh && self.wish.seeding == Seeding::Run;
        let name = service.name.clone();
        let seeds = if run { service.seed.as_slice() } else { &[] };
        seeds
            .iter()
            .enumerate()
            .map(move |(index, seed)| (StepId::new("seed", format!("{name}.{index}")), seed))
    }

    /// Whether neither a service's container nor any volume of it is there. A container alone may have been on its way to
    /// be made anew.
    fn has_nothing_of(&self, service: &Service, container: &str) -> bool {
        let volumes = volume::volumes_of(self.wish.name.as_str(), service, 1, self.image(service));
        let kept = volumes.values().any(|volume| self.observed.volumes.contains(&volume.name));
        !kept && !self.observed.containers.contains_key(container)
    }

    /// Waits for a container and seeds its service.
    pub(super) fn settle(&mut self, service: &Service, name: &str) {
        let until = service::until(self.wish.spec, service, self.image(service));
        let awaited = StepId::new("await", name);
        let cause = format!("services.{}", service.name);
        let mut needs = BTreeSet::from([StepId::new("start", name)]);
        if until.is_tried_by_gateway() {
            needs.insert(StepId::new("start", self.wish.gateway()));
        }
        let op = Op::Await { container: name.to_owned(), until };
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

//! The planner: plans what is missing, recreates what has changed and keeps the rest.

mod gateway;
mod network;
mod service;
mod start;

use std::collections::{BTreeMap, BTreeSet};

use super::network::{Laid, lay};
use super::op::Op;
use super::port_binding::PublishedService;
use super::published_ports;
use super::volume::{self, ServiceVolume};
use super::{DesiredState, Observed, Plan, PlanError, PreStart, Step, StepId, VolumeSource, images};
use crate::engine::identity::{self, Role};
use crate::engine::{CreateVolume, Image};
use crate::spec::{NetworkName, Service, ServiceName};

/// Sizes of the edge network, which has an address for each sandbox's gateway; the first that fits is used. The
/// largest is a /22, because a kernel bridge has at most 1024 ports. If many small subnets are taken, the free space
/// is fragmented.
const EDGE_CONTAINERS: [usize; 3] = [250, 60, 14];

pub(super) fn draft(wish: &DesiredState<'_>, observed: &Observed) -> Result<Plan, PlanError> {
    let edge = match observed.edge {
        Some(edge) => edge,
        None => EDGE_CONTAINERS
            .into_iter()
            .find_map(|containers| wish.subnets.pick(containers, &observed.taken, 0))
            .ok_or_else(|| PlanError::NoSubnet { network: "edge".to_owned() })?,
    };
    let mut around = observed.clone();
    around.taken.push(edge.net());
    let laid = lay(wish, &around)?;
    let mut published = published_ports::published(wish.spec, observed);
    // Sorted by the gateway's port: a different order in the spec does not recreate the gateway.
    published.sort_by_key(|port| port.edge_port);
    let mut draft = Planner { laid, published, ..Planner::new(wish, observed) };
    draft.orphans();
    draft.gateway(edge);
    draft.limit();
    draft.networks();
    draft.stray_networks();
    draft.filter_host_firewall();
    draft.start_gateway();
    draft.volumes();
    draft.services();
    draft.give_way();
    draft.plan.spare(&network::host_firewall());
    Ok(draft.plan)
}

/// Starts stopped services of a sandbox whose gateway runs. What each waits for is as in a complete plan.
pub(super) fn draft_start(
    wish: &DesiredState<'_>,
    observed: &Observed,
    which: &BTreeSet<ServiceName>,
    pre_start: PreStart,
) -> Result<Plan, PlanError> {
    let mut draft = Planner::new(wish, observed);
    if pre_start == PreStart::Run {
        draft.laid = lay(wish, observed)?;
    }
    draft.start_stopped(which, pre_start);
    Ok(draft.plan)
}

struct Planner<'a> {
    wish: &'a DesiredState<'a>,
    observed: &'a Observed,
    laid: BTreeMap<NetworkName, Laid>,
    published: Vec<PublishedService>,
    plan: Plan,
    /// The step that creates the last container on each new volume.
    last_on: BTreeMap<String, StepId>,
}

impl<'a> Planner<'a> {
    fn new(wish: &'a DesiredState<'a>, observed: &'a Observed) -> Self {
        let (laid, published) = (BTreeMap::new(), Vec::new());
        Self { wish, observed, laid, published, plan: Plan::default(), last_on: BTreeMap::new() }
    }
}

impl Planner<'_> {
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
        let (cause, gives_way_to) = (cause.into(), BTreeSet::new());
        self.plan.push(Step { id, op, cause, service: service.cloned(), needs, gives_way_to });
    }

    fn image(&self, service: &Service) -> Option<&Image> {
        self.observed.images.get(&images::reference(self.wish.spec, service))
    }

    /// Removes containers of services (or replicas) that the spec no longer has.
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
            let first = self.dependents(service).map(|name| StepId::new("stop", name)).collect::<Vec<_>>();
            self.add_for(Some(service), StepId::new("stop", name), op, cause, first);
        }
        let op = Op::RemoveContainer { container: name.to_owned() };
        let needs = [StepId::new("stop", name)];
        self.add_for(Some(service), StepId::new("remove", name), op, cause, needs);
    }

    /// Containers of services that depend on this one: they stop before it does.
    fn dependents(&self, on: &ServiceName) -> impl Iterator<Item = &String> {
        let depends = move |other: &ServiceName| {
            let other = self.wish.spec.services.get(other);
            other.is_some_and(|other| other.depends_on.contains_key(on))
        };
        let containers = self.observed.containers.iter();
        containers.filter(move |(_, existing)| depends(&existing.service)).map(|(name, _)| name)
    }

    /// Sets up the shared limits before the first service is created.
    fn limit(&mut self) {
        let wanted = &self.wish.spec.limits;
        if self.wish.shared(self.observed).is_some() && self.observed.limits.as_ref() != Some(wanted) {
            let claim = StepId::new("claim", self.wish.gateway());
            let op = Op::Limit { sandbox: self.wish.id.clone(), limits: wanted.clone() };
            self.add(limit(), op, "limits", [claim]);
        }
    }

    fn volumes(&mut self) {
        let images = &self.observed.images;
        let volumes =
            volume::all(self.wish.spec, self.wish.name.as_str(), |image| images.get(image).cloned());
        for volume in volumes {
            let there = self.observed.volumes.contains(&volume.name);
            let incomplete = there && self.wish.unfinished.volumes.contains(&volume.key);
            if incomplete {
                let before =
                    self.observed.containers.keys().map(|name| StepId::new("remove", name)).collect();
                self.remove_volume(&volume, None, "its seeds did not finish", before);
            }
            if !there || incomplete {
                self.volume(&volume);
            }
        }
    }

    /// Removes a volume with its data, once these steps are done.
    fn remove_volume(
        &mut self,
        volume: &ServiceVolume,
        service: Option<&ServiceName>,
        cause: &str,
        after: Vec<StepId>,
    ) {
        let Some(path) = volume::stored(self.wish, &volume.key) else { return };
        let op = Op::RemoveVolume { volume: volume.name.clone(), path };
        self.add_for(service, unmade(volume), op, cause, after);
    }

    fn has_step(&self, id: &StepId) -> bool {
        self.plan.steps().iter().any(|step| step.id == *id)
    }

    fn volume(&mut self, volume: &ServiceVolume) {
        let Some(path) = volume::stored(self.wish, &volume.key) else { return };
        let source = self.wish.sources.get(&volume.key).cloned().unwrap_or(VolumeSource::Empty);
        let provide = StepId::new("provide", &volume.key);
        let op = Op::ProvideData { path: path.clone(), source };
        let needs = [StepId::new("claim", self.wish.gateway()), unmade(volume)];
        self.add(provide.clone(), op, &volume.cause, needs);
        let written = crate::spec::VolumeName::new(volume.key.as_str())
            .ok()
            .and_then(|key| self.wish.spec.volumes.get(&key));
        let mut labels = written.map(|volume| volume.labels.clone()).unwrap_or_default();
        labels.extend(self.wish.labels(Role::Volume));
        labels.insert(identity::KEY.to_owned(), volume.key.clone());
        if let Some(from) = self.wish.sources.get(&volume.key).and_then(VolumeSource::origin) {
            labels.insert(identity::FROM.to_owned(), from.set.to_string());
            if from.volume.as_str() != volume.key {
                labels.insert(identity::FROM_VOLUME.to_owned(), from.volume.to_string());
            }
        }
        let create = CreateVolume { name: volume.name.clone(), labels, ..CreateVolume::default() };
        let op = Op::CreateVolume { volume: create, path };
        self.add(StepId::new("volume", &volume.key), op, &volume.cause, [provide]);
    }
}

/// The step that removes a volume before it is created again.
fn unmade(volume: &ServiceVolume) -> StepId {
    StepId::new("remove volume", &volume.key)
}

/// The step after which the shared limits apply.
fn limit() -> StepId {
    StepId::new("limit", "services")
}

/// Services in dependency order. The spec reader has rejected cycles.
pub fn in_order(services: &BTreeMap<ServiceName, Service>) -> Vec<ServiceName> {
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

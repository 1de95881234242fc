//! Plans the restart of stopped services, in dependency order, waiting for each.

use std::collections::BTreeSet;

use super::planner::{self, in_order};
use super::{
    DesiredState, Handover, Observed, Op, Plan, PlanError, Step, StepId, images, readiness, secret_files,
};
use crate::engine::identity::{self, SandboxId};
use crate::spec::{SandboxName, SecretName, Service, ServiceName, Spec};
use crate::storage::SetPath;

/// Starts these services of a sandbox whose gateway runs. Each starts after its dependencies among them are ready and
/// after the gateway holds its secrets again. `pre_starts` are the steps that run before the start of their service.
pub fn plan_start(
    spec: &Spec,
    sandbox: &SandboxName,
    id: &SandboxId,
    observed: &Observed,
    which: &BTreeSet<ServiceName>,
    pre_starts: &[Step],
) -> Plan {
    let mut plan = Plan::default();
    keep(&mut plan, spec, id, observed);
    let container = |name: &ServiceName, replica| identity::service(sandbox.as_str(), name.as_str(), replica);
    for name in in_order(&spec.services) {
        let Some(service) = spec.services.get(&name).filter(|_| which.contains(&name)) else { continue };
        let awaited = |other: &ServiceName| {
            let replicas = spec.services.get(other).map_or(0, crate::spec::Service::replicas);
            (1..=replicas).map(|replica| StepId::new("await", container(other, replica))).collect::<Vec<_>>()
        };
        let mut needs: BTreeSet<StepId> = service.depends_on.keys().flat_map(awaited).collect();
        needs.extend(observed.forgotten.contains(&name).then(|| hold(&mut plan, sandbox, service)).flatten());
        for before in pre_starts.iter().filter(|step| step.service.as_ref() == Some(&name)) {
            let id = before.id.clone();
            plan.push(Step { needs: before.needs.union(&needs).cloned().collect(), ..before.clone() });
            needs.insert(id);
        }
        let image = observed.images.get(&images::reference(spec, service));
        for replica in 1..=service.replicas() {
            let one = container(&name, replica);
            let started = StepId::new("start", &one);
            let step = |id, op, needs| Step {
                id,
                op,
                cause: format!("services.{name}"),
                service: Some(name.clone()),
                needs,
                gives_way_to: BTreeSet::new(),
            };
            plan.push(step(started.clone(), Op::Start { container: one.clone() }, needs.clone()));
            let until = readiness::until(spec, service, image);
            let optional = readiness::is_optional(spec, &name);
            let op = Op::Await { container: one.clone(), until, handover: Handover::Expected, optional };
            plan.push(step(StepId::new("await", &one), op, BTreeSet::from([started])));
        }
    }
    plan
}

/// The `pre_start` commands of those services of which no replica runs, for [`plan_start`].
///
/// # Errors
/// Fails if the networks have no place for a container that is not there.
pub fn pre_starts(
    wish: &DesiredState<'_>,
    observed: &Observed,
    which: &BTreeSet<ServiceName>,
) -> Result<Vec<Step>, PlanError> {
    planner::pre_starts(wish, observed, which)
}

/// Stores generated secrets before they are handed out again: one of them may be new.
fn keep(plan: &mut Plan, spec: &Spec, id: &SandboxId, observed: &Observed) {
    let services = observed.forgotten.iter().filter_map(|name| spec.services.get(name));
    let secrets: BTreeSet<SecretName> =
        services.flat_map(|service| secret_files::generated(spec, service)).collect();
    let Some(set) = SetPath::live(id.as_str()).ok().filter(|_| !secrets.is_empty()) else { return };
    let op = Op::Keep { set, secrets: secrets.into_iter().collect() };
    let cause = "they have to outlive a reboot with the data".to_owned();
    let (needs, gives_way_to) = (BTreeSet::new(), BTreeSet::new());
    plan.push(Step { id: kept(), op, cause, service: None, needs, gives_way_to });
}

/// Copies a service's secrets to the gateway.
fn hold(plan: &mut Plan, sandbox: &SandboxName, service: &Service) -> Option<StepId> {
    let files = secret_files::held(service);
    if files.is_empty() {
        return None;
    }
    let id = StepId::new("secrets", &service.name);
    plan.push(Step {
        id: id.clone(),
        op: Op::Upload { container: identity::gateway(sandbox.as_str()), files },
        cause: format!("services.{}.secrets: memory does not outlive a reboot", service.name),
        service: Some(service.name.clone()),
        needs: BTreeSet::from([kept()]),
        gives_way_to: BTreeSet::new(),
    });
    Some(id)
}

fn kept() -> StepId {
    StepId::new("keep", "secrets")
}

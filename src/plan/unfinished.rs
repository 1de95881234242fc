//! What a plan had begun to make when it ended early. The next plan makes it again: a container whose files or hooks, or
//! a volume whose seeds are missing looks complete to the engine.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Op, Plan, Step, StepId};
use crate::engine::identity;
use crate::engine::{CreateContainer, MountKind};
use crate::spec::ServiceName;

/// Services and volumes that are not complete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Services whose container lacks files, seeds or hooks.
    #[serde(default)]
    pub services: BTreeSet<ServiceName>,
    /// Volumes, by their key in the storage, that were created for seeds which have not all run.
    #[serde(default)]
    pub volumes: BTreeSet<String>,
}

/// The steps of a plan that services and volumes still need.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    services: BTreeMap<ServiceName, BTreeSet<StepId>>,
    volumes: BTreeMap<String, BTreeSet<StepId>>,
}

impl Progress {
    /// What a plan completes. What was unfinished `before` and is not made again by the plan stays unfinished.
    pub fn of(plan: &Plan, before: &Unfinished) -> Self {
        let mut progress = Self::default();
        let removed = services_with(plan, |op| matches!(op, Op::RemoveContainer { .. }));
        let created = services_with(plan, |op| matches!(op, Op::CreateContainer(_)));
        for step in plan.steps() {
            let Some(service) = &step.service else { continue };
            // Nothing may show afterwards why the container was to be replaced.
            let replaces = matches!(step.op, Op::Start { .. }) && removed.contains(service);
            if completes(&step.op) || replaces {
                progress.services.entry(service.clone()).or_default().insert(step.id.clone());
            }
        }
        for (volume, service) in new_volumes(plan) {
            let seeds =
                plan.steps().iter().filter(|step| is_seed(step) && step.service.as_ref() == Some(service));
            let seeds: BTreeSet<StepId> = seeds.map(|step| step.id.clone()).collect();
            if !seeds.is_empty() {
                progress.volumes.entry(volume).or_default().extend(seeds);
            }
        }
        for service in before.services.iter().filter(|it| !removed.contains(it) && !created.contains(it)) {
            progress.services.entry(service.clone()).or_default().insert(StepId::new("finish", service));
        }
        let made: BTreeSet<&StepId> = plan.steps().iter().map(|step| &step.id).collect();
        for volume in before.volumes.iter().filter(|key| !made.contains(&StepId::new("volume", key))) {
            progress.volumes.entry(volume.clone()).or_default().insert(StepId::new("finish", volume));
        }
        progress
    }

    /// What would be left unfinished now.
    pub fn unfinished(&self) -> Unfinished {
        Unfinished {
            services: self.services.keys().cloned().collect(),
            volumes: self.volumes.keys().cloned().collect(),
        }
    }

    /// Records that a step is done. Returns whether a service or a volume is finished with it.
    pub fn done(&mut self, step: &StepId) -> bool {
        let before = self.services.len() + self.volumes.len();
        self.services.retain(|_, steps| {
            steps.remove(step);
            !steps.is_empty()
        });
        self.volumes.retain(|_, steps| {
            steps.remove(step);
            !steps.is_empty()
        });
        self.services.len() + self.volumes.len() < before
    }
}

/// Whether a container that exists is incomplete without this operation. Secrets are not: their gateway knows of them.
fn completes(op: &Op) -> bool {
    match op {
        Op::Upload { files, .. } => {
            !files.iter().any(|file| matches!(file.source, super::FileSource::Secret(_)))
        }
        Op::RunHook { .. } | Op::Fill { .. } | Op::Seed { .. } => true,
        _ => false,
    }
}

fn is_seed(step: &Step) -> bool {
    matches!(step.op, Op::Fill { .. } | Op::Seed { .. })
}

/// The volumes that a plan creates, each with a service that mounts it.
fn new_volumes(plan: &Plan) -> Vec<(String, &ServiceName)> {
    let created: BTreeMap<&str, &String> = plan
        .steps()
        .iter()
        .filter_map(|step| match &step.op {
            Op::CreateVolume { volume, .. } => {
                Some((volume.name.as_str(), volume.labels.get(identity::KEY)?))
            }
            _ => None,
        })
        .collect();
    let containers = plan.steps().iter().filter_map(|step| match &step.op {
        Op::CreateContainer(container) => Some((container, step.service.as_ref()?)),
        _ => None,
    });
    containers
        .flat_map(|(container, service)| {
            volumes(container).filter_map(|name| created.get(name)).map(move |key| ((*key).clone(), service))
        })
        .collect()
}

fn volumes(container: &CreateContainer) -> impl Iterator<Item = &str> {
    container.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume { name, .. } => Some(name.as_str()),
        _ => None,
    })
}

fn services_with(plan: &Plan, is_meant: fn(&Op) -> bool) -> BTreeSet<&ServiceName> {
    plan.steps().iter().filter(|step| is_meant(&step.op)).filter_map(|step| step.service.as_ref()).collect()
}

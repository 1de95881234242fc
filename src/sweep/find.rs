//! Finds the engine's objects of a sandbox by their labels.

use std::collections::BTreeMap;

use crate::engine::identity::{self, Role, SandboxId, Scope};
use crate::engine::{ContainerSummary, Engine, Filter, Network, ObjectKind, Result, Volume};

/// Selects the objects to find or destroy. Only objects of the scope are selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The scope to search.
    pub scope: Scope,
    /// Which objects of the scope.
    pub what: SweepScope,
}

/// Part of a scope that a sweep covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SweepScope {
    /// Every instance of the sandbox with this name.
    Name(String),
    /// Only this instance.
    Id(SandboxId),
    /// Every sandbox.
    Sandboxes,
    /// Every sandbox, and the keeper, its volume with all data, and the edge network.
    Everything,
}

impl Target {
    /// Every instance of the sandbox with this name.
    pub fn name(scope: &Scope, name: impl Into<String>) -> Self {
        Self { scope: scope.clone(), what: SweepScope::Name(name.into()) }
    }

    /// Only this instance.
    pub fn id(scope: &Scope, id: &SandboxId) -> Self {
        Self { scope: scope.clone(), what: SweepScope::Id(id.clone()) }
    }

    /// Every sandbox of the scope.
    pub fn sandboxes(scope: &Scope) -> Self {
        Self { scope: scope.clone(), what: SweepScope::Sandboxes }
    }

    /// Everything of the scope.
    pub fn everything(scope: &Scope) -> Self {
        Self { scope: scope.clone(), what: SweepScope::Everything }
    }

    fn filter(&self) -> Filter {
        let filter = match &self.what {
            SweepScope::Name(name) => Filter::all().label(identity::NAME, name),
            SweepScope::Id(id) => Filter::all().label(identity::ID, id.as_str()),
            SweepScope::Sandboxes => Filter::all().has_label(identity::NAME),
            SweepScope::Everything => Filter::all().has_label(identity::ROLE),
        };
        self.scope.narrow(filter)
    }

    /// Checks conditions that the engine's filter cannot express: the absence of a scope, and no keeper among
    /// sandboxes.
    fn means(&self, labels: &BTreeMap<String, String>) -> bool {
        let role: Option<Role> = labels.get(identity::ROLE).and_then(|role| role.parse().ok());
        let of_a_sandbox = role.is_none_or(Role::is_of_a_sandbox);
        self.scope.owns(labels) && (of_a_sandbox || self.what == SweepScope::Everything)
    }
}

/// Objects found on the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedObjects {
    /// Containers, running or stopped.
    pub containers: Vec<ContainerSummary>,
    /// Networks, without their attached containers.
    pub networks: Vec<Network>,
    /// Volumes.
    pub volumes: Vec<Volume>,
}

impl ObservedObjects {
    /// Whether no objects were found.
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.networks.is_empty() && self.volumes.is_empty()
    }

    /// All objects, as kind and name.
    pub fn objects(&self) -> impl Iterator<Item = (ObjectKind, &str)> {
        let containers =
            self.containers.iter().map(|container| (ObjectKind::Container, container.name.as_str()));
        let networks = self.networks.iter().map(|network| (ObjectKind::Network, network.name.as_str()));
        let volumes = self.volumes.iter().map(|volume| (ObjectKind::Volume, volume.name.as_str()));
        containers.chain(networks).chain(volumes)
    }

    /// The labels of all objects.
    pub fn labels(&self) -> impl Iterator<Item = &BTreeMap<String, String>> {
        let containers = self.containers.iter().map(|container| &container.labels);
        let networks = self.networks.iter().map(|network| &network.labels);
        containers.chain(networks).chain(self.volumes.iter().map(|volume| &volume.labels))
    }
}

/// Finds all objects of the target.
pub async fn find(engine: &dyn Engine, target: &Target) -> Result<ObservedObjects> {
    let filter = target.filter();
    let (containers, networks, volumes) = futures_util::try_join!(
        engine.containers(&filter),
        engine.networks(&filter),
        engine.volumes(&filter)
    )?;
    Ok(ObservedObjects {
        containers: containers.into_iter().filter(|container| target.means(&container.labels)).collect(),
        networks: networks.into_iter().filter(|network| target.means(&network.labels)).collect(),
        volumes: volumes.into_iter().filter(|volume| target.means(&volume.labels)).collect(),
    })
}

/// All sandboxes of the scope, keyed by instance id, with their objects.
pub async fn sandboxes(engine: &dyn Engine, scope: &Scope) -> Result<BTreeMap<String, ObservedObjects>> {
    let all = find(engine, &Target::sandboxes(scope)).await?;
    let mut by_id: BTreeMap<String, ObservedObjects> = BTreeMap::new();
    let id = |labels: &BTreeMap<String, String>| labels.get(identity::ID).cloned().unwrap_or_default();
    for container in all.containers {
        by_id.entry(id(&container.labels)).or_default().containers.push(container);
    }
    for network in all.networks {
        by_id.entry(id(&network.labels)).or_default().networks.push(network);
    }
    for volume in all.volumes {
        by_id.entry(id(&volume.labels)).or_default().volumes.push(volume);
    }
    Ok(by_id)
}

//! Lists sandboxes and their state, from the engine's labels alone.

mod address;
mod build_history;
mod choose;
mod declared;
pub mod doctor;
mod environment;
mod host_variables;
pub(crate) mod log_line;
pub(crate) mod log_lines;
pub mod logs;
pub mod requirements;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::Timestamp;

use crate::engine::identity::{self, Role, SandboxName, Scope};
use crate::engine::{
    Container, ContainerState, ContainerSummary, Engine, EngineError, Filter, HealthStatus, MountPointKind,
    Network, Volume, join_bounded,
};
use crate::host_files::WritableFolders;
use crate::session::event::{ServiceState, ServiceStatus};

pub use address::Passwords;
pub(in crate::session) use address::read_whole;
pub use build_history::recollection;
pub use choose::{Choice, NoSandbox, choose, own};
pub use declared::declared;
pub use environment::environment;
pub use host_variables::host_variables;

/// A sandbox as observed on the engine. Parts may be missing while it is created or destroyed.
#[derive(Debug, Clone, Default)]
pub struct ObservedSandbox {
    /// Its name.
    pub name: String,
    /// The instance id.
    pub id: String,
    /// Ids of earlier instances that have remaining objects.
    pub others: BTreeSet<String>,
    /// The folder that it was created from.
    pub folder: PathBuf,
    /// When its oldest object was created.
    pub created: Option<Timestamp>,
    /// Its first deadline. The keeper may have a later one.
    pub expires: Option<Timestamp>,
    /// Its gateway container.
    pub gateway: Option<ContainerSummary>,
    /// Its services' containers, sorted by service and replica.
    pub services: Vec<ContainerSummary>,
    /// Its networks.
    pub networks: Vec<Network>,
    /// Its volumes.
    pub volumes: Vec<Volume>,
}

impl ObservedSandbox {
    /// The folders of this machine that its services can write to, as the engine mounts them.
    pub fn writable_folders(&self) -> WritableFolders {
        let mounts = self.services.iter().flat_map(|container| &container.mounts);
        let written = mounts.filter(|mount| mount.kind == MountPointKind::Bind && !mount.read_only);
        WritableFolders::new(written.map(|mount| PathBuf::from(&mount.source)))
    }

    /// The containers of `service`.
    pub fn containers<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a ContainerSummary> {
        self.services.iter().filter(move |container| service_of(container) == service)
    }

    /// The names of its services, each once, in order.
    pub fn service_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.services.iter().map(|c| service_of(c).to_owned()).collect();
        names.dedup();
        names
    }

    /// The container of a service's replica (from 1 on).
    pub fn container(&self, service: &str, replica: u32) -> Result<&ContainerSummary, NoContainer> {
        let of_service = || self.services.iter().filter(|container| service_of(container) == service);
        if let Some(container) = of_service().find(|container| replica_of(container) == replica) {
            return Ok(container);
        }
        let service = service.to_owned();
        Err(match of_service().count() {
            0 => NoContainer::Service { sandbox: self.name.clone(), service, known: self.service_names() },
            count => NoContainer::Replica { service, replica, count },
        })
    }
}

/// A sandbox does not have the requested service or replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoContainer {
    /// It has no container of that service.
    #[error("sandbox `{sandbox}` has no service `{service}`")]
    Service {
        /// The sandbox.
        sandbox: String,
        /// The requested service.
        service: String,
        /// The services that exist.
        known: Vec<String>,
    },
    /// The service has no such replica.
    #[error("service `{service}` has no replica {replica}")]
    Replica {
        /// The service.
        service: String,
        /// The requested replica.
        replica: u32,
        /// The number of replicas.
        count: usize,
    },
}

impl NoContainer {
    /// How to solve it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Service { service, known, .. } => {
                let near = known
                    .iter()
                    .map(|name| (strsim::damerau_levenshtein(name, service), name))
                    .filter(|(distance, _)| *distance <= 2)
                    .min();
                match near {
                    Some((_, name)) => Some(format!("did you mean `{name}`?")),
                    None if known.is_empty() => None,
                    None => Some(format!("it has {}", quoted(known))),
                }
            }
            Self::Replica { count, .. } => Some(format!("`--index` goes from 1 to {count}")),
        }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A container's service, from its label.
pub fn service_of(container: &ContainerSummary) -> &str {
    container.labels.get(identity::SERVICE).map_or("", String::as_str)
}

/// A container's replica, from its label.
pub fn replica_of(container: &ContainerSummary) -> u32 {
    container.labels.get(identity::REPLICA).and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// The name to show in logs: the service's name, with the replica's number from the second on.
pub fn log_name(container: &ContainerSummary) -> String {
    identity::replica_name(service_of(container), replica_of(container))
}

/// All sandboxes of a scope, sorted by name.
pub async fn sandboxes(engine: &dyn Engine, scope: &Scope) -> Result<Vec<ObservedSandbox>, EngineError> {
    look(engine, scope, scope.narrow(Filter::all().has_label(identity::NAME))).await
}

/// One sandbox, if it has any objects.
pub async fn sandbox(
    engine: &dyn Engine,
    scope: &Scope,
    name: &SandboxName,
) -> Result<Option<ObservedSandbox>, EngineError> {
    let filter = scope.narrow(Filter::all().label(identity::NAME, name.to_string()));
    Ok(look(engine, scope, filter).await?.pop())
}

async fn look(
    engine: &dyn Engine,
    scope: &Scope,
    filter: Filter,
) -> Result<Vec<ObservedSandbox>, EngineError> {
    let (containers, networks, volumes) =
        tokio::try_join!(engine.containers(&filter), engine.networks(&filter), engine.volumes(&filter))?;
    let mut found: BTreeMap<String, ObservedSandbox> = BTreeMap::new();
    for container in containers.into_iter().filter(|container| scope.owns(&container.labels)) {
        let observed = note(&mut found, &container.labels, container.created);
        match role(&container.labels) {
            Some(Role::Gateway) => observed.gateway = Some(container),
            Some(Role::Service) => observed.services.push(container),
            _ => {}
        }
    }
    for network in networks.into_iter().filter(|network| scope.owns(&network.labels)) {
        note(&mut found, &network.labels, network.created).networks.push(network);
    }
    for volume in volumes.into_iter().filter(|volume| scope.owns(&volume.labels)) {
        note(&mut found, &volume.labels, volume.created).volumes.push(volume);
    }
    let mut observed: Vec<ObservedSandbox> = found.into_values().collect();
    for observed in &mut observed {
        observed.services.sort_by_key(|container| (service_of(container).to_owned(), replica_of(container)));
        observed.networks.sort_by(|a, b| a.name.cmp(&b.name));
        observed.volumes.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(observed)
}

fn note<'a>(
    found: &'a mut BTreeMap<String, ObservedSandbox>,
    labels: &BTreeMap<String, String>,
    created: Option<Timestamp>,
) -> &'a mut ObservedSandbox {
    let text = |key: &str| labels.get(key).cloned().unwrap_or_default();
    let observed = found.entry(text(identity::NAME)).or_default();
    if observed.name.is_empty() {
        observed.name = text(identity::NAME);
    }
    let id = text(identity::ID);
    if observed.id.is_empty() {
        observed.id = id;
    } else if observed.id != id {
        observed.others.insert(id);
    }
    if observed.folder.as_os_str().is_empty() {
        observed.folder = text(identity::FOLDER).into();
    }
    if observed.expires.is_none() {
        observed.expires = labels.get(identity::EXPIRES).and_then(|moment| moment.parse().ok());
    }
    observed.created = match (observed.created, created) {
        (Some(known), Some(new)) => Some(known.min(new)),
        (known, new) => known.or(new),
    };
    observed
}

fn role(labels: &BTreeMap<String, String>) -> Option<Role> {
    labels.get(identity::ROLE)?.parse().ok()
}

/// The state and addresses of every service of a sandbox.
pub async fn statuses(
    engine: &dyn Engine,
    observed: &ObservedSandbox,
    passwords: Passwords,
) -> Result<Vec<ServiceStatus>, EngineError> {
    let looks = observed.services.iter().map(async |summary| {
        // A container that was just removed is not listed.
        let Some(container) = engine.container(&summary.name).await? else { return Ok(None) };
        let endpoints = address::endpoints(engine, observed, &container, summary, passwords).await?;
        Ok(Some(ServiceStatus {
            service: service_of(summary).to_owned(),
            replica: replica_of(summary),
            container: summary.name.clone(),
            image: summary.image.clone(),
            state: state(&container),
            endpoints,
        }))
    });
    join_bounded(looks).await.into_iter().filter_map(Result::transpose).collect()
}

/// A container's state as the state of a service.
pub fn state(container: &Container) -> ServiceState {
    match container.state {
        ContainerState::Created => ServiceState::Created,
        ContainerState::Paused => ServiceState::Paused,
        ContainerState::Restarting => ServiceState::Restarting,
        ContainerState::Exited | ContainerState::Dead | ContainerState::Removing => {
            ServiceState::Exited { code: container.exit_code.unwrap_or(0) }
        }
        ContainerState::Running => match container.health.as_ref().map(|health| health.status) {
            Some(HealthStatus::Starting) => ServiceState::Starting,
            Some(HealthStatus::Healthy) => ServiceState::Healthy,
            Some(HealthStatus::Unhealthy) => ServiceState::Unhealthy,
            None => ServiceState::Running,
        },
    }
}

//! The container of a fault: creates, finds, removes and restores it.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt;

use super::{Fault, FaultEvent};
use crate::agent::image;
use crate::engine::{
    ContainerSummary, CreateContainer, Engine, EngineError, ErrorKind, Filter, LogOptions, NetworkMode,
    Resources,
    identity::{self, Role},
};

/// How long a fault may take to become active.
const BEGIN: Duration = Duration::from_secs(20);
/// How long it may take to end.
const END: Duration = Duration::from_secs(2);

/// Why a fault is not active.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The kernel of the engine's machine refused.
    #[error("the fault is not in force: {0}")]
    Refused(String),
}

/// A fault that is active, or will be when its service starts.
#[derive(Debug, Clone)]
pub struct Imposed {
    /// The fault's own container.
    pub container: ContainerSummary,
    pub fault: Fault,
}

impl Imposed {
    /// Reads the fault from a container's labels.
    pub fn of(container: ContainerSummary) -> Option<Self> {
        let fault = serde_json::from_str(container.labels.get(identity::FAULT)?).ok()?;
        Some(Self { container, fault })
    }

    /// Returns the service's container that the fault affects.
    pub fn target(&self) -> &str {
        self.container.labels.get(identity::FAULT_OF).map_or("", String::as_str)
    }
}

/// Returns the labels for a fault of `target`, a container with the labels `labels`.
fn labels(target: &str, labels: &BTreeMap<String, String>, fault: &Fault) -> BTreeMap<String, String> {
    let of_the_sandbox = [
        identity::NAME,
        identity::ID,
        identity::FOLDER,
        identity::EXPIRES,
        identity::SCOPE,
        identity::SERVICE,
        identity::REPLICA,
    ];
    let kept = labels.iter().filter(|(key, _)| of_the_sandbox.contains(&key.as_str()));
    let mut all: BTreeMap<_, _> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    all.insert(identity::ROLE.to_owned(), Role::Fault.to_string());
    all.insert(identity::FAULT_OF.to_owned(), target.to_owned());
    all.insert(identity::FAULT.to_owned(), serde_json::to_string(fault).unwrap_or_default());
    all
}

/// Describes the container for a fault of `target`, whose labels are `of`. It may filter the packets of its network
/// namespace, and nothing else.
fn container(target: &str, of: &BTreeMap<String, String>, image: &str, fault: &Fault) -> CreateContainer {
    let mut create = CreateContainer::new(identity::fault(target), image);
    create.labels = labels(target, of, fault);
    let json = serde_json::to_string(fault).unwrap_or_default();
    create.entrypoint = Some(vec!["/sandbox".to_owned()]);
    create.cmd = Some(vec!["agent".to_owned(), "fault".to_owned(), json]);
    create.settings.user = Some("0".to_owned());
    create.network_mode = NetworkMode::Container(target.to_owned());
    create.settings.read_only = true;
    create.settings.cap_drop = vec!["ALL".to_owned()];
    create.settings.cap_add = vec!["NET_ADMIN".to_owned()];
    create.settings.security_opt = vec!["no-new-privileges:true".to_owned()];
    create.resources = Resources { pids_limit: Some(16), ..Resources::default() };
    create
}

/// Starts a fault on the running container `target`, whose labels are `of`, and replaces the current one.
pub async fn impose(
    engine: &dyn Engine,
    target: &str,
    of: &BTreeMap<String, String>,
    agent_image: &str,
    fault: &Fault,
) -> Result<(), FaultError> {
    let name = identity::fault(target);
    lift(engine, &name).await?;
    image::create_container(engine, &container(target, of, agent_image, fault)).await?;
    let outcome = match engine.start_container(&name).await {
        Ok(()) => begun(engine, &name).await,
        Err(error) => Err(error.into()),
    };
    if outcome.is_err() {
        let _ = engine.remove_container(&name, true, false).await;
    }
    outcome
}

/// Removes a fault; stops its process gracefully if it runs.
pub async fn lift(engine: &dyn Engine, name: &str) -> Result<(), EngineError> {
    let absent = |error: &EngineError| error.kind == ErrorKind::NotFound;
    match engine.stop_container(name, None, Some(END)).await {
        Err(error) if absent(&error) => return Ok(()),
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    match engine.remove_container(name, true, false).await {
        Err(error) if !absent(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Waits for the first message of the process.
async fn begun(engine: &dyn Engine, name: &str) -> Result<(), FaultError> {
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut log = engine.logs(name, &options).await?;
    let first = async {
        let mut text = Vec::new();
        while let Some(chunk) = log.next().await {
            text.extend_from_slice(&chunk?.bytes);
            if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                text.truncate(end);
                break;
            }
        }
        Ok::<_, EngineError>(text)
    };
    let silent = || FaultError::Refused("its process says nothing".to_owned());
    let line = tokio::time::timeout(BEGIN, first).await.map_err(|_elapsed| silent())??;
    match serde_json::from_slice(&line) {
        Ok(FaultEvent::Imposed) => Ok(()),
        Ok(FaultEvent::Failed { message }) => Err(FaultError::Refused(message)),
        Err(_) => Err(FaultError::Refused(String::from_utf8_lossy(&line).into_owned())),
    }
}

/// Lists the faults among the containers that match a filter.
pub async fn find(engine: &dyn Engine, filter: Filter) -> Result<Vec<Imposed>, EngineError> {
    let containers = engine.containers(&filter.label(identity::ROLE, Role::Fault.as_str())).await?;
    Ok(containers.into_iter().filter_map(Imposed::of).collect())
}

/// Restores the fault of a container that has just started: it has a new network namespace.
pub async fn revive(engine: &dyn Engine, target: &str) -> Result<(), FaultError> {
    for imposed in find(engine, Filter::all().label(identity::FAULT_OF, target)).await? {
        impose(engine, target, &imposed.container.labels, &imposed.container.image, &imposed.fault).await?;
    }
    Ok(())
}

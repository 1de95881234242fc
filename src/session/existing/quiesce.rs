//! Quiesces a sandbox: pauses or stops its services while data is cloned or replaced. They are resumed whatever the
//! result; if this process dies, the keeper resumes them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::ExistingSandbox;
use crate::engine::identity::{self, Role};
use crate::engine::{ContainerState, ContainerSummary, EngineError, ErrorKind, Filter, join_bounded};
use crate::plan::PreStart;
use crate::session::build::clean_stop::{disturbed, none_of_these_runs};
use crate::session::error::SessionError;
use crate::session::inspect;
use crate::spec::ServiceName;
use crate::storage::VolumeName;

/// Selects containers of a sandbox.
#[derive(Clone, Copy)]
pub(crate) enum ContainerSet<'a> {
    /// The containers of all services.
    Everyones,
    /// The containers of these services.
    Services(&'a BTreeSet<ServiceName>),
    /// The containers that mount one of these volumes.
    UsersOf(&'a [VolumeName]),
}

/// Who paused a container: this operation, or something before it.
enum Frozen {
    Now,
    Before,
}

/// Containers that are quiesced.
pub(crate) struct QuiesceHandle<'a> {
    existing: &'a ExistingSandbox,
    /// Containers to resume afterwards, by name, and the name that stands for the sandbox's data.
    still: Vec<String>,
    /// For stopped services: none of these containers may run. `None` if they are paused.
    stopped: Option<ContainerSet<'a>>,
}

impl QuiesceHandle<'_> {
    /// Checks that the containers were quiesced without interruption, so that their data did not change.
    pub(crate) async fn undisturbed(&self) -> Result<(), SessionError> {
        if !self.still.is_empty() && !self.existing.context.keeper.still(self.still.clone()).await? {
            return Err(disturbed("the keeper was restarted and resumed the services"));
        }
        match self.stopped {
            Some(whose) => none_of_these_runs(&self.existing.containers(whose).await?),
            None => Ok(()),
        }
    }
}

impl ExistingSandbox {
    /// The current containers of its services.
    pub(crate) async fn containers(
        &self,
        whose: ContainerSet<'_>,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let filter =
            Filter::all().label(identity::ID, self.id.as_str()).label(identity::ROLE, Role::Service.as_str());
        let mut containers = self.context.engine.containers(&filter).await?;
        match whose {
            ContainerSet::Everyones => {}
            ContainerSet::Services(which) => {
                containers.retain(|container| which.contains(inspect::service_of(container)));
            }
            ContainerSet::UsersOf(volumes) => {
                containers.retain(|container| self.uses_any(container, volumes));
            }
        }
        Ok(containers)
    }

    /// Runs work that needs these containers stopped, then starts those that ran or were about to restart, whatever the
    /// result. The work itself has to stop them.
    pub(crate) async fn stopped<T>(
        &self,
        whose: ContainerSet<'_>,
        patience: Duration,
        work: impl AsyncFnOnce(&[ContainerSummary], &QuiesceHandle<'_>) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        // A restart of services does not change their data.
        let data = match whose {
            ContainerSet::Services(_) => None,
            ContainerSet::Everyones | ContainerSet::UsersOf(_) => Some(identity::data(self.name.as_str())),
        };
        let stopped = async {
            if let Some(data) = &data {
                self.claim(data).await?;
            }
            let containers = self.containers(whose).await?;
            let due = self.context.keeper.rest(names(&containers)).await?;
            let lives = |it: &&ContainerSummary| it.state.is_alive() || due.contains(&it.name);
            let again: Vec<ContainerSummary> = containers.iter().filter(lives).cloned().collect();
            let still: Vec<String> = names(&again).into_iter().chain(data).collect();
            self.context.keeper.still(still.clone()).await?;
            let kept = QuiesceHandle { existing: self, still, stopped: Some(whose) };
            let outcome = work(&containers, &kept).await;
            let started = self.start_with(&Self::services_of(&again), PreStart::Skip, patience).await;
            let outcome = outcome?;
            started.map(|()| outcome)
        }
        .await;
        // If this message is lost, the keeper checks the containers once more when this process ends, which has no
        // effect.
        let _ = self.context.keeper.still(Vec::new()).await;
        stopped
    }

    /// Runs work while every service is paused. Containers that were paused before, by the user or because of disk
    /// pressure, stay paused.
    pub(crate) async fn frozen<T>(
        &self,
        work: impl AsyncFnOnce(&QuiesceHandle<'_>) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        let data = identity::data(self.name.as_str());
        let frozen = async {
            self.claim(&data).await?;
            let mut running = self.containers(ContainerSet::Everyones).await?;
            running.retain(|it| it.state.is_alive() && it.state != ContainerState::Paused);
            let still: Vec<String> = names(&running).into_iter().chain([data]).collect();
            self.context.keeper.still(still.clone()).await?;
            let kept = QuiesceHandle { existing: self, still, stopped: None };
            let frozen = join_bounded(running.iter().map(|container| self.freeze(&container.name))).await;
            let others: Vec<bool> =
                frozen.iter().map(|frozen| matches!(frozen, Ok(Frozen::Before))).collect();
            let outcome = match frozen.into_iter().find_map(Result::err) {
                None => work(&kept).await,
                Some(error) => Err(unpausable(error)),
            };
            for (container, _) in running.iter().zip(others).filter(|(_, others)| !others) {
                // A container that is not paused, or no longer exists, need not be resumed.
                let _ = self.context.engine.unpause_container(&container.name).await;
            }
            outcome
        }
        .await;
        // If this message is lost, the keeper resumes the containers once more when this process ends, which has no
        // effect.
        let _ = self.context.keeper.still(Vec::new()).await;
        frozen
    }

    async fn freeze(&self, container: &str) -> Result<Frozen, EngineError> {
        let engine = &self.context.engine;
        match engine.pause_container(container).await {
            Ok(()) => Ok(Frozen::Now),
            // If the engine's answer was lost, the pause may be our own.
            Err(error) if error.kind == ErrorKind::Conflict => match engine.container(container).await? {
                Some(found) if found.state == ContainerState::Paused => Ok(Frozen::Before),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Locks the sandbox's data against other clients.
    async fn claim(&self, data: &str) -> Result<(), SessionError> {
        self.context.keeper.still(vec![data.to_owned()]).await?;
        // The keeper does not protect what it has not recorded.
        if self.context.keeper.still(vec![data.to_owned()]).await? {
            return Ok(());
        }
        Err(SessionError::Busy { name: self.name.clone() })
    }

    /// The services of these containers.
    pub(crate) fn services_of(containers: &[ContainerSummary]) -> BTreeSet<ServiceName> {
        containers.iter().filter_map(|it| ServiceName::new(inspect::service_of(it)).ok()).collect()
    }
}

/// The error for services that were not paused. Some engines cannot pause at all, such as one without root on control
/// groups of version 1.
fn unpausable(error: EngineError) -> SessionError {
    match error.kind {
        ErrorKind::Other | ErrorKind::Unsupported | ErrorKind::Conflict => SessionError::EngineLacks {
            what: format!("the engine cannot pause the services: {}", error.cause),
            hint: "`sandbox snapshot create` without `--crash` stops them instead, and `sandbox up --from` makes a sandbox of \
                   that; `sandbox doctor` shows whether this engine can pause",
        },
        _ => error.into(),
    }
}

/// Waits for all futures, and only then returns the first error, so that none is abandoned.
pub(crate) async fn all<T, E>(
    work: impl Iterator<Item = impl Future<Output = Result<T, E>>>,
) -> Result<Vec<T>, E> {
    join_bounded(work).await.into_iter().collect()
}

pub(crate) fn names(containers: &[ContainerSummary]) -> Vec<String> {
    containers.iter().map(|container| container.name.clone()).collect()
}

//! Its services kept still for a moment, frozen or stopped, while data is cloned or replaced. Whatever comes of it they go
//! on: if this process is lost, the keeper sees to it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::ExistingSandbox;
use crate::engine::identity::{self, Role};
use crate::engine::{ContainerState, ContainerSummary, EngineError, ErrorKind, Filter};
use crate::session::build::clean_stop::{disturbed, none_of_these_runs};
use crate::session::error::SessionError;
use crate::session::inspect;
use crate::spec::ServiceName;
use crate::storage::VolumeName;

/// Whose containers are meant.
#[derive(Clone, Copy)]
pub(crate) enum ContainerSet<'a> {
    /// Those of all services.
    Everyones,
    /// Those of these services.
    Services(&'a BTreeSet<ServiceName>),
    /// Those that have one of these volumes.
    UsersOf(&'a [VolumeName]),
}

/// Since when a container is frozen.
enum Frozen {
    Now,
    Before,
}

/// Containers that are kept still.
pub(crate) struct QuiesceHandle<'a> {
    present: &'a ExistingSandbox,
    /// Those that go on afterwards, by name, and what stands for the sandbox's data.
    still: Vec<String>,
    /// None of these may run; where they are frozen they may.
    stopped: Option<ContainerSet<'a>>,
}

impl QuiesceHandle<'_> {
    /// Makes sure that they were still all the while: what is done with their data now is done in peace.
    pub(crate) async fn undisturbed(&self) -> Result<(), SessionError> {
        if !self.still.is_empty() && !self.present.keeper.still(self.still.clone()).await? {
            return Err(disturbed("the keeper was started anew and had the services go on"));
        }
        match self.stopped {
            Some(whose) => none_of_these_runs(&self.present.containers(whose).await?),
            None => Ok(()),
        }
    }
}

impl ExistingSandbox {
    /// The containers of its services as they are now.
    pub(crate) async fn containers(
        &self,
        whose: ContainerSet<'_>,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let filter =
            Filter::all().label(identity::ID, self.id.as_str()).label(identity::ROLE, Role::Service.as_str());
        let mut containers = self.site.engine.containers(&filter).await?;
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

    /// Does something for which these containers are stopped, then starts again those that ran or were about to, whatever
    /// came of it. What is done has to stop them.
    pub(crate) async fn stopped<T>(
        &self,
        whose: ContainerSet<'_>,
        patience: Duration,
        work: impl AsyncFnOnce(&[ContainerSummary], &QuiesceHandle<'_>) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        // To restart services is no work on their data.
        let data = match whose {
            ContainerSet::Services(_) => None,
            ContainerSet::Everyones | ContainerSet::UsersOf(_) => Some(identity::data(self.name.as_str())),
        };
        let stopped = async {
            if let Some(data) = &data {
                self.claim(data).await?;
            }
            let containers = self.containers(whose).await?;
            let due = self.keeper.rest(names(&containers)).await?;
            let lives = |it: &&ContainerSummary| it.state.is_alive() || due.contains(&it.name);
            let again: Vec<ContainerSummary> = containers.iter().filter(lives).cloned().collect();
            let still: Vec<String> = names(&again).into_iter().chain(data).collect();
            self.keeper.still(still.clone()).await?;
            let kept = QuiesceHandle { present: self, still, stopped: Some(whose) };
            let outcome = work(&containers, &kept).await;
            let started = self.start(&Self::services_of(&again), patience).await;
            let outcome = outcome?;
            started.map(|()| outcome)
        }
        .await;
        // Not told, the keeper looks at them once more when this process ends, which does nothing.
        let _ = self.keeper.still(Vec::new()).await;
        stopped
    }

    /// Does something while every service is frozen. What was frozen before, by its user or because the disk is full, stays
    /// so.
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
            self.keeper.still(still.clone()).await?;
            let kept = QuiesceHandle { present: self, still, stopped: None };
            let frozen = join_all(running.iter().map(|container| self.freeze(&container.name))).await;
            let others: Vec<bool> =
                frozen.iter().map(|frozen| matches!(frozen, Ok(Frozen::Before))).collect();
            let outcome = match frozen.into_iter().find_map(Result::err) {
                None => work(&kept).await,
                Some(error) => Err(error.into()),
            };
            for (container, _) in running.iter().zip(others).filter(|(_, others)| !others) {
                // One that was not frozen, or has gone, need not be thawed.
                let _ = self.site.engine.unpause_container(&container.name).await;
            }
            outcome
        }
        .await;
        // Not told, the keeper thaws them once more when this process ends, which does nothing.
        let _ = self.keeper.still(Vec::new()).await;
        frozen
    }

    async fn freeze(&self, container: &str) -> Result<Frozen, EngineError> {
        let engine = &self.site.engine;
        match engine.pause_container(container).await {
            Ok(()) => Ok(Frozen::Now),
            // Where the answer was lost, it may be ours that is frozen.
            Err(error) if error.kind == ErrorKind::Conflict => match engine.container(container).await? {
                Some(found) if found.state == ContainerState::Paused => Ok(Frozen::Before),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Makes sure that no other process works on its data meanwhile.
    async fn claim(&self, data: &str) -> Result<(), SessionError> {
        self.keeper.still(vec![data.to_owned()]).await?;
        // What the keeper has not noted it does not answer for.
        if self.keeper.still(vec![data.to_owned()]).await? {
            return Ok(());
        }
        Err(SessionError::Data {
            what: format!("another command is working on sandbox `{}`", self.name),
            hint: Some("nothing was done; try again once it is through".to_owned()),
        })
    }

    /// The services that these containers are of.
    pub(crate) fn services_of(containers: &[ContainerSummary]) -> BTreeSet<ServiceName> {
        containers.iter().filter_map(|it| ServiceName::new(inspect::service_of(it)).ok()).collect()
    }
}

/// Waits for all, and answers the first error only then: what is under way is not left to itself.
pub(crate) async fn all<T, E>(
    work: impl Iterator<Item = impl Future<Output = Result<T, E>>>,
) -> Result<Vec<T>, E> {
    join_all(work).await.into_iter().collect()
}

pub(crate) fn names(containers: &[ContainerSummary]) -> Vec<String> {
    containers.iter().map(|container| container.name.clone()).collect()
}

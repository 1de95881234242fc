//! Its services kept still for a moment, frozen or stopped, while data is cloned or replaced. Whatever comes of it they go
//! on: if this process is lost, the keeper sees to it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::Present;
use crate::engine::identity::{self, Role};
use crate::engine::{ContainerSummary, EngineError, Filter};
use crate::pool::VolumeName;
use crate::session::error::SessionError;
use crate::session::observe;
use crate::session::stop::{disturbed, none_of_these_runs};
use crate::spec::ServiceName;

/// Whose containers are meant.
#[derive(Clone, Copy)]
pub(super) enum Whose<'a> {
    /// Those of all services.
    Everyones,
    /// Those of these services.
    Services(&'a BTreeSet<ServiceName>),
    /// Those that have one of these volumes.
    UsersOf(&'a [VolumeName]),
}

/// Containers that are kept still.
pub(super) struct Kept<'a> {
    present: &'a Present,
    /// Those that go on afterwards, by name.
    still: Vec<String>,
    /// None of these may run; where they are frozen they may.
    stopped: Option<Whose<'a>>,
}

impl Kept<'_> {
    /// Makes sure that they were still all the while: what is done with their data now is done in peace.
    pub(super) async fn undisturbed(&self) -> Result<(), SessionError> {
        if !self.still.is_empty() && !self.present.keeper.still(self.still.clone()).await? {
            return Err(disturbed("the keeper was started anew and had the services go on"));
        }
        match self.stopped {
            Some(whose) => none_of_these_runs(&self.present.containers(whose).await?),
            None => Ok(()),
        }
    }
}

impl Present {
    /// The containers of its services as they are now.
    pub(super) async fn containers(&self, whose: Whose<'_>) -> Result<Vec<ContainerSummary>, EngineError> {
        let filter =
            Filter::all().label(identity::ID, self.id.as_str()).label(identity::ROLE, Role::Service.as_str());
        let mut containers = self.site.engine.containers(&filter).await?;
        match whose {
            Whose::Everyones => {}
            Whose::Services(which) => {
                containers.retain(|container| which.contains(observe::service_of(container)));
            }
            Whose::UsersOf(volumes) => containers.retain(|container| self.uses_any(container, volumes)),
        }
        Ok(containers)
    }

    /// Does something for which these containers are stopped, then starts again those that ran or were about to, whatever
    /// came of it. What is done has to stop them.
    pub(super) async fn stopped<T>(
        &self,
        whose: Whose<'_>,
        patience: Duration,
        work: impl AsyncFnOnce(&[ContainerSummary], &Kept<'_>) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        let containers = self.containers(whose).await?;
        let due = self.keeper.rest(names(&containers)).await?;
        let lives = |it: &&ContainerSummary| it.state.is_alive() || due.contains(&it.name);
        let again: Vec<ContainerSummary> = containers.iter().filter(lives).cloned().collect();
        let kept = Kept { present: self, still: names(&again), stopped: Some(whose) };
        self.keeper.still(names(&again)).await?;
        let outcome = work(&containers, &kept).await;
        let started = self.start(&Self::services_of(&again), patience).await;
        // Not told, the keeper looks at them once more when this process ends, which does nothing.
        let _ = self.keeper.still(Vec::new()).await;
        let outcome = outcome?;
        started.map(|()| outcome)
    }

    /// Does something while every service is frozen.
    pub(super) async fn frozen<T>(
        &self,
        work: impl AsyncFnOnce(&Kept<'_>) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        let mut alive = self.containers(Whose::Everyones).await?;
        alive.retain(|container| container.state.is_alive());
        let engine = &self.site.engine;
        let kept = Kept { present: self, still: names(&alive), stopped: None };
        self.keeper.still(names(&alive)).await?;
        let frozen = alive.iter().map(|container| engine.pause_container(&container.name));
        let outcome = match all(frozen).await {
            Ok(_) => work(&kept).await,
            Err(error) => Err(error.into()),
        };
        for container in alive {
            // One that was not frozen, or has gone, need not be thawed.
            let _ = engine.unpause_container(&container.name).await;
        }
        // Not told, the keeper thaws them once more when this process ends, which does nothing.
        let _ = self.keeper.still(Vec::new()).await;
        outcome
    }

    /// The services that these containers are of.
    pub(super) fn services_of(containers: &[ContainerSummary]) -> BTreeSet<ServiceName> {
        containers.iter().filter_map(|it| ServiceName::new(observe::service_of(it)).ok()).collect()
    }
}

/// Waits for all, and answers the first error only then: what is under way is not left to itself.
pub(super) async fn all<T, E>(
    work: impl Iterator<Item = impl Future<Output = Result<T, E>>>,
) -> Result<Vec<T>, E> {
    join_all(work).await.into_iter().collect()
}

pub(super) fn names(containers: &[ContainerSummary]) -> Vec<String> {
    containers.iter().map(|container| container.name.clone()).collect()
}

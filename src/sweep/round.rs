//! One round of a sweep: list the objects and try to remove each of them once.

use std::collections::BTreeSet;
use std::time::Duration;

use super::find::{ObservedObjects, Target, find};
use super::{Leftover, StopMode, Sweep};
use crate::engine::identity::{self, Role};
use crate::engine::{
    ContainerSummary, EngineError, ErrorKind, Network, ObjectKind, Result, Volume, join_bounded,
};

/// Bounds a stop on an engine that hangs. A stop takes the container's grace period, which only the engine knows.
const LONGEST_STOP: Duration = Duration::from_hours(1);

impl Sweep<'_> {
    /// Lists the current objects.
    pub(super) async fn look(&mut self, target: &Target) -> std::result::Result<ObservedObjects, String> {
        let found = match tokio::time::timeout(self.patience.call, find(self.engine, target)).await {
            Ok(outcome) => outcome.map_err(|error| told(&error))?,
            Err(_) => return Err("the engine does not answer".into()),
        };
        self.note_missing(&found).await;
        self.progress.ids.extend(found.labels().filter_map(|labels| labels.get(identity::ID).cloned()));
        Ok(found)
    }

    /// Treats objects that are no longer listed as removed, although their removal was not confirmed.
    async fn note_missing(&mut self, found: &ObservedObjects) {
        let there: BTreeSet<(ObjectKind, &str)> = found.objects().collect();
        let is_gone = |(kind, name): &&(ObjectKind, String)| !there.contains(&(*kind, name.as_str()));
        let gone: Vec<_> = self.progress.unconfirmed.keys().filter(is_gone).cloned().collect();
        for (kind, name) in gone {
            self.confirm(kind, &name).await;
        }
        for (kind, name) in found.objects() {
            self.progress.unconfirmed.insert((kind, name.to_owned()), None);
        }
        for volume in &found.volumes {
            self.progress.unconfirmed.insert((ObjectKind::Volume, volume.name.clone()), Some(volume.clone()));
        }
    }

    /// Records that an object has been removed.
    async fn confirm(&mut self, kind: ObjectKind, name: &str) {
        let key = (kind, name.to_owned());
        self.progress.failed.remove(&key);
        let Some(volume) = self.progress.unconfirmed.remove(&key) else { return };
        self.progress.removed.push(key);
        self.aftermath.gone(kind, name);
        if let Some(volume) = volume
            && let Err(cause) = self.aftermath.volume_gone(&volume).await
        {
            self.progress.storage.push(Leftover { kind: ObjectKind::Path, name: volume.name, cause });
        }
    }

    /// Tries to remove everything once. The gateway is removed last: its name is the lock, and the next owner of the
    /// name must find no leftovers. But it is killed before the networks are removed, because it would keep them busy.
    pub(super) async fn round(&mut self, found: ObservedObjects, manner: StopMode) {
        let is_lock = |container: &ContainerSummary| {
            container.labels.get(identity::ROLE).is_some_and(|role| role == Role::Gateway.as_str())
        };
        let (locks, services): (Vec<_>, Vec<_>) = found.containers.into_iter().partition(is_lock);
        if manner == StopMode::Stop {
            self.stop(&services).await;
        }
        let (outcomes, ()) = futures_util::join!(self.remove_each(&services), self.end(&locks));
        self.note_containers(&services, outcomes).await;
        let (networks, volumes) = futures_util::join!(
            side_by_side(&found.networks, |network| self.remove_network(network)),
            side_by_side(&found.volumes, |volume| self.remove_volume(volume)),
        );
        for (network, outcome) in found.networks.iter().zip(networks) {
            self.note(ObjectKind::Network, &network.name, outcome).await;
        }
        let held = self.note_volumes(&found.volumes, volumes).await;
        let outcomes = self.remove_each(&locks).await;
        self.note_containers(&locks, outcomes).await;
        // The gateway uses the volumes of the secrets.
        let again = side_by_side(&held, |volume| self.remove_volume(volume)).await;
        self.note_volumes(&held, again).await;
    }

    /// Runs the callbacks once nothing is left.
    pub(super) async fn after(&mut self) {
        for id in std::mem::take(&mut self.progress.ids) {
            if let Err(cause) = self.aftermath.sandbox_gone(&id).await {
                self.progress.storage.push(Leftover { kind: ObjectKind::Path, name: id, cause });
            }
        }
    }

    async fn stop(&self, containers: &[ContainerSummary]) {
        let alive: Vec<_> = containers.iter().filter(|container| container.state.is_alive()).collect();
        side_by_side(&alive, |container| async move {
            // The result is ignored, because the removal that follows kills the container.
            let _ = tokio::time::timeout(LONGEST_STOP, self.engine.stop_container(&container.id, None, None))
                .await;
        })
        .await;
    }

    async fn end(&self, containers: &[ContainerSummary]) {
        let alive: Vec<_> = containers.iter().filter(|container| container.state.is_alive()).collect();
        side_by_side(&alive, |container| async move {
            // A failure shows up when the networks are removed.
            let _ = self.limited(self.engine.kill_container(&container.id, "SIGKILL")).await;
        })
        .await;
    }

    async fn remove_each(&self, containers: &[ContainerSummary]) -> Vec<Result<()>> {
        side_by_side(containers, |container| self.remove_container(container)).await
    }

    async fn note_containers(&mut self, containers: &[ContainerSummary], outcomes: Vec<Result<()>>) {
        for (container, outcome) in containers.iter().zip(outcomes) {
            self.note(ObjectKind::Container, &container.name, outcome).await;
        }
    }

    async fn remove_container(&self, container: &ContainerSummary) -> Result<()> {
        self.limited(self.engine.remove_container(&container.id, true, true)).await
    }

    /// Removes a network. Containers attached to it are disconnected first, even those that are not ours.
    async fn remove_network(&self, network: &Network) -> Result<()> {
        let outcome = self.limited(self.engine.remove_network(&network.id)).await;
        if !matches!(&outcome, Err(error) if error.kind == ErrorKind::InUse) {
            return outcome;
        }
        if let Some(now) = self.limited(self.engine.network(&network.id)).await? {
            for member in now.containers {
                // The removal that follows reports the failure.
                let _ = self.limited(self.engine.disconnect(&network.id, &member.id)).await;
            }
        }
        self.limited(self.engine.remove_network(&network.id)).await
    }

    async fn remove_volume(&self, volume: &Volume) -> Result<()> {
        self.limited(self.engine.remove_volume(&volume.name)).await
    }

    /// Returns the volumes that are still in use.
    async fn note_volumes(&mut self, volumes: &[Volume], outcomes: Vec<Result<()>>) -> Vec<Volume> {
        let mut held = Vec::new();
        for (volume, outcome) in volumes.iter().zip(outcomes) {
            if matches!(&outcome, Err(error) if error.kind == ErrorKind::InUse) {
                held.push(volume.clone());
            }
            self.note(ObjectKind::Volume, &volume.name, outcome).await;
        }
        held
    }

    async fn note(&mut self, kind: ObjectKind, name: &str, outcome: Result<()>) {
        match outcome {
            Err(error) if !error.is_not_found() => self.progress.fail(kind, name, told(&error)),
            _ => self.confirm(kind, name).await,
        }
    }

    /// Applies the timeout to an engine call.
    async fn limited<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(self.patience.call, call).await.unwrap_or_else(|_| {
            let words = "the engine does not answer";
            Err(EngineError::new("reach", ObjectKind::Engine, "", ErrorKind::Timeout, words))
        })
    }
}

/// Runs a step for every item, several concurrently, and returns the results in the order of the items.
fn side_by_side<'a, I, F, O>(items: &'a [I], step: impl Fn(&'a I) -> F) -> impl Future<Output = Vec<O>>
where
    F: Future<Output = O>,
{
    join_bounded(items.iter().map(step))
}

fn told(error: &EngineError) -> String {
    format!("{error}: {}", error.cause)
}

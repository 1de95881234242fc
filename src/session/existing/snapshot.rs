//! Takes snapshots of a sandbox's data.

use std::time::Duration;

use super::ExistingSandbox;
use super::quiesce::{ContainerSet, QuiesceHandle};
use crate::data::manifest::{Consistency, Manifest};
use crate::data::repro::Repro;
use crate::data::snapshot;
use crate::session::build::bake;
use crate::session::error::SessionError;
use crate::storage::{Published, SetPath, StorageError};

/// How to take a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotMode {
    /// Stop the services within their own timeouts, and start them again.
    Clean,
    /// Pause the services for a moment.
    Crash,
}

/// How long a snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Until it is removed.
    UntilRemoved,
    /// As long as its sandbox exists.
    WithSandbox,
}

/// A clone of a sandbox's data that has no name yet. It is deleted when the connection to the keeper ends.
pub struct UnpublishedSnapshot {
    making: SetPath,
    manifest: Manifest,
}

impl UnpublishedSnapshot {
    /// Adds a command that shows a bug with the data.
    #[must_use]
    pub fn with_repro(mut self, repro: Repro) -> Self {
        self.manifest.repro = Some(repro);
        self
    }
}

/// What is asked of a snapshot.
#[derive(Debug, Clone)]
pub struct SnapshotRequest {
    /// How to take it.
    pub mode: SnapshotMode,
    /// The user's note.
    pub note: Option<String>,
    /// How long it is kept.
    pub retention: Retention,
    /// How long services may take to get ready again.
    pub patience: Duration,
}

impl SnapshotRequest {
    /// A snapshot without a note.
    pub fn new(mode: SnapshotMode, retention: Retention, patience: Duration) -> Self {
        Self { mode, note: None, retention, patience }
    }
}

impl ExistingSandbox {
    /// Stores the current data under a name.
    ///
    /// # Errors
    /// Fails if the name is taken, or if the storage or the engine fails. Services that ran are started again in any
    /// case.
    pub async fn snapshot(
        &self,
        to: &SetPath,
        request: SnapshotRequest,
    ) -> Result<Consistency, SessionError> {
        self.quiesced(to, request, async |taken| self.publish(taken, to).await).await
    }

    /// Clones the current data, to be published as `to` later.
    ///
    /// # Errors
    /// As for [`ExistingSandbox::snapshot`]. Also fails, without a clone, if a service cannot be started again.
    pub async fn clone_data(
        &self,
        to: &SetPath,
        request: SnapshotRequest,
    ) -> Result<UnpublishedSnapshot, SessionError> {
        self.quiesced(to, request, async |taken| Ok(taken)).await
    }

    /// Clones the data while nothing writes, and passes the clone on before services are started again.
    async fn quiesced<T>(
        &self,
        to: &SetPath,
        request: SnapshotRequest,
        then: impl AsyncFnOnce(UnpublishedSnapshot) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        if self.storage().inspect(to).await?.is_some() {
            return Err(StorageError::Exists { path: to.name.to_string() }.into());
        }
        let SnapshotRequest { mode, note, retention, patience } = request;
        let mut manifest = self.manifest(note, retention).await?;
        match mode {
            SnapshotMode::Crash => {
                self.frozen(async |kept| then(self.clone_unpublished(manifest, kept).await?).await).await
            }
            SnapshotMode::Clean => {
                self.stopped(ContainerSet::Everyones, patience, async |containers, kept| {
                    manifest.consistency = self.stop(&Self::services_of(containers), None).await?;
                    then(self.clone_unpublished(manifest, kept).await?).await
                })
                .await
            }
        }
    }

    async fn manifest(&self, note: Option<String>, retention: Retention) -> Result<Manifest, SessionError> {
        let images = bake::images(&self.context, &self.spec).await?;
        let arch = images.values().next().map_or_else(String::new, |image| image.arch.clone());
        let secrets = self.values().await?.generated(&self.spec);
        let mut manifest = Manifest::new(arch, Consistency::Crash).with_secrets(secrets);
        manifest.sandbox = Some(self.name.to_string());
        manifest.note = note;
        manifest.owner = (retention == Retention::WithSandbox).then(|| self.id.clone());
        manifest.spec = serde_json::to_value(&*self.spec).ok();
        manifest.images = bake::identities(&self.spec, &images);
        manifest.volumes = self.volumes();
        manifest.volumes.sort();
        Ok(manifest)
    }

    async fn clone_unpublished(
        &self,
        manifest: Manifest,
        kept: &QuiesceHandle<'_>,
    ) -> Result<UnpublishedSnapshot, SessionError> {
        kept.undisturbed().await?;
        let (live, storage) = (self.live()?, self.storage());
        let making =
            snapshot::clone_unpublished(storage, &live, &manifest.volumes, kept.undisturbed()).await?;
        Ok(UnpublishedSnapshot { making, manifest })
    }

    /// Gives a clone its name. Returns the state of the services at the time of the clone.
    ///
    /// # Errors
    /// Fails if the name is taken, or if the storage fails.
    pub async fn publish(
        &self,
        taken: UnpublishedSnapshot,
        to: &SetPath,
    ) -> Result<Consistency, SessionError> {
        let UnpublishedSnapshot { making, manifest } = taken;
        match snapshot::publish(self.storage(), &making, to, &manifest).await? {
            Published::New => Ok(manifest.consistency),
            Published::Existed => Err(StorageError::Exists { path: to.name.to_string() }.into()),
        }
    }

    /// Deletes a clone that is not wanted.
    ///
    /// # Errors
    /// Fails if the storage fails.
    pub async fn discard(&self, taken: UnpublishedSnapshot) -> Result<(), SessionError> {
        Ok(self.storage().delete_set(&taken.making).await?)
    }
}

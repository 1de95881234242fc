//! Restores the content that images have for volumes, for a reset to empty volumes.
//!
//! The engine fills an empty volume when a container is created on it, so this creates a container and never starts it.
//! It fills staging volumes, whose content the sandbox's volumes take over in one step: a crash before that empties no
//! volume.

use std::collections::BTreeMap;

use crate::engine::identity::{self, Role};
use crate::engine::{CreateContainer, CreateVolume, Mount, NetworkMode};
use crate::plan::{image_reference, in_order, volumes_of};
use crate::session::build::bake;
use crate::session::context::Context;
use crate::session::error::SessionError;
use crate::spec::{SandboxName, Spec};
use crate::storage::{SetPath, VolumeName, VolumePath};

/// Staging volumes, one for each volume that is reset to empty. Their names are the same in each call, so that a call
/// finds what a killed one left. They carry the sandbox's labels, so that they are destroyed with it.
pub(crate) struct StagingVolumes<'a> {
    context: &'a Context,
    spec: &'a Spec,
    sandbox: &'a SandboxName,
    /// For each: the volume that gets the content, the storage path, and the name on the engine.
    volumes: Vec<(VolumeName, VolumePath, String)>,
}

impl<'a> StagingVolumes<'a> {
    /// Prepares the staging volumes, without creating them.
    pub(crate) fn of(
        context: &'a Context,
        spec: &'a Spec,
        sandbox: &'a SandboxName,
        live: SetPath,
        empty: &[VolumeName],
    ) -> Self {
        let named = |(n, of): (usize, &VolumeName)| {
            // The names of anonymous volumes end in more digits.
            let key = format!(".fill.{n}");
            let name = identity::volume(sandbox.as_str(), &key);
            Some((of.clone(), live.volume(VolumeName::new(key).ok()?), name))
        };
        Self { context, spec, sandbox, volumes: empty.iter().enumerate().filter_map(named).collect() }
    }

    /// Creates and fills them. Returns the new source of each volume. `labels` are those of one of the sandbox's
    /// volumes.
    ///
    /// # Errors
    /// Fails if the storage or the engine fails.
    pub(crate) async fn fill(
        &self,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Result<BTreeMap<VolumeName, VolumePath>, SessionError> {
        if self.volumes.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut labels = labels.cloned().unwrap_or_default();
        for own in [identity::KEY, identity::FROM, identity::FROM_VOLUME, identity::SERVICE] {
            labels.remove(own);
        }
        self.clear().await?;
        for (_, path, name) in &self.volumes {
            self.context.storage.create(path).await?;
            let mount = self.context.storage.mount(path).await?;
            let (driver, options) = (Some(mount.driver), mount.options);
            let labels = labels.clone();
            let volume = CreateVolume { name: name.clone(), driver, options, labels };
            self.context.engine.create_volume(&volume).await?;
        }
        labels.insert(identity::ROLE.to_owned(), Role::Probe.as_str().to_owned());
        let images = bake::images(self.context, self.spec).await?;
        for name in in_order(&self.spec.services) {
            let Some(service) = self.spec.services.get(&name) else { continue };
            for replica in 1..=service.replicas() {
                let volumes = volumes_of(self.sandbox.as_str(), service, replica, images.get(&service.name));
                let mounts: Vec<Mount> = volumes
                    .into_values()
                    .filter(|volume| {
                        volume
                            .options
                            .as_ref()
                            .is_none_or(|options| !options.nocopy && options.subpath.is_none())
                    })
                    .filter_map(|volume| {
                        let (_, _, name) =
                            self.volumes.iter().find(|(of, _, _)| of.as_str() == volume.key)?;
                        Some(Mount::volume(name.clone(), volume.target))
                    })
                    .collect();
                if !mounts.is_empty() {
                    self.copy(&labels, image_reference(self.spec, service), mounts).await?;
                }
            }
        }
        Ok(self.volumes.iter().map(|(of, path, _)| (of.clone(), path.clone())).collect())
    }

    /// Removes them, and those that a killed call left.
    ///
    /// # Errors
    /// Fails if the storage or the engine fails.
    pub(crate) async fn clear(&self) -> Result<(), SessionError> {
        if self.volumes.is_empty() {
            return Ok(());
        }
        self.remove(&self.filler()).await?;
        for (_, path, name) in &self.volumes {
            match self.context.engine.remove_volume(name).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => self.context.storage.delete_volume(path).await?,
            }
        }
        Ok(())
    }

    fn filler(&self) -> String {
        identity::probe(self.sandbox.as_str(), "fill")
    }

    /// Has the engine copy the image's content at these paths.
    async fn copy(
        &self,
        labels: &BTreeMap<String, String>,
        image: String,
        mounts: Vec<Mount>,
    ) -> Result<(), SessionError> {
        let name = self.filler();
        let container = CreateContainer {
            name: name.clone(),
            image,
            mounts,
            labels: labels.clone(),
            network_mode: NetworkMode::None,
            ..CreateContainer::default()
        };
        self.context.engine.create_container(&container).await?;
        self.remove(&name).await
    }

    /// Removes the container with the anonymous volumes that the engine created for it.
    async fn remove(&self, name: &str) -> Result<(), SessionError> {
        match self.context.engine.remove_container(name, true, true).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

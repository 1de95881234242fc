//! Resets data to its seeds or to a snapshot: all of it, one service's, or one volume.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ExistingSandbox;
use super::image_content::StagingVolumes;
use super::quiesce::{ContainerSet, all};
use crate::data::baseline;
use crate::data::manifest::Manifest;
use crate::data::snapshot;
use crate::engine::identity;
use crate::engine::{ContainerSummary, MountPointKind, Volume};
use crate::session::build::bake;
use crate::session::build::clone_progress;
use crate::session::error::SessionError;
use crate::spec::ServiceName;
use crate::storage::{SetInfo, SetPath, VolumeName, VolumePath};

/// What to reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every volume.
    Everything,
    /// The volumes of a service.
    Service(ServiceName),
    /// One volume, by its key in the spec.
    Volume(String),
}

impl ExistingSandbox {
    /// Resets data to a snapshot, or to what each volume was made from. Services that do not use it keep running.
    ///
    /// # Errors
    /// Fails if there is no such volume, if a volume's origin is not known, if the snapshot lacks the volume or has
    /// other secrets, or if the storage or the engine fails.
    pub async fn reset(
        &self,
        target: &Target,
        to: Option<&SetPath>,
        patience: Duration,
    ) -> Result<Vec<VolumeName>, SessionError> {
        let volumes = self.targeted(target)?;
        let mut sources = match to {
            Some(set) => self.kept_in(set, &volumes).await?,
            None => self.origins(&volumes).await?,
        };
        let empty: Vec<VolumeName> =
            volumes.iter().filter(|volume| !sources.contains_key(*volume)).cloned().collect();
        let aside = StagingVolumes::of(&self.context, &self.spec, &self.name, self.live()?, &empty);
        self.stopped(ContainerSet::UsersOf(&volumes), patience, async |users, kept| {
            let labels = self.observed.volumes.first().map(|volume| &volume.labels);
            let outcome = async {
                // A crash before the last step leaves the old data.
                sources.extend(aside.fill(labels).await?);
                self.end(users, &volumes).await?;
                kept.undisturbed().await?;
                let live = self.live()?;
                let places: Vec<VolumePath> = sources.keys().map(|key| live.volume(key.clone())).collect();
                let restored = snapshot::restore(self.storage(), &live, &sources);
                Ok(clone_progress::told(self.storage(), &self.context.events, &places, restored).await?)
            }
            .await;
            let cleared = aside.clear().await;
            outcome.and(cleared)
        })
        .await?;
        Ok(volumes)
    }

    /// Stops the users of these volumes, whose data is discarded. Users that also write other data get their full stop
    /// timeout; the others are killed.
    async fn end(&self, users: &[ContainerSummary], volumes: &[VolumeName]) -> Result<(), SessionError> {
        let saves = |user: &&ContainerSummary| {
            user.mounts.iter().any(|mount| {
                matches!(mount.kind, MountPointKind::Volume | MountPointKind::Bind)
                    && !mount.read_only
                    && !self.is_any_of(&mount.name, volumes)
            })
        };
        let saving: Vec<ContainerSummary> = users.iter().filter(saves).cloned().collect();
        let saving = Self::services_of(&saving);
        if !saving.is_empty() {
            self.stop(&saving, None).await?;
        }
        let engine = &self.context.engine;
        let others = users.iter().filter(|user| user.state.is_alive() && !saves(user));
        all(others.map(|it| engine.stop_container(&it.name, None, Some(Duration::ZERO)))).await?;
        Ok(())
    }

    /// The paths of these volumes in a snapshot.
    async fn kept_in(
        &self,
        set: &SetPath,
        volumes: &[VolumeName],
    ) -> Result<BTreeMap<VolumeName, VolumePath>, SessionError> {
        let info = snapshot::existing(self.storage(), set).await?;
        let lacks: Vec<&VolumeName> =
            volumes.iter().filter(|volume| !info.volumes.contains(volume)).collect();
        if !lacks.is_empty() {
            return Err(SessionError::UnfitData {
                what: format!("snapshot `{}` has no data of {}", set.name, quoted(&lacks)),
                hint: Some(match info.volumes.as_slice() {
                    [] => "nothing was changed; it has no volume at all".to_owned(),
                    has => format!(
                        "nothing was changed; it has {}, and `sandbox reset VOLUME --to {}` puts back one",
                        quoted(has),
                        set.name
                    ),
                }),
            });
        }
        self.check_secrets(set, &info, volumes).await?;
        Ok(volumes.iter().map(|volume| (volume.clone(), set.volume(volume.clone()))).collect())
    }

    /// Data that was made with another password cannot be opened with the current one.
    async fn check_secrets(
        &self,
        set: &SetPath,
        info: &SetInfo,
        volumes: &[VolumeName],
    ) -> Result<(), SessionError> {
        let Some(manifest) = Manifest::of(info) else { return Ok(()) };
        let users = self.observed.services.iter().filter(|container| self.uses_any(container, volumes));
        let users: Vec<ContainerSummary> = users.cloned().collect();
        let users = Self::services_of(&users);
        let granted: BTreeSet<&str> = users
            .iter()
            .filter_map(|name| self.spec.services.get(name))
            .flat_map(|service| &service.secrets)
            .map(|grant| grant.source.as_str())
            .collect();
        let theirs = manifest.secret_values();
        let ours = self.values().await?.generated(&self.spec);
        let differs = |(name, value): &(&String, &String)| {
            granted.contains(name.as_str()) && ours.get(*name).is_some_and(|mine| mine != *value)
        };
        match theirs.iter().find(differs) {
            None => Ok(()),
            Some((secret, _)) => Err(SessionError::UnfitData {
                what: format!(
                    "the data of snapshot `{}` was made with another value of the generated secret `{secret}` than \
                     sandbox `{}` has",
                    set.name, self.name
                ),
                hint: Some(format!(
                    "nothing was changed; `sandbox up --from {}` builds a sandbox with the data and its secrets",
                    set.name
                )),
            }),
        }
    }

    /// The origins of these volumes, if they are still stored. Volumes without an origin were empty.
    async fn origins(
        &self,
        volumes: &[VolumeName],
    ) -> Result<BTreeMap<VolumeName, VolumePath>, SessionError> {
        let origin = |volume: &VolumeName| Some((volume.clone(), self.origin(volume)?));
        let origins: BTreeMap<VolumeName, VolumePath> = volumes.iter().filter_map(origin).collect();
        let sets: BTreeSet<&SetPath> = origins.values().map(|origin| &origin.set).collect();
        for set in sets {
            snapshot::existing(self.storage(), set).await?;
        }
        if origins.len() < volumes.len() {
            let images = bake::images(&self.context, &self.spec).await?;
            let seeded = baseline::bake_set(&self.spec, &images).map(|set| set.volumes).unwrap_or_default();
            let lost: Vec<&VolumeName> = volumes
                .iter()
                .filter(|volume| seeded.contains(*volume) && !origins.contains_key(*volume))
                .collect();
            if !lost.is_empty() {
                return Err(SessionError::UnfitData {
                    what: format!("what the seeds made of {} was not kept when they ran", quoted(&lost)),
                    hint: Some(
                        "nothing was changed; `--to SNAPSHOT` puts back a snapshot, `sandbox down` and `sandbox up` \
                         have the seeds run again"
                            .to_owned(),
                    ),
                });
            }
        }
        Ok(origins)
    }

    /// A volume's origin according to its labels.
    pub(super) fn origin(&self, volume: &VolumeName) -> Option<VolumePath> {
        let labels = &self.volume(volume)?.labels;
        let set: SetPath = labels.get(identity::FROM)?.parse().ok()?;
        let named = labels.get(identity::FROM_VOLUME).and_then(|name| VolumeName::new(name.as_str()).ok());
        Some(set.volume(named.unwrap_or_else(|| volume.clone())))
    }

    fn volume(&self, key: &VolumeName) -> Option<&Volume> {
        self.observed
            .volumes
            .iter()
            .find(|volume| volume.labels.get(identity::KEY).is_some_and(|of| of == key.as_str()))
    }

    fn targeted(&self, target: &Target) -> Result<Vec<VolumeName>, SessionError> {
        match target {
            Target::Everything => Ok(self.volumes()),
            Target::Service(service) => {
                self.services(std::slice::from_ref(service))?;
                let mine = self.observed.containers(service.as_str());
                let mounted: BTreeSet<&str> =
                    mine.flat_map(|container| &container.mounts).map(|mount| mount.name.as_str()).collect();
                let volumes =
                    self.observed.volumes.iter().filter(|volume| mounted.contains(volume.name.as_str()));
                let keys = volumes.filter_map(|volume| volume.labels.get(identity::KEY));
                Ok(keys.filter_map(|key| VolumeName::new(key.as_str()).ok()).collect())
            }
            Target::Volume(key) => match self.volumes().into_iter().find(|volume| volume.as_str() == key) {
                Some(volume) => Ok(vec![volume]),
                None => Err(SessionError::UnfitData {
                    what: format!("sandbox `{}` has no volume `{key}`", self.name),
                    hint: Some("`sandbox config` shows the spec's volumes".to_owned()),
                }),
            },
        }
    }

    /// Whether a container mounts one of these volumes.
    pub(super) fn uses_any(&self, container: &ContainerSummary, volumes: &[VolumeName]) -> bool {
        container.mounts.iter().any(|mount| self.is_any_of(&mount.name, volumes))
    }

    /// Whether an engine volume's name belongs to one of these.
    fn is_any_of(&self, name: &str, volumes: &[VolumeName]) -> bool {
        volumes.iter().any(|key| self.volume(key).is_some_and(|volume| volume.name == name))
    }
}

fn quoted(names: &[impl std::fmt::Display]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

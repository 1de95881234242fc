//! Its data put back: to its seeds or to a snapshot, all of it, a service's, or one volume's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Present;
use super::still::{Whose, all};
use crate::data::snapshot;
use crate::engine::ContainerSummary;
use crate::engine::identity;
use crate::pool::{SetPath, VolumeName};
use crate::session::error::SessionError;
use crate::session::refill::refill;
use crate::spec::ServiceName;

/// What is put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every volume.
    Everything,
    /// The volumes of a service.
    Service(ServiceName),
    /// One volume, by the spec's key.
    Volume(String),
}

impl Present {
    /// Puts data back: to a snapshot, or to what each volume was made from. Services that do not use it run on.
    ///
    /// # Errors
    /// When there is no such volume, or the storage or the engine refuses.
    pub async fn reset(
        &self,
        target: &Target,
        to: Option<&SetPath>,
        patience: Duration,
    ) -> Result<Vec<VolumeName>, SessionError> {
        let volumes = self.targeted(target)?;
        let origins = self.by_origin(&volumes, to);
        for set in origins.keys().flatten() {
            snapshot::existing(self.storage(), set).await?;
        }
        self.stopped(Whose::UsersOf(&volumes), patience, async |users, kept| {
            let engine = &self.site.engine;
            // Their data goes: there is nothing to be saved.
            let stops = users.iter().filter(|it| it.state.is_alive());
            all(stops.map(|it| engine.stop_container(&it.name, None, Some(Duration::ZERO)))).await?;
            kept.undisturbed().await?;
            self.put_back(&origins).await
        })
        .await?;
        Ok(volumes)
    }

    /// Gives volumes what the sets have of them, or else what their image has.
    async fn put_back(
        &self,
        origins: &BTreeMap<Option<SetPath>, Vec<VolumeName>>,
    ) -> Result<(), SessionError> {
        let live = self.live()?;
        let mut empty = Vec::new();
        for (from, volumes) in origins {
            empty.extend(snapshot::restore(self.storage(), from.as_ref(), &live, volumes).await?);
        }
        let labels = self.sighting.volumes.first().map(|volume| volume.labels.clone()).unwrap_or_default();
        refill(&self.site, &self.spec, &self.name, &labels, &empty).await
    }

    fn targeted(&self, target: &Target) -> Result<Vec<VolumeName>, SessionError> {
        match target {
            Target::Everything => Ok(self.volumes()),
            Target::Service(service) => {
                self.services(std::slice::from_ref(service))?;
                let mine = self.sighting.containers(service.as_str());
                let mounted: BTreeSet<&str> =
                    mine.flat_map(|container| &container.mounts).map(|mount| mount.name.as_str()).collect();
                let volumes =
                    self.sighting.volumes.iter().filter(|volume| mounted.contains(volume.name.as_str()));
                let keys = volumes.filter_map(|volume| volume.labels.get(identity::KEY));
                Ok(keys.filter_map(|key| VolumeName::new(key.as_str()).ok()).collect())
            }
            Target::Volume(key) => match self.volumes().into_iter().find(|volume| volume.as_str() == key) {
                Some(volume) => Ok(vec![volume]),
                None => Err(SessionError::Data {
                    what: format!("sandbox `{}` has no volume `{key}`", self.name),
                    hint: Some("`sandbox config` shows the spec's volumes".to_owned()),
                }),
            },
        }
    }

    /// Whether a container has one of these volumes.
    pub(super) fn uses_any(&self, container: &ContainerSummary, volumes: &[VolumeName]) -> bool {
        let of_volume = |name: &str| {
            let volume = self.sighting.volumes.iter().find(|volume| volume.name == name);
            volume
                .and_then(|volume| volume.labels.get(identity::KEY))
                .is_some_and(|key| volumes.iter().any(|one| one.as_str() == key))
        };
        container.mounts.iter().any(|mount| of_volume(&mount.name))
    }

    /// Volumes by the set that they go back to.
    fn by_origin(
        &self,
        volumes: &[VolumeName],
        to: Option<&SetPath>,
    ) -> BTreeMap<Option<SetPath>, Vec<VolumeName>> {
        let origin = |volume: &VolumeName| {
            let found = self
                .sighting
                .volumes
                .iter()
                .find(|one| one.labels.get(identity::KEY).is_some_and(|key| key == volume.as_str()));
            found.and_then(|one| one.labels.get(identity::FROM)).and_then(|set| set.parse::<SetPath>().ok())
        };
        let mut sorted: BTreeMap<Option<SetPath>, Vec<VolumeName>> = BTreeMap::new();
        for volume in volumes {
            sorted.entry(to.cloned().or_else(|| origin(volume))).or_default().push(volume.clone());
        }
        sorted
    }
}

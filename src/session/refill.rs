//! Gives volumes that were emptied the content that images have for them, as when the sandbox was made.
//!
//! The engine fills an empty volume when a container is created on it, so one is created, and never started.

use std::collections::BTreeMap;

use super::bake;
use super::error::SessionError;
use super::raise::Site;
use crate::engine::identity::{self, Role};
use crate::engine::{CreateContainer, Mount, NetworkMode};
use crate::plan::{image_reference, volumes_of};
use crate::pool::VolumeName;
use crate::spec::{SandboxName, Spec};

/// Fills empty volumes of a sandbox, whose objects have these labels.
pub(super) async fn refill(
    site: &Site,
    spec: &Spec,
    name: &SandboxName,
    labels: &BTreeMap<String, String>,
    empty: &[VolumeName],
) -> Result<(), SessionError> {
    if empty.is_empty() {
        return Ok(());
    }
    let images = bake::images(site, spec).await?;
    for service in spec.services.values() {
        for replica in 1..=service.replicas() {
            let volumes = volumes_of(name.as_str(), service, replica, images.get(&service.name));
            let mounts: Vec<Mount> = volumes
                .into_values()
                .filter(|volume| empty.iter().any(|name| name.as_str() == volume.key))
                .filter(|volume| {
                    volume.options.as_ref().is_none_or(|options| !options.nocopy && options.subpath.is_none())
                })
                .map(|volume| Mount::volume(volume.name, volume.target))
                .collect();
            if !mounts.is_empty() {
                fill(site, name, labels, image_reference(spec, service), mounts).await?;
            }
        }
    }
    Ok(())
}

async fn fill(
    site: &Site,
    sandbox: &SandboxName,
    labels: &BTreeMap<String, String>,
    image: String,
    mounts: Vec<Mount>,
) -> Result<(), SessionError> {
    let name = identity::probe(sandbox.as_str(), "fill");
    let mut labels = labels.clone();
    labels.retain(|key, _| ![identity::KEY, identity::FROM, identity::SERVICE].contains(&key.as_str()));
    labels.insert(identity::ROLE.to_owned(), Role::Probe.as_str().to_owned());
    let network_mode = NetworkMode::None;
    let container = CreateContainer {
        name: name.clone(),
        image,
        mounts,
        labels,
        network_mode,
        ..CreateContainer::default()
    };
    // One that a call before this was killed with is in the way.
    remove(site, &name).await?;
    site.engine.create_container(&container).await?;
    remove(site, &name).await
}

async fn remove(site: &Site, name: &str) -> Result<(), SessionError> {
    match site.engine.remove_container(name, true, false).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

//! Uses data from snapshots: of a whole sandbox (`up --from`), or of single volumes (`snapshot` seeds).

use std::path::PathBuf;
use std::sync::Arc;

use super::snapshot_transfer::RemoteEnd;
use crate::data::manifest::Manifest;
use crate::data::snapshot;
use crate::plan::{Seeding, VolumeSource, image_reference};
use crate::session::context::Context;
use crate::session::error::SessionError;
use crate::session::event::Event;
use crate::session::request::{BuildRequest, Drift};
use crate::spec::{self, Seed, SnapshotRef, Spec};
use crate::storage::{SetPath, VolumeName};

/// Sets a build request's data, and the secrets that belong to it, from a stored set.
pub async fn from_set(
    context: &Context,
    order: &mut BuildRequest,
    from: &SetPath,
    drift: Drift,
) -> Result<(), SessionError> {
    let info = snapshot::existing(&*context.storage, from).await?;
    if let Some(manifest) = Manifest::of(&info) {
        order.values = Arc::new(order.values.keeping(&manifest.secret_values()));
        if drift == Drift::Refused {
            order.made_with = manifest.images;
        }
    }
    for volume in info.volumes {
        order.sources.insert(volume.to_string(), VolumeSource::Clone(from.volume(volume)));
    }
    order.seeding = Seeding::Done;
    tell_other_volumes(context, order);
    Ok(context.storage.touch(from).await?)
}

/// Reports volumes that only the stored set or only the spec has: a renamed volume would be taken for one with its data.
fn tell_other_volumes(context: &Context, order: &BuildRequest) {
    let listed = |names: Vec<&str>| names.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ");
    let is_named = |name: &&str| !name.starts_with('.');
    let stored = order.sources.keys().map(String::as_str).filter(is_named);
    let unused: Vec<&str> = stored.filter(|name| !order.spec.volumes.contains_key(*name)).collect();
    if unused.is_empty() {
        return;
    }
    let written = order.spec.volumes.keys().map(spec::VolumeName::as_str);
    let empty: Vec<&str> = written.filter(|name| !order.sources.contains_key(*name)).collect();
    let rest = match empty.as_slice() {
        [] => String::new(),
        _ => format!("; {} of the spec start empty", listed(empty)),
    };
    let text = format!("the data of {} is not used: the spec has no such volume{rest}", listed(unused));
    let hint = "a renamed volume gets its data with `seed: [{ snapshot: NAME, volume: OLD }]`".to_owned();
    context.events.emit(Event::Warning { text, hint: Some(hint) });
}

/// Reports which of the images that the data was made with have to be pulled.
///
/// # Errors
/// Fails if the engine does not answer.
pub async fn tell_missing(context: &Context, order: &BuildRequest) -> Result<(), SessionError> {
    for (service, made_with) in &order.made_with {
        if context.engine.image(&made_with.reference).await?.is_none() {
            let text = format!(
                "image `{}` of service `{service}`, which the data was made with, is not on this engine",
                made_with.reference
            );
            let hint = "it is fetched now; `sandbox snapshot export --with-images` puts it in the file";
            context.events.emit(Event::Warning { text, hint: Some(hint.to_owned()) });
        }
    }
    Ok(())
}

/// Checks that the images are those that the data was made with.
///
/// # Errors
/// Names the first image that differs.
pub async fn check_images(context: &Context, order: &BuildRequest) -> Result<(), SessionError> {
    for service in order.spec.services.values() {
        let Some(made_with) = order.made_with.get(service.name.as_str()) else { continue };
        let reference = image_reference(&order.spec, service);
        let Some(image) = context.engine.image(&reference).await? else { continue };
        if made_with.is(&image) {
            continue;
        }
        if service.build().is_some() {
            let text = format!(
                "image `{reference}` of service `{}` is built from other sources than the data was made with",
                service.name
            );
            context.events.emit(Event::Warning { text, hint: None });
        } else {
            return Err(SessionError::ImageDrift { reference, service: service.name.clone() });
        }
    }
    Ok(())
}

/// A volume seed that takes its data from a snapshot.
pub struct SnapshotSeed {
    volume: String,
    /// The volume in the snapshot.
    of: VolumeName,
    from: From,
}

enum From {
    Stored(SetPath),
    File(PathBuf),
}

/// The snapshots that a spec's volumes are seeded from.
///
/// # Errors
/// Fails if a snapshot or volume name is not valid.
pub fn seeds(spec: &Spec) -> Result<Vec<SnapshotSeed>, SessionError> {
    let mut seeds = Vec::new();
    for (name, volume) in &spec.volumes {
        for seed in &volume.seed {
            let Seed::Snapshot(spec::SnapshotSeed { snapshot, volume: of, .. }) = seed else { continue };
            let of = of.as_ref().map_or(name.as_str(), |of| of.as_str());
            let from = match snapshot {
                SnapshotRef::Stored(stored) => From::Stored(SetPath::snapshot(stored)?),
                SnapshotRef::File(file) => From::File(file.clone()),
            };
            let of = VolumeName::new(of)?;
            seeds.push(SnapshotSeed { volume: name.to_string(), of, from });
        }
    }
    Ok(seeds)
}

impl SnapshotSeed {
    /// Whether it is a file, which has to be imported before it can be used.
    pub fn is_a_file(&self) -> bool {
        matches!(self.from, From::File(_))
    }

    /// Makes the request's volume a clone of the snapshot's, with the secrets that it was made with.
    ///
    /// # Errors
    /// Fails if there is no such snapshot, if it has no such volume, or if a file cannot be imported.
    pub async fn apply(&self, context: &Context, order: &mut BuildRequest) -> Result<(), SessionError> {
        let set = match &self.from {
            From::Stored(set) => set.clone(),
            From::File(file) => {
                let (engine, container) = (Arc::clone(&context.engine), context.storage_container.clone());
                let far = RemoteEnd { engine, container, events: context.events.clone() };
                far.kept(&*context.storage, file).await?
            }
        };
        let info = snapshot::existing(&*context.storage, &set).await?;
        if !info.volumes.contains(&self.of) {
            let has: Vec<String> = info.volumes.iter().map(|name| format!("`{name}`")).collect();
            return Err(SessionError::UnfitData {
                what: format!(
                    "the snapshot that volume `{}` is seeded from has no volume `{}`",
                    self.volume, self.of
                ),
                hint: Some(format!("it has {}; name one with `volume:`", has.join(", "))),
            });
        }
        if let Some(manifest) = Manifest::of(&info) {
            order.values = Arc::new(order.values.keeping(&manifest.secret_values()));
        }
        context.storage.touch(&set).await?;
        order.sources.insert(self.volume.clone(), VolumeSource::Clone(set.volume(self.of.clone())));
        Ok(())
    }
}

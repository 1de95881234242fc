//! Exports sets of the storage to snapshot files and imports them, in the keeper's container.

use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::images::{self, Archived};
use super::write::write_tar;
use super::{ArchiveError, Exported, Import, Imported, Limits, Packing, TarSink, VolumeSource, export};
use crate::data::manifest::Manifest;
use crate::spec::{ANYWHERE, Service, Spec, SpecOrigin, relocate};
use crate::storage::tree::Counter;
use crate::storage::{Detail, Published, SetPath, Storage, StorageError};

/// A storage and the folder of its files.
#[derive(Clone)]
pub struct ArchiveStore {
    /// The storage.
    pub storage: Arc<dyn Storage>,
    /// The folder that contains its namespaces.
    pub folder: std::path::PathBuf,
}

/// Reads the manifest of a stored set.
pub async fn manifest_of(storage: &dyn Storage, set: &SetPath) -> Result<Manifest, ArchiveError> {
    let info = crate::data::snapshot::existing(storage, set).await?;
    let unreadable = || StorageError::Refused { reason: format!("`{set}` has no manifest that can be read") };
    Ok(Manifest::of(&info).ok_or_else(unreadable)?)
}

/// Whether an export includes values that came from the user's own environment variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserValues {
    /// The values are left out.
    LeftOut,
    /// The values are included.
    Included,
}

/// Names of the variables, as `SERVICE.NAME`, whose values came from the user's own environment.
pub fn user_variables(manifest: &Manifest) -> Vec<String> {
    let Some(spec) = spec_of(manifest) else { return Vec::new() };
    let services = spec.services.values();
    let named =
        services.flat_map(|it| it.user_environment.iter().map(move |key| format!("{}.{key}", it.name)));
    named.collect()
}

fn spec_of(manifest: &Manifest) -> Option<Spec> {
    serde_json::from_value(manifest.spec.clone()?).ok()
}

/// A manifest for other machines: paths in its spec become relative to the project folder.
fn portable(mut manifest: Manifest, values: UserValues) -> Manifest {
    manifest.owner = None;
    let Some(mut spec) = spec_of(&manifest) else { return manifest };
    relocate(&mut spec, Path::new(ANYWHERE));
    if values == UserValues::LeftOut {
        spec.clear_extensions();
        for service in spec.services.values_mut() {
            let Service { environment, user_environment, .. } = service;
            environment.retain(|key, _| !user_environment.contains(key));
        }
    }
    manifest.spec = serde_json::to_value(spec).ok();
    manifest
}

/// Fails if the spec holds values of the user's own variables that cannot be left out.
fn may_leave(manifest: &Manifest, values: UserValues) -> Result<(), ArchiveError> {
    let Some(spec) = spec_of(manifest).filter(|_| values == UserValues::LeftOut) else { return Ok(()) };
    if spec.user_values.is_empty() {
        return Ok(());
    }
    Err(ArchiveError::UserValues { paths: spec.user_values.into_iter().collect() })
}

/// Exports a published set as a snapshot file.
pub async fn export_set(
    place: &ArchiveStore,
    set: &SetPath,
    out: impl Write + Send + 'static,
    packing: Packing,
    images: Option<Box<dyn Read + Send>>,
    values: UserValues,
    counter: Arc<Counter>,
) -> Result<Exported, ArchiveError> {
    let (manifest, volumes) = exportable(place, set, values).await?;
    joined(spawn_blocking(move || {
        let mut images = images;
        let images = images.as_mut().map(|images| images as &mut dyn Read);
        export(out, packing, &manifest, &volumes, images, &counter)
    }))
    .await
}

/// Exports a published set as a plain tar to a sink, which is returned.
pub async fn export_to<S: TarSink + Send + 'static>(
    place: &ArchiveStore,
    set: &SetPath,
    mut sink: S,
    images: Option<Box<dyn Read + Send>>,
    values: UserValues,
    counter: Arc<Counter>,
) -> Result<(Exported, S), ArchiveError> {
    let (manifest, volumes) = exportable(place, set, values).await?;
    joined(spawn_blocking(move || {
        let mut images = images;
        let images = images.as_mut().map(|images| images as &mut dyn Read);
        let exported = write_tar(&mut sink, &manifest, &volumes, images, &counter)?;
        sink.flush().map_err(|source| ArchiveError::Stream { operation: "write", source })?;
        Ok((exported, sink))
    }))
    .await
}

/// The manifest of a set as it is exported, and the folders of its volumes.
async fn exportable(
    place: &ArchiveStore,
    set: &SetPath,
    values: UserValues,
) -> Result<(Manifest, Vec<VolumeSource>), ArchiveError> {
    let manifest = manifest_of(&*place.storage, set).await?;
    may_leave(&manifest, values)?;
    let manifest = portable(manifest, values);
    let volumes = manifest
        .volumes
        .iter()
        .map(|name| (name.clone(), place.folder.join(set.volume(name.clone()).relative())))
        .collect();
    place.storage.touch(set).await?;
    Ok((manifest, volumes))
}

/// Result of an import.
#[derive(Debug)]
pub struct ImportSummary {
    /// Amounts that were read.
    pub imported: Imported,
    /// The images' archive, complete and rewound, with its list of images, if the file contains one.
    pub images: Option<(std::fs::File, Vec<Archived>)>,
}

/// Imports a snapshot file and publishes it. Nothing is published before everything has been checked, and nothing
/// remains after an error.
///
/// The imported spec is marked as not trusted with the host, regardless of what the file says.
pub async fn import_set(
    place: &ArchiveStore,
    to: &SetPath,
    input: impl Read + Send + 'static,
    counter: Arc<Counter>,
) -> Result<ImportSummary, ArchiveError> {
    let storage = &*place.storage;
    if storage.inspect(to).await?.is_some() {
        return Err(StorageError::Exists { path: to.to_string() }.into());
    }
    let usage = storage.usage(Detail::Totals).await?;
    let limits = Limits::within(usage.host_total, usage.host_free);
    let mut import = joined(spawn_blocking(move || Import::open_ahead(input, limits))).await?;
    let spooled = if import.head().images { Some(spool(&place.folder)?) } else { None };
    let manifest = distrusted(import.take_manifest());
    let making = storage.begin().await?;
    let outcome = async {
        let mut places = std::collections::BTreeMap::new();
        for name in &manifest.volumes {
            let volume = making.volume(name.clone());
            storage.create(&volume).await?;
            places.insert(name.clone(), place.folder.join(volume.relative()));
        }
        let brought = joined(spawn_blocking(move || {
            let mut images = spooled;
            let writer = images.as_mut().map(|images| images as &mut dyn Write);
            let imported = import.unpack(&places, writer, &counter)?;
            Ok(ImportSummary { imported, images: images.map(looked_into).transpose()? })
        }))
        .await?;
        match storage.publish(&making, to, &manifest.to_json()).await? {
            Published::New => Ok(brought),
            Published::Existed => Err(StorageError::Exists { path: to.to_string() }.into()),
        }
    }
    .await;
    if outcome.is_err() {
        // The first error is reported; leftovers are removed when the connection ends.
        let _ = storage.delete_set(&making).await;
    }
    outcome
}

/// Creates an unnamed file, which disappears when it is closed.
fn spool(folder: &Path) -> Result<std::fs::File, ArchiveError> {
    let failed = |source| ArchiveError::Stream { operation: "spool the images of", source };
    tempfile::tempfile_in(folder).map_err(failed)
}

fn looked_into(mut archive: std::fs::File) -> Result<(std::fs::File, Vec<Archived>), ArchiveError> {
    let failed = |source| ArchiveError::Stream { operation: "read the images of", source };
    archive.rewind().map_err(failed)?;
    let found = images::archived(&mut archive)?;
    archive.rewind().map_err(failed)?;
    Ok((archive, found))
}

fn distrusted(mut manifest: Manifest) -> Manifest {
    manifest.owner = None;
    if let Some(spec) = manifest.spec.as_mut().and_then(serde_json::Value::as_object_mut) {
        let origin = serde_json::to_value(SpecOrigin::SnapshotFile).unwrap_or_default();
        spec.insert("origin".to_owned(), origin);
    }
    manifest
}

async fn joined<T>(task: tokio::task::JoinHandle<Result<T, ArchiveError>>) -> Result<T, ArchiveError> {
    task.await.unwrap_or_else(|error| {
        Err(StorageError::Refused { reason: format!("the operation was cut short: {error}") }.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::manifest::Consistency;
    use crate::spec::{ProjectName, ServiceName};

    #[test]
    fn a_file_has_the_users_values_only_if_they_are_asked_for_and_paths_of_the_project() {
        let mut spec = Spec::new(ProjectName::new("shop").unwrap(), Path::new("/home/a/shop"));
        let mut web = Service::new(ServiceName::new("web").unwrap(), "web:1");
        web.environment =
            [("TOKEN", "t0p"), ("MODE", "dev")].map(|(k, v)| (k.to_owned(), Some(v.to_owned()))).into();
        web.user_environment = ["TOKEN".to_owned()].into();
        spec.files = vec!["/home/a/shop/sandbox.yaml".into()];
        spec.extensions.insert("x-common".to_owned(), serde_json::json!({ "TOKEN": "t0p" }));
        spec.services.insert(web.name.clone(), web);
        let mut manifest = Manifest::new("amd64", Consistency::Clean);
        manifest.spec = serde_json::to_value(spec).ok();
        assert_eq!(user_variables(&manifest), ["web.TOKEN"]);
        assert!(may_leave(&manifest, UserValues::LeftOut).is_ok());
        let written = portable(manifest.clone(), UserValues::LeftOut).to_json().to_string();
        assert!(!written.contains("t0p") && !written.contains("/home/a"), "{written}");
        assert!(written.contains("TOKEN") && written.contains("dev"), "{written}");
        assert!(portable(manifest, UserValues::Included).to_json().to_string().contains("t0p"));
    }

    #[test]
    fn values_that_cannot_be_left_out_are_named_and_refused() {
        let mut spec = Spec::new(ProjectName::new("shop").unwrap(), Path::new("/home/a/shop"));
        spec.user_values = ["configs.c.content", "services.web.command"].map(str::to_owned).into();
        let mut manifest = Manifest::new("amd64", Consistency::Clean);
        manifest.spec = serde_json::to_value(spec).ok();

        let error = may_leave(&manifest, UserValues::LeftOut).unwrap_err();

        let said = error.to_string();
        assert!(said.ends_with("`configs.c.content`, `services.web.command`"), "{said}");
        assert!(error.hint().unwrap().contains("--with-env"));
        assert!(may_leave(&manifest, UserValues::Included).is_ok());
    }
}

//! Calls of the API for volumes.

use std::collections::BTreeMap;

use bollard::models as api;
use bollard::query_parameters as query;

use super::failure::{call, found};
use super::{Docker, create, read};
use crate::engine::{
    CreateContainer, CreateVolume, EngineKind, Filter, MountKind, ObjectKind, Result, Volume,
};

impl Docker {
    pub(super) async fn make_volume(&self, volume: &CreateVolume) -> Result<Volume> {
        let request = api::VolumeCreateRequest {
            name: Some(volume.name.clone()),
            driver: volume.driver.clone(),
            driver_opts: create::mapped(&understood(&volume.options, self.kind)),
            labels: create::mapped(&volume.labels),
            ..Default::default()
        };
        let call = call("create", ObjectKind::Volume, &volume.name);
        self.api.create_volume(request).await.map(convert).map_err(call.on_failed())
    }

    /// Creates the volumes of a container's mounts in advance if the engine would drop their labels, as Podman does.
    pub(super) async fn make_new_volumes(&self, container: &CreateContainer) -> Result<()> {
        for mount in &container.mounts {
            if let MountKind::NewVolume { create, .. } = &mount.kind {
                self.make_volume(create).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn list_volumes(&self, filter: &Filter) -> Result<Vec<Volume>> {
        let mut filters = read::labels_filter(&filter.labels);
        if !filter.names.is_empty() {
            filters.insert("name".into(), filter.names.clone());
        }
        let call = call("list the volumes of", ObjectKind::Engine, "");
        let options = query::ListVolumesOptions { filters: Some(filters) };
        let list = self.api.list_volumes(Some(options)).await.map_err(call.on_failed())?;
        let list = list.volumes.unwrap_or_default().into_iter().map(convert);
        // Podman 4 matches any of the labels instead of all.
        Ok(list.filter(|volume| filter.matches(&volume.name, &volume.labels)).collect())
    }

    pub(super) async fn inspect_volume(&self, name: &str) -> Result<Option<Volume>> {
        let call = call("inspect", ObjectKind::Volume, name);
        found(self.api.inspect_volume(name).await.map(convert).map_err(call.on_failed()))
    }

    pub(super) async fn drop_volume(&self, name: &str) -> Result<()> {
        let call = call("remove", ObjectKind::Volume, name);
        self.api.remove_volume(name, None::<query::RemoveVolumeOptions>).await.map_err(call.on_failed())
    }
}

/// Removes volume options that the engine misinterprets: Podman takes a size as a disk quota, even for a tmpfs.
fn understood(options: &BTreeMap<String, String>, kind: EngineKind) -> BTreeMap<String, String> {
    let mut options = options.clone();
    let in_memory = options.get("type").is_some_and(|kind| kind == "tmpfs");
    if let Some(mount) = options.get_mut("o").filter(|_| in_memory && kind == EngineKind::Podman) {
        let kept: Vec<&str> = mount.split(',').filter(|one| !one.starts_with("size=")).collect();
        *mount = kept.join(",");
    }
    options
}

fn convert(volume: api::Volume) -> Volume {
    Volume {
        name: volume.name,
        driver: volume.driver,
        options: volume.options.into_iter().collect(),
        labels: read::labels(Some(volume.labels)),
        mountpoint: volume.mountpoint,
        created: volume.created_at.and_then(|time| read::moment(time.unix_timestamp_nanos())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_podman_is_spared_the_size_of_a_volume_in_memory() {
        let options = |kind: &str| {
            [("type", kind), ("o", "size=16m,nosuid")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        };
        assert_eq!(understood(&options("tmpfs"), EngineKind::Podman)["o"], "nosuid");
        assert_eq!(understood(&options("tmpfs"), EngineKind::Docker)["o"], "size=16m,nosuid");
        assert_eq!(understood(&options("btrfs"), EngineKind::Podman)["o"], "size=16m,nosuid");
    }
}

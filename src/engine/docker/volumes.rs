//! Calls on volumes.

use bollard::models as api;
use bollard::query_parameters as query;

use super::failure::{call, found};
use super::{Docker, create, read};
use crate::engine::{CreateVolume, Filter, ObjectKind, Result, Volume};

impl Docker {
    pub(super) async fn make_volume(&self, volume: &CreateVolume) -> Result<Volume> {
        let request = api::VolumeCreateRequest {
            name: Some(volume.name.clone()),
            driver: volume.driver.clone(),
            driver_opts: create::mapped(&volume.options),
            labels: create::mapped(&volume.labels),
            ..Default::default()
        };
        let call = call("create", ObjectKind::Volume, &volume.name);
        self.api.create_volume(request).await.map(convert).map_err(call.on_failed())
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
        Ok(list.filter(|volume| filter.matches_name(&volume.name)).collect())
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

fn convert(volume: api::Volume) -> Volume {
    Volume {
        name: volume.name,
        driver: volume.driver,
        options: volume.options.into_iter().collect(),
        labels: volume.labels.into_iter().collect(),
        mountpoint: volume.mountpoint,
        created: volume.created_at.and_then(|time| read::moment(time.unix_timestamp_nanos())),
    }
}

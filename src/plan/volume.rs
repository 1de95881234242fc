//! Lists the volumes of a service and where their content comes from.
//!
//! Every volume lies in the sandbox's storage: named and anonymous volumes of the spec, and those that an image
//! declares. So all data of a service can be cloned, reset and saved.

use std::collections::BTreeMap;

use super::{DesiredState, images};
use crate::engine::{Image, identity};
use crate::spec::{MountKind, Service, Spec, VolumeOptions};
use crate::storage::{SetPath, VolumeName as StoredName, VolumePath};

/// A volume of a service's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceVolume {
    /// Its name in the storage: the key in the spec, or a derived one.
    pub key: String,
    /// Its name on the engine.
    pub name: String,
    /// Its mount point in the container.
    pub target: String,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// Mount options.
    pub options: Option<VolumeOptions>,
    /// What requires the volume.
    pub cause: String,
}

impl ServiceVolume {
    /// Whether the volume has no name in the spec: a derived name begins with a dot, which no name in a spec does.
    pub fn is_anonymous(&self) -> bool {
        self.key.starts_with('.')
    }
}

/// The volumes of a container, by mount point.
pub type Volumes = BTreeMap<String, ServiceVolume>;

/// The volumes of a replica: named, anonymous, and the image's own.
pub fn volumes_of(sandbox: &str, service: &Service, replica: u32, image: Option<&Image>) -> Volumes {
    let mut volumes = Volumes::new();
    for mount in &service.mounts {
        let owner = format!("services.{}.volumes", service.name);
        let (key, name, options) = match &mount.kind {
            MountKind::Named { volume, options } => {
                (volume.to_string(), identity::volume(sandbox, volume.as_str()), options.clone())
            }
            MountKind::Anonymous { options } => {
                let (key, name) = anonymous(sandbox, service, replica, &mount.target);
                (key, name, options.clone())
            }
            _ => continue,
        };
        let volume = ServiceVolume {
            key,
            name,
            target: mount.target.clone(),
            read_only: mount.read_only,
            options,
            cause: owner,
        };
        volumes.insert(mount.target.clone(), volume);
    }
    let declared = image.map(|image| image.config.volumes.as_slice()).unwrap_or_default();
    for target in declared {
        let covered = service.mounts.iter().any(|mount| same_path(&mount.target, target))
            || service.tmpfs.iter().any(|tmpfs| same_path(tmpfs.split(':').next().unwrap_or(tmpfs), target));
        if covered {
            continue;
        }
        let (key, name) = anonymous(sandbox, service, replica, target);
        let cause = format!("the image of services.{} declares {target}", service.name);
        let volume =
            ServiceVolume { key, name, target: target.clone(), read_only: false, options: None, cause };
        volumes.insert(target.clone(), volume);
    }
    volumes
}

fn same_path(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

fn anonymous(sandbox: &str, service: &Service, replica: u32, target: &str) -> (String, String) {
    let place = if replica <= 1 { target.to_owned() } else { format!("{target}#{replica}") };
    let name = identity::anonymous_volume(sandbox, service.name.as_str(), &place);
    let key = name.strip_prefix(&format!("sbx-{sandbox}.")).unwrap_or(&name).to_owned();
    (key, name)
}

/// The path of a volume of this sandbox in the storage; `None` if the key is too long for a path.
pub(super) fn stored(wish: &DesiredState<'_>, key: &str) -> Option<VolumePath> {
    let set = SetPath::live(wish.id.as_str()).ok()?;
    Some(set.volume(StoredName::new(key).ok()?))
}

/// All volumes that a spec's services use, by their name in the storage, with their first mount.
pub(super) fn all(spec: &Spec, sandbox: &str, image: impl Fn(&str) -> Option<Image>) -> Vec<ServiceVolume> {
    let mut found: BTreeMap<String, ServiceVolume> = BTreeMap::new();
    for service in spec.services.values() {
        let image = image(&images::reference(spec, service));
        for replica in 1..=service.replicas() {
            for volume in volumes_of(sandbox, service, replica, image.as_ref()).into_values() {
                found.entry(volume.key.clone()).or_insert(volume);
            }
        }
    }
    found.into_values().collect()
}

//! Selects the services and volumes of a bake, and computes the baseline's key. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::manifest::FORMAT;
use super::seed::Inputs;
use crate::engine::Image;
use crate::plan::volumes_of;
use crate::spec::{Mount, MountKind, NetworkMode, Service, ServiceName, Spec};
use crate::storage::{Namespace, SetName, SetPath, VolumeName};

/// Version of the bake rules. Baselines made under earlier rules may be incomplete and are not reused.
const BAKE_RULES: u32 = 2;

/// Scope of a bake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BakeSet {
    /// Services to start: those with seeds and their dependencies.
    pub services: BTreeSet<ServiceName>,
    /// Services to create without a start, because they mount one of the volumes: their image's files are copied into
    /// it.
    pub made: BTreeSet<ServiceName>,
    /// Volumes of the baseline: those of the started services, and those with seeds of their own.
    pub volumes: BTreeSet<VolumeName>,
}

impl BakeSet {
    /// Whether a mount is of a volume of the baseline.
    fn keeps(&self, mount: &Mount) -> bool {
        matches!(&mount.kind, MountKind::Named { volume, .. }
            if self.volumes.iter().any(|kept| kept.as_str() == volume.as_str()))
    }
}

/// Computes the scope of a bake for a spec (reduced to the selected services). `None` if it has no seeds.
///
/// A volume with its own seed is included whether or not a started service mounts it. A service that only mounts such
/// a volume is created but not started.
pub fn bake_set(spec: &Spec, images: &BTreeMap<ServiceName, Image>) -> Option<BakeSet> {
    let mut services = BTreeSet::new();
    for service in spec.services.values().filter(|service| service.is_seeded()) {
        add_with_dependencies(spec, &service.name, &mut services);
    }
    let mut volumes = BTreeSet::new();
    for service in spec.services.values() {
        for replica in 1..=service.replicas() {
            let of_replica = volumes_of("-", service, replica, images.get(&service.name));
            let kept = of_replica.into_values().filter(|volume| {
                services.contains(&service.name)
                    || spec.volumes.get(volume.key.as_str()).is_some_and(|volume| !volume.seed.is_empty())
            });
            volumes.extend(kept.filter_map(|volume| VolumeName::new(volume.key).ok()));
        }
    }
    let mut set = BakeSet { services, made: BTreeSet::new(), volumes };
    let others = spec.services.values().filter(|service| !set.services.contains(&service.name));
    let made = others.filter(|service| service.mounts.iter().any(|mount| set.keeps(mount)));
    set.made = made.map(|service| service.name.clone()).collect();
    (!set.volumes.is_empty()).then_some(set)
}

/// Adds a service and all its dependencies.
fn add_with_dependencies(spec: &Spec, name: &ServiceName, found: &mut BTreeSet<ServiceName>) {
    let Some(service) = spec.services.get(name) else { return };
    if !found.insert(name.clone()) {
        return;
    }
    for other in service.depends_on.keys() {
        add_with_dependencies(spec, other, found);
    }
    if let Some(NetworkMode::Service(other)) = &service.network_mode {
        add_with_dependencies(spec, other, found);
    }
    for other in service.volumes_from.iter().chain(&service.links) {
        let name = other.split(':').next().unwrap_or(other);
        if let Ok(name) = ServiceName::new(name) {
            add_with_dependencies(spec, &name, found);
        }
    }
}

/// Computes a baseline's key: a hash over everything that affects the data of its volumes. Ports, labels, limits and
/// the like do not affect it, nor does the spec's folder.
pub fn key(
    spec: &Spec,
    set: &BakeSet,
    images: &BTreeMap<ServiceName, Image>,
    inputs: &Inputs,
    arch: &str,
) -> SetPath {
    let services: BTreeMap<&str, Value> = set
        .services
        .iter()
        .filter_map(|name| spec.services.get(name))
        .map(|service| (service.name.as_str(), shape(spec, service, images.get(&service.name))))
        .collect();
    let made: BTreeMap<&str, Value> = set
        .made
        .iter()
        .filter_map(|name| spec.services.get(name))
        .map(|service| (service.name.as_str(), shape_of_made(set, service, images.get(&service.name))))
        .collect();
    let seeds: BTreeMap<&str, Vec<Value>> = spec
        .volumes
        .iter()
        .filter(|(name, _)| set.volumes.iter().any(|kept| kept.as_str() == name.as_str()))
        .map(|(name, volume)| (name.as_str(), volume.seed.iter().map(|seed| seed.kind().shape()).collect()))
        .collect();
    let secrets: BTreeMap<&str, Value> =
        spec.secrets.iter().map(|(name, secret)| (name.as_str(), json!(secret.source))).collect();
    let secrets = relative(&spec.folder, json!(secrets));
    let whole = json!({
        "format": FORMAT, "rules": BAKE_RULES, "arch": arch, "services": services, "made": made, "volumes": seeds, "kept": set.volumes,
        "secrets": secrets, "inputs": inputs,
    });
    let hash = hex::encode(Sha256::digest(whole.to_string().as_bytes()));
    let name = SetName::new(&hash[..40]).expect("hexadecimal digits are a name");
    SetPath { shelf: Namespace::Baseline, name }
}

/// The properties of a service that affect its data.
fn shape(spec: &Spec, service: &Service, image: Option<&Image>) -> Value {
    let mounts: Vec<Value> = service.mounts.iter().map(mount_shape).collect();
    let configs: Vec<Value> = service
        .configs
        .iter()
        .map(|grant| json!([grant, spec.configs.get(grant.source.as_str()).map(|c| &c.source)]))
        .collect();
    let shape = json!({
        "image": image.map(|image| image.id.as_str()).or_else(|| service.image()),
        "platform": service.platform,
        "hostname": [&service.settings.hostname, &service.settings.domainname],
        "extra_hosts": service.extra_hosts,
        "group_add": service.settings.group_add,
        "volumes_from": service.volumes_from,
        "command": service.command,
        "entrypoint": service.entrypoint,
        "environment": service.environment,
        "working_dir": service.settings.working_dir,
        "user": service.settings.user,
        "replicas": service.replicas(),
        "mounts": mounts,
        "tmpfs": service.tmpfs,
        "secrets": service.secrets,
        "configs": configs,
        "depends_on": service.depends_on.keys().collect::<Vec<_>>(),
        "pre_start": service.pre_start,
        "post_start": service.post_start,
        "seed": service.seed.iter().map(|seed| seed.kind().shape()).collect::<Vec<_>>(),
    });
    relative(&spec.folder, shape)
}

/// The properties of a created service that affect the volumes it mounts: its image's content and the mount targets.
fn shape_of_made(set: &BakeSet, service: &Service, image: Option<&Image>) -> Value {
    let mounts: Vec<Value> =
        service.mounts.iter().filter(|mount| set.keeps(mount)).map(mount_shape).collect();
    json!({
        "image": image.map(|image| image.id.as_str()).or_else(|| service.image()),
        "platform": service.platform,
        "mounts": mounts,
        // If two images have content for one volume, the service that the other depends on fills it.
        "depends_on": service.depends_on.keys().collect::<Vec<_>>(),
    })
}

fn mount_shape(mount: &Mount) -> Value {
    let what = match &mount.kind {
        MountKind::Named { volume, options } => json!({"volume": volume, "options": options}),
        MountKind::Anonymous { options } => json!({"anonymous": options}),
        MountKind::Bind { source, .. } => json!({"bind": source}),
        other => json!(other),
    };
    json!([mount.target, what, mount.read_only])
}

/// Removes the spec's folder from paths, so that all checkouts of a spec have the same key.
fn relative(folder: &Path, value: Value) -> Value {
    match value {
        Value::String(text) => match Path::new(&text).strip_prefix(folder) {
            Ok(inside) if !folder.as_os_str().is_empty() => json!(format!("./{}", inside.display())),
            _ => Value::String(text),
        },
        Value::Array(items) => items.into_iter().map(|item| relative(folder, item)).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, relative(folder, value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        At, CopySeed, Dependency, Port, Seed, SqlSeed, VolumeName as SpecVolume, VolumeOptions,
    };

    fn spec() -> Spec {
        let mut db = service("db");
        db.mounts.push(mount("pgdata", "/var/lib/postgresql/data"));
        db.seed.push(Seed::Sql(SqlSeed {
            patterns: vec!["*.sql".into()],
            files: vec!["/repo/a.sql".into()],
            database: None,
            user: None,
            at: At::default(),
        }));
        db.depends_on.insert(ServiceName::new("net").unwrap(), Dependency::default());
        let mut cache = service("cache");
        cache.mounts.push(mount("cache", "/data"));
        let mut web = service("web");
        web.mounts.push(mount("uploads", "/uploads"));
        let services = [db, cache, web, service("net")];
        let mut volume = crate::spec::Volume::default();
        volume.seed.push(Seed::Copy(CopySeed {
            source: "/repo/up".into(),
            to: None,
            owner: None,
            at: At::default(),
        }));
        Spec {
            services: services.into_iter().map(|service| (service.name.clone(), service)).collect(),
            volumes: BTreeMap::from([(SpecVolume::new("uploads").unwrap(), volume)]),
            ..Spec::new(crate::spec::ProjectName::new("shop").unwrap(), Path::new("/repo"))
        }
    }

    fn service(name: &str) -> Service {
        Service::new(ServiceName::new(name).unwrap(), format!("{name}:1"))
    }

    fn mount(volume: &str, target: &str) -> Mount {
        let kind = MountKind::Named { volume: SpecVolume::new(volume).unwrap(), options: None };
        Mount { kind, target: target.to_owned(), read_only: false, consistency: None, at: At::default() }
    }

    fn key_of(spec: &Spec, inputs: &Inputs) -> SetPath {
        key(spec, &bake_set(spec, &BTreeMap::new()).unwrap(), &BTreeMap::new(), inputs, "amd64")
    }

    #[test]
    fn a_bake_is_of_what_is_seeded_and_what_that_needs() {
        let set = bake_set(&spec(), &BTreeMap::new()).unwrap();
        let names: Vec<&str> = set.services.iter().map(ServiceName::as_str).collect();
        assert_eq!(names, ["db", "net"]);
        let volumes: Vec<&str> = set.volumes.iter().map(VolumeName::as_str).collect();
        assert_eq!(volumes, ["pgdata", "uploads"]);
    }

    #[test]
    fn nothing_seeded_is_nothing_to_bake() {
        let mut spec = spec();
        spec.volumes.clear();
        spec.services.values_mut().for_each(|service| service.seed.clear());
        assert_eq!(bake_set(&spec, &BTreeMap::new()), None);
    }

    #[test]
    fn what_shapes_the_data_changes_the_key_and_nothing_else_does() {
        let inputs = Inputs::from([("services.db.seed[0]/a.sql".to_owned(), "aa".to_owned())]);
        let first = key_of(&spec(), &inputs);
        let changed = |change: &dyn Fn(&mut Service)| {
            let mut spec = spec();
            change(spec.services.get_mut("db").unwrap());
            key_of(&spec, &inputs) != first
        };
        assert!(changed(&|db| db.command = Some(vec!["postgres".to_owned()])));
        assert!(changed(&|db| {
            db.environment.insert("POSTGRES_DB".to_owned(), Some("shop".to_owned()));
        }));
        assert!(!changed(&|db| db.ports.push(Port {
            host_ip: None,
            host: None,
            container: 5432,
            protocol: crate::spec::Protocol::Tcp,
            name: None,
            app_protocol: None,
            mode: None,
            extensions: BTreeMap::new(),
            at: At::default(),
        })));
        assert!(!changed(&|db| {
            db.labels.insert("a".to_owned(), "b".to_owned());
        }));
        assert!(changed(&|db| db.settings.hostname = Some("primary".to_owned())));
        assert!(changed(&|db| {
            db.extra_hosts.insert("a".to_owned(), vec!["10.0.0.1".to_owned()]);
        }));
        for options in [
            VolumeOptions { nocopy: true, subpath: None },
            VolumeOptions { nocopy: false, subpath: Some("main".to_owned()) },
        ] {
            assert!(changed(&|db| {
                let MountKind::Named { options: own, .. } = &mut db.mounts[0].kind else { panic!() };
                *own = Some(options.clone());
            }));
        }
        let other = Inputs::from([("services.db.seed[0]/a.sql".to_owned(), "bb".to_owned())]);
        assert_ne!(key_of(&spec(), &other), first);
    }

    #[test]
    fn what_a_service_that_is_only_made_brings_along_changes_the_key() {
        let first = key_of(&spec(), &Inputs::new());
        let set = bake_set(&spec(), &BTreeMap::new()).unwrap();
        assert_eq!(set.made.iter().map(ServiceName::as_str).collect::<Vec<_>>(), ["web"]);
        let changed = |change: &dyn Fn(&mut Service)| {
            let mut spec = spec();
            change(spec.services.get_mut("web").unwrap());
            key_of(&spec, &Inputs::new()) != first
        };
        assert!(changed(&|web| web.source = crate::spec::ImageSource::Image("web:2".to_owned())));
        assert!(changed(&|web| web.mounts[0].target = "/elsewhere".to_owned()));
        // The service is not started, so its other properties do not count.
        assert!(!changed(&|web| web.command = Some(vec!["serve".to_owned()])));
        assert!(!changed(&|web| web.mounts.push(mount("cache", "/cache"))));
    }

    #[test]
    fn another_checkout_has_the_same_key() {
        let inputs = Inputs::new();
        let mut elsewhere = spec();
        elsewhere.folder = "/elsewhere".into();
        assert_eq!(key_of(&spec(), &inputs), key_of(&elsewhere, &inputs));
        let bound = |folder: &str| {
            let mut spec = spec();
            spec.folder = folder.into();
            let kind = MountKind::Bind { source: format!("{folder}/src").into(), options: None };
            let db = spec.services.get_mut("db").unwrap();
            db.mounts.push(Mount { kind, ..mount("x", "/src") });
            key_of(&spec, &inputs)
        };
        assert_eq!(bound("/repo"), bound("/elsewhere"));
    }
}

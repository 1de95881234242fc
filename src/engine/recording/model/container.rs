//! Containers as objects of the model: unique names, mounts, and removal.

use std::collections::BTreeMap;

use super::{Model, ModelContainer, refuse};
use crate::engine::identity;
use crate::engine::recording::now;
use crate::engine::{
    Container, ContainerState, ContainerSummary, CreateContainer, CreateVolume, Endpoint, EngineError,
    ErrorKind, Filter, Image, MountKind, MountPoint, MountPointKind, ObjectKind, Result,
};

impl Model {
    pub(super) fn container_index(&self, name: &str, operation: &'static str) -> Result<usize> {
        let is_it = |kept: &ModelContainer| kept.seen.name == name || kept.seen.id == name;
        self.containers.iter().position(is_it).ok_or_else(|| {
            let words = format!("No such container: {name}");
            EngineError::new(operation, ObjectKind::Container, name, ErrorKind::NotFound, words)
        })
    }

    pub(in crate::engine::recording) fn kept(
        &mut self,
        name: &str,
        operation: &'static str,
    ) -> Result<&mut ModelContainer> {
        let index = self.container_index(name, operation)?;
        Ok(&mut self.containers[index])
    }

    pub(in crate::engine::recording) fn create_container(
        &mut self,
        create: &CreateContainer,
    ) -> Result<String> {
        if let Some(kept) = self.containers.iter().find(|kept| kept.seen.name == create.name) {
            let words = format!(
                "The container name \"/{}\" is already in use by container \"{}\"",
                create.name, kept.seen.id
            );
            return refuse("create", ObjectKind::Container, &create.name, ErrorKind::Conflict, words);
        }
        let Some(image) = self.image(&create.image).cloned() else {
            let words = format!("No such image: {}", create.image);
            return refuse("use", ObjectKind::Image, &create.image, ErrorKind::NotFound, words);
        };
        let mut networks = BTreeMap::new();
        for attachment in &create.networks {
            let network =
                self.networks[self.network_index(&attachment.network, "connect a container to")?].clone();
            let endpoint = self.endpoint(&network, attachment)?;
            networks.insert(network.name, endpoint);
        }
        let id = self.new_id();
        let (mounts, anonymous) = self.mounts(create, &image);
        let seen = described(id.clone(), create, image, networks, mounts);
        self.containers.push(ModelContainer { create: create.clone(), seen, logs: Vec::new(), anonymous });
        self.tell(ObjectKind::Container, "create", &id, &create.name, create.labels.clone());
        Ok(id)
    }

    /// Resolves the mounts, and creates the volumes that are removed with the container.
    fn mounts(&mut self, create: &CreateContainer, image: &Image) -> (Vec<MountPoint>, Vec<String>) {
        let mut mounts = Vec::new();
        let mut anonymous = Vec::new();
        for mount in &create.mounts {
            let (kind, name, source) = match &mount.kind {
                MountKind::Volume { name, .. } if name.is_empty() => {
                    anonymous.push(self.new_id());
                    (MountPointKind::Volume, anonymous[anonymous.len() - 1].clone(), String::new())
                }
                MountKind::Volume { name, .. } => (MountPointKind::Volume, name.clone(), String::new()),
                MountKind::NewVolume { create, .. } => {
                    (MountPointKind::Volume, self.create_volume(create).name, String::new())
                }
                MountKind::Bind { source, .. } => (MountPointKind::Bind, String::new(), source.clone()),
                MountKind::Tmpfs { .. } => (MountPointKind::Tmpfs, String::new(), String::new()),
                MountKind::Image { .. } => (MountPointKind::Other, String::new(), String::new()),
            };
            mounts.push(MountPoint {
                kind,
                name,
                source,
                target: mount.target.clone(),
                read_only: mount.read_only,
            });
        }
        for target in &image.config.volumes {
            if mounts.iter().all(|mount| mount.target != *target) && !create.tmpfs.contains_key(target) {
                let name = self.new_id();
                anonymous.push(name.clone());
                let (source, target) = (String::new(), target.clone());
                mounts.push(MountPoint {
                    kind: MountPointKind::Volume,
                    name,
                    source,
                    target,
                    read_only: false,
                });
            }
        }
        for mount in mounts.iter().filter(|mount| mount.kind == MountPointKind::Volume) {
            // Like a real engine: a missing volume is created, without labels.
            self.create_volume(&CreateVolume { name: mount.name.clone(), ..CreateVolume::default() });
        }
        (mounts, anonymous)
    }

    pub(in crate::engine::recording) fn rename(&mut self, name: &str, to: &str) -> Result<()> {
        if self.containers.iter().any(|kept| kept.seen.name == to) {
            let words = format!("The container name \"/{to}\" is already in use");
            return refuse("rename", ObjectKind::Container, name, ErrorKind::Conflict, words);
        }
        let kept = self.kept(name, "rename")?;
        to.clone_into(&mut kept.seen.name);
        to.clone_into(&mut kept.create.name);
        Ok(())
    }

    pub(in crate::engine::recording) fn remove_container(
        &mut self,
        name: &str,
        force: bool,
        volumes: bool,
    ) -> Result<()> {
        let index = self.container_index(name, "remove")?;
        if self.containers[index].seen.state.is_alive() {
            if !force {
                let words =
                    "You cannot remove a running container. Stop the container before attempting removal";
                return refuse("remove", ObjectKind::Container, name, ErrorKind::Conflict, words);
            }
            let name = self.containers[index].seen.name.clone();
            self.exit(&name, 137);
        }
        let kept = self.containers.remove(index);
        if volumes {
            self.volumes.retain(|volume| !kept.anonymous.contains(&volume.name));
        }
        self.tell(ObjectKind::Container, "destroy", &kept.seen.id, &kept.seen.name, kept.seen.labels);
        Ok(())
    }

    pub(in crate::engine::recording) fn list_containers(&self, filter: &Filter) -> Vec<ContainerSummary> {
        let seen = self.containers.iter().map(|kept| &kept.seen);
        let ours = seen
            .filter(|c| filter.matches(&c.name, &c.labels) && (!filter.only_running || c.state.is_alive()));
        ours.map(summary).collect()
    }
}

fn summary(container: &Container) -> ContainerSummary {
    ContainerSummary {
        id: container.id.clone(),
        name: container.name.clone(),
        labels: container.labels.clone(),
        state: container.state,
        status: container.state.to_string(),
        image: container.image.clone(),
        image_id: container.image_id.clone(),
        created: container.created,
        ports: container.ports.clone(),
        networks: container.networks.clone(),
        mounts: container.mounts.clone(),
    }
}

fn described(
    id: String,
    create: &CreateContainer,
    image: Image,
    networks: BTreeMap<String, Endpoint>,
    mounts: Vec<MountPoint>,
) -> Container {
    let given = create.env.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)));
    let inherited = image.config.env.iter().filter(|pair| {
        let key = pair.split('=').next().unwrap_or_default();
        !create.env.contains_key(key)
    });
    let env = inherited.cloned().chain(given).collect();
    Container {
        hostname: create.settings.hostname.clone().unwrap_or_else(|| id[..12].to_owned()),
        id,
        name: create.name.clone(),
        image: create.image.clone(),
        image_id: image.id,
        labels: labels(image.config.labels, create),
        state: ContainerState::Created,
        exit_code: None,
        oom_killed: false,
        error: String::new(),
        pid: None,
        health: None,
        restart_count: 0,
        created: Some(now()),
        started_at: None,
        finished_at: None,
        networks,
        ports: Vec::new(),
        mounts,
        env,
        cmd: create.cmd.clone().unwrap_or(image.config.cmd),
        entrypoint: create.entrypoint.clone().unwrap_or(image.config.entrypoint),
        user: create.settings.user.clone().unwrap_or(image.config.user),
        workdir: create.settings.working_dir.clone().unwrap_or(image.config.workdir),
        tty: create.settings.tty,
        stdin_open: create.settings.stdin_open,
        healthcheck: create.healthcheck.clone().or(image.config.healthcheck),
        stop_signal: create.settings.stop_signal.clone().or(image.config.stop_signal),
        stop_timeout: create
            .settings
            .stop_grace_period
            .and_then(|timeout| i64::try_from(timeout.as_secs()).ok()),
    }
}

/// Merges labels as the engine does.
fn labels(image: BTreeMap<String, String>, create: &CreateContainer) -> BTreeMap<String, String> {
    let mut merged = image;
    merged.extend(identity::complete(&create.labels));
    identity::read_back(merged)
}

//! The objects of the in-memory engine and the rules between them.

mod container;
mod life;
mod network;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::now;
use super::script::Behaviour;
use crate::engine::{
    Container, CreateContainer, CreateVolume, EngineError, EngineEvent, ErrorKind, Image, ImageConfig,
    LogChunk, Network, ObjectKind, Result, Volume,
};

type Labels = BTreeMap<String, String>;
/// Exit codes of commands; `None` while they run. Shared with the commands, which outlive a borrow of the model.
pub(super) type ExitCodes = Arc<Mutex<BTreeMap<String, Option<i64>>>>;

#[derive(Default)]
pub(super) struct Model {
    next: u64,
    pub(super) images: Vec<Image>,
    pub(super) networks: Vec<Network>,
    pub(super) volumes: Vec<Volume>,
    pub(super) containers: Vec<ModelContainer>,
    pub(super) behaviours: BTreeMap<String, Behaviour>,
    pub(super) uploads: Vec<(String, String, Vec<u8>)>,
    pub(super) downloads: BTreeMap<(String, String), Vec<u8>>,
    execs: ExitCodes,
    /// Events that were not emitted yet.
    pub(super) events: Vec<EngineEvent>,
}

/// A container: its parameters and its state.
pub(super) struct ModelContainer {
    pub(super) create: CreateContainer,
    pub(super) seen: Container,
    pub(super) logs: Vec<(Timestamp, LogChunk)>,
    /// Anonymous volumes that are removed with it.
    anonymous: Vec<String>,
}

fn refuse<T>(
    operation: &'static str,
    object: ObjectKind,
    name: &str,
    kind: ErrorKind,
    words: impl Into<String>,
) -> Result<T> {
    Err(EngineError::new(operation, object, name, kind, words))
}

impl Model {
    pub(super) fn new_id(&mut self) -> String {
        self.next += 1;
        format!("{:064x}", u128::from(self.next) << 64)
    }

    pub(super) fn execs_shared(&self) -> ExitCodes {
        Arc::clone(&self.execs)
    }

    pub(super) fn objects(&self) -> Vec<String> {
        let containers = self.containers.iter().map(|kept| format!("container {}", kept.seen.name));
        let networks = self.networks.iter().map(|network| format!("network {}", network.name));
        let volumes = self.volumes.iter().map(|volume| format!("volume {}", volume.name));
        let mut all: Vec<String> = containers.chain(networks).chain(volumes).collect();
        all.sort();
        all
    }

    fn tell(&mut self, object: ObjectKind, action: &str, id: &str, name: &str, labels: Labels) {
        let (action, id, name) = (action.to_owned(), id.to_owned(), name.to_owned());
        self.events.push(EngineEvent { time: now(), object, action, id, name, attributes: labels });
    }

    pub(super) fn add_image(&mut self, reference: &str, config: ImageConfig) -> Image {
        let id = format!("sha256:{}", self.new_id());
        self.images.iter_mut().for_each(|image| image.tags.retain(|tag| tag != reference));
        let image = Image {
            id,
            digests: Vec::new(),
            tags: vec![reference.to_owned()],
            arch: "amd64".into(),
            variant: String::new(),
            os: "linux".into(),
            layers: vec![format!("sha256:{}", reference.len())],
            size: 1 << 20,
            created: Some(now()),
            tagged: Some(now()),
            config,
        };
        self.images.push(image.clone());
        image
    }

    pub(super) fn image(&self, reference: &str) -> Option<&Image> {
        let tagged = format!("{reference}:latest");
        self.images.iter().find(|image| {
            image.id == reference
                || image.tags.iter().chain(&image.digests).any(|tag| *tag == reference || *tag == tagged)
        })
    }

    pub(super) fn remove_image(&mut self, reference: &str) -> Result<()> {
        let Some(id) = self.image(reference).map(|image| image.id.clone()) else {
            return refuse("remove", ObjectKind::Image, reference, ErrorKind::NotFound, "no such image");
        };
        if self.containers.iter().any(|kept| kept.seen.image_id == id) {
            return refuse("remove", ObjectKind::Image, reference, ErrorKind::InUse, "a container uses it");
        }
        self.images.retain(|image| image.id != id);
        Ok(())
    }

    pub(super) fn create_volume(&mut self, create: &CreateVolume) -> Volume {
        if let Some(old) = self.volumes.iter().find(|volume| volume.name == create.name) {
            return old.clone();
        }
        let volume = Volume {
            name: create.name.clone(),
            driver: create.driver.clone().unwrap_or_else(|| "local".into()),
            options: create.options.clone(),
            labels: create.labels.clone(),
            mountpoint: format!("/var/lib/docker/volumes/{}/_data", create.name),
            created: Some(now()),
        };
        self.volumes.push(volume.clone());
        self.tell(ObjectKind::Volume, "create", &volume.name, &volume.name, volume.labels.clone());
        volume
    }

    pub(super) fn remove_volume(&mut self, name: &str) -> Result<()> {
        if !self.volumes.iter().any(|volume| volume.name == name) {
            return refuse("remove", ObjectKind::Volume, name, ErrorKind::NotFound, "no such volume");
        }
        let has_it = |kept: &&ModelContainer| kept.seen.mounts.iter().any(|mount| mount.name == name);
        if let Some(kept) = self.containers.iter().find(has_it) {
            let words = format!("volume is in use - [{}]", kept.seen.id);
            return refuse("remove", ObjectKind::Volume, name, ErrorKind::InUse, words);
        }
        self.volumes.retain(|volume| volume.name != name);
        self.tell(ObjectKind::Volume, "destroy", name, name, Labels::new());
        Ok(())
    }
}

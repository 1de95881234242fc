//! A sandbox that is there: its services are stopped and started, its data is kept, put back and copied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use tokio_util::sync::CancellationToken;

use super::bake;
use super::control::Happening;
use super::error::SessionError;
use super::event::{Event, Events};
use super::files::Values;
use super::held;
use super::observe::{self, Sighting};
use super::open;
use super::raise::{self, Order, PortWish, Site};
use super::refill::refill;
use super::signals::{self, Signals};
use crate::agent::client::Keeper;
use crate::data::manifest::{Consistency, KeptSecret, Manifest};
use crate::data::snapshot;
use crate::engine::identity::{self, SandboxId, Scope};
use crate::engine::{ContainerSummary, Engine};
use crate::plan::{Age, Seeding, VolumeSource};
use crate::pool::{SetPath, Storage, VolumeName};
use crate::spec::{SandboxName, ServiceName, Spec};

/// A sandbox that is there.
pub struct Present {
    /// What it is worked on with.
    pub site: Site,
    /// The keeper.
    pub keeper: Keeper,
    /// Its name.
    pub name: SandboxName,
    /// Its incarnation.
    pub id: SandboxId,
    /// Its spec, as it was built.
    pub spec: Arc<Spec>,
    sighting: Sighting,
}

/// How a snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Services are stopped in their own time and started again.
    Clean,
    /// They are frozen for a moment.
    Crash,
}

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
    /// Takes up a sandbox that was seen.
    ///
    /// # Errors
    /// When it is half-made (its networks carry the spec), or the keeper cannot be had.
    pub async fn of(
        engine: &Arc<dyn Engine>,
        scope: &Scope,
        sighting: Sighting,
        events: Events,
    ) -> Result<Self, SessionError> {
        let half_made = || SessionError::Data {
            what: format!("sandbox `{}` is half-made or being destroyed", sighting.name),
            hint: Some(format!("`sandbox down {}` destroys what there is", sighting.name)),
        };
        let spec = sighting.spec().ok_or_else(half_made)?;
        let name = sighting.name.parse().map_err(|_| half_made())?;
        let id = sighting.id.parse().map_err(|_| half_made())?;
        let keeper = Keeper::ensure(engine, crate::agent::client::Options::from_env()?).await?;
        let site = open::site(engine, scope, &keeper, events).await?;
        Ok(Self { site, keeper, name, id, spec: Arc::new(spec), sighting })
    }

    /// What was seen of it.
    pub fn sighting(&self) -> &Sighting {
        &self.sighting
    }

    fn storage(&self) -> &dyn Storage {
        &*self.site.storage
    }

    fn live(&self) -> Result<SetPath, SessionError> {
        SetPath::live(self.id.as_str()).map_err(odd)
    }

    /// The named services, or all of them.
    ///
    /// # Errors
    /// Names the first that the sandbox does not have.
    pub fn services(&self, named: &[ServiceName]) -> Result<BTreeSet<ServiceName>, SessionError> {
        if named.is_empty() {
            return Ok(self.spec.services.keys().cloned().collect());
        }
        match named.iter().find(|name| !self.spec.services.contains_key(*name)) {
            Some(service) => {
                Err(SessionError::NoSuchService { name: self.name.clone(), service: service.clone() })
            }
            None => Ok(named.iter().cloned().collect()),
        }
    }

    /// Does something to the sandbox, and shows what is under way meanwhile. Who interrupts it would leave services
    /// stopped: it is finished all the same, unless it is interrupted once more.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn busy<T>(
        &self,
        why: &str,
        work: impl Future<Output = Result<T, SessionError>>,
    ) -> Result<T, SessionError> {
        let name = self.name.to_string();
        let signals = Signals::listen().ok();
        let services = self.spec.services.keys().map(ToString::to_string).collect();
        self.tell(Event::Changing { name: name.clone(), why: why.to_owned(), services });
        let began = Instant::now();
        let outcome = tokio::select! {
            outcome = work => outcome,
            error = self.insisted(signals) => Err(error),
        };
        self.tell(Event::Changed { name, deadline: None, attached: false, elapsed: began.elapsed() });
        outcome
    }

    /// Returns when somebody has asked a second time to stop.
    async fn insisted(&self, signals: Option<Signals>) -> SessionError {
        let Some(signals) = signals else { return std::future::pending().await };
        let mut asked = signals.told();
        let mut times = 0;
        while let Some(happening) = asked.next().await {
            match happening {
                Happening::SuspendAsked => signals::stop_here(),
                _ if times == 0 => {
                    let text =
                        "finishing this first, so that no service stays stopped; Ctrl-C again leaves it";
                    self.tell(Event::Notice { text: text.to_owned() });
                    times += 1;
                }
                _ => break,
            }
        }
        SessionError::Cancelled
    }

    /// Stops services, each after those that depend on it. What is not stopped `within` that time, or the spec's own,
    /// is killed.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn stop(
        &self,
        which: &BTreeSet<ServiceName>,
        within: Option<Duration>,
    ) -> Result<Consistency, SessionError> {
        let mut spec = (*self.spec).clone();
        spec.services.retain(|name, _| which.contains(name));
        for service in spec.services.values_mut() {
            service.stop_grace_period = within.or(service.stop_grace_period);
        }
        bake::stop(&self.site, &spec, &self.name).await
    }

    /// Starts services and waits until they are ready.
    ///
    /// # Errors
    /// When one of them ends or does not get ready.
    pub async fn start(&self, which: &BTreeSet<ServiceName>, patience: Duration) -> Result<(), SessionError> {
        let token = CancellationToken::new();
        let gateway = identity::gateway(self.name.as_str());
        self.site.engine.start_container(&gateway).await?;
        raise::start(&self.site, &self.spec, &self.name, &self.id, which, patience, &token).await?;
        // Another use of it: the keeper counts the time from here.
        Ok(self.keeper.touch(&self.name).await?)
    }

    /// The values that it has: as its gateway holds them, and as they are kept where it does not after a reboot.
    async fn values(&self) -> Result<Values, SessionError> {
        let values = Values::held(&*self.site.engine, &self.spec, &self.name).await?;
        Ok(values.completed(held::kept(self.storage(), &self.id).await?))
    }

    /// The services that run now.
    fn running(&self) -> BTreeSet<ServiceName> {
        let alive = self.sighting.services.iter().filter(|container| container.state.is_alive());
        alive.filter_map(|container| ServiceName::new(observe::service_of(container)).ok()).collect()
    }

    /// Keeps the data as it is now under a name.
    ///
    /// # Errors
    /// When the name is taken, or the storage or the engine refuses; services that ran are started again all the same.
    pub async fn snapshot(
        &self,
        to: &SetPath,
        manner: Manner,
        note: Option<String>,
        patience: Duration,
    ) -> Result<Consistency, SessionError> {
        if self.storage().inspect(to).await?.is_some() {
            return Err(crate::pool::StorageError::Exists { path: to.name.to_string() }.into());
        }
        let images = bake::images(&self.site, &self.spec).await?;
        let arch = images.values().next().map_or_else(String::new, |image| image.arch.clone());
        let mut manifest = Manifest::new(arch, Consistency::Crash);
        manifest.sandbox = Some(self.name.to_string());
        manifest.note = note;
        manifest.spec = serde_json::to_value(&*self.spec).ok();
        manifest.images = bake::identities(&self.spec, &images);
        let values = self.values().await?;
        let secrets = values.generated(&self.spec);
        manifest.secrets = secrets.into_iter().map(|(name, value)| (name, KeptSecret::new(value))).collect();
        let (live, volumes) = (self.live()?, self.volumes());
        match manner {
            Manner::Crash => {
                self.frozen(async {
                    Ok(snapshot::take(self.storage(), &live, &volumes, to, manifest).await?)
                })
                .await?;
                Ok(Consistency::Crash)
            }
            Manner::Clean => {
                let running = self.running();
                manifest.consistency = self.stop(&running, None).await?;
                let consistency = manifest.consistency;
                let taken = snapshot::take(self.storage(), &live, &volumes, to, manifest).await;
                self.start(&running, patience).await?;
                taken?;
                Ok(consistency)
            }
        }
    }

    /// Does something while every service is frozen.
    async fn frozen<T>(
        &self,
        work: impl Future<Output = Result<T, SessionError>>,
    ) -> Result<T, SessionError> {
        let alive: Vec<&ContainerSummary> =
            self.sighting.services.iter().filter(|container| container.state.is_alive()).collect();
        let engine = &self.site.engine;
        self.keeper.freeze(alive.iter().map(|container| container.id.clone()).collect()).await?;
        let frozen =
            try_join_all(alive.iter().map(|container| engine.pause_container(&container.name))).await;
        let outcome = match frozen {
            Ok(_) => work.await,
            Err(error) => Err(error.into()),
        };
        for container in alive {
            // One that was not frozen, or has gone, need not be thawed.
            let _ = engine.unpause_container(&container.name).await;
        }
        // Not told, the keeper thaws them once more when this process ends, which does nothing.
        let _ = self.keeper.freeze(Vec::new()).await;
        outcome
    }

    /// The storage's names of its volumes.
    fn volumes(&self) -> Vec<VolumeName> {
        let keys = self.sighting.volumes.iter().filter_map(|volume| volume.labels.get(identity::KEY));
        keys.filter_map(|key| VolumeName::new(key.as_str()).ok()).collect()
    }

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
        let users = self.users_of(&volumes);
        let stops = users.iter().map(|container| {
            let engine = Arc::clone(&self.site.engine);
            let name = container.name.clone();
            // Its data goes: there is nothing to be saved.
            async move { engine.stop_container(&name, None, Some(Duration::ZERO)).await }
        });
        try_join_all(stops).await?;
        let put_back = self.put_back(&origins).await;
        let again: BTreeSet<ServiceName> = users
            .iter()
            .filter(|container| container.state.is_alive())
            .filter_map(|container| ServiceName::new(observe::service_of(container)).ok())
            .collect();
        self.start(&again, patience).await?;
        put_back.map(|()| volumes)
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

    /// The containers that have one of these volumes.
    fn users_of(&self, volumes: &[VolumeName]) -> Vec<&ContainerSummary> {
        let of_volume = |name: &str| {
            let volume = self.sighting.volumes.iter().find(|volume| volume.name == name);
            volume
                .and_then(|volume| volume.labels.get(identity::KEY))
                .is_some_and(|key| volumes.iter().any(|one| one.as_str() == key))
        };
        let uses =
            |container: &&ContainerSummary| container.mounts.iter().any(|mount| of_volume(&mount.name));
        self.sighting.services.iter().filter(uses).collect()
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

    /// The order of a second sandbox like this one, whose data [`Present::lend`] provides.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn fork(
        &self,
        name: SandboxName,
        id: SandboxId,
        patience: Duration,
    ) -> Result<Order, SessionError> {
        let values = self.values().await?;
        let given = |volume: VolumeName| (volume.to_string(), VolumeSource::Given);
        let sources = self.volumes().into_iter().map(given).collect();
        Ok(Order {
            spec: Arc::clone(&self.spec),
            values: Arc::new(values),
            name,
            id,
            expires: self.spec.lifetime.ttl.and_then(open::from_now),
            sources,
            made_with: BTreeMap::new(),
            seeding: Seeding::Done,
            age: Age::New,
            rebuild: BTreeSet::new(),
            recreate: BTreeSet::new(),
            only_made: BTreeSet::new(),
            remove_orphans: true,
            patience,
            ports: PortWish::Any,
        })
    }

    /// Gives a sandbox that is about to be built, and whose lease is held, this one's data as it is now. It is cloned
    /// while services are frozen; they run on at once.
    ///
    /// # Errors
    /// When the storage or the engine refuses.
    pub async fn lend(&self, to: &SandboxId) -> Result<(), SessionError> {
        let (from, to) = (self.live()?, SetPath::live(to.as_str()).map_err(odd)?);
        let volumes = self.volumes();
        self.frozen(async { Ok(snapshot::copy_set(self.storage(), &from, &to, &volumes).await?) }).await
    }

    /// Tells something.
    pub fn tell(&self, event: Event) {
        self.site.events.emit(event);
    }
}

fn odd(error: crate::pool::BadName) -> SessionError {
    SessionError::Data { what: error.to_string(), hint: None }
}

//! Operations on an existing sandbox: stop and start services, take snapshots, reset and fork data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

mod diff;
pub mod fault;
pub(crate) mod image_content;
mod quiesce;
mod reset;
mod snapshot;

pub use diff::DataDiff;
pub use reset::Target;
pub use snapshot::{Retention, SnapshotMode, SnapshotRequest};

use super::build::clean_stop::{stop, with_dependents};
use super::build::clone_progress;
use super::build::converge::{self, StartRequest};
use super::build::host_firewall;
use super::build::observe;
use super::data::secret_files::Values;
use super::data::secret_store;
use super::error::SessionError;
use super::event::{Event, Events};
use super::inspect::{self, ObservedSandbox};
use super::lifecycle::control::LoopEvent;
use super::lifecycle::open;
use super::lifecycle::signals::{self, Signals};
use crate::agent::client::Keeper;
use crate::data::manifest::Consistency;
use crate::data::snapshot::copy_set;
use crate::engine::identity::{self, SandboxId, Scope};
use crate::engine::{ContainerSummary, Engine};
use crate::plan::{Age, AnonymousVolumes, PreStart, Seeding, VolumeSource};
use crate::session::context::Context;
use crate::session::request::{BuildRequest, PreferredPort};
use crate::spec::{Condition, SandboxName, ServiceName, Spec};
use crate::storage::{SetPath, Storage, VolumeName, VolumePath};
use quiesce::ContainerSet;

/// A handle on an existing sandbox.
pub struct ExistingSandbox {
    /// The engine, the storage and the settings.
    pub context: Context,
    /// Its name.
    pub name: SandboxName,
    /// The instance id.
    pub id: SandboxId,
    /// Its current spec.
    pub spec: Arc<Spec>,
    observed: ObservedSandbox,
}

impl ExistingSandbox {
    /// Opens a sandbox that was observed.
    ///
    /// # Errors
    /// Fails if the keeper cannot be reached, or has no record of the sandbox.
    pub async fn of(
        engine: &Arc<dyn Engine>,
        scope: &Scope,
        observed: ObservedSandbox,
        events: Events,
    ) -> Result<Self, SessionError> {
        let keeper = Keeper::ensure(engine, crate::agent::client::Options::from_env()?).await?;
        Self::at(Context::open(engine, scope, keeper, events).await?, observed).await
    }

    /// Opens it in an existing context.
    pub(in crate::session) async fn at(
        context: Context,
        observed: ObservedSandbox,
    ) -> Result<Self, SessionError> {
        let name = observed.name.parse().map_err(|_| half_made(&observed))?;
        let id = observed.id.parse().map_err(|_| half_made(&observed))?;
        let spec =
            inspect::declared(&context.keeper, &observed).await?.ok_or_else(|| half_made(&observed))?;
        Ok(Self { context, name, id, spec: Arc::new(spec), observed })
    }

    /// Its state as it was observed.
    pub fn observed(&self) -> &ObservedSandbox {
        &self.observed
    }

    fn storage(&self) -> &dyn Storage {
        &*self.context.storage
    }

    fn live(&self) -> Result<SetPath, SessionError> {
        Ok(SetPath::live(self.id.as_str())?)
    }

    /// The named services, or all of them.
    ///
    /// # Errors
    /// Names the first service that the sandbox does not have.
    pub fn services(&self, named: &[ServiceName]) -> Result<BTreeSet<ServiceName>, SessionError> {
        if named.is_empty() {
            let made = |name: &&ServiceName| self.observed.containers(name.as_str()).next().is_some();
            return Ok(self.spec.services.keys().filter(made).cloned().collect());
        }
        match named.iter().find(|name| !self.spec.services.contains_key(*name)) {
            Some(service) => {
                Err(SessionError::NoSuchService { name: self.name.clone(), service: service.clone() })
            }
            None => Ok(named.iter().cloned().collect()),
        }
    }

    /// These services, and their dependencies that do not run, except those that have completed.
    pub fn with_dependencies(&self, which: &BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
        let mut all = which.clone();
        let mut seen = which.clone();
        let mut left: Vec<&ServiceName> = which.iter().collect();
        while let Some(name) = left.pop() {
            let Some(service) = self.spec.services.get(name) else { continue };
            for (other, on) in &service.depends_on {
                let done = |it: &ContainerSummary| {
                    on.condition == Condition::CompletedSuccessfully
                        && observe::exit_code(&it.status) == Some(0)
                };
                if self.observed.containers(other.as_str()).any(|it| !it.state.is_alive() && !done(it)) {
                    all.insert(other.clone());
                }
                if seen.insert(other.clone()) {
                    left.push(other);
                }
            }
        }
        all
    }

    /// Runs an operation on the sandbox and shows its progress. An interruption would leave services stopped, so the
    /// first one does not cancel it; the second one does.
    ///
    /// # Errors
    /// Fails with the errors of the operation.
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

    /// Returns at the second interruption.
    async fn insisted(&self, signals: Option<Signals>) -> SessionError {
        let Some(signals) = signals else { return std::future::pending().await };
        let mut asked = signals.told();
        let mut times = 0;
        while let Some(happening) = asked.next().await {
            match happening {
                LoopEvent::SuspendAsked => signals::stop_here(),
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

    /// Stops services, dependents first. A service that does not stop `within` that time, or without it within its own
    /// timeout, is killed.
    ///
    /// # Errors
    /// Fails if the engine fails.
    pub async fn stop(
        &self,
        which: &BTreeSet<ServiceName>,
        within: Option<Duration>,
    ) -> Result<Consistency, SessionError> {
        let mut spec = (*self.spec).clone();
        spec.services.retain(|name, _| which.contains(name));
        for service in spec.services.values_mut() {
            service.settings.stop_grace_period = within.or(service.settings.stop_grace_period);
        }
        stop(&self.context, &spec, &self.name).await
    }

    /// Starts services and waits until they are ready.
    ///
    /// # Errors
    /// Fails if a service exits or does not get ready.
    pub async fn start(&self, which: &BTreeSet<ServiceName>, patience: Duration) -> Result<(), SessionError> {
        self.start_with(which, PreStart::Run, patience).await
    }

    async fn start_with(
        &self,
        which: &BTreeSet<ServiceName>,
        pre_start: PreStart,
        patience: Duration,
    ) -> Result<(), SessionError> {
        let token = CancellationToken::new();
        let gateway = identity::gateway(self.name.as_str());
        // A reboot of the engine's machine has created new bridges.
        host_firewall::filter(&self.context, &self.id).await?;
        self.context.engine.start_container(&gateway).await?;
        let (spec, name, id) = (&self.spec, &self.name, &self.id);
        let request = StartRequest { spec, name, id, which, pre_start, patience };
        converge::start(&self.context, &request, &token).await?;
        // This counts as a use: the keeper restarts its idle timer.
        Ok(self.context.keeper.touch(&self.name).await?)
    }

    /// Restarts services, also those that did not run, and those running that restart with one of these.
    ///
    /// # Errors
    /// Fails if the engine fails, or if a service exits or does not get ready.
    pub async fn restart(
        &self,
        which: &BTreeSet<ServiceName>,
        within: Option<Duration>,
        patience: Duration,
    ) -> Result<(), SessionError> {
        let lives: BTreeSet<ServiceName> = {
            let containers = self.containers(ContainerSet::Everyones).await?;
            let alive = containers.iter().filter(|container| container.state.is_alive());
            alive.filter_map(|container| ServiceName::new(inspect::service_of(container)).ok()).collect()
        };
        let mut all = with_dependents(&self.spec, which);
        all.retain(|name| which.contains(name) || lives.contains(name));
        let which = &all;
        let whose = ContainerSet::Services(which);
        self.stopped(whose, patience, async |_, _| self.stop(which, within).await.map(drop)).await?;
        let containers = self.containers(whose).await?;
        let runs = |name: &ServiceName| {
            let mut its = containers.iter().filter(|it| inspect::service_of(it) == name.as_str());
            its.all(|container| container.state.is_alive())
        };
        let others: BTreeSet<ServiceName> = which.iter().filter(|name| !runs(name)).cloned().collect();
        if others.is_empty() { Ok(()) } else { self.start(&others, patience).await }
    }

    /// The values of its secrets: from its gateway, or the stored ones if the gateway lost them in a reboot.
    async fn values(&self) -> Result<Values, SessionError> {
        let values = Values::held(&*self.context.engine, &self.spec, &self.name).await?;
        Ok(values.completed(secret_store::kept(self.storage(), &self.id).await?))
    }

    /// The storage's names of its volumes.
    fn volumes(&self) -> Vec<VolumeName> {
        let keys = self.observed.volumes.iter().filter_map(|volume| volume.labels.get(identity::KEY));
        keys.filter_map(|key| VolumeName::new(key.as_str()).ok()).collect()
    }

    /// The build request of a second sandbox like this one, with data from [`ExistingSandbox::lend`].
    ///
    /// # Errors
    /// Fails if the engine fails. Names a secret or config whose source no longer exists.
    pub async fn fork(
        &self,
        name: SandboxName,
        id: SandboxId,
        patience: Duration,
    ) -> Result<BuildRequest, SessionError> {
        let mut values = self.values().await?;
        let lacking = values.lacking(&self.spec);
        values =
            values.or(secret_store::recall(&self.context.storage, &self.id, &self.spec, &lacking).await?);
        values.read_configs(&self.spec, &secret_store::variables(&self.spec))?;
        let given = |volume: VolumeName| (volume.to_string(), VolumeSource::Given(self.origin(&volume)));
        let sources = self.volumes().into_iter().map(given).collect();
        Ok(BuildRequest {
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
            anonymous_volumes: AnonymousVolumes::Kept,
            only_made: BTreeSet::new(),
            remove_orphans: true,
            patience,
            ports: PreferredPort::Any,
        })
    }

    /// Clones the current data to a sandbox that is about to be built and whose lease is held. Services are paused
    /// during the clone and then resume.
    ///
    /// # Errors
    /// Fails if the storage or the engine fails.
    pub async fn lend(&self, to: &SandboxId) -> Result<(), SessionError> {
        let (from, to) = (self.live()?, SetPath::live(to.as_str())?);
        let volumes = self.volumes();
        self.frozen(async |kept| {
            let places: Vec<VolumePath> = volumes.iter().map(|key| to.volume(key.clone())).collect();
            let copied = copy_set(self.storage(), &from, &to, &volumes);
            clone_progress::told(self.storage(), &self.context.events, &places, copied).await?;
            kept.undisturbed().await
        })
        .await
    }

    /// Sends an event.
    pub fn tell(&self, event: Event) {
        self.context.events.emit(event);
    }
}

fn half_made(observed: &ObservedSandbox) -> SessionError {
    SessionError::NotRecorded { name: observed.name.clone() }
}

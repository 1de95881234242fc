//! Executes the operations of a plan: each is one call to the engine or one message to the keeper.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::clone_progress;
use super::hooks;
use super::host_firewall;
use super::progress_recorder::ProgressRecorder;
use super::seccomp_profile;
use super::seeding;
use crate::agent::client::in_full;
use crate::agent::image;
use crate::bind_check;
use crate::engine::{
    BuildImage, BuildProgress, CreateContainer, CreateNetwork, CreateVolume, Filter, PullImage, PullPhase,
    PullProgress,
};
use crate::plan::{GrantedFile, Handover, Op, Plan, SECRETS_FOLDER, Step, VolumeSource};
use crate::session::context::Context;
use crate::session::data::secret_files::Values;
use crate::session::data::secret_store;
use crate::session::error::SessionError;
use crate::session::event::{self, BakeState, Event};
use crate::session::readiness::gateway_probe::GatewayProber;
pub use crate::session::readiness::wait::Pending;
use crate::session::readiness::wait::ReadinessWait;
use crate::spec::{ServiceName, Spec};
use crate::storage::{StorageError, VolumePath};

/// Number of a failed build's last lines to repeat.
const LAST_BUILD_LINES: usize = 20;

/// Executes the operations of a plan.
pub struct PlanExecutor {
    /// The engine, the keeper, the storage and the settings.
    pub context: Context,
    /// The spec that is built.
    pub spec: Arc<Spec>,
    /// The values of its secrets and configs.
    pub values: Arc<Values>,
    /// Probes services' ports from inside the sandbox.
    pub prober: Arc<GatewayProber>,
    /// The longest time to wait for a service.
    pub patience: Duration,
    /// The services that are being waited for.
    pub pending: Pending,
    /// Records what is complete.
    pub recorder: Option<Arc<ProgressRecorder>>,
}

impl PlanExecutor {
    /// Reports the plan that is about to run.
    pub fn announce(&self, plan: &Plan) {
        let steps = plan.steps().iter().map(|step| event::PlannedStep {
            id: step.id.clone(),
            phase: step.op.phase(),
            what: step.op.to_string(),
            cause: Some(step.cause.clone()),
            service: step.service.as_ref().map(ToString::to_string),
        });
        self.context.events.emit(Event::Plan { steps: steps.collect() });
    }

    /// Executes one step and reports its result.
    ///
    /// # Errors
    /// Fails if the operation fails, or with [`SessionError::Cancelled`] if it was only waiting when the token was
    /// cancelled.
    pub async fn perform(
        self: Arc<Self>,
        step: Arc<Step>,
        token: CancellationToken,
    ) -> Result<(), SessionError> {
        let began = Instant::now();
        let (id, phase, what) = (step.id.clone(), step.op.phase(), step.op.to_string());
        let service = step.service.as_ref().map(ToString::to_string);
        self.context.events.emit(Event::StepStarted {
            id: id.clone(),
            phase,
            what: what.clone(),
            service: service.clone(),
        });
        let mut outcome = self.operate(&step, &token).await;
        if let (Ok(()), Some(recorder)) = (&outcome, &self.recorder) {
            outcome = recorder.done(&step.id).await.map_err(SessionError::from);
        }
        let elapsed = began.elapsed();
        match &outcome {
            Ok(()) => self.context.events.emit(Event::StepDone { id, phase, what, service, elapsed }),
            // It only stopped waiting, which is not a failure of the step.
            Err(SessionError::Cancelled) => {}
            Err(error) => {
                let error = in_full(error);
                self.context.events.emit(Event::StepFailed { id, phase, what, service, elapsed, error });
            }
        }
        outcome
    }

    async fn operate(&self, step: &Step, token: &CancellationToken) -> Result<(), SessionError> {
        let engine = &self.context.engine;
        match &step.op {
            Op::PullImage(pull) => interruptible(token, self.pull(step, pull)).await,
            Op::BuildImage(build) => interruptible(token, self.build(step, build)).await,
            Op::CreateEdge(network) => self.create_edge(network).await,
            Op::CreateNetwork(network) => Ok(engine.create_network(network).await.map(drop)?),
            Op::Claim(container) => Ok(image::create_container(&**engine, container).await.map(drop)?),
            Op::CreateContainer(container) => self.create(step, container).await,
            Op::Connect { container, attachment } => Ok(engine.connect(container, attachment).await?),
            Op::Limit { sandbox, limits } => match &self.context.limiter {
                Ok(limiter) => Ok(limiter.limit(sandbox, limits).await?),
                Err(_) => Ok(()),
            },
            Op::ProtectHost(sandbox) => Ok(host_firewall::filter(&self.context, sandbox).await?),
            Op::ProvideData { path, source } => self.provide(path, source).await,
            Op::CreateVolume { volume, path } => self.create_volume(volume, path).await,
            Op::Fill { container, target, seed } => {
                let writable = self.spec.writable_folders();
                let fill = seeding::fill(&**engine, &self.context.events, container, target, seed, writable);
                interruptible(token, fill).await
            }
            Op::Keep { set, .. } => {
                secret_store::keep(&*self.context.storage, set, self.values.generated(&self.spec)).await
            }
            Op::Upload { container, files } => self.upload(container, files).await,
            Op::Start { container } => Ok(bind_check::start(&**engine, container).await?),
            Op::RunInit(container) => {
                interruptible(token, hooks::run_init(&**engine, &owner(step), container)).await
            }
            Op::RunHook { container, hook } => {
                interruptible(token, hooks::run(&**engine, &owner(step), container, hook)).await
            }
            Op::Await { container, until, handover, optional } => {
                let awaited = ReadinessWait { handover: *handover, ..self.awaited(step, container) };
                let outcome = awaited.until(until, token).await;
                if *optional { self.as_warning(outcome) } else { outcome }
            }
            Op::Seed { container, image, seed } => {
                let Some(service) = step.service.as_ref().and_then(|name| self.spec.services.get(name))
                else {
                    return Ok(());
                };
                let writable = self.spec.writable_folders();
                let run =
                    seeding::run(engine, &self.context.events, service, container, image, seed, writable);
                interruptible(token, run).await
            }
            Op::Stop { container } => {
                let service = step.service.as_ref().and_then(|name| self.spec.services.get(name));
                Ok(hooks::stop_container(&**engine, &self.context.events, service, container, None).await?)
            }
            Op::RemoveNetwork { network } => self.remove_network(network).await,
            Op::RemoveVolume { volume, path } => self.remove_volume(volume, path).await,
            Op::RemoveContainer { container } => match engine.remove_container(container, true, true).await {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(()),
            },
        }
    }

    async fn create(&self, step: &Step, container: &CreateContainer) -> Result<(), SessionError> {
        let service = step.service.as_ref().and_then(|name| self.spec.services.get(name));
        let durability = service.and_then(|service| service.durable).unwrap_or(self.spec.durable);
        let mut container = container.clone();
        let (mut options, folder) =
            (std::mem::take(&mut container.settings.security_opt), self.spec.folder.clone());
        let read = move || seccomp_profile::read(&mut options, &folder, durability).map(|()| options);
        container.settings.security_opt = tokio::task::spawn_blocking(read).await??;
        let (_, warnings) = self.context.engine.create_container_with_warnings(&container).await?;
        for warning in warnings {
            let of = step
                .service
                .as_ref()
                .map_or_else(|| "the gateway".to_owned(), |it| format!("service `{it}`"));
            let text = format!("the engine says of {of}: {warning}");
            self.context.events.emit(Event::Warning { text, hint: None });
        }
        Ok(())
    }

    /// Network names are not unique: several clients that create the first sandbox may each create an edge network. So
    /// a client that finds a second one removes its own, and all clients observe again. Of two clients, the one that
    /// looks last sees both networks, so two never remain.
    async fn create_edge(&self, network: &CreateNetwork) -> Result<(), SessionError> {
        let made = self.context.engine.create_network(network).await;
        let mut all = self.context.engine.networks(&Filter::all().name(&network.name)).await?;
        all.retain(|one| one.name == network.name);
        let overtaken = || SessionError::Overtaken { network: network.name.clone() };
        match made {
            Ok(_) if all.len() == 1 => Ok(()),
            Ok(id) => {
                self.context.engine.remove_network(&id).await?;
                Err(overtaken())
            }
            // Its subnet may differ from the planned one.
            Err(_) if !all.is_empty() => Err(overtaken()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a network, and first disconnects its remaining members: unwanted containers, or containers that are not
    /// ours.
    async fn remove_network(&self, network: &str) -> Result<(), SessionError> {
        let Some(found) = self.context.engine.network(network).await? else { return Ok(()) };
        for member in &found.containers {
            // A failed disconnect shows in the removal that follows.
            let _ = self.context.engine.disconnect(&found.id, &member.id).await;
        }
        match self.context.engine.remove_network(&found.id).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn remove_volume(&self, volume: &str, path: &VolumePath) -> Result<(), SessionError> {
        match self.context.engine.remove_volume(volume).await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        Ok(self.context.storage.delete_volume(path).await?)
    }

    async fn pull(&self, step: &Step, pull: &PullImage) -> Result<(), SessionError> {
        let mut pulled = Pulled::new(pull.reference.clone());
        let mut report = |progress: PullProgress| {
            if let Some(event) = pulled.seen(progress) {
                self.context.events.emit(event);
            }
        };
        self.context.engine.pull_image(pull, &mut report).await?;
        self.context.events.emit(pulled.event(true));
        let service = step.service.as_ref().and_then(|name| self.spec.services.get(name));
        let by_age = service.and_then(|service| service.pull_policy?.longest_age()).is_some();
        if by_age && !pull.reference.contains('@') {
            // A pull that finds nothing new does not count as a tag; the next `up` would pull again.
            self.context.engine.tag_image(&pull.reference, &pull.reference).await?;
        }
        Ok(())
    }

    async fn build(&self, step: &Step, build: &BuildImage) -> Result<(), SessionError> {
        let (events, service) = (self.context.events.clone(), owner(step));
        let mut output: VecDeque<String> = VecDeque::new();
        let mut tell = |progress: BuildProgress| match progress {
            BuildProgress::Step(line) => {
                events.emit(Event::BuildLine { service: service.clone(), line });
            }
            BuildProgress::Line(line) => {
                output.push_back(line.clone());
                if output.len() > LAST_BUILD_LINES {
                    output.pop_front();
                }
                events.emit(Event::BuildLine { service: service.clone(), line });
            }
            BuildProgress::Context(_) => {}
        };
        let built = self.context.engine.build_image(build, &mut tell).await;
        if built.is_err() && !output.is_empty() {
            events.emit(Event::BuildFailed { service, output: output.into() });
        }
        Ok(built.map(drop)?)
    }

    async fn provide(&self, path: &VolumePath, source: &VolumeSource) -> Result<(), SessionError> {
        let made = match source {
            VolumeSource::Given(_) => Ok(()),
            VolumeSource::Empty => self.context.storage.create(path).await,
            VolumeSource::Clone(from) => {
                let clone = self.context.storage.clone_volume(from, path);
                clone_progress::told(
                    &*self.context.storage,
                    &self.context.events,
                    std::slice::from_ref(path),
                    clone,
                )
                .await
            }
        };
        match made {
            // The path belongs to this instance alone: an earlier plan created it before a later step failed.
            Err(StorageError::Exists { .. }) => Ok(()),
            made => Ok(made?),
        }
    }

    async fn create_volume(&self, volume: &CreateVolume, path: &VolumePath) -> Result<(), SessionError> {
        let mount = self.context.storage.mount(path).await?;
        let wanted = CreateVolume { driver: Some(mount.driver), options: mount.options, ..volume.clone() };
        let made = self.context.engine.create_volume(&wanted).await?;
        // For an existing name the engine returns the old volume without an error.
        if made.options == wanted.options {
            Ok(())
        } else {
            Err(SessionError::ForeignVolume { name: volume.name.clone() })
        }
    }

    async fn upload(&self, container: &str, files: &[GrantedFile]) -> Result<(), SessionError> {
        let held = files.first().and_then(|file| {
            let below = file.path.strip_prefix(SECRETS_FOLDER)?.strip_prefix('/')?;
            Some(format!("{SECRETS_FOLDER}/{}", below.split('/').next()?))
        });
        let base = held.as_deref().unwrap_or("/");
        let archive = self.values.archive(files, base).map_err(|cause| SessionError::Io {
            what: format!("cannot pack the files for `{container}`"),
            cause,
        })?;
        Ok(self.context.engine.upload(container, base, archive).await?)
    }

    fn awaited<'a>(&'a self, step: &'a Step, container: &'a str) -> ReadinessWait<'a> {
        let service = step.service.as_ref();
        let waits = |name: &ServiceName| {
            let of = self.spec.services.values();
            of.filter(|other| other.depends_on.contains_key(name))
                .map(|other| other.name.to_string())
                .collect()
        };
        ReadinessWait {
            engine: &self.context.engine,
            prober: &self.prober,
            events: &self.context.events,
            service: service.map_or("", |name| name.as_str()),
            container,
            restart: service
                .and_then(|name| self.spec.services.get(name))
                .map(crate::spec::Service::restart_policy)
                .unwrap_or_default(),
            waited_for_by: service.map(waits).unwrap_or_default(),
            handover: Handover::Expected,
            patience: self.patience,
            pending: &self.pending,
        }
    }

    /// Reports a failure that no other step depends on as a warning.
    fn as_warning(&self, outcome: Result<(), SessionError>) -> Result<(), SessionError> {
        match outcome {
            Ok(()) | Err(SessionError::Cancelled) => outcome,
            Err(error) => {
                let text = format!("{}; what depends on it starts without it", in_full(&error));
                let hint = error.hint();
                self.context.events.emit(Event::Warning { text, hint });
                Ok(())
            }
        }
    }

    /// Reports the state of a bake.
    pub fn tell_bake(&self, key: &str, volumes: &[String], state: BakeState) {
        self.context.events.emit(Event::Bake { key: key.to_owned(), volumes: volumes.to_vec(), state });
    }
}

fn owner(step: &Step) -> String {
    step.service.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Runs a wait, and abandons it when the token is cancelled.
async fn interruptible(
    token: &CancellationToken,
    work: impl Future<Output = Result<(), SessionError>>,
) -> Result<(), SessionError> {
    tokio::select! {
        biased;
        () = token.cancelled() => Err(SessionError::Cancelled),
        outcome = work => outcome,
    }
}

/// Progress of an image pull, summed over its layers and reported at most ten times a second.
struct Pulled {
    image: String,
    layers: BTreeMap<String, (u64, u64, bool)>,
    began: Instant,
    told: Option<Instant>,
}

impl Pulled {
    fn new(image: String) -> Self {
        Self { image, layers: BTreeMap::new(), began: Instant::now(), told: None }
    }

    fn seen(&mut self, progress: PullProgress) -> Option<Event> {
        if let PullPhase::Retrying { attempt, cause } = &progress.phase {
            let text = format!("pull of `{}` starts over (attempt {attempt}): {cause}", self.image);
            return Some(Event::Warning { text, hint: None });
        }
        if !progress.layer.is_empty() {
            let layer = self.layers.entry(progress.layer).or_default();
            match progress.phase {
                PullPhase::Downloading => {
                    layer.0 = progress.current;
                    layer.1 = progress.total.unwrap_or(layer.1).max(progress.current);
                }
                PullPhase::Downloaded | PullPhase::Extracting => layer.0 = layer.1,
                PullPhase::Done | PullPhase::Present => *layer = (layer.1, layer.1, true),
                PullPhase::Waiting | PullPhase::Retrying { .. } | PullPhase::Note(_) => {}
            }
        }
        let due = self.told.is_none_or(|told| told.elapsed() >= Duration::from_millis(100));
        due.then(|| {
            self.told = Some(Instant::now());
            self.event(false)
        })
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "bytes a second, for people"
    )]
    fn event(&self, done: bool) -> Event {
        let bytes = self.layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        let finished = self.layers.values().filter(|layer| layer.2).count();
        Event::Pull {
            image: self.image.clone(),
            layers: event::Progress { done: finished as u64, total: self.layers.len() as u64 },
            bytes: event::Progress { done: bytes.0, total: bytes.1 },
            rate: (bytes.0 as f64 / self.began.elapsed().as_secs_f64().max(0.001)) as u64,
            done,
        }
    }
}

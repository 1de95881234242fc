//! Brings a sandbox up: observe, plan, execute, and retry after a conflict.
//!
//! The same call creates a new sandbox and changes a running one. If another client takes a subnet or a port between
//! observing and executing, it observes and plans again. After a failure it does not clean up: the caller can destroy
//! the sandbox by its labels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::conflicts::{Conflict, PlanOwner};
use super::dockerfiles;
use super::executor::PlanExecutor;
use super::host_ports;
pub use super::host_ports::PreferredPort;
use super::limits::Limiter;
use super::observe::{self, Images};
use super::port_check;
use super::scheduler::{self, Halt};
use crate::agent::client::Keeper;
use crate::agent::protocol::{Attachment, Declared, End, Lifetime};
use crate::data::manifest::ImageIdentity;
use crate::engine::identity::{self, SandboxId, Scope};
use crate::engine::{Engine, EngineInfo, ErrorKind};
use crate::plan::{
    self, Age, AnonymousVolumes, DesiredState, Observed, Op, Plan, PlanError, PortBinding, Seeding,
    SubnetPool, VolumeSource,
};
use crate::session::data::secret_files::Values;
use crate::session::data::secret_store;
use crate::session::error::SessionError;
use crate::session::event::{Event, Events, ServiceState, ServiceStatus};
use crate::session::inspect::{self, Passwords};
use crate::session::readiness::gateway_probe::GatewayProber;
use crate::session::readiness::log_tail::tail;
use crate::session::readiness::wait::Pending;
use crate::spec::{Limits, Probe, RestartPolicy, SandboxName, Service, ServiceName, Spec};
use crate::storage::Storage;

/// Maximum number of attempts after conflicts.
const ATTEMPTS: u32 = 24;

/// How long to retry while no subnet is free: clients that create their first sandboxes at the same time may briefly
/// take more subnets than they keep.
const CROWDED: Duration = Duration::from_secs(3);
/// Interval of these retries.
const LOOK: Duration = Duration::from_millis(300);

/// What all build operations need: the engine, the keeper, the storage and the settings.
#[derive(Clone)]
pub struct Context {
    /// The engine's API.
    pub engine: Arc<dyn Engine>,
    /// Kind, version and properties of the engine.
    pub info: EngineInfo,
    /// The storage that has the volumes' data.
    pub storage: Arc<dyn Storage>,
    /// The name of our container that mounts the storage's files.
    pub storage_container: String,
    /// Sets the sandbox's shared limits, or why this keeper cannot.
    pub limiter: Result<Limiter, String>,
    /// The connection to the keeper.
    pub keeper: Keeper,
    /// The reference of our own image.
    pub agent_image: String,
    /// The scope in which the sandbox is.
    pub scope: Scope,
    /// The ranges that subnets are allocated from.
    pub subnets: SubnetPool,
    /// The seccomp profile that makes `fsync` a no-op.
    pub throwaway_seccomp: Option<String>,
    /// Where events are sent.
    pub events: Events,
}

/// What a plan needs to know besides the spec and the observed state.
pub struct PlanEnvironment<'a> {
    /// Kind, version and properties of the engine.
    pub info: &'a EngineInfo,
    /// The scope in which the sandbox is.
    pub scope: &'a Scope,
    /// The ranges that subnets are allocated from.
    pub subnets: &'a SubnetPool,
    /// The reference of our own image.
    pub agent_image: &'a str,
    /// The seccomp profile that makes `fsync` a no-op.
    pub throwaway_seccomp: Option<&'a String>,
    /// The parent control group of the services.
    pub group: Option<String>,
}

impl Context {
    fn means(&self, sandbox: &SandboxId) -> PlanEnvironment<'_> {
        PlanEnvironment {
            info: &self.info,
            scope: &self.scope,
            subnets: &self.subnets,
            agent_image: &self.agent_image,
            throwaway_seccomp: self.throwaway_seccomp.as_ref(),
            group: self.limiter.as_ref().ok().map(|limiter| limiter.parent(&self.scope, sandbox)),
        }
    }
}

/// What to build: the spec, the sandbox's name and id, and the options of the build.
#[derive(Clone)]
pub struct BuildRequest {
    /// The spec, with only the requested services.
    pub spec: Arc<Spec>,
    /// The values of its secrets and configs.
    pub values: Arc<Values>,
    /// The sandbox's name.
    pub name: SandboxName,
    /// The instance id of the sandbox.
    pub id: SandboxId,
    /// The first deadline.
    pub expires: Option<Timestamp>,
    /// Where the initial content of volumes comes from.
    pub sources: BTreeMap<String, VolumeSource>,
    /// The images that the data was made with. They must still be the same.
    pub made_with: BTreeMap<String, ImageIdentity>,
    /// Which seeds to run.
    pub seeding: Seeding,
    /// Whether it is built for the first time.
    pub age: Age,
    /// Services whose image is built even if it exists.
    pub rebuild: BTreeSet<ServiceName>,
    /// Services whose containers are recreated even if nothing changed.
    pub recreate: BTreeSet<ServiceName>,
    /// What becomes of the anonymous volumes of a container that is recreated.
    pub anonymous_volumes: AnonymousVolumes,
    /// Services that are created and whose volumes are filled, but that are not started.
    pub only_made: BTreeSet<ServiceName>,
    /// Whether to remove services that the spec no longer has.
    pub remove_orphans: bool,
    /// The longest time to wait for a service.
    pub patience: Duration,
    /// What to do if a host port is not free.
    pub ports: PreferredPort,
}

/// Pulls and builds the images of a spec, and inspects them.
///
/// # Errors
/// Fails with the first image that cannot be pulled or built.
pub async fn images(
    site: &Context,
    spec: &Arc<Spec>,
    rebuild: &BTreeSet<ServiceName>,
    token: &CancellationToken,
) -> Result<Images, SessionError> {
    let images = observe::images(&*site.engine, spec).await?;
    let base_images = dockerfiles::named_images(spec).await;
    let observed = plan::Observed { now: Timestamp::now(), images, base_images, ..plan::Observed::default() };
    let plan = plan::plan_images(spec, &site.scope, &observed, rebuild);
    if plan.is_empty() {
        return Ok(observed.images);
    }
    let prober = GatewayProber::new(Arc::clone(&site.engine), String::new());
    let workshop = workshop(site, spec, &Arc::new(Values::default()), prober, Duration::MAX);
    run(workshop, plan, token).await.map_err(error_of)?;
    Ok(observe::images(&*site.engine, spec).await?)
}

/// The plan of a build request, with its images, without executing it.
///
/// # Errors
/// Fails if the engine does not answer or no plan can be made.
pub async fn dry_run(
    engine: &dyn Engine,
    means: &PlanEnvironment<'_>,
    limited: Option<Limits>,
    order: &BuildRequest,
) -> Result<Plan, SessionError> {
    let mut survey = observe::survey(engine, means.info, means.scope, &order.name, &order.spec).await?;
    survey.observed.limits = limited;
    survey.observed.base_images = dockerfiles::named_images(&order.spec).await;
    let images = plan::plan_images(&order.spec, means.scope, &survey.observed, &order.rebuild);
    let wish = wish(means, order);
    Ok(images.then(plan::plan(&wish, &survey.observed)?))
}

/// Builds (or changes) a sandbox whose images exist, and returns how to reach it.
///
/// # Errors
/// Fails with the error of a step, or with [`SessionError::Held`] if another client claimed the name first.
pub async fn raise(
    site: &Context,
    order: &BuildRequest,
    token: &CancellationToken,
) -> Result<(), SessionError> {
    let mut lost = Conflict::default();
    let began = Instant::now();
    let mut ports = declared_ports(site, order).await?;
    for attempt in 1.. {
        let mut survey =
            observe::survey(&*site.engine, &site.info, &site.scope, &order.name, &order.spec).await?;
        if survey.id.as_ref().is_some_and(|id| *id != order.id) {
            return Err(SessionError::Held { name: order.name.clone() });
        }
        for volume in survey.relabelled.iter().filter(|_| attempt == 1) {
            site.events.emit(Event::Warning {
                text: format!("the labels of volume `{volume}` have changed: the engine changes none of a volume that is there"),
                hint: Some("`sandbox down` and `sandbox up` create a new one".to_owned()),
            });
        }
        let observed = &mut survey.observed.ports;
        plan::recall(observed, &ports);
        if *observed != ports || attempt == 1 {
            ports.clone_from(observed);
            let declared = Declared { spec: (*order.spec).clone(), ports: ports.clone() };
            site.keeper.declare(&order.id, declared).await?;
        }
        lost.add_to(&mut survey.observed);
        host_ports::check(&order.spec, order.ports, &survey.observed)?;
        if let Ok(limiter) = &site.limiter {
            survey.observed.limits = limiter.standing(&order.id).await?;
        }
        let wish = wish(&site.means(&order.id), order);
        let plan = match plan::plan(&wish, &survey.observed) {
            Err(PlanError::NoSubnet { .. }) if began.elapsed() < CROWDED => {
                // Subnets that other clients took may be free again.
                lost.forget_subnets();
                tokio::time::sleep(LOOK).await;
                continue;
            }
            plan => plan?,
        };
        let prober = GatewayProber::new(Arc::clone(&site.engine), identity::gateway(order.name.as_str()));
        let workshop = workshop(site, &order.spec, &order.values, prober, order.patience);
        let prober = Arc::clone(&workshop.prober);
        let gateway = identity::gateway(order.name.as_str());
        let starts_gateway = plan
            .steps()
            .iter()
            .any(|step| matches!(&step.op, Op::Start { container } if *container == gateway));
        match run(workshop, plan, token).await {
            Ok(()) if starts_gateway => {
                prober.gateway_serves().await;
                break;
            }
            Ok(()) => break,
            Err(Halt::Failed(step, error)) if attempt < ATTEMPTS => {
                let whose = PlanOwner { spec: &order.spec, ports: order.ports, gateway };
                if !lost.to_others(&*site.engine, &whose, &survey.observed, &step.op, &error).await? {
                    return Err(named(order, &step.op, error));
                }
            }
            Err(Halt::Failed(step, error)) => return Err(named(order, &step.op, error)),
            Err(halt) => return Err(error_of(halt)),
        }
    }
    Ok(())
}

/// The published ports before the last change. While the gateway is replaced, no container has them.
async fn declared_ports(site: &Context, order: &BuildRequest) -> Result<Vec<PortBinding>, SessionError> {
    match order.age {
        Age::New => Ok(Vec::new()),
        Age::Standing => Ok(site.keeper.declared(&order.id).await?.map(|it| it.ports).unwrap_or_default()),
    }
}

fn named(order: &BuildRequest, op: &Op, error: SessionError) -> SessionError {
    match (op, &error) {
        (Op::Claim(_), SessionError::Engine(engine)) if engine.kind == ErrorKind::Conflict => {
            SessionError::Held { name: order.name.clone() }
        }
        _ => error,
    }
}

fn wish<'a>(means: &PlanEnvironment<'_>, order: &'a BuildRequest) -> DesiredState<'a> {
    DesiredState {
        spec: &order.spec,
        name: order.name.clone(),
        id: order.id.clone(),
        scope: means.scope.clone(),
        expires: order.expires,
        agent_image: means.agent_image.to_owned(),
        sources: order.sources.clone(),
        seeding: order.seeding,
        age: order.age,
        throwaway_seccomp: means.throwaway_seccomp.cloned(),
        group: means.group.clone(),
        subnets: means.subnets.clone(),
        only_made: order.only_made.clone(),
        remove_orphans: order.remove_orphans,
        recreate: order.recreate.clone(),
        anonymous_volumes: order.anonymous_volumes,
    }
}

fn workshop(
    site: &Context,
    spec: &Arc<Spec>,
    values: &Arc<Values>,
    prober: GatewayProber,
    patience: Duration,
) -> PlanExecutor {
    PlanExecutor {
        engine: Arc::clone(&site.engine),
        storage: Arc::clone(&site.storage),
        limiter: site.limiter.clone(),
        keeper: site.keeper.clone(),
        events: site.events.clone(),
        spec: Arc::clone(spec),
        values: Arc::clone(values),
        prober: Arc::new(prober),
        patience,
        pending: Pending::default(),
        numbers: BTreeMap::new(),
    }
}

async fn run(
    mut workshop: PlanExecutor,
    plan: Plan,
    token: &CancellationToken,
) -> Result<(), Halt<SessionError>> {
    workshop.announce(&plan);
    let workshop = Arc::new(workshop);
    scheduler::run(plan, token, |step, token| Arc::clone(&workshop).perform(step, token)).await
}

/// Which services of a sandbox to start.
pub struct StartRequest<'a> {
    /// The sandbox's spec.
    pub spec: &'a Arc<Spec>,
    /// The sandbox's name.
    pub name: &'a SandboxName,
    /// Its instance id.
    pub id: &'a SandboxId,
    /// The services.
    pub which: &'a BTreeSet<ServiceName>,
    /// Whether their `pre_start` commands run.
    pub pre_start: PreStart,
    /// The longest time to wait for a service.
    pub patience: Duration,
}

/// Whether the `pre_start` commands of services run that start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreStart {
    /// Of those of which no container runs.
    Run,
    /// None: the services were stopped only for a moment.
    Skip,
}

/// Starts existing services in order and waits for each. The gateway must run; secrets that it lost in a reboot are
/// uploaded again.
///
/// # Errors
/// Fails if the engine fails, or if a service exits or does not get ready.
pub async fn start(
    site: &Context,
    request: &StartRequest<'_>,
    token: &CancellationToken,
) -> Result<(), SessionError> {
    let StartRequest { spec, name, id, which, pre_start, patience } = *request;
    let images = observe::images(&*site.engine, spec).await?;
    let started: Vec<&Service> = which.iter().filter_map(|name| spec.services.get(name)).collect();
    let forgotten = secret_store::forgotten(&*site.engine, name, &started).await?;
    let values = Arc::new(secret_store::recall(&site.storage, id, spec, &forgotten).await?);
    let pre_starts = match pre_start {
        PreStart::Run => pre_starts(site, spec, name, id, which).await?,
        PreStart::Skip => Vec::new(),
    };
    let observed = plan::Observed { images, forgotten, ..plan::Observed::default() };
    let plan = plan::plan_start(spec, name, id, &observed, which, &pre_starts);
    let prober = GatewayProber::new(Arc::clone(&site.engine), identity::gateway(name.as_str()));
    let workshop = workshop(site, spec, &values, prober, patience);
    run(workshop, plan, token).await.map_err(error_of)
}

/// The `pre_start` commands that run when these services start.
async fn pre_starts(
    site: &Context,
    spec: &Arc<Spec>,
    name: &SandboxName,
    id: &SandboxId,
    which: &BTreeSet<ServiceName>,
) -> Result<Vec<plan::Step>, SessionError> {
    let mut services = which.iter().filter_map(|name| spec.services.get(name));
    if services.all(|service| service.pre_start.is_empty()) {
        return Ok(Vec::new());
    }
    let mut survey = observe::survey(&*site.engine, &site.info, &site.scope, name, spec).await?;
    if let Ok(limiter) = &site.limiter {
        survey.observed.limits = limiter.standing(id).await?;
    }
    let means = site.means(id);
    let wish = DesiredState {
        spec,
        name: name.clone(),
        id: id.clone(),
        scope: means.scope.clone(),
        expires: None,
        agent_image: means.agent_image.to_owned(),
        sources: BTreeMap::new(),
        seeding: Seeding::Done,
        age: Age::Standing,
        throwaway_seccomp: means.throwaway_seccomp.cloned(),
        group: means.group.clone(),
        subnets: means.subnets.clone(),
        only_made: BTreeSet::new(),
        remove_orphans: false,
        recreate: BTreeSet::new(),
        anonymous_volumes: AnonymousVolumes::Kept,
    };
    Ok(plan::pre_starts(&wish, &survey.observed, which)?)
}

/// Checks for services that failed after they were ready and that will not be restarted.
async fn none_failed(
    site: &Context,
    order: &BuildRequest,
    services: &[ServiceStatus],
) -> Result<(), SessionError> {
    for status in services {
        let ServiceState::Exited { code } = status.state else { continue };
        let service = order.spec.services.get(status.service.as_str());
        let optional = service.is_some_and(|service| plan::is_optional(&order.spec, &service.name));
        if code != 0
            && !optional
            && service.is_some_and(|service| service.restart_policy() == RestartPolicy::No)
        {
            let prober = GatewayProber::new(Arc::clone(&site.engine), identity::gateway(order.name.as_str()));
            return Err(SessionError::Exited {
                service: status.service.clone(),
                code,
                log: tail(&*site.engine, &status.container).await,
                waited_for_by: Vec::new(),
                refused: prober.refused(&status.service).await,
            });
        }
    }
    Ok(())
}

/// Reports that a sandbox is up, how to reach it, and which preferred host ports were not free.
///
/// # Errors
/// Fails if the engine does not answer, or with the first service that failed while others were waited for.
pub async fn tell_up(
    site: &Context,
    order: &BuildRequest,
    manner: &AttachMode,
    elapsed: Duration,
) -> Result<(), SessionError> {
    let Some(sighting) = inspect::sandbox(&*site.engine, &site.scope, &order.name).await? else {
        return Err(SessionError::NoSuchSandbox { name: order.name.clone() });
    };
    let mut services = inspect::statuses(&*site.engine, &sighting, Passwords::LeftOut).await?;
    // The engine runs its first healthcheck only after an interval, but `up` has already seen the service ready.
    let unchecked = services.iter_mut().filter(|status| status.state == ServiceState::Starting);
    unchecked.for_each(|status| status.state = ServiceState::Ready);
    none_failed(site, order, &services).await?;
    let services: Vec<ServiceStatus> =
        services.into_iter().map(|status| found_ready(&order.spec, status)).collect();
    moved(&order.spec, &services).for_each(|event| site.events.emit(event));
    let local = site.info.location.is_local();
    port_check::unreached(&order.spec, &services, local)
        .into_iter()
        .for_each(|event| site.events.emit(event));
    let end = match manner {
        AttachMode::Detached(lifetime) => lifetime.end(Timestamp::now(), Attachment::Detached),
        AttachMode::Session | AttachMode::Visit => end(site, order).await,
    };
    site.events.emit(Event::Up {
        name: order.name.to_string(),
        services,
        deadline: end.map(|end| end.at),
        if_unused: end.is_some_and(|end| end.unless_used),
        elapsed,
        attached: !matches!(manner, AttachMode::Detached(_)),
        stays: !matches!(manner, AttachMode::Session),
    });
    Ok(())
}

/// How a client relates to a sandbox that it has brought up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachMode {
    /// It is the sandbox's session: when it ends, the sandbox is destroyed.
    Session,
    /// It is attached to a sandbox that outlives it.
    Visit,
    /// It detaches and gives the sandbox this lifetime.
    Detached(Lifetime),
}

/// When a sandbox ends, according to its keeper.
async fn end(site: &Context, order: &BuildRequest) -> Option<End> {
    let standings = site.keeper.sandboxes().await.unwrap_or_default();
    let standing = standings.into_iter().find(|standing| standing.sandbox == order.id);
    match standing {
        Some(standing) => Some(End { at: standing.ends?, unless_used: standing.unless_used }),
        None => order.expires.map(|at| End { at, unless_used: false }),
    }
}

/// Sets a service that `up` has waited for to ready: its healthcheck or its `ready:` probe has succeeded, even if the
/// engine has not run the next healthcheck yet.
pub fn found_ready(spec: &Spec, mut status: ServiceStatus) -> ServiceStatus {
    let probed = spec.services.get(status.service.as_str()).and_then(|service| service.ready.as_ref());
    status.state = match status.state {
        ServiceState::Starting | ServiceState::Healthy => ServiceState::Ready,
        ServiceState::Running if probed.is_some_and(|ready| ready.probe != Probe::None) => {
            ServiceState::Ready
        }
        other => other,
    };
    status
}

/// Ports that are published at none of the host ports that the spec prefers.
fn moved<'a>(spec: &Spec, services: &'a [ServiceStatus]) -> impl Iterator<Item = Event> + 'a {
    plan::published(spec, &Observed::default()).into_iter().filter_map(|port| {
        let wanted = port.wanted?;
        let given: Vec<u16> = port_check::endpoints(&port, services).map(|endpoint| endpoint.port).collect();
        if given.iter().any(|port| wanted.contains(*port)) {
            return None;
        }
        let (service, target, wanted) = (port.service.to_string(), port.target, wanted.start);
        Some(Event::PortMoved { service, target, wanted, given: *given.first()? })
    })
}

/// Why a plan stopped, without the step.
fn error_of(halt: Halt<SessionError>) -> SessionError {
    match halt {
        Halt::Failed(_, error) => error,
        Halt::Cancelled => SessionError::Cancelled,
        Halt::Stuck(steps) => {
            let steps: Vec<String> = steps.iter().map(|step| format!("`{step}`")).collect();
            SessionError::Data {
                what: format!("these steps of the plan wait for each other: {}", steps.join(", ")),
                hint: Some(
                    "this is a fault of sandbox; `sandbox up --dry-run` shows the plan to report".to_owned(),
                ),
            }
        }
    }
}

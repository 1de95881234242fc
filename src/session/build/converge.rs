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
use super::observe::{self, Images};
use super::progress_recorder::ProgressRecorder;
use super::scheduler::{self, Halt};
use crate::agent::protocol::Declared;
use crate::engine::identity::{self, SandboxId};
use crate::engine::{Engine, ErrorKind};
use crate::plan::{self, Age, Op, Plan, PlanError, PreStart, Progress};
use crate::session::context::{Context, PlanEnvironment};
use crate::session::data::secret_files::Values;
use crate::session::data::secret_store;
use crate::session::error::SessionError;
use crate::session::event::Event;
use crate::session::readiness::gateway_probe::GatewayProber;
use crate::session::readiness::wait::Pending;
use crate::session::request::BuildRequest;
use crate::spec::{Limits, SandboxName, ServiceName, Spec};

/// Maximum number of attempts after conflicts.
const ATTEMPTS: u32 = 24;

/// How long to retry while no subnet is free: clients that create their first sandboxes at the same time may briefly
/// take more subnets than they keep.
const CROWDED: Duration = Duration::from_secs(3);
/// Interval of these retries.
const LOOK: Duration = Duration::from_millis(300);

/// Pulls and builds the images of a spec, and inspects them.
///
/// # Errors
/// Fails with the first image that cannot be pulled or built.
pub async fn images(
    context: &Context,
    spec: &Arc<Spec>,
    rebuild: &BTreeSet<ServiceName>,
    token: &CancellationToken,
) -> Result<Images, SessionError> {
    let images = observe::images(&*context.engine, spec).await?;
    let base_images = dockerfiles::named_images(spec).await;
    let observed = plan::Observed { now: Timestamp::now(), images, base_images, ..plan::Observed::default() };
    let plan = plan::plan_images(spec, &context.scope, &observed, rebuild);
    if plan.is_empty() {
        return Ok(observed.images);
    }
    let prober = GatewayProber::new(Arc::clone(&context.engine), String::new());
    let workshop = workshop(context, spec, &Arc::new(Values::default()), prober, Duration::MAX);
    run(workshop, plan, token).await.map_err(error_of)?;
    Ok(observe::images(&*context.engine, spec).await?)
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
    Ok(images.then(plan::plan(&means.desired(order), &survey.observed)?))
}

/// Builds (or changes) a sandbox whose images exist, and returns how to reach it.
///
/// # Errors
/// Fails with the error of a step, or with [`SessionError::Held`] if another client claimed the name first.
pub async fn raise(
    context: &Context,
    order: &BuildRequest,
    token: &CancellationToken,
) -> Result<(), SessionError> {
    let mut lost = Conflict::default();
    let began = Instant::now();
    let mut declared = declared(context, order).await?;
    let order = &with_changed_files(order, &mut declared.files);
    for attempt in 1.. {
        let mut survey =
            observe::survey(&*context.engine, &context.info, &context.scope, &order.name, &order.spec)
                .await?;
        if survey.id.as_ref().is_some_and(|id| *id != order.id) {
            return Err(SessionError::Held { name: order.name.clone() });
        }
        for volume in survey.relabelled.iter().filter(|_| attempt == 1) {
            context.events.emit(Event::Warning {
                text: format!("the labels of volume `{volume}` have changed: the engine changes none of a volume that is there"),
                hint: Some("`sandbox down` and `sandbox up` create a new one".to_owned()),
            });
        }
        let observed = &mut survey.observed.ports;
        plan::recall(observed, &declared.ports);
        let mut changed = *observed != declared.ports || attempt == 1;
        declared.ports.clone_from(observed);
        lost.add_to(&mut survey.observed);
        host_ports::check(&order.spec, order.ports, &survey.observed)?;
        if let Ok(limiter) = &context.limiter {
            survey.observed.limits = limiter.standing(&order.id).await?;
        }
        let mut desired = context.environment(&order.id).desired(order);
        // The plan of a new sandbox contains all that an attempt before it has not completed.
        if order.age == Age::Standing {
            desired.unfinished = declared.unfinished.clone();
        }
        let plan = match plan::plan(&desired, &survey.observed) {
            Err(PlanError::NoSubnet { .. }) if began.elapsed() < CROWDED => {
                // Subnets that other clients took may be free again.
                lost.forget_subnets();
                tokio::time::sleep(LOOK).await;
                continue;
            }
            plan => plan?,
        };
        let progress = Progress::of(&plan, &desired.unfinished);
        changed |= progress.unfinished() != declared.unfinished;
        declared.unfinished = progress.unfinished();
        if changed {
            context.keeper.declare(&order.id, declared.clone()).await?;
        }
        let recorder = Arc::new(ProgressRecorder::new(context, &order.id, declared.clone(), progress));
        let prober = GatewayProber::new(Arc::clone(&context.engine), identity::gateway(order.name.as_str()));
        let mut workshop = workshop(context, &order.spec, &order.values, prober, order.patience);
        workshop.recorder = Some(Arc::clone(&recorder));
        let prober = Arc::clone(&workshop.prober);
        let gateway = identity::gateway(order.name.as_str());
        let starts_gateway = plan
            .steps()
            .iter()
            .any(|step| matches!(&step.op, Op::Start { container } if *container == gateway));
        let outcome = run(workshop, plan, token).await;
        declared.unfinished = recorder.unfinished().await;
        match outcome {
            Ok(()) if starts_gateway => {
                prober.gateway_serves().await;
                break;
            }
            Ok(()) => break,
            Err(Halt::Failed(step, error)) if attempt < ATTEMPTS => {
                let whose = PlanOwner { spec: &order.spec, ports: order.ports, gateway };
                if !lost.to_others(&*context.engine, &whose, &survey.observed, &step.op, &error).await? {
                    return Err(named(order, &step.op, error));
                }
            }
            Err(Halt::Failed(step, error)) => return Err(named(order, &step.op, error)),
            Err(halt) => return Err(error_of(halt)),
        }
    }
    Ok(())
}

/// What is recorded of the sandbox, with the spec of this build request. The published ports are those before the last
/// change: while the gateway is replaced, no container has them.
async fn declared(context: &Context, order: &BuildRequest) -> Result<Declared, SessionError> {
    let before = match order.age {
        Age::New => None,
        Age::Standing => context.keeper.declared(&order.id).await?,
    };
    let (ports, files, unfinished) = before.map(|it| (it.ports, it.files, it.unfinished)).unwrap_or_default();
    Ok(Declared { spec: (*order.spec).clone(), ports, files, unfinished })
}

/// A build request that recreates the services whose configs or secrets have other content than recorded in `files`,
/// which gets the new digests. An engine does not change files in a container that it has created.
fn with_changed_files(order: &BuildRequest, files: &mut BTreeMap<ServiceName, String>) -> BuildRequest {
    let mut order = order.clone();
    let now = order.values.digests(&order.spec);
    let changed = now.iter().filter(|(service, digest)| files.get(*service).is_some_and(|it| it != *digest));
    order.recreate.extend(changed.map(|(service, _)| service.clone()));
    files.retain(|service, _| order.spec.services.contains_key(service));
    files.extend(now);
    order
}

fn named(order: &BuildRequest, op: &Op, error: SessionError) -> SessionError {
    match (op, &error) {
        (Op::Claim(_), SessionError::Engine(engine)) if engine.kind == ErrorKind::Conflict => {
            SessionError::Held { name: order.name.clone() }
        }
        _ => error,
    }
}

fn workshop(
    context: &Context,
    spec: &Arc<Spec>,
    values: &Arc<Values>,
    prober: GatewayProber,
    patience: Duration,
) -> PlanExecutor {
    PlanExecutor {
        context: context.clone(),
        spec: Arc::clone(spec),
        values: Arc::clone(values),
        prober: Arc::new(prober),
        patience,
        pending: Pending::default(),
        recorder: None,
    }
}

async fn run(
    workshop: PlanExecutor,
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

/// Starts existing services in order and waits for each. The gateway must run; secrets that it lost in a reboot are
/// uploaded again.
///
/// # Errors
/// Fails if the engine fails, or if a service exits or does not get ready.
pub async fn start(
    context: &Context,
    request: &StartRequest<'_>,
    token: &CancellationToken,
) -> Result<(), SessionError> {
    let StartRequest { spec, name, id, which, pre_start, patience } = *request;
    let services = || which.iter().filter_map(|name| spec.services.get(name));
    let forgotten = secret_store::forgotten(&*context.engine, name, &services().collect::<Vec<_>>()).await?;
    let values = Arc::new(secret_store::recall(&context.storage, id, spec, &forgotten).await?);
    let (pre_start, observed) = if pre_start == PreStart::Run && services().any(|it| !it.pre_start.is_empty())
    {
        let mut observation =
            observe::survey(&*context.engine, &context.info, &context.scope, name, spec).await?;
        if let Ok(limiter) = &context.limiter {
            observation.observed.limits = limiter.standing(id).await?;
        }
        (PreStart::Run, observation.observed)
    } else {
        let images = observe::images(&*context.engine, spec).await?;
        (PreStart::Skip, plan::Observed { images, ..plan::Observed::default() })
    };
    let observed = plan::Observed { forgotten, ..observed };
    let desired = context.environment(id).existing(spec, name, id);
    let plan = plan::plan_start(&desired, &observed, which, pre_start)?;
    let prober = GatewayProber::new(Arc::clone(&context.engine), identity::gateway(name.as_str()));
    let workshop = workshop(context, spec, &values, prober, patience);
    run(workshop, plan, token).await.map_err(error_of)
}

/// Why a plan stopped, without the step.
fn error_of(halt: Halt<SessionError>) -> SessionError {
    match halt {
        Halt::Failed(_, error) => error,
        Halt::Cancelled => SessionError::Cancelled,
        Halt::Stuck(steps) => {
            SessionError::StuckPlan { steps: steps.iter().map(ToString::to_string).collect() }
        }
    }
}

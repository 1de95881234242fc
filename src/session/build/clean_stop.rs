//! Stops the services of a sandbox so that their data is as after a clean shutdown.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::hooks;
use crate::data::manifest::Consistency;
use crate::engine::identity::{self, Role, SandboxId};
use crate::engine::{ContainerSummary, Filter, MountPointKind, join_bounded};
use crate::session::context::Context;
use crate::session::error::SessionError;
use crate::session::event::{Event, Events, Phase, StepId};
use crate::spec::{SandboxName, Service, ServiceName, Spec};

/// The stop timeout of a service whose data becomes a baseline.
const STOP_FOR_GOOD: Duration = Duration::from_mins(1);
/// The stop timeout of a service that writes none: the engine's own default.
const STOP: Duration = Duration::from_secs(10);

/// Stops a sandbox's services, dependents first, so that their data is as after a clean shutdown. If a service with
/// data had to be killed, the data is only crash-consistent. The services stay stopped, whatever their `restart` says.
pub(crate) async fn stop(
    context: &Context,
    spec: &Spec,
    name: &SandboxName,
) -> Result<Consistency, SessionError> {
    stop_each(context, spec, name, StopUrgency::AsWritten).await
}

/// Stops services whose data becomes a baseline. A service with data gets at least [`STOP_FOR_GOOD`], even if the spec's own
/// timeout is shorter, and a warning names each service that had to be killed.
pub(crate) async fn stop_for_good(
    context: &Context,
    spec: &Spec,
    name: &SandboxName,
) -> Result<Consistency, SessionError> {
    stop_each(context, spec, name, StopUrgency::None).await
}

/// When a service with data may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopUrgency {
    /// After the spec's timeout.
    AsWritten,
    /// Not before [`STOP_FOR_GOOD`].
    None,
}

impl StopUrgency {
    /// The stop timeout of a service.
    fn patience(self, written: Option<Duration>, has_data: bool) -> Duration {
        match (self, has_data) {
            (Self::None, true) => written.unwrap_or_default().max(STOP_FOR_GOOD),
            _ => written.unwrap_or(STOP),
        }
    }
}

async fn stop_each(
    context: &Context,
    spec: &Spec,
    name: &SandboxName,
    haste: StopUrgency,
) -> Result<Consistency, SessionError> {
    context
        .keeper
        .rest(spec.services.values().flat_map(|service| containers(name, service)).collect())
        .await?;
    let mut consistency = Consistency::Clean;
    for now in in_stop_order(spec.services.values().collect()) {
        let stops = now.iter().flat_map(|service| {
            containers(name, service).map(|container| stop_one(context, service, container, haste))
        });
        // If one stop fails, the others are still awaited.
        let stopped: Vec<Consistency> =
            join_bounded(stops).await.into_iter().collect::<Result<_, SessionError>>()?;
        if stopped.contains(&Consistency::Crash) {
            consistency = Consistency::Crash;
        }
    }
    Ok(consistency)
}

/// These services and those that restart with them (`depends_on` with `restart: true`).
pub(crate) fn with_dependents(spec: &Spec, which: &BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
    let mut all = which.clone();
    loop {
        let follows = |service: &&Service| {
            let mut on = service.depends_on.iter();
            !all.contains(&service.name) && on.any(|(name, how)| how.restart && all.contains(name))
        };
        let Some(next) = spec.services.values().find(follows) else { return all };
        all.insert(next.name.clone());
    }
}

/// Groups of services that stop together, dependents first.
pub(crate) fn in_stop_order(mut left: Vec<&Service>) -> Vec<Vec<&Service>> {
    let mut groups = Vec::new();
    while !left.is_empty() {
        let needed =
            |service: &Service| left.iter().any(|other| other.depends_on.contains_key(&service.name));
        let mut now: Vec<&Service> = left.iter().copied().filter(|service| !needed(service)).collect();
        if now.is_empty() {
            now.clone_from(&left);
        }
        left.retain(|service| !now.iter().any(|gone| gone.name == service.name));
        groups.push(now);
    }
    groups
}

fn containers(name: &SandboxName, service: &Service) -> impl Iterator<Item = String> {
    (1..=service.replicas()).map(|n| identity::service(name.as_str(), service.name.as_str(), n))
}

async fn stop_one(
    context: &Context,
    service: &Service,
    container: String,
    haste: StopUrgency,
) -> Result<Consistency, SessionError> {
    let Some(found) = context.engine.container(&container).await? else { return Ok(Consistency::Clean) };
    let has_data = found.mounts.iter().any(|mount| mount.kind == MountPointKind::Volume && !mount.read_only);
    let mut ended = found.exit_code;
    if found.state.is_alive() {
        let told = Stopping::tell(&context.events, service, &container);
        let within = Some(haste.patience(service.settings.stop_grace_period, has_data));
        match hooks::stop_container(&*context.engine, &context.events, Some(service), &container, within)
            .await
        {
            Err(error) if error.is_not_found() => return Ok(Consistency::Clean),
            other => other?,
        }
        told.done();
        ended = context.engine.container(&container).await?.and_then(|found| found.exit_code);
    }
    if !has_data || !ended.is_some_and(was_cut_short) {
        return Ok(Consistency::Clean);
    }
    if haste == StopUrgency::None && !is_to_be_killed(service) {
        context.events.emit(Event::Notice { text: killed(service) });
    }
    Ok(Consistency::Crash)
}

/// Whether the spec wants it killed. It then keeps no data in memory that it would have to write.
fn is_to_be_killed(service: &Service) -> bool {
    let signal = service.settings.stop_signal.as_deref().unwrap_or_default().to_ascii_uppercase();
    matches!(signal.strip_prefix("SIG").unwrap_or(&signal), "KILL" | "9")
}

fn killed(service: &Service) -> String {
    format!(
        "service `{}` did not end in good order when its data was made: all that start with this data find it as after a \
         crash; give it the `stop_signal` that it listens to, or a longer `stop_grace_period`",
        service.name
    )
}

/// Whether a process could not write its data: it was killed, or it crashed (128 plus the signal's number).
fn was_cut_short(code: i64) -> bool {
    let signals = [libc::SIGKILL, libc::SIGABRT, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];
    signals.iter().any(|signal| code == 128 + i64::from(*signal))
}

/// Checks that no service of a sandbox runs.
///
/// # Errors
/// Names the first container that runs.
pub(crate) async fn none_runs(context: &Context, id: &SandboxId) -> Result<(), SessionError> {
    let filter = Filter::all().label(identity::ID, id.as_str()).label(identity::ROLE, Role::Service.as_str());
    none_of_these_runs(&context.engine.containers(&filter).await?)
}

/// Checks that none of these containers runs.
///
/// # Errors
/// Names the first container that runs.
pub(crate) fn none_of_these_runs(containers: &[ContainerSummary]) -> Result<(), SessionError> {
    match containers.iter().find(|container| container.state.is_alive()) {
        Some(container) => Err(disturbed(&format!("`{}` was started", container.name))),
        None => Ok(()),
    }
}

/// The error for data that may have changed while it was cloned or replaced.
pub(crate) fn disturbed(what: &str) -> SessionError {
    SessionError::Disturbed { what: what.to_owned() }
}

/// A stop in progress, as a step in the events, so that the user sees what the wait is for.
struct Stopping<'a> {
    events: &'a Events,
    id: StepId,
    service: String,
    what: String,
    began: Instant,
}

impl<'a> Stopping<'a> {
    fn tell(events: &'a Events, service: &Service, container: &str) -> Self {
        let (service, what) = (service.name.to_string(), format!("stop `{container}`"));
        let named = Some(service.clone());
        let id = StepId::new("stop", container);
        let (phase, what_now) = (Phase::Remove, what.clone());
        events.emit(Event::StepStarted { id: id.clone(), phase, what: what_now, service: named });
        Self { events, id, service, what, began: Instant::now() }
    }

    fn done(self) {
        let Self { events, id, service, what, began } = self;
        let service = Some(service);
        let elapsed = began.elapsed();
        events.emit(Event::StepDone { id, phase: Phase::Remove, what, service, elapsed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ServiceName;

    #[test]
    fn data_that_is_kept_for_all_gets_its_time_however_short_the_spec_s_is() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(StopUrgency::None.patience(second, true), STOP_FOR_GOOD);
        assert_eq!(StopUrgency::None.patience(Some(2 * STOP_FOR_GOOD), true), 2 * STOP_FOR_GOOD);
        assert_eq!(StopUrgency::None.patience(second, false), Duration::from_secs(1));
        assert_eq!(StopUrgency::AsWritten.patience(second, true), Duration::from_secs(1));
        assert_eq!(StopUrgency::AsWritten.patience(None, true), STOP);
        assert_eq!(StopUrgency::AsWritten.patience(None, false), STOP);
    }

    #[test]
    fn who_asks_to_be_killed_is_not_complained_about() {
        let mut service = Service::new(ServiceName::new("db").unwrap(), "db");
        assert!(!is_to_be_killed(&service));
        for signal in ["SIGKILL", "kill", "9"] {
            service.settings.stop_signal = Some(signal.to_owned());
            assert!(is_to_be_killed(&service), "{signal}");
        }
        service.settings.stop_signal = Some("SIGINT".to_owned());
        assert!(!is_to_be_killed(&service));
    }
}

//! Destroys a sandbox from the client's side: saves artifacts and logs, stops services that need a graceful stop, and
//! has the keeper sweep the rest by label. If the keeper does not answer, the client sweeps.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::control::StopReason;
use super::log_follower::Follower;
use crate::agent::client::Keeper;
use crate::agent::protocol::{Destroyed, Reason};
use crate::engine::identity::{self, Role, SandboxId, Scope};
use crate::engine::{ContainerState, ContainerSummary, Engine, Filter, join_bounded};
use crate::session::build::clean_stop::in_stop_order;
use crate::session::build::hooks;
use crate::session::error::SessionError;
use crate::session::event::{AfterExit, Event, Events, Removed};
use crate::session::inspect::{log_name, service_of};
use crate::session::readiness::log_tail::tail;
use crate::spec::{Mount, MountKind, SandboxName, Service, Spec};
use crate::sweep;

/// The stop timeout of a service whose data is destroyed with it, if the spec sets none.
const LEAVE: Duration = Duration::from_secs(1);

/// Whether a service needs a graceful stop because its end has effects outside the sandbox: it leaves artifacts, writes
/// into a folder of the host, or the spec says how to stop it.
fn end_matters(spec: &Spec, service: &Service) -> bool {
    let writes_here = |mount: &Mount| !mount.read_only && matches!(mount.kind, MountKind::Bind { .. });
    spec.artifacts.iter().any(|one| one.service == service.name)
        || !service.pre_stop.is_empty()
        || service.settings.stop_grace_period.is_some()
        || service.mounts.iter().any(writes_here)
}

/// The exit code of a command that was killed.
const KILLED: i32 = 137;

/// How many times to look for a failed service, and the interval.
const LOOKS: u32 = 10;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A sandbox that is about to be destroyed.
pub struct Teardown {
    /// The engine's API.
    pub engine: Arc<dyn Engine>,
    /// The connection to the keeper.
    pub keeper: Keeper,
    /// Where events are sent.
    pub events: Events,
    /// The scope in which the sandbox is.
    pub scope: Scope,
    /// Its name.
    pub name: SandboxName,
    /// The instance id.
    pub id: SandboxId,
    /// Its spec, if known: says which artifacts to save and which services to stop gracefully.
    pub spec: Option<Arc<Spec>>,
    /// The stop timeout of each service; overrides the spec.
    pub stop_timeout: Option<Duration>,
    /// Shows logs, including what services write while they stop.
    pub follower: Option<Follower>,
    /// Where artifacts and logs are copied to, if not to a folder beside the spec.
    pub artifacts: Option<PathBuf>,
    /// Whether this process may be killed before the services have stopped.
    pub cause: TeardownCause,
}

/// What causes a teardown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TeardownCause {
    /// A signal: whoever sent it may send `SIGKILL` soon.
    Signal,
    /// Anything else.
    Other,
}

impl TeardownCause {
    /// The cause that a session's stop reason stands for.
    pub(crate) fn of(reason: StopReason) -> Self {
        match reason {
            StopReason::HungUp | StopReason::Terminated | StopReason::Interrupted | StopReason::Forced => {
                Self::Signal
            }
            _ => Self::Other,
        }
    }
}

/// How long to wait for the last log lines of stopped services.
const LAST_LINES: Duration = Duration::from_secs(5);

impl Teardown {
    /// Destroys the sandbox and reports what remains. Cancelling `force` cuts the graceful stop short.
    ///
    /// # Errors
    /// Fails if neither the keeper nor the engine answers.
    pub async fn destroy(
        &self,
        why: &str,
        reason: Reason,
        force: &CancellationToken,
    ) -> Result<Destroyed, SessionError> {
        let began = Instant::now();
        let name = self.name.to_string();
        let interrupted = self.cause == TeardownCause::Signal;
        self.events.emit(Event::TearingDown { name: name.clone(), reason: why.to_owned(), interrupted });
        // If the keeper does not answer, the call below fails as well.
        let _ = self.keeper.begin_destroy(&self.id, reason).await;
        tokio::select! {
            () = force.cancelled() => {}
            () = self.save_and_stop() => {}
        }
        let destroyed = match self.keeper.release(&self.id, reason).await {
            // The keeper did not know the sandbox, but objects may have its labels.
            Ok(destroyed) if destroyed == Destroyed::default() => self.sweep().await,
            Ok(destroyed) => destroyed,
            Err(error) => {
                self.events.emit(Event::Warning { text: error.to_string(), hint: error.hint() });
                self.sweep().await
            }
        };
        let count = |kind: &str| destroyed.removed.get(kind).copied().unwrap_or_default();
        if destroyed.left.is_empty() {
            let removed = Removed {
                containers: count("container"),
                networks: count("network"),
                volumes: count("volume"),
            };
            self.events.emit(Event::Torn { name, removed, elapsed: began.elapsed() });
        } else {
            self.events.emit(Event::Left { name, objects: destroyed.left.clone() });
        }
        Ok(destroyed)
    }

    /// Reports which services have failed, with the last lines of their logs.
    pub(crate) async fn tell_failing(&self, code: i32) {
        // When a service exits, a command in it is killed slightly before the engine shows the exit.
        let looks = if code == KILLED { LOOKS } else { 1 };
        for _ in 0..looks {
            if self.tell_ended_badly().await {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Reports the services that have failed, and returns whether there are any.
    async fn tell_ended_badly(&self) -> bool {
        let mut any = false;
        for container in self.services().await {
            let code = match container.state {
                ContainerState::Exited | ContainerState::Dead | ContainerState::Restarting => {
                    let found = self.engine.container(&container.name).await.ok().flatten();
                    found.and_then(|found| found.exit_code).unwrap_or_default()
                }
                _ => 0,
            };
            if code != 0 {
                any = true;
                self.events.emit(Event::ServiceExited {
                    service: log_name(&container),
                    code,
                    log: tail(&*self.engine, &container.name).await,
                    waited_for_by: Vec::new(),
                    then: AfterExit::Ends,
                });
            }
        }
        any
    }

    /// Stops the services and copies out what is to be kept. After a signal it is copied before as well, because there
    /// may be no time to stop the services.
    async fn save_and_stop(&self) {
        if self.cause == TeardownCause::Signal
            && let Some(spec) = self.spec.as_ref().filter(|spec| self.keeps_files(spec))
        {
            let containers = self.services().await;
            // Problems are reported by the copy after the stop.
            let _ = self.copy_out(spec, &containers).await;
        }
        self.graceful_stop().await;
    }

    /// Stops the services. First those that need a graceful stop, in order and within their own timeouts. Then the
    /// others together, with a short timeout, since their data is destroyed anyway.
    async fn graceful_stop(&self) {
        let containers = self.services().await;
        // Services that exit because a dependency stopped are not restarted in the meantime.
        let _ = self.keeper.rest(containers.iter().map(|container| container.name.clone()).collect()).await;
        let Some(spec) = &self.spec else {
            self.stop_all(containers.iter().map(|container| (None, container))).await;
            self.show_last_lines().await;
            return;
        };
        let matters = spec.services.values().filter(|service| end_matters(spec, service)).collect();
        for group in in_stop_order(matters) {
            let of = |container: &ContainerSummary| {
                group.iter().copied().find(|service| service.name.as_str() == service_of(container))
            };
            self.stop_all(containers.iter().filter_map(|container| Some((Some(of(container)?), container))))
                .await;
        }
        let others = containers.iter().filter_map(|container| {
            let service = spec.services.get(service_of(container));
            service.is_none_or(|service| !end_matters(spec, service)).then_some((service, container))
        });
        self.stop_all(others).await;
        self.show_last_lines().await;
        if self.keeps_files(spec) && !containers.is_empty() {
            self.copy_out_and_report(spec, &containers).await;
        }
    }

    /// Stops these containers together. The sweep kills those that do not stop.
    async fn stop_all<'a>(&self, which: impl Iterator<Item = (Option<&'a Service>, &'a ContainerSummary)>) {
        let running = which.filter(|(_, container)| container.state.is_alive());
        let stops = running.map(|(service, container)| async move {
            let matters =
                self.spec.as_ref().zip(service).is_some_and(|(spec, service)| end_matters(spec, service));
            let within = self.stop_timeout.or(if matters { None } else { Some(LEAVE) });
            hooks::stop_container(&*self.engine, &self.events, service, &container.name, within).await
        });
        join_bounded(stops).await;
    }

    /// Waits until the log lines that services wrote while stopping are shown.
    async fn show_last_lines(&self) {
        if let Some(follower) = &self.follower {
            // A log that does not end must not block the session.
            let _ = timeout(LAST_LINES, follower.catch_up()).await;
        }
    }

    /// The containers of this instance's services. Names are not enough: a sandbox of the same name may belong to
    /// another client.
    async fn services(&self) -> Vec<ContainerSummary> {
        let filter =
            Filter::all().label(identity::ID, self.id.as_str()).label(identity::ROLE, Role::Service.as_str());
        self.engine.containers(&filter).await.unwrap_or_default()
    }

    /// Sweeps without a keeper. The next keeper finds and deletes the data behind the volumes.
    async fn sweep(&self) -> Destroyed {
        let target = sweep::Target::id(&self.scope, &self.id);
        let patience = sweep::Patience::default();
        let swept =
            sweep::destroy(&*self.engine, &target, sweep::StopMode::Kill, &patience, &sweep::NoHooks).await;
        Destroyed::from(&swept)
    }
}

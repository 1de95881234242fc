//! Listens for exits of a sandbox's services, which its keeper reports to the sandbox's clients. Forwards each as an
//! event, and ends the session once all services have exited. The keeper does the restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::agent::protocol::ExitAction;
use crate::engine::identity::{self, Role, SandboxId};
use crate::engine::{ContainerSummary, Engine, EventStream, Filter};
use crate::session::context::Context;
use crate::session::event::{AfterExit, Event};
use crate::session::inspect;
use crate::session::readiness::log_tail::tail;
use crate::spec::{Condition, ServiceName, Spec};

/// How long without a report until the engine is checked: a keeper that restarted does not report what exited in the
/// meantime.
const QUIET: Duration = Duration::from_secs(30);

/// Interval of the checks after an exit.
const SOON: Duration = Duration::from_secs(1);
/// Number of these checks.
const LOOKS: u32 = 3;
/// Number of checks after the connection to the engine broke, while the keeper restarts services.
const LOOKS_AFTER_RESTART: u32 = 10;
/// The sandbox counts as removed after this many checks that find nothing of it.
const ABSENT: u32 = 2;
/// How long an engine that shuts down may still answer after all services have exited.
const SHUTDOWN: Duration = Duration::from_millis(1500);

/// How all services of a sandbox exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllEnded {
    /// Each exited without being stopped.
    ByThemselves,
    /// One has exited, and ends the session with this exit code.
    One(i32),
    /// The engine restarted.
    WithEngine,
    /// Nothing of the sandbox exists on the engine.
    Removed,
}

/// State of a sandbox on the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Alive,
    Ended,
    Absent,
    Unknown,
}

/// A connection to the engine, to detect that the engine stops.
struct Connection {
    events: Option<EventStream>,
    broken: bool,
}

impl Connection {
    async fn open(engine: &dyn Engine, id: &SandboxId) -> Self {
        let filter = Filter::all().label(identity::ID, id.as_str());
        Self { events: engine.events(&filter, None).await.ok(), broken: false }
    }

    fn is_broken(&self) -> bool {
        self.broken
    }

    /// Returns when the connection breaks; never if it is already broken or could not be opened.
    async fn broken(&mut self) {
        let Some(events) = &mut self.events else { return std::future::pending().await };
        while let Some(Ok(_)) = events.next().await {}
        (self.events, self.broken) = (None, true);
    }
}

/// The exit of a service's process.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) service: String,
    pub(crate) container: String,
    pub(crate) code: i64,
    pub(crate) fate: ExitAction,
}

/// Which exits end an attached session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum EndsWith {
    /// The exit of all services.
    #[default]
    AllServices,
    /// The exit of any service.
    AnyService {
        /// The service whose exit code the session returns; by default the one that exited.
        code_from: Option<ServiceName>,
    },
    /// The failure of any service.
    AnyFailure,
}

/// Listens for exits of a sandbox's services.
pub(crate) struct Listener {
    pub context: Context,
    pub id: SandboxId,
    /// Whether the sandbox is being changed: removed services are about to be created again.
    pub changing: Arc<AtomicBool>,
    /// The current spec.
    pub spec: watch::Receiver<Arc<Spec>>,
}

impl Listener {
    /// Reports each exit, and returns when no service runs any more: all have exited, the engine restarted, or the
    /// sandbox was removed. A service that the user stopped may be started again, so it does not count as exited.
    pub(crate) async fn until_ended(
        &self,
        mut exits: mpsc::UnboundedReceiver<Exit>,
        ends_with: &EndsWith,
    ) -> AllEnded {
        let mut connection = Connection::open(&*self.context.engine, &self.id).await;
        let (mut stopped, mut looks, mut absent) = (false, 0_u32, 0_u32);
        loop {
            let pause = if looks > 0 { SOON } else { QUIET };
            let by_itself = tokio::select! {
                told = timeout(pause, exits.recv()) => match told {
                    Ok(Some(exit)) => {
                        self.tell(&exit).await;
                        stopped |= exit.fate == ExitAction::Stopped;
                        looks = looks.max(LOOKS);
                        if exit.fate == ExitAction::Stays && self.ends_session(&exit, ends_with) {
                            return AllEnded::One(self.exit_code(&exit, ends_with).await);
                        }
                        exit.fate == ExitAction::Stays
                    }
                    Ok(None) => return std::future::pending().await,
                    Err(_) => {
                        looks = looks.saturating_sub(1);
                        !stopped || connection.is_broken()
                    }
                },
                () = connection.broken() => {
                    if self.services_seen().await == Seen::Unknown {
                        let text = "the engine does not answer; waiting for it".to_owned();
                        self.context.events.emit(Event::Warning { text, hint: None });
                    }
                    looks = LOOKS_AFTER_RESTART;
                    false
                }
            };
            if self.changing.load(Ordering::Relaxed) {
                continue;
            }
            let seen = self.services_seen().await;
            absent = if seen == Seen::Absent { absent + 1 } else { 0 };
            if absent >= ABSENT {
                return AllEnded::Removed;
            }
            if by_itself && seen == Seen::Ended && self.none_is_started_again().await {
                // An engine that shuts down stops its services before it stops answering.
                if !connection.is_broken() {
                    let _ = timeout(SHUTDOWN, connection.broken()).await;
                }
                if !connection.is_broken() {
                    return AllEnded::ByThemselves;
                }
                if self.services_seen().await == Seen::Ended && looks < LOOKS_AFTER_RESTART {
                    return AllEnded::WithEngine;
                }
                looks = LOOKS_AFTER_RESTART - 1;
            }
            if connection.is_broken() && looks == 0 {
                if seen == Seen::Unknown {
                    looks = LOOKS_AFTER_RESTART;
                } else {
                    self.tell_of_restart().await;
                    connection = Connection::open(&*self.context.engine, &self.id).await;
                }
            }
        }
    }

    /// Reports which services an engine restart has stopped, while others run.
    async fn tell_of_restart(&self) {
        let services = self.context.engine.containers(&self.services()).await.unwrap_or_default();
        let stopped = services.iter().filter(|one| !one.state.is_alive());
        let names: Vec<String> = stopped.map(|one| format!("`{}`", inspect::log_name(one))).collect();
        if !names.is_empty() {
            let text = format!("the engine restarted, which stopped {}", names.join(", "));
            let hint = Some("`sandbox start` starts what is stopped".to_owned());
            self.context.events.emit(Event::Warning { text, hint });
        }
    }

    fn services(&self) -> Filter {
        Filter::all().label(identity::ID, self.id.as_str()).label(identity::ROLE, Role::Service.as_str())
    }

    fn ends_session(&self, exit: &Exit, ends_with: &EndsWith) -> bool {
        match ends_with {
            EndsWith::AllServices => false,
            EndsWith::AnyFailure => exit.code != 0,
            EndsWith::AnyService { .. } => exit.code != 0 || !self.is_to_complete(&exit.service),
        }
    }

    /// Whether other services wait for this one to complete, so that its exit is part of the start.
    fn is_to_complete(&self, service: &str) -> bool {
        let spec = self.spec.borrow();
        let mut dependencies = spec.services.values().flat_map(|one| &one.depends_on);
        dependencies.any(|(name, dependency)| {
            name.as_str() == service && dependency.condition == Condition::CompletedSuccessfully
        })
    }

    /// The session's exit code for this exit. The service that provides the code is stopped if it still runs.
    pub(crate) async fn exit_code(&self, exit: &Exit, ends_with: &EndsWith) -> i32 {
        let mut code = exit.code;
        if let EndsWith::AnyService { code_from: Some(service) } = ends_with
            && service.as_str() != exit.service
        {
            code = self.code_when_stopped(service).await.unwrap_or(1);
        }
        i32::try_from(code).unwrap_or(1)
    }

    async fn code_when_stopped(&self, service: &ServiceName) -> Option<i64> {
        let filter = Filter::all()
            .label(identity::ID, self.id.as_str())
            .label(identity::SERVICE, service.as_str())
            .label(identity::ROLE, Role::Service.as_str());
        let containers = self.context.engine.containers(&filter).await.ok()?;
        let name = &containers.first()?.name;
        if let Err(error) = self.context.engine.stop_container(name, None, None).await {
            tracing::debug!(%error, "a service whose exit code is wanted was not stopped");
        }
        self.context.engine.container(name).await.ok()?.and_then(|container| container.exit_code)
    }

    async fn services_seen(&self) -> Seen {
        match self.context.engine.containers(&Filter::all().label(identity::ID, self.id.as_str())).await {
            Ok(all) if all.is_empty() => Seen::Absent,
            Ok(all) => {
                let role = Role::Service.as_str();
                let is_service =
                    |one: &&ContainerSummary| one.labels.get(identity::ROLE).is_some_and(|it| it == role);
                let mut services = all.iter().filter(is_service).peekable();
                let some = services.peek().is_some();
                if some && services.all(|one| !one.state.is_alive()) { Seen::Ended } else { Seen::Alive }
            }
            Err(_) => Seen::Unknown,
        }
    }

    async fn none_is_started_again(&self) -> bool {
        let standings = self.context.keeper.sandboxes().await.unwrap_or_default();
        standings.iter().find(|it| it.sandbox == self.id).is_some_and(|it| it.restarts == 0)
    }

    pub(crate) async fn tell(&self, exit: &Exit) {
        // An exit during the build may be outdated.
        let found = self.context.engine.container(&exit.container).await.ok().flatten();
        if found.is_none_or(|found| found.state.is_alive()) {
            return;
        }
        let then = match exit.fate {
            ExitAction::Restarts => AfterExit::Restarts,
            ExitAction::Stopped => AfterExit::Stopped,
            ExitAction::Stays if exit.code == 0 => AfterExit::Completed,
            ExitAction::Stays => AfterExit::Nothing,
        };
        let log = if exit.code == 0 || then == AfterExit::Stopped {
            Vec::new()
        } else {
            tail(&*self.context.engine, &exit.container).await
        };
        let (service, code) = (exit.service.clone(), exit.code);
        self.context.events.emit(Event::ServiceExited {
            service,
            code,
            log,
            waited_for_by: Vec::new(),
            then,
        });
    }
}

//! Performs the actions that the state machine returns.

use std::sync::Arc;

use super::Serving;
use crate::agent::client::in_full;
use crate::agent::fault_injector;
use crate::agent::keeper::cgroups;
use crate::agent::keeper::destroy::Destroyer;
use crate::agent::keeper::observe;
use crate::agent::keeper::quiesced;
use crate::agent::keeper::restart::Death;
use crate::agent::keeper::state::{Action, ConnectionId, Event};
use crate::agent::protocol::{Declared, Line, Outcome, Record, Refusal, RefusalKind, Reply};
use crate::bind_check;
use crate::engine::Engine;
use crate::engine::identity::SandboxId;
use jiff::Timestamp;

impl Serving {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Reply(client, id, outcome) => {
                self.clients.send(client, Line::Reply(Reply { id, outcome }));
            }
            Action::Notify(client, notice) => self.clients.send(client, Line::Notice(notice)),
            Action::Hangup(client) => self.clients.remove(client),
            Action::Part { client, still, rested } => self.part(client, still, rested),
            Action::Remember(remembered) => {
                self.warn("keep what is known of containers", self.store.remember(&remembered));
            }
            Action::GoOn(containers) => self.go_on(containers),
            Action::Save(kept) => self.warn("save a record", self.store.save(&kept)),
            Action::Forget(sandbox) => self.warn("remove a record", self.store.forget(&sandbox)),
            Action::Log(record) => self.note(&record),
            Action::Destroy { name, sandbox, gather } => {
                let destroyer = self.destroyer();
                self.spawn(async move {
                    let destroyed = destroyer.destroy(&name, &sandbox, gather).await;
                    Event::Destroyed(sandbox, destroyed)
                });
            }
            Action::AskUse { name, sandbox } => {
                let engine = Arc::clone(&self.engine);
                self.spawn(async move {
                    let used = observe::last_use(&engine, &name).await;
                    Event::Use(sandbox, used)
                });
            }
            Action::Look => self.look(),
            Action::ReviveFault { container } => {
                let engine = Arc::clone(&self.engine);
                tokio::spawn(async move {
                    if let Err(error) = fault_injector::container::revive(&*engine, &container).await {
                        tracing::warn!(container, error = in_full(&error), "its fault is not in force again");
                    }
                });
            }
            Action::Start(death) => {
                let engine = Arc::clone(&self.engine);
                let events = self.events.clone();
                tokio::spawn(async move {
                    if let Some(event) = start_again(&*engine, death).await {
                        // There is no receiver once the loop has ended.
                        let _ = events.send(event).await;
                    }
                });
            }
            Action::Stop { container } => {
                let engine = Arc::clone(&self.engine);
                tokio::spawn(async move {
                    if let Err(error) = engine.stop_container(&container, None, None).await {
                        tracing::warn!(container, error = in_full(&error), "cannot stop it again");
                    }
                });
            }
            Action::ReadEvents(client, id, since) => {
                self.answer(client, id, &self.store.events(Timestamp::now(), since));
            }
            Action::ReadLeft(client, id, name) => self.answer(client, id, &self.store.left(name.as_ref())),
            Action::Declare(client, id, sandbox, declared) => self.declare(client, id, &sandbox, &declared),
            Action::ReadDeclared(client, id, sandbox) => {
                self.answer(client, id, &self.store.declared(&sandbox));
            }
            Action::Limit(client, id, sandbox, limits) => {
                let Some(lines) = self.clients.sender(client) else { return };
                self.spawn(cgroups::limit(self.groups.clone(), lines, id, sandbox, limits));
            }
            Action::ProtectHost(client, id, sandbox) => self.filter_host_firewall(client, id, sandbox),
            Action::Diagnose { sandbox, container, id } => {
                let groups = self.groups.clone();
                self.spawn(async move {
                    let starved = cgroups::diagnose(groups, &sandbox, id).await;
                    Event::Diagnosed(sandbox, container, starved)
                });
            }
            Action::Storage(client, id, request) => self.store_for(client, id, request),
            Action::Leave => self.leaving = true,
        }
    }

    pub(super) fn spawn(&self, work: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        tokio::spawn(async move {
            // There is no receiver once the loop has ended.
            let _ = events.send(work.await).await;
        });
    }

    pub(super) fn answer<T: serde::Serialize>(&self, client: ConnectionId, id: u64, value: &T) {
        let outcome = match serde_json::to_value(value) {
            Ok(value) => Outcome::Ok(value),
            Err(error) => Outcome::Error(Refusal {
                kind: RefusalKind::Internal,
                message: error.to_string(),
                hint: None,
            }),
        };
        self.clients.send(client, Line::Reply(Reply { id, outcome }));
    }

    fn declare(&self, client: ConnectionId, id: u64, sandbox: &SandboxId, declared: &Declared) {
        let written = self.store.declare(sandbox, declared).map_err(|error| Refusal {
            kind: RefusalKind::Internal,
            message: format!("the keeper cannot write the record of the sandbox: {error}"),
            hint: Some("is the engine's disk full? `sandbox gc` frees space".to_owned()),
        });
        let outcome = written.map_or_else(Outcome::Error, |()| Outcome::Ok(serde_json::Value::Null));
        self.clients.send(client, Line::Reply(Reply { id, outcome }));
    }

    pub(super) fn note(&self, record: &Record) {
        if let Some(name) = &record.name {
            tracing::info!(%name, "{}", record.what);
        } else {
            tracing::info!("{}", record.what);
        }
        self.warn("note an event", self.store.note(record));
    }

    /// Logs a failed write. The volume is optional: without it, deadlines fall back to the labels.
    #[expect(clippy::unused_self, reason = "reads as a step of the keeper")]
    pub(super) fn warn(&self, doing: &str, result: std::io::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(%error, "cannot {doing}");
        }
    }

    fn destroyer(&self) -> Destroyer {
        Destroyer {
            engine: Arc::clone(&self.engine),
            scope: self.scope.clone(),
            store: self.store.clone(),
            storage: self.storage.clone(),
            groups: self.groups.clone(),
        }
    }
}

/// Starts a service's container again. If it does not run afterwards, returns an event: a container that cannot be
/// started counts as exited once more, and one whose sandbox is stopped stays stopped.
async fn start_again(engine: &dyn Engine, death: Death) -> Option<Event> {
    let is_up = quiesced::sandbox_is_up(engine, &death.container).await;
    if let Ok(false) = is_up {
        return Some(Event::Stopped(death.container));
    }
    match bind_check::start(engine, &death.container).await {
        Ok(()) => None,
        Err(error) if error.is_not_found() => Some(Event::Removed(death.container)),
        Err(error) => {
            tracing::warn!(container = death.container, error = in_full(&error), "cannot start it again");
            Some(Event::Died(Death { stopped: false, ..death }))
        }
    }
}

//! The ends of a sandbox's services, as its keeper tells them to whoever holds it: each is told on, and once all have ended
//! by themselves the session has nothing left to be there for. Starting them again is the keeper's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::event::{AfterExit, Event, Events};
use super::tail::tail;
use crate::agent::client::Keeper;
use crate::agent::protocol::Fate;
use crate::engine::identity::{self, Role, SandboxId};
use crate::engine::{Engine, Filter};

/// How long nothing is told before it is looked whether there is still anything to hear of: a keeper that was started
/// again tells nobody of what ended meanwhile.
const QUIET: Duration = Duration::from_secs(30);

/// A service's process has ended.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) service: String,
    pub(super) container: String,
    pub(super) code: i64,
    pub(super) fate: Fate,
}

/// Who listens.
pub(super) struct Listener {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Who tells.
    pub keeper: Keeper,
    /// Where to tell on.
    pub events: Events,
    /// The sandbox.
    pub id: SandboxId,
    /// Whether the sandbox is just being changed: services that were removed are about to be there again.
    pub changing: Arc<AtomicBool>,
}

impl Listener {
    /// Tells each, until no service runs any more because all have ended by themselves. One that somebody stopped may be
    /// started again.
    pub(super) async fn until_all_have_ended(&self, mut exits: mpsc::UnboundedReceiver<Exit>) {
        let mut stopped = false;
        loop {
            let by_itself = match timeout(QUIET, exits.recv()).await {
                Ok(Some(exit)) => {
                    self.tell(&exit).await;
                    stopped |= exit.fate == Fate::Stopped;
                    exit.fate == Fate::Stays
                }
                Ok(None) => return std::future::pending().await,
                Err(_) => !stopped,
            };
            if by_itself && !self.changing.load(Ordering::Relaxed) && self.all_have_ended().await {
                return;
            }
        }
    }

    async fn all_have_ended(&self) -> bool {
        let filter =
            Filter::all().label(identity::ID, self.id.as_str()).label(identity::ROLE, Role::Service.as_str());
        match self.engine.containers(&filter).await {
            Ok(services) if services.is_empty() || services.iter().any(|one| one.state.is_alive()) => false,
            Ok(_) => self.none_is_started_again().await,
            Err(_) => false,
        }
    }

    async fn none_is_started_again(&self) -> bool {
        let standings = self.keeper.sandboxes().await.unwrap_or_default();
        standings.iter().find(|it| it.sandbox == self.id).is_some_and(|it| it.restarts == 0)
    }

    async fn tell(&self, exit: &Exit) {
        // What happened while the sandbox was built may be over.
        let found = self.engine.container(&exit.container).await.ok().flatten();
        if found.is_none_or(|found| found.state.is_alive()) {
            return;
        }
        let then = match exit.fate {
            Fate::Restarts => AfterExit::Restarts,
            Fate::Stopped => AfterExit::Stopped,
            Fate::Stays if exit.code == 0 => AfterExit::Completed,
            Fate::Stays => AfterExit::Nothing,
        };
        let log = if exit.code == 0 || then == AfterExit::Stopped {
            Vec::new()
        } else {
            tail(&*self.engine, &exit.container).await
        };
        let (service, code) = (exit.service.clone(), exit.code);
        self.events.emit(Event::ServiceExited { service, code, log, waited_for_by: Vec::new(), then });
    }
}

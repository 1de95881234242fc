//! The state of one sandbox: its lease request, its lease and its end.

use std::time::Duration;

use jiff::Timestamp;

use super::{Action, Clocks, ConnectionId, StoredSandbox};
use crate::agent::protocol::{Actor, Attachment, End, LeaseRequest, Lifetime, Reason, Record, RecordKind};
use crate::engine::identity::{SandboxId, SandboxName};
use crate::spec::Limits;

/// The grace of a sandbox whose lease request is unknown.
pub const GRACE: Duration = crate::spec::Lifetime::GRACE;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LeaseState {
    Held(ConnectionId),
    Lost { since: Duration },
    Detached,
    Ending { reason: Reason, by: Actor, waiting: Vec<(ConnectionId, u64)> },
}

/// What the keeper knows about a sandbox.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    pub(super) terms: LeaseRequest,
    pub(super) used: Timestamp,
    pub(super) grip: LeaseState,
    /// How many of [`WARNINGS`] were sent for the current deadline.
    pub(super) warned: usize,
    /// Whether [`Action::AskUse`] is in progress.
    pub(super) asking: bool,
    /// The limits of its control group, if it has one.
    pub(super) limits: Option<Limits>,
    /// Whether its lease request came from a client; otherwise it was guessed.
    pub(super) known: bool,
    /// Whether its client is stopped (Ctrl-Z) and has announced it.
    pub(super) suspended: bool,
    /// The client that has announced its destruction, and the reason.
    pub(super) doomed: Option<(ConnectionId, Reason)>,
}

impl Sandbox {
    pub(super) fn new(terms: LeaseRequest, used: Timestamp, grip: LeaseState) -> Self {
        Self {
            terms,
            used,
            grip,
            warned: 0,
            asking: false,
            limits: None,
            known: true,
            suspended: false,
            doomed: None,
        }
    }

    /// A sandbox that is known only by its labels. It lives until the deadline in its labels, but long enough for a
    /// client that holds it to reconnect.
    pub(super) fn unknown(
        name: SandboxName,
        sandbox: SandboxId,
        expires: Option<Timestamp>,
        now: Clocks,
    ) -> Self {
        let soonest = now.wall.checked_add(GRACE).unwrap_or(now.wall);
        let until = expires.map(|it| it.max(soonest));
        let lifetime = Lifetime { until, ..Lifetime::default() };
        let terms =
            LeaseRequest { name, sandbox, grace: GRACE, lifetime, again: false, changing: false, client: 0 };
        Self { known: false, ..Self::new(terms, now.wall, LeaseState::Detached) }
    }

    pub(super) fn is_ending(&self) -> bool {
        matches!(self.grip, LeaseState::Ending { .. })
    }

    /// Whether its destruction has begun or was announced by a client.
    pub(super) fn is_going(&self) -> bool {
        self.is_ending() || self.doomed.is_some()
    }

    /// Whether it survives when its client disconnects.
    pub(super) fn is_to_stay(&self) -> bool {
        match self.grip {
            LeaseState::Detached => true,
            LeaseState::Held(_) => self.terms.changing || self.suspended,
            LeaseState::Lost { .. } | LeaseState::Ending { .. } => false,
        }
    }

    pub(super) fn holder(&self) -> Option<ConnectionId> {
        match self.grip {
            LeaseState::Held(client) => Some(client),
            _ => None,
        }
    }

    pub(super) fn attachment(&self) -> Attachment {
        match self.grip {
            LeaseState::Detached => Attachment::Detached,
            LeaseState::Held(_) if self.terms.changing => Attachment::Detached,
            _ => Attachment::Session,
        }
    }

    /// Returns when it ends if no user intervenes.
    pub(super) fn end(&self) -> Option<End> {
        self.terms.lifetime.end(self.used, self.attachment())
    }

    /// Turns it into a detached sandbox after its lease has ended; returns the action that saves this.
    pub(super) fn leave(&mut self, now: Clocks) -> Action {
        self.grip = LeaseState::Detached;
        self.used = now.wall;
        Action::Save(self.kept())
    }

    pub(super) fn kept(&self) -> StoredSandbox {
        StoredSandbox {
            terms: self.terms.clone(),
            detached: self.is_to_stay(),
            ending: match self.grip {
                LeaseState::Ending { reason, .. } => Some(reason),
                _ => self.doomed.map(|(_, reason)| reason),
            },
            used: self.used,
            limits: self.limits.clone(),
        }
    }

    pub(super) fn log(&self, now: Clocks, what: RecordKind) -> Action {
        Action::Log(Record {
            at: now.wall,
            name: Some(self.terms.name.clone()),
            sandbox: Some(self.terms.sandbox.clone()),
            what,
        })
    }
}

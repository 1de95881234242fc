//! How a sandbox is destroyed, and the searches after that: a create request may have been in progress.

use std::time::Duration;

use super::requests::json;
use super::sandbox::{LeaseState, Sandbox};
use super::{Action, Clocks, ConnectionId, Gather, State};
use crate::agent::protocol::{Actor, Destroyed, Notice, Outcome, Reason, Record, RecordKind};
use crate::engine::identity::SandboxId;

/// When, after a destruction, the keeper searches for objects that appeared late or could not be removed.
const LOOKS: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(30),
];

/// A destroyed sandbox, and how many searches have followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct DestroyedSandbox {
    pub(super) at: Duration,
    pub(super) looks: usize,
}

impl DestroyedSandbox {
    pub(super) fn next_look(self) -> Option<Duration> {
        LOOKS.get(self.looks).map(|it| self.at + *it)
    }
}

impl State {
    /// Begins the destruction of a sandbox, unless it has begun already. Notifies all clients except the one that asks
    /// for it.
    pub(super) fn end(
        &mut self,
        id: &SandboxId,
        reason: Reason,
        (by, asking): (Actor, Option<ConnectionId>),
        gather: Gather,
        todo: &mut Vec<Action>,
    ) {
        let Some(sandbox) = self.sandboxes.get(id).filter(|it| !it.is_ending()) else { return };
        // If a client announced the destruction, it is on record and the other clients were notified.
        let known = sandbox.doomed.is_some();
        let audience = self.audience(id);
        let Some(sandbox) = self.sandboxes.get_mut(id) else { return };
        sandbox.grip = LeaseState::Ending { reason, by, waiting: Vec::new() };
        if !known {
            let told = audience.into_iter().filter(|client| Some(*client) != asking);
            let notice = Notice::Ending { sandbox: id.clone(), reason };
            todo.extend(told.map(|client| Action::Notify(client, notice.clone())));
            todo.push(Action::Save(sandbox.kept()));
        }
        self.restarts.forget(id);
        let name = sandbox.terms.name.clone();
        todo.push(Action::Destroy { name, sandbox: id.clone(), gather });
    }

    pub(super) fn destroyed(
        &mut self,
        now: Clocks,
        id: &SandboxId,
        destroyed: &Destroyed,
        todo: &mut Vec<Action>,
    ) {
        let Some(Sandbox { terms, grip: LeaseState::Ending { reason, by, waiting }, .. }) =
            self.sandboxes.remove(id)
        else {
            return;
        };
        self.watchers.remove(id);
        for (client, request) in waiting {
            todo.push(Action::Reply(client, request, Outcome::Ok(json(destroyed))));
        }
        let late = self.gone.contains_key(id);
        self.gone.entry(id.clone()).or_insert(DestroyedSandbox { at: now.mono, looks: 0 });
        if !late || !destroyed.removed.is_empty() {
            todo.push(Action::Log(Record {
                at: now.wall,
                name: Some(terms.name.clone()),
                sandbox: Some(id.clone()),
                what: RecordKind::Destroyed {
                    reason,
                    by,
                    left: destroyed.left.iter().map(ToString::to_string).collect(),
                },
            }));
        }
        if destroyed.left.is_empty() {
            self.unfinished.remove(id);
            todo.push(Action::Forget(id.clone()));
        } else {
            self.unfinished.insert(id.clone(), terms);
        }
    }

    pub(super) fn look_again(&mut self, now: Clocks, todo: &mut Vec<Action>) {
        let mut look = false;
        self.gone.retain(|_, gone| {
            while gone.next_look().is_some_and(|it| it <= now.mono) {
                gone.looks += 1;
                look = true;
            }
            gone.looks < LOOKS.len()
        });
        if look {
            todo.push(Action::Look);
        }
    }
}

//! Handles alarms: expired grace, silent clients, restarts, deadlines, warnings, and the keeper's own exit.

use std::collections::BTreeSet;

use super::sandbox::{LeaseState, Sandbox};
use super::{Action, Clocks, Gather, SILENCE, State, WARNINGS, signed};
use crate::agent::protocol::{Actor, Notice, Reason, RecordKind};
use crate::engine::identity::SandboxId;

impl State {
    /// Handles everything that is due.
    pub(super) fn due(&mut self, now: Clocks, todo: &mut Vec<Action>) {
        self.silent(now, todo);
        self.look_again(now, todo);
        self.start_again(now, todo);
        let ids: Vec<_> = self.sandboxes.keys().cloned().collect();
        for id in ids {
            let sandbox = &self.sandboxes[&id];
            if let LeaseState::Lost { since } = sandbox.grip
                && now.mono.saturating_sub(since) >= sandbox.terms.grace
            {
                self.end(&id, Reason::LeaseLost, (Actor::Keeper, None), Gather::Yes, todo);
                continue;
            }
            self.ends(now, &id, todo);
        }
    }

    fn silent(&mut self, now: Clocks, todo: &mut Vec<Action>) {
        let holders = self.sandboxes.values().filter_map(Sandbox::holder);
        let watched: BTreeSet<_> = holders.chain(self.still.keepers()).collect();
        for client in watched {
            let Some(connection) = self.connections.get(&client) else { continue };
            if !connection.suspended && now.mono.saturating_sub(connection.heard) >= SILENCE {
                todo.push(Action::Hangup(client));
                self.disconnected(now, client, todo);
            }
        }
    }

    fn start_again(&mut self, now: Clocks, todo: &mut Vec<Action>) {
        for death in self.restarts.due(now.mono) {
            let Some(sandbox) = self.sandboxes.get(&death.sandbox) else { continue };
            let (container, code) = (death.container.clone(), death.code);
            todo.push(sandbox.log(now, RecordKind::Restarted { container, code }));
            todo.push(Action::Start(death));
        }
        let still = self.still.due(now.mono);
        if !still.is_empty() {
            todo.push(Action::GoOn(self.restarts.wake(now.mono, still)));
        }
    }

    fn ends(&mut self, now: Clocks, id: &SandboxId, todo: &mut Vec<Action>) {
        let Some(sandbox) = self.sandboxes.get_mut(id).filter(|it| !it.is_ending() && !it.asking) else {
            return;
        };
        let Some(end) = sandbox.end() else { return };
        if end.at <= now.wall {
            if end.unless_used {
                sandbox.asking = true;
                todo.push(Action::AskUse { name: sandbox.terms.name.clone(), sandbox: id.clone() });
            } else {
                self.end(id, Reason::Ttl, (Actor::Keeper, None), Gather::Yes, todo);
            }
            return;
        }
        let near = WARNINGS.iter().filter(|it| end.at.duration_since(now.wall) <= signed(**it)).count();
        let news = near > std::mem::replace(&mut sandbox.warned, near);
        if news {
            self.tell(id, &Notice::EndsSoon { sandbox: id.clone(), ends: end.at }, None, todo);
        }
    }

    pub(super) fn leave(&mut self, now: Clocks, todo: &mut Vec<Action>) {
        let idle = self.is_empty() && now.mono.saturating_sub(self.empty_since) >= self.lingers();
        let retired = self.retiring && !self.is_ending_something();
        if (idle || retired) && !self.left {
            self.left = idle;
            todo.push(Action::Leave);
        }
    }
}

//! What time brings about: grace that is over, silence, deadlines, warnings, and the keeper's own leave.

use super::sandbox::{Due, Grip, Sandbox};
use super::{Action, Gather, Now, SILENCE, State, WARNINGS, signed};
use crate::agent::protocol::{Notice, Reason, Who};
use crate::engine::identity::SandboxId;

impl State {
    /// Whatever time has brought about.
    pub(super) fn due(&mut self, now: Now, todo: &mut Vec<Action>) {
        self.silent(now, todo);
        self.look_again(now, todo);
        let ids: Vec<_> = self.sandboxes.keys().cloned().collect();
        for id in ids {
            let sandbox = &self.sandboxes[&id];
            if let Grip::Lost { since } = sandbox.grip
                && now.mono.saturating_sub(since) >= sandbox.terms.grace
            {
                self.end(&id, Reason::LeaseLost, Who::Keeper, Gather::Yes, todo);
                continue;
            }
            self.ends(now, &id, todo);
        }
    }

    fn silent(&mut self, now: Now, todo: &mut Vec<Action>) {
        let holders: Vec<_> = self.sandboxes.values().filter_map(Sandbox::holder).collect();
        for client in holders {
            let Some(connection) = self.connections.get(&client) else { continue };
            if !connection.suspended && now.mono.saturating_sub(connection.heard) >= SILENCE {
                todo.push(Action::Hangup(client));
                self.disconnected(now, client, todo);
            }
        }
    }

    fn ends(&mut self, now: Now, id: &SandboxId, todo: &mut Vec<Action>) {
        let Some(sandbox) = self.sandboxes.get_mut(id).filter(|it| !it.is_ending() && !it.asking) else {
            return;
        };
        let Some((ends, due)) = sandbox.ends() else { return };
        if ends <= now.wall {
            match due {
                Due::Ttl => self.end(id, Reason::Ttl, Who::Keeper, Gather::Yes, todo),
                Due::Unused => {
                    sandbox.asking = true;
                    todo.push(Action::AskUse { name: sandbox.terms.name.clone(), sandbox: id.clone() });
                }
            }
            return;
        }
        let Some(client) = sandbox.holder() else { return };
        let near = WARNINGS.iter().filter(|it| ends.duration_since(now.wall) <= signed(**it)).count();
        if near > sandbox.warned {
            todo.push(Action::Notify(client, Notice::EndsSoon { sandbox: id.clone(), ends }));
        }
        sandbox.warned = near;
    }

    pub(super) fn leave(&mut self, now: Now, todo: &mut Vec<Action>) {
        let idle = self.is_empty() && now.mono.saturating_sub(self.empty_since) >= self.lingers();
        let retired = self.retiring && !self.is_ending_something();
        if (idle || retired) && !self.left {
            self.left = idle;
            todo.push(Action::Leave);
        }
    }
}

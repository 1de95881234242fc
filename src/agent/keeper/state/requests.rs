//! Handles the requests of clients: leases, deadlines, destructions.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::sandbox::{LeaseState, Sandbox};
use super::{Action, Clocks, ConnectionId, Gather, State, WARNINGS, signed};
use crate::agent::protocol::{
    Actor, Declared, Destroyed, Extension, Greeting, LeaseRequest, Lifetime, Notice, Outcome, Reason,
    RecordKind, Refusal, RefusalKind, RequestKind,
};
use crate::engine::identity::{SandboxId, SandboxName};
use crate::spec::Limits;

impl State {
    #[expect(clippy::too_many_lines, reason = "one arm for each kind of request")]
    pub(super) fn asked(
        &mut self,
        now: Clocks,
        client: ConnectionId,
        request: u64,
        ask: RequestKind,
        todo: &mut Vec<Action>,
    ) {
        if self.retiring
            && !matches!(
                ask,
                RequestKind::Heartbeat | RequestKind::Retire | RequestKind::Suspend | RequestKind::Resume
            )
        {
            todo.push(refuse(client, request, RefusalKind::Retiring, "a newer keeper takes over"));
            return;
        }
        let mut moved = None;
        let answer = match ask {
            RequestKind::Hello(_) => {
                Ok(json(&Greeting { sandboxes: self.sandboxes.len(), ..self.greeting.clone() }))
            }
            RequestKind::Lease(terms) => {
                self.suspend(client, false, todo);
                let (sandbox, until) = (terms.sandbox.clone(), terms.lifetime.until);
                let answer = self.lease(now, client, terms, todo);
                moved = self.moved(&sandbox, until).filter(|_| answer.is_ok());
                answer
            }
            RequestKind::Heartbeat => Ok(serde_json::Value::Null),
            RequestKind::Suspend => {
                self.suspend(client, true, todo);
                Ok(serde_json::Value::Null)
            }
            RequestKind::Resume => {
                self.suspend(client, false, todo);
                Ok(serde_json::Value::Null)
            }
            RequestKind::Detach { sandbox, lifetime } => self.detach(now, &sandbox, Some(lifetime), todo),
            RequestKind::Relinquish { sandbox } => self.detach(now, &sandbox, None, todo),
            RequestKind::Watch { sandbox } => self.watch(now, client, &sandbox, todo),
            RequestKind::BeginDestroy { sandbox, reason } => {
                self.begin_destroy(client, &sandbox, reason, todo);
                Ok(serde_json::Value::Null)
            }
            RequestKind::Extend { name, how } => self.extend(now, &name, how, todo),
            RequestKind::Touch { name } => {
                self.touch(now, &name, todo);
                Ok(serde_json::Value::Null)
            }
            RequestKind::Sandboxes => Ok(json(&self.standings())),
            RequestKind::Release { sandbox, reason } => {
                return self.release(client, request, &sandbox, reason, todo);
            }
            RequestKind::Destroy { name, reason } => {
                return self.destroy(now, client, request, &name, reason, todo);
            }
            RequestKind::Events { since } => return todo.push(Action::ReadEvents(client, request, since)),
            RequestKind::Left { name } => return todo.push(Action::ReadLeft(client, request, name)),
            RequestKind::Storage { request: operation } => {
                return todo.push(Action::Storage(client, request, operation));
            }
            RequestKind::Limit { sandbox, limits } => {
                return todo.push(self.limit(client, request, sandbox, limits));
            }
            RequestKind::Declare { sandbox, declared } => {
                return todo.push(self.declare(client, request, sandbox, declared));
            }
            RequestKind::Declared { sandbox } => {
                return todo.push(Action::ReadDeclared(client, request, sandbox));
            }
            RequestKind::ProtectHost { sandbox } => {
                return todo.push(Action::ProtectHost(client, request, sandbox));
            }
            RequestKind::Group { .. } => {
                let message = "control groups are asked of a storage server".to_owned();
                Err(Refusal { kind: RefusalKind::Malformed, message, hint: None })
            }
            RequestKind::SuppressRestart { containers } => {
                let waiting = self.restarts.rest(&containers);
                self.rested.entry(client).or_default().extend(containers);
                Ok(json(&waiting))
            }
            RequestKind::Still { containers, again } => Ok(json(&self.still.note(client, containers, again))),
            RequestKind::Retire => {
                self.retiring = true;
                Ok(serde_json::Value::Null)
            }
        };
        let outcome = match answer {
            Ok(value) => Outcome::Ok(value),
            Err(refusal) => Outcome::Error(refusal),
        };
        todo.push(Action::Reply(client, request, outcome));
        todo.extend(moved.map(|notice| Action::Notify(client, notice)));
    }

    /// Returns the notice for a client that resumes its lease if the deadline was moved meanwhile.
    fn moved(&self, id: &SandboxId, until: Option<Timestamp>) -> Option<Notice> {
        let sandbox = self.sandboxes.get(id).filter(|it| !it.terms.changing)?;
        sandbox.terms.lifetime.until.filter(|ends| Some(*ends) != until)?;
        Some(Notice::EndMoved { sandbox: id.clone(), end: sandbox.end()?, by_use: false })
    }

    /// Records whether a client is stopped, with all its leases. Only the client's own message ends this state, not a
    /// heartbeat: one may have been on its way when the client announced the stop.
    fn suspend(&mut self, client: ConnectionId, suspended: bool, todo: &mut Vec<Action>) {
        let Some(connection) = self.connections.get_mut(&client) else { return };
        connection.suspended = suspended;
        for sandbox in self.sandboxes.values_mut().filter(|it| it.grip == LeaseState::Held(client)) {
            if std::mem::replace(&mut sandbox.suspended, suspended) != suspended {
                todo.push(Action::Save(sandbox.kept()));
            }
        }
    }

    fn declare(
        &self,
        client: ConnectionId,
        request: u64,
        sandbox: SandboxId,
        declared: Box<Declared>,
    ) -> Action {
        match self.sandboxes.get(&sandbox) {
            Some(known) if !known.is_going() => Action::Declare(client, request, sandbox, declared),
            _ => unknown(client, request, &sandbox),
        }
    }

    fn limit(&self, client: ConnectionId, request: u64, sandbox: SandboxId, limits: Limits) -> Action {
        match self.sandboxes.get(&sandbox) {
            Some(known) if !known.is_ending() => Action::Limit(client, request, sandbox, limits),
            _ => unknown(client, request, &sandbox),
        }
    }

    fn begin_destroy(
        &mut self,
        client: ConnectionId,
        id: &SandboxId,
        reason: Reason,
        todo: &mut Vec<Action>,
    ) {
        if let Some(sandbox) = self.sandboxes.get_mut(id).filter(|it| !it.is_going()) {
            sandbox.doomed = Some((client, reason));
            todo.push(Action::Save(sandbox.kept()));
            self.tell(id, &Notice::Ending { sandbox: id.clone(), reason }, Some(client), todo);
        }
    }

    fn lease(
        &mut self,
        now: Clocks,
        client: ConnectionId,
        terms: LeaseRequest,
        todo: &mut Vec<Action>,
    ) -> RequestResult {
        let rival = self.sandboxes.values().find(|it| {
            let another = it.terms.sandbox != terms.sandbox || it.terms.client != terms.client;
            it.terms.name == terms.name && another && it.holder().is_some_and(|holder| holder != client)
        });
        if rival.is_some() {
            let message = format!("another session holds the sandbox `{}`", terms.name);
            return Err(Refusal { kind: RefusalKind::Held, message, hint: None });
        }
        let id = terms.sandbox.clone();
        let what = match self.sandboxes.get_mut(&id) {
            None if terms.again => return Err(no_such(&terms.name)),
            None => {
                self.sandboxes.insert(id.clone(), Sandbox::new(terms, now.wall, LeaseState::Held(client)));
                RecordKind::Leased
            }
            Some(sandbox) if sandbox.is_going() => {
                let message = format!("the sandbox `{}` is being destroyed", terms.name);
                return Err(Refusal { kind: RefusalKind::Ending, message, hint: None });
            }
            Some(sandbox) => {
                let again = sandbox.known && sandbox.terms.client == terms.client;
                // If the deadline was moved, the keeper knows the new one and the client that resumes its lease does
                // not.
                let has = sandbox.known && (terms.changing || !sandbox.terms.changing);
                let lifetime = if has { sandbox.terms.lifetime.clone() } else { terms.lifetime.clone() };
                if terms.changing {
                    sandbox.used = sandbox.used.max(now.wall);
                }
                sandbox.terms = LeaseRequest { lifetime, again: false, ..terms };
                sandbox.grip = LeaseState::Held(client);
                sandbox.known = true;
                sandbox.suspended = false;
                if again { RecordKind::LeaseRegained } else { RecordKind::Leased }
            }
        };
        self.gone.remove(&id);
        let sandbox = &self.sandboxes[&id];
        todo.push(Action::Save(sandbox.kept()));
        todo.push(sandbox.log(now, what));
        Ok(json(&self.standing(sandbox)))
    }

    fn detach(
        &mut self,
        now: Clocks,
        id: &SandboxId,
        lifetime: Option<Lifetime>,
        todo: &mut Vec<Action>,
    ) -> RequestResult {
        let sandbox = self.sandboxes.get_mut(id).filter(|it| !it.is_going()).ok_or_else(|| no_such(id))?;
        sandbox.terms.lifetime = lifetime.unwrap_or_else(|| sandbox.terms.lifetime.clone());
        sandbox.terms.changing = false;
        todo.push(sandbox.leave(now));
        todo.push(sandbox.log(now, RecordKind::Detached));
        let sandbox = &self.sandboxes[id];
        Ok(json(&self.standing(sandbox)))
    }

    fn extend(
        &mut self,
        now: Clocks,
        name: &SandboxName,
        how: Extension,
        todo: &mut Vec<Action>,
    ) -> RequestResult {
        let sandbox = self.named(name).ok_or_else(|| no_such(name))?;
        let (used, attachment) = (sandbox.used, sandbox.attachment());
        sandbox.terms.lifetime.extend(used, now.wall, attachment, how);
        sandbox.used = sandbox.used.max(now.wall);
        let id = sandbox.terms.sandbox.clone();
        if let Some(end) = sandbox.end() {
            let near = |it: &&Duration| end.at.duration_since(now.wall) <= signed(**it);
            sandbox.warned = WARNINGS.iter().filter(near).count();
            todo.push(Action::Save(sandbox.kept()));
            todo.push(sandbox.log(now, RecordKind::Extended { until: end.at }));
            self.tell(&id, &Notice::EndMoved { sandbox: id.clone(), end, by_use: false }, None, todo);
        }
        Ok(json(&self.standing(&self.sandboxes[&id])))
    }

    fn touch(&mut self, now: Clocks, name: &SandboxName, todo: &mut Vec<Action>) {
        let Some(sandbox) = self.named(name) else { return };
        sandbox.used = sandbox.used.max(now.wall);
        todo.push(Action::Save(sandbox.kept()));
        let id = sandbox.terms.sandbox.clone();
        self.deferred(&id, todo);
    }

    /// Subscribes a client to the notices about a sandbox, and ends its lease if it had one.
    fn watch(
        &mut self,
        now: Clocks,
        client: ConnectionId,
        id: &SandboxId,
        todo: &mut Vec<Action>,
    ) -> RequestResult {
        let sandbox = self.sandboxes.get_mut(id).filter(|it| !it.is_going()).ok_or_else(|| no_such(id))?;
        if sandbox.grip == LeaseState::Held(client) {
            sandbox.terms.changing = false;
            todo.push(sandbox.leave(now));
            todo.push(sandbox.log(now, RecordKind::Detached));
        }
        self.watchers.entry(id.clone()).or_default().insert(client);
        Ok(json(&self.standing(&self.sandboxes[id])))
    }

    fn release(
        &mut self,
        client: ConnectionId,
        request: u64,
        id: &SandboxId,
        reason: Reason,
        todo: &mut Vec<Action>,
    ) {
        if self.sandboxes.contains_key(id) {
            self.end(id, reason, (Actor::Client, Some(client)), Gather::No, todo);
            self.await_end(id, client, request);
        } else {
            todo.push(Action::Reply(client, request, Outcome::Ok(json(&Destroyed::default()))));
        }
    }

    /// Destroys all instances of a name, and what earlier destructions of that name left.
    fn destroy(
        &mut self,
        now: Clocks,
        client: ConnectionId,
        request: u64,
        name: &SandboxName,
        reason: Reason,
        todo: &mut Vec<Action>,
    ) {
        let left = self.unfinished.iter().filter(|(_, terms)| terms.name == *name);
        for (id, terms) in left.map(|(id, terms)| (id.clone(), terms.clone())).collect::<Vec<_>>() {
            self.sandboxes.entry(id).or_insert_with(|| Sandbox::new(terms, now.wall, LeaseState::Detached));
        }
        let ids: Vec<_> = self
            .sandboxes
            .iter()
            .filter(|(_, it)| it.terms.name == *name)
            .map(|(id, _)| id.clone())
            .collect();
        let Some(last) = ids.last() else {
            return todo.push(refuse(
                client,
                request,
                RefusalKind::NoSuchSandbox,
                &format!("there is no sandbox `{name}`"),
            ));
        };
        for id in &ids {
            self.end(id, reason, (Actor::Keeper, Some(client)), Gather::Yes, todo);
        }
        self.await_end(last, client, request);
    }

    fn await_end(&mut self, id: &SandboxId, client: ConnectionId, request: u64) {
        if let Some(Sandbox { grip: LeaseState::Ending { waiting, .. }, .. }) = self.sandboxes.get_mut(id) {
            waiting.push((client, request));
        }
    }
}

type RequestResult = Result<serde_json::Value, Refusal>;

pub(super) fn json<T: Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn refuse(client: ConnectionId, request: u64, kind: RefusalKind, message: &str) -> Action {
    Action::Reply(client, request, Outcome::Error(Refusal { kind, message: message.to_owned(), hint: None }))
}

fn unknown(client: ConnectionId, request: u64, sandbox: &SandboxId) -> Action {
    Action::Reply(client, request, Outcome::Error(no_such(sandbox)))
}

fn no_such(what: &impl std::fmt::Display) -> Refusal {
    Refusal { kind: RefusalKind::NoSuchSandbox, message: format!("there is no sandbox `{what}`"), hint: None }
}

//! The keeper's state machine: takes events, returns actions. It has no clock, socket or engine.

mod ending;
mod event;
mod requests;
mod sandbox;
mod timers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

pub use self::event::{
    Action, Alarms, Clocks, ConnectionId, Discovered, Event, Gather, Remembered, StoredSandbox,
};

use self::ending::DestroyedSandbox;
use self::sandbox::{LeaseState, Sandbox};
use super::quiesced::QuiescedContainers;
use super::restart::{Death, Restarts};
use crate::agent::cgroup::Starved;
use crate::agent::protocol::{
    Actor, Greeting, LeaseRequest, LeaseStatus, Notice, Reason, RecordKind, Standing,
};
use crate::engine::identity::{SandboxId, SandboxName};
use crate::spec::Limits;

/// How long a connection that holds a lease may be silent, on a clock that does not run while the machine sleeps.
pub const SILENCE: Duration = Duration::from_mins(1);
/// How long the keeper stays after the last sandbox.
pub const LINGER: Duration = Duration::from_mins(10);
/// How long it waits at least for its first client.
const WELCOME: Duration = Duration::from_secs(30);
/// How long before the end of a sandbox its lease holder is warned.
const WARNINGS: [Duration; 2] = [Duration::from_mins(10), Duration::from_mins(1)];

#[derive(Debug, Clone, Copy)]
struct Connection {
    heard: Duration,
    suspended: bool,
}

/// The keeper's state: all sandboxes, connections, and pending restarts.
#[derive(Debug)]
pub struct State {
    greeting: Greeting,
    linger: Duration,
    sandboxes: BTreeMap<SandboxId, Sandbox>,
    connections: BTreeMap<ConnectionId, Connection>,
    /// The connections that watch a sandbox without keeping it alive.
    watchers: BTreeMap<SandboxId, BTreeSet<ConnectionId>>,
    gone: BTreeMap<SandboxId, DestroyedSandbox>,
    /// Destroyed sandboxes of which something could not be removed. The engine may have no object of them.
    unfinished: BTreeMap<SandboxId, LeaseRequest>,
    restarts: Restarts,
    still: QuiescedContainers,
    /// The containers whose restart each connection has suppressed.
    rested: BTreeMap<ConnectionId, BTreeSet<String>>,
    /// What the next keeper would read from the volume.
    remembered: Remembered,
    empty_since: Duration,
    /// Whether a client ever connected: the client that starts a keeper takes a moment to connect.
    met: bool,
    retiring: bool,
    left: bool,
}

impl State {
    /// Returns the state of a keeper that starts now.
    pub fn new(greeting: Greeting, linger: Duration, now: Clocks) -> Self {
        Self {
            greeting,
            linger,
            sandboxes: BTreeMap::new(),
            connections: BTreeMap::new(),
            watchers: BTreeMap::new(),
            gone: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            restarts: Restarts::default(),
            still: QuiescedContainers::default(),
            rested: BTreeMap::new(),
            remembered: Remembered::default(),
            empty_since: now.mono,
            met: false,
            retiring: false,
            left: false,
        }
    }

    /// Handles an event. The returned actions have to be performed in order.
    #[must_use]
    pub fn handle(&mut self, now: Clocks, event: Event) -> Vec<Action> {
        let was_empty = self.is_empty();
        let mut todo = Vec::new();
        match event {
            Event::Found(found) => self.found(now, found, &mut todo),
            Event::Appeared(sandbox) => self.appeared(&sandbox, &mut todo),
            Event::Started { sandbox, container, faulty } => {
                self.appeared(&sandbox, &mut todo);
                if self.restarts.started(&container) {
                    todo.push(Action::Stop { container });
                } else if faulty {
                    todo.push(Action::ReviveFault { container });
                }
            }
            Event::Stopped(container) => self.restarts.stopped(&container),
            Event::Removed(container) => self.restarts.removed(&container),
            Event::Connected(client) => {
                self.met = true;
                self.connections.insert(client, Connection { heard: now.mono, suspended: false });
            }
            Event::Disconnected(client) => self.disconnected(now, client, &mut todo),
            Event::Asked(client, request, ask) => {
                if let Some(connection) = self.connections.get_mut(&client) {
                    connection.heard = now.mono;
                }
                self.asked(now, client, request, ask, &mut todo);
            }
            Event::Use(sandbox, used) => self.last_use(now, &sandbox, used, &mut todo),
            Event::Died(death) => self.died(now, death, &mut todo),
            Event::Remembered(Remembered { still, restarts }) => {
                self.still.restore(now.mono, still);
                self.restarts.restore(now.mono, restarts);
            }
            Event::Awake(containers) => self.restarts.awake(&containers),
            Event::WentOn(containers) => self.still.went_on(&containers),
            Event::Destroyed(sandbox, destroyed) => self.destroyed(now, &sandbox, &destroyed, &mut todo),
            Event::Limited(sandbox, limits) => self.limited(&sandbox, limits, &mut todo),
            Event::Starved(sandbox, container, id) => {
                if self.sandboxes.contains_key(&sandbox) {
                    todo.push(Action::Diagnose { sandbox, container, id });
                }
            }
            Event::Diagnosed(sandbox, container, starved) => {
                self.diagnosed(now, &sandbox, container, starved, &mut todo);
            }
            Event::Alarm | Event::Quiet => {}
        }
        self.due(now, &mut todo);
        if !was_empty && self.is_empty() {
            self.empty_since = now.mono;
        }
        self.leave(now, &mut todo);
        let remembered = Remembered { still: self.still.all(), restarts: self.restarts.record() };
        if remembered != self.remembered {
            self.remembered = remembered.clone();
            todo.push(Action::Remember(remembered));
        }
        todo
    }

    /// Returns when to call with [`Event::Alarm`].
    pub fn alarms(&self) -> Alarms {
        let mut alarms = Alarms::default();
        for sandbox in self.sandboxes.values() {
            match &sandbox.grip {
                LeaseState::Lost { since } => alarms.at_mono(*since + sandbox.terms.grace),
                LeaseState::Held(client) => {
                    if let Some(connection) = self.connections.get(client).filter(|it| !it.suspended) {
                        alarms.at_mono(connection.heard + SILENCE);
                    }
                }
                LeaseState::Detached => {}
                LeaseState::Ending { .. } => continue,
            }
            if let Some(end) = sandbox.end().filter(|_| !sandbox.asking) {
                alarms.at_wall(end.at);
                if let Some(before) = WARNINGS.get(sandbox.warned) {
                    alarms.at_wall(end.at.checked_sub(*before).unwrap_or(end.at));
                }
            }
        }
        for at in self.restarts.next().into_iter().chain(self.still.next()) {
            alarms.at_mono(at);
        }
        for connection in self.still.keepers().filter_map(|it| self.connections.get(&it)) {
            alarms.at_mono(connection.heard + SILENCE);
        }
        for look in self.gone.values().filter_map(|it| it.next_look()) {
            alarms.at_mono(look);
        }
        if self.is_empty() && !self.left {
            alarms.at_mono(self.empty_since + self.lingers());
        }
        alarms
    }

    /// Returns the status of every sandbox.
    pub fn standings(&self) -> Vec<Standing> {
        self.sandboxes.values().map(|it| self.standing(it)).collect()
    }

    /// Returns the sandboxes that were destroyed lately and of which no object has appeared since.
    pub fn gone(&self) -> impl Iterator<Item = &SandboxId> {
        self.gone.keys().filter(|id| !self.sandboxes.contains_key(*id))
    }

    /// Whether there is any sandbox.
    pub fn has_sandboxes(&self) -> bool {
        !self.sandboxes.is_empty()
    }

    /// Whether a destruction or other work has to finish before the keeper may exit.
    pub fn is_ending_something(&self) -> bool {
        self.sandboxes.values().any(Sandbox::is_ending)
    }

    /// How long the keeper stays without sandboxes.
    fn lingers(&self) -> Duration {
        if self.met { self.linger } else { self.linger.max(WELCOME) }
    }

    fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.connections.is_empty()
    }

    fn standing(&self, sandbox: &Sandbox) -> Standing {
        let hold = match &sandbox.grip {
            _ if sandbox.is_going() => LeaseStatus::Ending,
            LeaseState::Held(_) if sandbox.suspended => LeaseStatus::Suspended,
            LeaseState::Held(_) => LeaseStatus::Held,
            LeaseState::Lost { .. } => LeaseStatus::Lost,
            LeaseState::Detached => LeaseStatus::Detached,
            LeaseState::Ending { .. } => LeaseStatus::Ending,
        };
        Standing {
            name: sandbox.terms.name.clone(),
            sandbox: sandbox.terms.sandbox.clone(),
            hold,
            ends: sandbox.end().map(|end| end.at),
            unless_used: sandbox.end().is_some_and(|end| end.unless_used),
            used: sandbox.used,
            limits: sandbox.limits.clone(),
            restarts: self.restarts.count(&sandbox.terms.sandbox),
        }
    }

    fn appeared(&self, sandbox: &SandboxId, todo: &mut Vec<Action>) {
        if !self.sandboxes.contains_key(sandbox) {
            todo.push(Action::Look);
        }
    }

    fn found(&mut self, now: Clocks, found: Vec<Discovered>, todo: &mut Vec<Action>) {
        for it in found {
            if self.sandboxes.contains_key(&it.sandbox) {
                continue;
            }
            let late = self.gone.contains_key(&it.sandbox);
            let begun = it.kept.as_ref().and_then(|kept| kept.ending);
            let sandbox = match it.kept {
                Some(kept) => Sandbox {
                    grip: if kept.detached {
                        LeaseState::Detached
                    } else {
                        LeaseState::Lost { since: now.mono }
                    },
                    limits: kept.limits,
                    ..Sandbox::new(kept.terms, kept.used, LeaseState::Detached)
                },
                None => Sandbox::unknown(it.name, it.sandbox.clone(), it.expires, now),
            };
            let detached_and_bare = !it.exists && sandbox.grip == LeaseState::Detached;
            self.sandboxes.insert(it.sandbox.clone(), sandbox);
            if let Some(reason) = begun.filter(|_| !late) {
                // The previous keeper, or a client that it lost, was about to destroy it.
                self.end(&it.sandbox, reason, (Actor::Keeper, None), Gather::Yes, todo);
            } else if late {
                self.end(&it.sandbox, Reason::LeaseLost, (Actor::Keeper, None), Gather::No, todo);
            } else if detached_and_bare {
                self.end(&it.sandbox, Reason::Vanished, (Actor::Keeper, None), Gather::No, todo);
            }
        }
    }

    fn disconnected(&mut self, now: Clocks, client: ConnectionId, todo: &mut Vec<Action>) {
        self.connections.remove(&client);
        self.watchers.retain(|_, clients| {
            clients.remove(&client);
            !clients.is_empty()
        });
        let mut doomed = Vec::new();
        for (id, sandbox) in &mut self.sandboxes {
            if sandbox.grip == LeaseState::Held(client) {
                if sandbox.terms.changing {
                    todo.push(sandbox.leave(now));
                } else {
                    sandbox.grip = LeaseState::Lost { since: now.mono };
                    if std::mem::take(&mut sandbox.suspended) {
                        todo.push(Action::Save(sandbox.kept()));
                    }
                }
                todo.push(sandbox.log(now, RecordKind::LeaseLost));
            }
            doomed.extend(
                sandbox.doomed.filter(|(by, _)| *by == client).map(|(_, reason)| (id.clone(), reason)),
            );
        }
        for (id, reason) in doomed {
            self.end(&id, reason, (Actor::Keeper, None), Gather::Yes, todo);
        }
        let still = self.restarts.wake(now.mono, self.still.closed(client));
        let rested = self.rested.remove(&client).unwrap_or_default().into_iter().collect();
        todo.push(Action::Part { client, still, rested });
    }

    fn last_use(&mut self, now: Clocks, id: &SandboxId, used: Option<Timestamp>, todo: &mut Vec<Action>) {
        let Some(sandbox) = self.sandboxes.get_mut(id).filter(|it| it.asking) else { return };
        sandbox.asking = false;
        if let Some(used) = used.filter(|it| *it > sandbox.used) {
            sandbox.used = used.min(now.wall);
            todo.push(Action::Save(sandbox.kept()));
        }
        if sandbox.end().is_some_and(|end| end.at <= now.wall && end.unless_used) {
            self.end(id, Reason::Idle, (Actor::Keeper, None), Gather::Yes, todo);
        } else {
            self.deferred(id, todo);
        }
    }

    /// Returns the connections that receive notices about a sandbox: its lease holder and its watchers.
    fn audience(&self, id: &SandboxId) -> BTreeSet<ConnectionId> {
        let holder = self.sandboxes.get(id).and_then(Sandbox::holder);
        self.watchers.get(id).into_iter().flatten().copied().chain(holder).collect()
    }

    /// Sends a notice to all connections that receive notices about a sandbox, except one.
    fn tell(&self, id: &SandboxId, notice: &Notice, except: Option<ConnectionId>, todo: &mut Vec<Action>) {
        let clients = self.audience(id).into_iter().filter(|client| Some(*client) != except);
        todo.extend(clients.map(|client| Action::Notify(client, notice.clone())));
    }

    /// Announces that a use has deferred the end of a sandbox that ends when idle.
    fn deferred(&self, id: &SandboxId, todo: &mut Vec<Action>) {
        let end = self.sandboxes.get(id).and_then(Sandbox::end).filter(|end| end.unless_used);
        if let Some(end) = end {
            self.tell(id, &Notice::EndMoved { sandbox: id.clone(), end, by_use: true }, None, todo);
        }
    }

    fn died(&mut self, now: Clocks, death: Death, todo: &mut Vec<Action>) {
        if self.sandboxes.get(&death.sandbox).is_none_or(Sandbox::is_ending) {
            return;
        }
        let Death { sandbox: id, service, container, code, .. } = death.clone();
        let fate = self.restarts.died(now.mono, death);
        self.tell(&id, &Notice::Exited { sandbox: id.clone(), service, container, code, fate }, None, todo);
    }

    fn limited(&mut self, id: &SandboxId, limits: Limits, todo: &mut Vec<Action>) {
        if let Some(sandbox) = self.sandboxes.get_mut(id) {
            sandbox.limits = Some(limits);
            todo.push(Action::Save(sandbox.kept()));
        }
    }

    fn diagnosed(
        &mut self,
        now: Clocks,
        id: &SandboxId,
        container: String,
        starved: Starved,
        todo: &mut Vec<Action>,
    ) {
        // When a cgroup runs out of memory, the engine names every container in it, though only some lost a process.
        let Some(sandbox) = self.sandboxes.get(id).filter(|_| starved.killed != Some(0)) else { return };
        let limit = sandbox.limits.as_ref().and_then(|limits| limits.memory).filter(|_| starved.shared);
        let notice = Notice::OutOfMemory { sandbox: id.clone(), container: container.clone(), limit };
        self.tell(id, &notice, None, todo);
        todo.push(sandbox.log(now, RecordKind::OutOfMemory { container, limit }));
    }

    fn named(&mut self, name: &SandboxName) -> Option<&mut Sandbox> {
        self.sandboxes.values_mut().find(|it| it.terms.name == *name && !it.is_going())
    }
}

fn signed(duration: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
mod tests;

//! The task that owns the connection to the keeper.
//!
//! It matches replies to requests, sends heartbeats, and restores leases and quiesced containers when the connection
//! breaks. If it breaks while there are none and no request is pending, the task reconnects only when it is needed
//! again, because connecting may start a keeper.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::KeeperError;
use super::wire::Wire;
use crate::agent::protocol::{
    Greeting, HEARTBEAT, LeaseRequest, Line, Notice, Outcome, RefusalKind, Reply, Request, RequestKind,
    Standing,
};
use crate::engine::identity::SandboxId;

/// How long to retry a broken connection at least. The keeper's own `grace` decides when a lease is lost, and counts
/// from the keeper's start; this constant only bounds the retries.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a lease holder waits for an engine that does not answer: without the engine nothing is destroyed either.
const AWAY: Duration = Duration::from_mins(10);
/// After an older keeper has exited in favour of a newer build, how long that build has to start its own keeper first.
const PRECEDENCE: Duration = Duration::from_millis(200);
/// How long a heartbeat may stay unanswered.
const UNANSWERED: Duration = Duration::from_secs(20);

/// Connects to the keeper, and starts one if there is none.
#[async_trait]
pub(super) trait Dial: Send + Sync {
    /// Returns a connection over which the keeper has sent its greeting.
    async fn dial(&self) -> Result<(Wire, Greeting), KeeperError>;
}

/// What the handles send to the task.
pub(super) enum Command {
    /// Send a request to the keeper.
    Ask(RequestKind, ReplySender),
    /// Hold a lease until [`Command::LetGo`].
    Hold(LeaseRequest, mpsc::UnboundedSender<LeaseNews>, ReplySender),
    /// The lease is over: the sandbox was released or detached.
    LetGo(SandboxId),
    /// Subscribe to the notices about a sandbox, without keeping it alive, until [`Command::LetGo`]. Without a sender,
    /// turns the lease that is held into a watch.
    Watch(SandboxId, Option<mpsc::UnboundedSender<LeaseNews>>, ReplySender),
}

/// What the task sends to the holder of a lease.
#[derive(Debug)]
pub(super) enum LeaseNews {
    /// A notice from the keeper.
    Notice(Notice),
    /// The lease cannot be kept any longer.
    Lost(String),
}

type ReplySender = oneshot::Sender<Result<Value, KeeperError>>;

struct HeldLease {
    claim: Claim,
    told: mpsc::UnboundedSender<LeaseNews>,
}

/// What a client has requested for a sandbox.
enum Claim {
    /// A lease, which keeps it alive.
    Lease(LeaseRequest),
    /// Its notices only.
    Watch,
}

pub(super) struct Link {
    dial: Arc<dyn Dial>,
    commands: mpsc::UnboundedReceiver<Command>,
    pending: BTreeMap<u64, (RequestKind, ReplySender)>,
    held: BTreeMap<SandboxId, HeldLease>,
    /// The quiesced containers.
    still: Vec<String>,
    /// Distinguishes this client from others that request the same lease.
    client: u64,
    last: u64,
    heard: Instant,
    beating: Option<Instant>,
}

enum End {
    Unused,
    Broken(String),
}

impl Link {
    /// Starts the task on a connection; it ends when the last sender of commands is dropped.
    pub(super) fn start(dial: Arc<dyn Dial>, wire: Wire) -> mpsc::UnboundedSender<Command> {
        let (sender, commands) = mpsc::unbounded_channel();
        let link = Self {
            dial,
            commands,
            pending: BTreeMap::new(),
            held: BTreeMap::new(),
            still: Vec::new(),
            client: rand::random(),
            last: 0,
            heard: Instant::now(),
            beating: None,
        };
        tokio::spawn(link.run(wire));
        sender
    }

    async fn run(mut self, mut wire: Wire) {
        loop {
            match self.serve(&mut wire).await {
                End::Unused => return,
                End::Broken(cause) => {
                    tracing::debug!(cause, "the connection to the keeper broke");
                    let broken = Instant::now();
                    self.fail_storage(&cause);
                    if !self.is_needed().await {
                        return;
                    }
                    sleep_until(broken + PRECEDENCE).await;
                    match self.redial(cause).await {
                        Ok(again) => wire = again,
                        Err(cause) => return self.give_up(&cause),
                    }
                }
            }
        }
    }

    /// Waits until there is a claim or a request; returns `false` once no handle is left.
    async fn is_needed(&mut self) -> bool {
        while self.held.is_empty() && self.pending.is_empty() && self.still.is_empty() {
            match self.commands.recv().await {
                Some(command) => drop(self.note(command)),
                None => return false,
            }
        }
        true
    }

    async fn serve(&mut self, wire: &mut Wire) -> End {
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.heard = Instant::now();
        self.beating = None;
        loop {
            let done = tokio::select! {
                command = self.commands.recv() => match command.map(|it| self.note(it)) {
                    Some(Some(request)) => self.send(wire, &request).await,
                    Some(None) => Ok(()),
                    None => return End::Unused,
                },
                line = wire.receive() => match line {
                    Ok(Some(line)) => {
                        self.line(line);
                        Ok(())
                    }
                    Ok(None) => Err(io::Error::other("the connection was closed")),
                    Err(error) => Err(error),
                },
                _ = beat.tick(), if !self.held.is_empty() || !self.still.is_empty() => self.beat(wire).await,
            };
            if let Err(error) = done {
                return End::Broken(error.to_string());
            }
        }
    }

    /// Sends a request. One that is too long for the keeper fails here, and the connection stays usable.
    async fn send(&mut self, wire: &mut Wire, request: &Request) -> io::Result<()> {
        match wire.send(request).await {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                if let Some((_, answer)) = self.pending.remove(&request.id) {
                    let _ = answer.send(Err(KeeperError::Lost { cause: error.to_string() }));
                }
                Ok(())
            }
            sent => sent,
        }
    }

    /// Handles a command; the returned request has to be sent.
    fn note(&mut self, command: Command) -> Option<Request> {
        let (ask, answer) = match command {
            Command::Ask(ask, answer) => {
                if let RequestKind::Still { containers, .. } = &ask {
                    self.still.clone_from(containers);
                }
                (ask, answer)
            }
            Command::Hold(terms, told, answer) => {
                let terms = LeaseRequest { client: self.client, ..terms };
                let claim = Claim::Lease(terms.clone());
                self.held.insert(terms.sandbox.clone(), HeldLease { claim, told });
                (RequestKind::Lease(terms), answer)
            }
            Command::LetGo(sandbox) => {
                self.held.remove(&sandbox);
                return None;
            }
            Command::Watch(sandbox, told, answer) => {
                let told = told.or_else(|| self.held.get(&sandbox).map(|held| held.told.clone()));
                let Some(told) = told else {
                    let _ = answer.send(Err(KeeperError::Lost { cause: "the lease is lost".to_owned() }));
                    return None;
                };
                self.held.insert(sandbox.clone(), HeldLease { claim: Claim::Watch, told });
                (RequestKind::Watch { sandbox }, answer)
            }
        };
        self.last += 1;
        self.pending.insert(self.last, (ask.clone(), answer));
        Some(Request { id: self.last, ask })
    }

    fn line(&mut self, line: Line) {
        self.heard = Instant::now();
        match line {
            Line::Reply(Reply { id, outcome: Outcome::Error(refusal) })
                if refusal.kind == RefusalKind::Retiring =>
            {
                // The request stays pending: it is sent again to the next keeper.
                tracing::debug!(id, "the keeper retires");
            }
            Line::Reply(Reply { id, outcome }) => {
                if let Some((ask, answer)) = self.pending.remove(&id) {
                    let result = match outcome {
                        Outcome::Ok(value) => Ok(value),
                        Outcome::Error(refusal) => Err(refusal.into()),
                    };
                    if let (Some(sandbox), Err(_)) = (ask.claimed(), &result) {
                        self.held.remove(sandbox);
                    }
                    // The caller may have gone.
                    let _ = answer.send(result);
                }
            }
            Line::Notice(notice) => {
                if let Some(held) = notice.sandbox().and_then(|sandbox| self.held.get(sandbox)) {
                    let _ = held.told.send(LeaseNews::Notice(notice));
                }
            }
        }
    }

    async fn beat(&mut self, wire: &mut Wire) -> io::Result<()> {
        if self.beating.is_some_and(|sent| sent > self.heard && sent.elapsed() > UNANSWERED) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the keeper is silent"));
        }
        if self.beating.is_none_or(|sent| sent <= self.heard) {
            self.beating = Some(Instant::now());
        }
        self.last += 1;
        wire.send(&Request { id: self.last, ask: RequestKind::Heartbeat }).await
    }

    /// Reconnects, resumes every lease and resends the unanswered requests.
    async fn redial(&mut self, mut cause: String) -> Result<Wire, String> {
        let begin = Instant::now();
        let mut answered = begin;
        let mut pause = Duration::from_millis(50);
        let graces = self.held.values().map(|held| match &held.claim {
            Claim::Lease(terms) => terms.grace,
            Claim::Watch => Duration::ZERO,
        });
        let patience = graces.fold(PATIENCE, Duration::max);
        while answered.elapsed() < patience {
            let Some(dialled) = self.dial().await else { return Err(cause) };
            match dialled {
                Ok((wire, _)) => match self.take_up(wire).await {
                    Ok(wire) => return Ok(wire),
                    Err(error) => {
                        cause = error.to_string();
                        self.fail_storage(&cause);
                    }
                },
                Err(error) => {
                    if error.is_engine_away() && !self.held.is_empty() && begin.elapsed() < AWAY {
                        answered = Instant::now();
                    }
                    cause = error.to_string();
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        Err(cause)
    }

    /// Dials; returns `None` once the last handle is dropped. Requests that arrive meanwhile are sent with the others.
    async fn dial(&mut self) -> Option<Result<(Wire, Greeting), KeeperError>> {
        let dial = Arc::clone(&self.dial);
        let mut dialling = dial.dial();
        loop {
            tokio::select! {
                dialled = &mut dialling => return Some(dialled),
                command = self.commands.recv() => drop(self.note(command?)),
            }
        }
    }

    async fn take_up(&mut self, mut wire: Wire) -> Result<Wire, KeeperError> {
        let lost = |error: io::Error| KeeperError::Lost { cause: error.to_string() };
        let mut refused = Vec::new();
        let pending: Vec<_> = self.pending.values().filter_map(|(ask, _)| ask.claimed()).cloned().collect();
        let held = self.held.iter().filter(|(id, _)| !pending.contains(id));
        let held = held.map(|(id, held)| match &held.claim {
            Claim::Lease(terms) => {
                (id.clone(), RequestKind::Lease(LeaseRequest { again: true, ..terms.clone() }))
            }
            Claim::Watch => (id.clone(), RequestKind::Watch { sandbox: id.clone() }),
        });
        for (sandbox, ask) in held.collect::<Vec<_>>() {
            self.last += 1;
            wire.send(&Request { id: self.last, ask }).await.map_err(lost)?;
            match self.answer(&mut wire).await.map_err(lost)? {
                Outcome::Ok(value) => {
                    let _: Standing = serde_json::from_value(value)?;
                }
                Outcome::Error(refusal) if refusal.kind == RefusalKind::Retiring => {
                    return Err(refusal.into());
                }
                Outcome::Error(refusal) => refused.push((sandbox, refusal.message)),
            }
        }
        if !self.still.is_empty() {
            self.last += 1;
            let ask = RequestKind::Still { containers: self.still.clone(), again: true };
            wire.send(&Request { id: self.last, ask }).await.map_err(lost)?;
        }
        for (sandbox, cause) in refused {
            if let Some(held) = self.held.remove(&sandbox) {
                let _ = held.told.send(LeaseNews::Lost(cause));
            }
        }
        for (id, (ask, _)) in &self.pending {
            wire.send(&Request { id: *id, ask: ask.clone() }).await.map_err(lost)?;
        }
        Ok(wire)
    }

    /// Reads until the reply to the last request, and handles what arrives before it.
    async fn answer(&mut self, wire: &mut Wire) -> io::Result<Outcome> {
        loop {
            match wire.receive().await? {
                Some(Line::Reply(reply)) if reply.id == self.last => return Ok(reply.outcome),
                Some(line) => self.line(line),
                None => return Err(io::Error::other("the connection was closed")),
            }
        }
    }

    /// Fails pending storage requests. It is unknown how far they got: the caller has to find out.
    fn fail_storage(&mut self, cause: &str) {
        let storage: Vec<_> =
            self.pending.iter().filter(|(_, (ask, _))| ask.is_storage()).map(|(id, _)| *id).collect();
        for id in storage {
            if let Some((_, answer)) = self.pending.remove(&id) {
                let _ = answer.send(Err(KeeperError::Lost { cause: cause.to_owned() }));
            }
        }
    }

    fn give_up(self, cause: &str) {
        for (_, held) in self.held {
            let _ = held.told.send(LeaseNews::Lost(cause.to_owned()));
        }
        for (_, (_, answer)) in self.pending {
            let _ = answer.send(Err(KeeperError::Lost { cause: cause.to_owned() }));
        }
    }
}

/// Reads until the reply with this number. Other messages do not matter before there is any claim.
pub(super) async fn answer_to(wire: &mut Wire, id: u64) -> io::Result<Outcome> {
    loop {
        match wire.receive().await? {
            Some(Line::Reply(reply)) if reply.id == id => return Ok(reply.outcome),
            Some(_) => {}
            None => return Err(io::Error::other("the connection was closed")),
        }
    }
}

#[cfg(test)]
mod tests;

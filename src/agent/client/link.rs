//! The task that owns the connection: it pairs requests with replies, says that the client lives, and takes up what
//! was held when the connection breaks.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::KeeperError;
use super::wire::Wire;
use crate::agent::protocol::{
    Ask, Greeting, HEARTBEAT, Line, Notice, Outcome, RefusalKind, Reply, Request, Standing, Terms,
};
use crate::engine::identity::SandboxId;

/// How long a broken connection is tried again. The keeper's own `grace` decides what is lost; this only ends the
/// trying, and an engine that restarts takes its time.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a heartbeat may stay unanswered.
const UNANSWERED: Duration = Duration::from_secs(20);

/// Makes a connection to the keeper, and the keeper too if there is none.
#[async_trait]
pub(super) trait Dial: Send + Sync {
    /// A connection over which the keeper has said who it is.
    async fn dial(&self) -> Result<(Wire, Greeting), KeeperError>;
}

/// What the handles tell the task.
pub(super) enum Command {
    /// Ask the keeper.
    Ask(Ask, Answer),
    /// Hold a lease until [`Command::LetGo`].
    Hold(Terms, mpsc::UnboundedSender<Told>, Answer),
    /// The lease is over: the sandbox was released or detached.
    LetGo(SandboxId),
}

/// What the holder of a lease is told.
#[derive(Debug)]
pub(super) enum Told {
    /// Something that the keeper said.
    Notice(Notice),
    /// The lease cannot be held any longer.
    Lost(String),
}

type Answer = oneshot::Sender<Result<Value, KeeperError>>;

struct Held {
    terms: Terms,
    told: mpsc::UnboundedSender<Told>,
}

pub(super) struct Link {
    dial: Arc<dyn Dial>,
    commands: mpsc::UnboundedReceiver<Command>,
    pending: BTreeMap<u64, (Ask, Answer)>,
    held: BTreeMap<SandboxId, Held>,
    last: u64,
    heard: Instant,
    beating: Option<Instant>,
}

enum End {
    Unused,
    Broken(String),
}

impl Link {
    /// Starts the task on a connection; it ends when the last sender of commands is gone.
    pub(super) fn start(dial: Arc<dyn Dial>, wire: Wire) -> mpsc::UnboundedSender<Command> {
        let (sender, commands) = mpsc::unbounded_channel();
        let link = Self {
            dial,
            commands,
            pending: BTreeMap::new(),
            held: BTreeMap::new(),
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
                End::Broken(cause) => match self.redial(cause).await {
                    Ok(again) => wire = again,
                    Err(cause) => return self.give_up(&cause),
                },
            }
        }
    }

    async fn serve(&mut self, wire: &mut Wire) -> End {
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.heard = Instant::now();
        self.beating = None;
        loop {
            let done = tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(wire, command).await,
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
                _ = beat.tick(), if !self.held.is_empty() => self.beat(wire).await,
            };
            if let Err(error) = done {
                return End::Broken(error.to_string());
            }
        }
    }

    async fn command(&mut self, wire: &mut Wire, command: Command) -> io::Result<()> {
        match command {
            Command::Ask(ask, answer) => self.ask(wire, ask, answer).await,
            Command::Hold(terms, told, answer) => {
                self.held.insert(terms.sandbox.clone(), Held { terms: terms.clone(), told });
                self.ask(wire, Ask::Lease(terms), answer).await
            }
            Command::LetGo(sandbox) => {
                self.held.remove(&sandbox);
                Ok(())
            }
        }
    }

    async fn ask(&mut self, wire: &mut Wire, ask: Ask, answer: Answer) -> io::Result<()> {
        self.last += 1;
        let request = Request { id: self.last, ask: ask.clone() };
        self.pending.insert(self.last, (ask, answer));
        wire.send(&request).await
    }

    fn line(&mut self, line: Line) {
        self.heard = Instant::now();
        match line {
            Line::Reply(Reply { id, outcome: Outcome::Error(refusal) })
                if refusal.kind == RefusalKind::Retiring =>
            {
                // Stays pending: it is asked again of the keeper that takes over.
                tracing::debug!(id, "the keeper retires");
            }
            Line::Reply(Reply { id, outcome }) => {
                if let Some((ask, answer)) = self.pending.remove(&id) {
                    let result = match outcome {
                        Outcome::Ok(value) => Ok(value),
                        Outcome::Error(refusal) => Err(refusal.into()),
                    };
                    if let (Ask::Lease(terms), Err(_)) = (&ask, &result) {
                        self.held.remove(&terms.sandbox);
                    }
                    // Whoever asked may have gone.
                    let _ = answer.send(result);
                }
            }
            Line::Notice(notice) => {
                if let Some(held) = self.held.get(notice.sandbox()) {
                    let _ = held.told.send(Told::Notice(notice));
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
        wire.send(&Request { id: self.last, ask: Ask::Heartbeat }).await
    }

    /// Makes a new connection, takes up every lease on it and asks again what was left unanswered.
    async fn redial(&mut self, mut cause: String) -> Result<Wire, String> {
        tracing::debug!(cause, "the connection to the keeper broke");
        self.fail_storage(&cause);
        let begin = Instant::now();
        let mut pause = Duration::from_millis(50);
        while begin.elapsed() < PATIENCE {
            if self.commands.is_closed() && self.commands.is_empty() {
                return Err(cause);
            }
            match self.take_up().await {
                Ok(wire) => return Ok(wire),
                Err(error) => cause = error.to_string(),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        Err(cause)
    }

    async fn take_up(&mut self) -> Result<Wire, KeeperError> {
        let lost = |error: io::Error| KeeperError::Lost { cause: error.to_string() };
        let (mut wire, _) = self.dial.dial().await?;
        let mut refused = Vec::new();
        let pending_leases: Vec<_> =
            self.pending.values().filter_map(|(ask, _)| ask.leased()).cloned().collect();
        for (sandbox, held) in self.held.iter().filter(|(id, _)| !pending_leases.contains(id)) {
            self.last += 1;
            let terms = Terms { again: true, ..held.terms.clone() };
            wire.send(&Request { id: self.last, ask: Ask::Lease(terms) }).await.map_err(lost)?;
            match answer_to(&mut wire, self.last).await.map_err(lost)? {
                Outcome::Ok(value) => {
                    let _: Standing = serde_json::from_value(value)?;
                }
                Outcome::Error(refusal) if refusal.kind == RefusalKind::Retiring => {
                    return Err(refusal.into());
                }
                Outcome::Error(refusal) => refused.push((sandbox.clone(), refusal.message)),
            }
        }
        for (sandbox, cause) in refused {
            if let Some(held) = self.held.remove(&sandbox) {
                let _ = held.told.send(Told::Lost(cause));
            }
        }
        for (id, (ask, _)) in &self.pending {
            wire.send(&Request { id: *id, ask: ask.clone() }).await.map_err(lost)?;
        }
        Ok(wire)
    }

    /// What the storage was doing is not known: that is for the caller to find out.
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
            let _ = held.told.send(Told::Lost(cause.to_owned()));
        }
        for (_, (_, answer)) in self.pending {
            let _ = answer.send(Err(KeeperError::Lost { cause: cause.to_owned() }));
        }
    }
}

/// Reads until the reply of this number; what else comes is of no use on a new connection.
pub(super) async fn answer_to(wire: &mut Wire, id: u64) -> io::Result<Outcome> {
    loop {
        match wire.receive().await? {
            Some(Line::Reply(reply)) if reply.id == id => return Ok(reply.outcome),
            Some(_) => {}
            None => return Err(io::Error::other("the connection was closed")),
        }
    }
}

//! What the keeper is told and what it has to do: events go in, actions come out.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::agent::cgroup::Starved;
use crate::agent::keeper::restart::{self, Death};
use crate::agent::protocol::{
    Declared, Destroyed, LeaseRequest, Notice, Outcome, Reason, Record, RequestKind,
};
use crate::engine::identity::{SandboxId, SandboxName};
use crate::spec::Limits;

/// The two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// A clock that neither jumps nor runs while the machine sleeps.
    pub mono: Duration,
    /// The clock on the wall.
    pub wall: Timestamp,
}

/// When the keeper has to look again even if nothing happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alarms {
    /// On the clock that does not jump.
    pub mono: Option<Duration>,
    /// On the wall.
    pub wall: Option<Timestamp>,
}

/// One client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What is kept of a sandbox in the volume, so that it outlives the keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredSandbox {
    /// What its client asked for.
    #[serde(flatten)]
    pub terms: LeaseRequest,
    /// Whether it lives without a lease, for good or until its client can take it up again.
    pub detached: bool,
    /// Why it is being destroyed, once it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Reason>,
    /// Its last known use.
    pub used: Timestamp,
    /// What its control group is limited to, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// What is kept of containers in the volume, so that it outlives the keeper.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remembered {
    /// What clients keep still.
    pub still: Vec<String>,
    /// What is to be started again, and what is not to be.
    pub restarts: restart::Record,
}

/// A sandbox that the engine has objects of, or the volume a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovered {
    /// Its name.
    pub name: SandboxName,
    /// Its incarnation.
    pub sandbox: SandboxId,
    /// The first deadline, as its labels say.
    pub expires: Option<Timestamp>,
    /// What the volume says of it.
    pub kept: Option<StoredSandbox>,
    /// Whether the engine has any object of it.
    pub exists: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A look at the engine and at the volume found these.
    Found(Vec<Discovered>),
    /// The engine made something of this incarnation.
    Appeared(SandboxId),
    /// A container has started.
    Started {
        /// Its sandbox.
        sandbox: SandboxId,
        /// Its name.
        container: String,
        /// Whether it is a service's that has a fault.
        faulty: bool,
    },
    /// Somebody has stopped a container; or it cannot be started.
    Stopped(String),
    /// A container is gone.
    Removed(String),
    /// A client came.
    Connected(ConnectionId),
    /// A client went.
    Disconnected(ConnectionId),
    /// A client asks something.
    Asked(ConnectionId, u64, RequestKind),
    /// A timer fired.
    Alarm,
    /// A look into the gateway's log: the last use that it shows.
    Use(SandboxId, Option<Timestamp>),
    /// A service's container ended.
    Died(Death),
    /// What an earlier keeper remembered.
    Remembered(Remembered),
    /// Containers that a lost client had put to rest run.
    Awake(Vec<String>),
    /// Containers that were left still run, or need nothing.
    WentOn(Vec<String>),
    /// A sandbox has a control group with these limits.
    Limited(SandboxId, Limits),
    /// A container, by name and id, had too little memory.
    Starved(SandboxId, String, String),
    /// Why that was.
    Diagnosed(SandboxId, String, Starved),
    /// A destruction is over.
    Destroyed(SandboxId, Destroyed),
    /// The last piece of other work (storage) that was under way is over.
    Quiet,
}

/// What the keeper has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Answer a request.
    Reply(ConnectionId, u64, Outcome),
    /// Tell a client something that it did not ask for.
    Notify(ConnectionId, Notice),
    /// Close a connection.
    Hangup(ConnectionId),
    /// A connection is over: delete what its client has half-made.
    Part {
        /// The connection.
        client: ConnectionId,
        /// What it kept still: has to go on after that, then say so with [`Event::WentOn`].
        still: Vec<String>,
        /// What it had put to rest: say with [`Event::Awake`] which of them run.
        rested: Vec<String>,
    },
    /// Write the record of a sandbox to the volume.
    Save(StoredSandbox),
    /// Remove the record of a sandbox from the volume.
    Forget(SandboxId),
    /// Destroy everything of a sandbox, then say so with [`Event::Destroyed`].
    Destroy {
        /// Its name.
        name: SandboxName,
        /// Its incarnation.
        sandbox: SandboxId,
        /// Whether its logs and artifacts are brought out before.
        gather: Gather,
    },
    /// Find out when a sandbox was last used, then say so with [`Event::Use`].
    AskUse {
        /// Its name.
        name: SandboxName,
        /// Its incarnation.
        sandbox: SandboxId,
    },
    /// Look at the engine, then say what is there with [`Event::Discovered`].
    Look,
    /// Put the fault of a container in force again.
    ReviveFault {
        /// Whose.
        container: String,
    },
    /// Start the container that died so again; what cannot be started dies once more.
    Start(Death),
    /// Stop a container.
    Stop {
        /// Which one.
        container: String,
    },
    /// Note something in the log of events.
    Log(Record),
    /// Read the log of events and answer.
    ReadEvents(ConnectionId, u64, Option<Timestamp>),
    /// List what destroyed sandboxes left and answer.
    ReadLeft(ConnectionId, u64, Option<SandboxName>),
    /// Write the declared spec of a sandbox to the volume and answer.
    Declare(ConnectionId, u64, SandboxId, Box<Declared>),
    /// Read the declared spec of a sandbox and answer.
    ReadDeclared(ConnectionId, u64, SandboxId),
    /// Write down what a next keeper has to know.
    Remember(Remembered),
    /// Start and thaw containers, then say so with [`Event::WentOn`].
    GoOn(Vec<String>),
    /// Give a sandbox a control group with these limits, say so with [`Event::Limited`], and answer.
    Limit(ConnectionId, u64, SandboxId, Limits),
    /// Have the engine's machine take in nothing from a sandbox's networks, and answer.
    ProtectHost(ConnectionId, u64, SandboxId),
    /// Find out why a container had too little memory, then say so with [`Event::Diagnosed`].
    Diagnose {
        /// Its sandbox.
        sandbox: SandboxId,
        /// Its name.
        container: String,
        /// Its id.
        id: String,
    },
    /// Perform an operation of the storage and answer.
    Storage(ConnectionId, u64, crate::storage::Request),
    /// Remove the keeper's own container, or end its process: nothing is left to keep.
    Leave,
}

/// Whether a sandbox's logs and artifacts are brought out before it is destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gather {
    /// They are.
    Yes,
    /// They are not: its client has done so.
    No,
}

impl Alarms {
    pub(super) fn at_mono(&mut self, at: Duration) {
        self.mono = Some(self.mono.map_or(at, |it| it.min(at)));
    }

    pub(super) fn at_wall(&mut self, at: Timestamp) {
        self.wall = Some(self.wall.map_or(at, |it| it.min(at)));
    }
}

//! The events that the keeper's state machine handles, and the actions that it returns.

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

/// The time on both clocks of the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// A clock that neither jumps nor runs while the machine sleeps.
    pub mono: Duration,
    /// The wall clock.
    pub wall: Timestamp,
}

/// When the state machine needs [`Event::Alarm`], even if nothing else happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alarms {
    /// On the monotonic clock.
    pub mono: Option<Duration>,
    /// On the wall clock.
    pub wall: Option<Timestamp>,
}

/// One client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The record of a sandbox in the volume, which a restart of the keeper preserves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredSandbox {
    /// The lease request of its client.
    #[serde(flatten)]
    pub terms: LeaseRequest,
    /// Whether it lives without a lease, permanently or until its client can resume it.
    pub detached: bool,
    /// The reason of its destruction, if one has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Reason>,
    /// Its last known use.
    pub used: Timestamp,
    /// The limits of its control group, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// The record of containers in the volume, which a restart of the keeper preserves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remembered {
    /// Containers that clients have quiesced.
    pub still: Vec<String>,
    /// Pending and suppressed restarts.
    pub restarts: restart::Record,
}

/// A sandbox that has objects on the engine or a record in the volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovered {
    pub name: SandboxName,
    /// Its instance id.
    pub sandbox: SandboxId,
    /// The first deadline, from its labels.
    pub expires: Option<Timestamp>,
    /// Its record in the volume.
    pub kept: Option<StoredSandbox>,
    /// Whether the engine has any object of it.
    pub exists: bool,
}

/// An event that the state machine handles.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A scan of the engine and the volume found these sandboxes.
    Found(Vec<Discovered>),
    /// The engine created an object of this instance.
    Appeared(SandboxId),
    /// A container of a sandbox started.
    Started {
        sandbox: SandboxId,
        /// Its name.
        container: String,
        /// Whether it is a service's container with a fault.
        faulty: bool,
    },
    /// A container was stopped on request, or it cannot be started.
    Stopped(String),
    /// A container was removed.
    Removed(String),
    /// A client connected.
    Connected(ConnectionId),
    /// A client disconnected.
    Disconnected(ConnectionId),
    /// A client sent a request.
    Asked(ConnectionId, u64, RequestKind),
    /// A timer fired.
    Alarm,
    /// A read of the gateway's log found this last use.
    Use(SandboxId, Option<Timestamp>),
    /// A service's container exited.
    Died(Death),
    /// The container record of the previous keeper.
    Remembered(Remembered),
    /// A disconnected client had suppressed the restart of these containers, but they run.
    Awake(Vec<String>),
    /// These containers were resumed, or did not need it.
    WentOn(Vec<String>),
    /// A sandbox has a control group with these limits.
    Limited(SandboxId, Limits),
    /// A container, by name and id, ran out of memory.
    Starved(SandboxId, String, String),
    /// Why a container ran out of memory.
    Diagnosed(SandboxId, String, Starved),
    /// A destruction is finished.
    Destroyed(SandboxId, Destroyed),
    /// The last other task (storage) is finished.
    Quiet,
}

/// An action that the keeper's loop performs.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Answer a request.
    Reply(ConnectionId, u64, Outcome),
    /// Send a notice to a client.
    Notify(ConnectionId, Notice),
    /// Close a connection.
    Hangup(ConnectionId),
    /// Clean up after a connection: delete what its client left half-made.
    Part {
        client: ConnectionId,
        /// The containers it had quiesced: resume them after that, then send [`Event::WentOn`].
        still: Vec<String>,
        /// The containers whose restart it had suppressed: send [`Event::Awake`] with those that run.
        rested: Vec<String>,
    },
    /// Write the record of a sandbox to the volume.
    Save(StoredSandbox),
    /// Remove the record of a sandbox from the volume.
    Forget(SandboxId),
    /// Destroy everything of a sandbox, then send [`Event::Destroyed`].
    Destroy {
        name: SandboxName,
        /// Its instance id.
        sandbox: SandboxId,
        /// Whether to collect its logs and artifacts first.
        gather: Gather,
    },
    /// Find out when a sandbox was last used, then send [`Event::Use`].
    AskUse {
        name: SandboxName,
        /// Its instance id.
        sandbox: SandboxId,
    },
    /// Scan the engine, then send [`Event::Found`].
    Look,
    /// Restore the fault of a container.
    ReviveFault {
        /// The container's name.
        container: String,
    },
    /// Restart the container that exited like this; a failed start counts as another exit.
    Start(Death),
    /// Stop a container.
    Stop {
        /// The container's name.
        container: String,
    },
    /// Append a record to the event log.
    Log(Record),
    /// Read the event log and reply.
    ReadEvents(ConnectionId, u64, Option<Timestamp>),
    /// List what destroyed sandboxes left and reply.
    ReadLeft(ConnectionId, u64, Option<SandboxName>),
    /// Write the current spec of a sandbox to the volume and reply.
    Declare(ConnectionId, u64, SandboxId, Box<Declared>),
    /// Read the current spec of a sandbox and reply.
    ReadDeclared(ConnectionId, u64, SandboxId),
    /// Write the container record for the next keeper.
    Remember(Remembered),
    /// Resume and start containers, then send [`Event::WentOn`].
    GoOn(Vec<String>),
    /// Give a sandbox a control group with these limits, send [`Event::Limited`], and reply.
    Limit(ConnectionId, u64, SandboxId, Limits),
    /// Stop the engine's machine from accepting packets from a sandbox's networks, and reply.
    ProtectHost(ConnectionId, u64, SandboxId),
    /// Find out why a container ran out of memory, then send [`Event::Diagnosed`].
    Diagnose {
        sandbox: SandboxId,
        /// Its name.
        container: String,
        id: String,
    },
    /// Perform a storage operation and reply.
    Storage(ConnectionId, u64, crate::storage::Request),
    /// Remove the keeper's own container, or end its process: it is no longer needed.
    Leave,
}

/// Whether to collect a sandbox's logs and artifacts before it is destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gather {
    /// Collect them.
    Yes,
    /// Do not: the client has done so.
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

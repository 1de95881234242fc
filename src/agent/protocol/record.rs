//! The events that the keeper records in its event log.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::identity::{SandboxId, SandboxName};

/// One line of the keeper's event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it happened.
    pub at: Timestamp,
    /// The sandbox that the event is about, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SandboxName>,
    /// Its instance id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxId>,
    /// What happened.
    #[serde(flatten)]
    pub what: RecordKind,
}

/// The kinds of recorded events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RecordKind {
    /// The keeper started.
    KeeperStarted {
        /// The keeper's version.
        version: String,
    },
    /// A client took a lease for the first time.
    Leased,
    /// A lease broke.
    LeaseLost,
    /// A client resumed a broken lease.
    LeaseRegained,
    /// The sandbox outlives its session.
    Detached,
    /// Its deadline moved.
    Extended {
        /// The new deadline.
        until: Timestamp,
    },
    /// It was destroyed.
    Destroyed {
        /// The reason.
        reason: Reason,
        /// Whether the client or the keeper destroyed it.
        by: Actor,
        /// What could not be removed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left: Vec<String>,
    },
    /// The keeper restarted a service.
    Restarted {
        /// The container's name.
        container: String,
        /// The exit code of the previous run.
        code: i64,
    },
    /// A service ran out of memory, and processes in it were killed.
    OutOfMemory {
        /// Its container.
        container: String,
        /// The sandbox's limit in bytes, if that was reached; otherwise the service's own limit or the machine's memory
        /// was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
    },
    /// The engine's disk is nearly full.
    DiskFull {
        /// The containers that were paused.
        frozen: Vec<String>,
    },
    /// The engine's disk has room again.
    DiskEased {
        /// The containers that were resumed.
        thawed: Vec<String>,
    },
    /// The pool's file system has become read-only.
    PoolReadOnly,
    /// The pool was attached again and is writable.
    PoolMended {
        /// The containers that were stopped for this and restarted.
        started: Vec<String>,
    },
    /// An event of a later version.
    #[serde(other)]
    Other,
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeeperStarted { version } => write!(f, "the keeper started (version {version})"),
            Self::Leased => f.write_str("a session holds it"),
            Self::LeaseLost => f.write_str("its session is gone"),
            Self::LeaseRegained => f.write_str("its session is back"),
            Self::Detached => f.write_str("left to its deadline"),
            Self::Extended { until } => write!(f, "extended until {until}"),
            Self::Destroyed { reason, by, left } => {
                write!(f, "destroyed by the {by}: {reason}")?;
                if left.is_empty() { Ok(()) } else { write!(f, "; left: {}", left.join(", ")) }
            }
            Self::Restarted { container, code } => {
                write!(f, "`{container}` started again after exit code {code}")
            }
            Self::OutOfMemory { container, limit: Some(limit) } => write!(
                f,
                "`{container}` was killed: the sandbox's services have used up its {} MiB of memory",
                limit >> 20
            ),
            Self::OutOfMemory { container, limit: None } => {
                write!(
                    f,
                    "`{container}` was killed: it has used up its own limit of memory, or all that the machine has"
                )
            }
            Self::DiskFull { frozen } => {
                write!(f, "the engine's disk is nearly full: frozen {}", frozen.join(", "))
            }
            Self::DiskEased { thawed } => {
                write!(f, "the engine's disk has room again: thawed {}", thawed.join(", "))
            }
            Self::PoolReadOnly => f.write_str("the pool turned read-only"),
            Self::PoolMended { started } => {
                f.write_str("the pool takes writes again")?;
                if started.is_empty() { Ok(()) } else { write!(f, ": started {}", started.join(", ")) }
            }
            Self::Other => f.write_str("something that this version has no word for"),
        }
    }
}

/// The actor of a recorded event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Actor {
    /// The client.
    Client,
    /// The keeper.
    Keeper,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Keeper => "keeper",
        })
    }
}

/// Why a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The session that held it ended normally.
    SessionEnded,
    /// The session that held it disconnected without notice.
    LeaseLost,
    /// Its deadline passed.
    Ttl,
    /// It was idle for longer than allowed.
    Idle,
    /// `sandbox down`.
    Down,
    /// It could not be brought up.
    Failed,
    /// A new sandbox of that name takes its place.
    Replaced,
    /// Nothing of it was left on the engine: another program removed it.
    Vanished,
    /// A client swept it, because it had expired and no keeper had destroyed it.
    Swept,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SessionEnded => "its session ended",
            Self::LeaseLost => "its session was killed or lost its connection",
            Self::Ttl => "its time was over",
            Self::Idle => "it was not used",
            Self::Down => "`sandbox down`",
            Self::Failed => "it could not be built",
            Self::Replaced => "a new sandbox of its name takes its place",
            Self::Vanished => "another client removed it",
            Self::Swept => "its time was over, and no keeper had seen to it",
        })
    }
}

//! What is said to a client: answers, notices, and how a snapshot file goes through.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{End, Reason};
use crate::engine::identity::SandboxId;

/// One line from the keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// The answer to a request.
    Reply(Reply),
    /// Something that nobody asked for.
    Notice(Notice),
}

/// The answer to the request of the same number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's number.
    pub id: u64,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The answer; its shape depends on the request.
    Ok(serde_json::Value),
    /// Why there is none.
    Error(Refusal),
}

/// Why the keeper did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What a program can act on.
    pub kind: RefusalKind,
    /// A lowercase fragment for people.
    pub message: String,
    /// The way out, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The kinds of [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The message is not one of ours.
    Malformed,
    /// There is no such sandbox.
    NoSuchSandbox,
    /// Another client holds the lease on that name, for another incarnation.
    Held,
    /// The sandbox is being destroyed.
    Ending,
    /// This keeper is about to be replaced: ask again on a new connection.
    Retiring,
    /// The engine refused.
    Engine,
    /// The storage refused.
    Storage,
    /// There is no control group for a sandbox, or it cannot be limited.
    Group,
    /// The engine's machine may take in what services send to it.
    HostFirewall,
    /// The same, and by IPv6, so that it may even pass it on.
    Ipv6,
    /// The keeper itself failed.
    Internal,
    /// One of a later version.
    #[serde(other)]
    Other,
}

/// What follows when a service's process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitAction {
    /// It is started again.
    Restarts,
    /// Nothing: somebody stopped it, and may start it again.
    Stopped,
    /// Nothing.
    Stays,
}

/// What the keeper says unasked to whoever holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "kebab-case")]
pub enum Notice {
    /// The deadline is near: sent ten minutes and one minute before it.
    EndsSoon {
        /// Which sandbox.
        sandbox: SandboxId,
        /// When it ends.
        ends: Timestamp,
    },
    /// The deadline moved.
    EndMoved {
        /// Which sandbox.
        sandbox: SandboxId,
        /// When it ends now.
        #[serde(flatten)]
        end: End,
        /// Whether somebody's use has deferred it.
        #[serde(default)]
        by_use: bool,
    },
    /// A service had too little memory.
    OutOfMemory {
        /// Which sandbox.
        sandbox: SandboxId,
        /// The service's container.
        container: String,
        /// The sandbox's limit in bytes, if that was reached; else it was the service's own.
        limit: Option<u64>,
    },
    /// A service's process has ended.
    Exited {
        /// Which sandbox.
        sandbox: SandboxId,
        /// Which service.
        service: String,
        /// Its container.
        container: String,
        /// The exit code.
        code: i64,
        /// What follows.
        fate: ExitAction,
    },
    /// The keeper, or another client, destroys the sandbox.
    Ending {
        /// Which sandbox.
        sandbox: SandboxId,
        /// Why.
        reason: Reason,
    },
    /// One of a later version.
    #[serde(other)]
    Other,
}

impl Notice {
    /// The sandbox that it is about.
    pub fn sandbox(&self) -> Option<&SandboxId> {
        match self {
            Self::EndsSoon { sandbox, .. }
            | Self::EndMoved { sandbox, .. }
            | Self::OutOfMemory { sandbox, .. }
            | Self::Exited { sandbox, .. }
            | Self::Ending { sandbox, .. } => Some(sandbox),
            Self::Other => None,
        }
    }
}

/// A line of `agent export` and `agent import`, about the snapshot file that goes through them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum TransferLine {
    /// It goes on.
    Progress {
        /// Bytes of data that are through.
        done: u64,
        /// Bytes of data in all; 0 while unknown.
        total: u64,
    },
    /// Something worth a line.
    Note {
        /// The line.
        text: String,
    },
    /// Something did not go as one would wish.
    Warning {
        /// What.
        text: String,
    },
    /// It is through. The last line.
    Done {
        /// Entries of all volumes.
        entries: u64,
        /// Bytes of their data.
        bytes: u64,
        /// Sockets and devices, which no file carries.
        left_out: u64,
        /// Bytes of the file that went through standard output.
        packed: u64,
    },
    /// It failed. The last line.
    Failed {
        /// Why.
        message: String,
        /// The way out.
        hint: Option<String>,
    },
}

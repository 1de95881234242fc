//! What the keeper sends to a client: replies, notices, and the progress of a snapshot transfer.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{End, Reason};
use crate::engine::identity::SandboxId;
use crate::storage::VolumePath;

/// One line from the keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// The answer to a request.
    Reply(Reply),
    /// A message without a request.
    Notice(Notice),
}

/// The answer to the request of the same number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's number.
    pub id: u64,
    /// The result.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The value; its shape depends on the request.
    Ok(serde_json::Value),
    /// Why the request failed.
    Error(Refusal),
}

/// Why the keeper did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The kind, for programs.
    pub kind: RefusalKind,
    /// The message for people: a lower-case fragment.
    pub message: String,
    /// What the user can do about it, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The kinds of [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The keeper cannot parse the message.
    Malformed,
    /// There is no such sandbox.
    NoSuchSandbox,
    /// Another client holds the lease on that name, for another instance.
    Held,
    /// The sandbox is being destroyed.
    Ending,
    /// This keeper is about to be replaced: retry on a new connection.
    Retiring,
    /// The engine returned an error.
    Engine,
    /// The storage returned an error.
    Storage,
    /// The sandbox has no control group, or its limits cannot be applied.
    Group,
    /// The engine's machine may accept packets that services send to it.
    HostFirewall,
    /// As [`RefusalKind::HostFirewall`], over IPv6, so that the machine may even forward them.
    Ipv6,
    /// The keeper itself failed.
    Internal,
    /// A kind of a later version.
    #[serde(other)]
    Other,
}

/// What the keeper does after a service's process has exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitAction {
    /// The service is restarted.
    Restarts,
    /// Nothing: a user stopped it, and may start it again.
    Stopped,
    /// Nothing: its restart policy does not restart it.
    Stays,
}

/// What the keeper sends, without a request, to clients that hold a lease or watch a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "kebab-case")]
pub enum Notice {
    /// The deadline is near: sent ten minutes and one minute before it.
    EndsSoon {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
        /// When the sandbox ends.
        ends: Timestamp,
    },
    /// The deadline moved.
    EndMoved {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
        /// The new end.
        #[serde(flatten)]
        end: End,
        /// Whether a use of the sandbox has deferred it.
        #[serde(default)]
        by_use: bool,
    },
    /// A service ran out of memory.
    OutOfMemory {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
        /// The service's container.
        container: String,
        /// The sandbox's limit in bytes, if that was reached; otherwise the service's own limit was.
        limit: Option<u64>,
    },
    /// A service's process has exited.
    Exited {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
        /// The service's name.
        service: String,
        /// Its container.
        container: String,
        /// The exit code.
        code: i64,
        /// What the keeper does next.
        fate: ExitAction,
    },
    /// The keeper, or another client, is destroying the sandbox.
    Ending {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
        /// The reason.
        reason: Reason,
    },
    /// A notice of a later version.
    #[serde(other)]
    Other,
}

impl Notice {
    /// Returns the sandbox that the notice is about.
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

/// Two volumes that `agent diff` compares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffRequest {
    /// What a volume was cloned from.
    pub before: VolumePath,
    /// The volume.
    pub now: VolumePath,
}

/// A line that `agent export` and `agent import` print about the snapshot file they transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum TransferLine {
    /// Progress.
    Progress {
        /// Bytes of data transferred so far.
        done: u64,
        /// Total bytes of data; 0 while unknown.
        total: u64,
    },
    /// An informational message.
    Note {
        /// The message.
        text: String,
    },
    /// A warning.
    Warning {
        /// The message.
        text: String,
    },
    /// The transfer succeeded. This is the last line.
    Done {
        /// Number of entries in all volumes.
        entries: u64,
        /// Bytes of their data.
        bytes: u64,
        /// Number of sockets and devices, which a snapshot file cannot hold.
        left_out: u64,
        /// Bytes that were written to standard output.
        packed: u64,
    },
    /// The transfer failed. This is the last line.
    Failed {
        /// The cause.
        message: String,
        /// What the user can do about it, if anything.
        hint: Option<String>,
    },
}

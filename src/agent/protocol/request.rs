//! What a client sends to the keeper: requests, and the types they carry.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Declared, Extension, Lifetime, Reason};
use crate::agent::cgroup;
use crate::engine::identity::{SandboxId, SandboxName};
use crate::spec::Limits;

/// One line from a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client; the reply carries the same number.
    pub id: u64,
    /// The request itself.
    #[serde(flatten)]
    pub ask: RequestKind,
}

/// The requests that a client can send to the keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum RequestKind {
    /// The first message of a connection. Returns [`super::Greeting`].
    Hello(Build),
    /// Takes a lease: the sandbox lives as long as this connection. Also resumes a lease whose connection broke.
    /// Returns [`super::Standing`].
    Lease(LeaseRequest),
    /// The client is alive. Returns `null`.
    Heartbeat,
    /// The client is about to be stopped (Ctrl-Z): until it resumes, its silence does not break the lease.
    Suspend,
    /// The client runs again.
    Resume,
    /// The sandbox outlives this connection from now on: the end of `up -d`. Returns [`super::Standing`].
    Detach {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
        /// When it ends.
        lifetime: Lifetime,
    },
    /// Ends the lease with which this client changed a detached sandbox. The sandbox keeps the lifetime that it had
    /// before. Returns [`super::Standing`].
    Relinquish {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
    },
    /// Subscribes to the notices about a sandbox without keeping it alive. If this client holds a lease with which it
    /// changes the sandbox, that lease ends as with [`RequestKind::Relinquish`]. Returns [`super::Standing`].
    Watch {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
    },
    /// Announces that this client is about to destroy the sandbox. If it disconnects before it sends
    /// [`RequestKind::Release`], the keeper destroys the sandbox. Returns `null`.
    BeginDestroy {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
        /// The reason.
        reason: Reason,
    },
    /// The client has destroyed the sandbox, or never created it. The keeper removes whatever is left, deletes its
    /// record and logs the reason. Returns [`super::Destroyed`].
    Release {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
        /// The reason.
        reason: Reason,
    },
    /// Moves a sandbox's deadline. Returns [`super::Standing`].
    Extend {
        /// The name of the sandbox.
        name: SandboxName,
        /// How to move it.
        how: Extension,
    },
    /// A sandbox was used just now. Returns `null`, also if there is no such sandbox.
    Touch {
        /// The name of the sandbox.
        name: SandboxName,
    },
    /// Lists all sandboxes that the keeper knows. Returns a list of [`super::Standing`].
    Sandboxes,
    /// Records the desired state of a sandbox. Returns `null`.
    Declare {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
        /// The desired state.
        declared: Box<Declared>,
    },
    /// Reads the desired state that was recorded last. Returns [`Declared`], or `null` if there is none.
    Declared {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
    },
    /// Destroys a sandbox. Returns [`super::Destroyed`] once that is done.
    Destroy {
        /// The name of the sandbox.
        name: SandboxName,
        /// The reason.
        reason: Reason,
    },
    /// Lists the event log of the last 24 hours. Returns a list of [`super::Record`].
    Events {
        /// Only events later than this.
        #[serde(default)]
        since: Option<Timestamp>,
    },
    /// Lists the logs and artifacts that destroyed sandboxes left behind. Returns a list of [`super::Leftovers`].
    Left {
        /// Only those of this name.
        #[serde(default)]
        name: Option<SandboxName>,
    },
    /// Performs a storage operation. Returns the `Result` of [`crate::storage::perform`], errors included.
    Storage {
        /// The operation.
        request: crate::storage::Request,
    },
    /// Gives a sandbox its own control group, above those of its services, or changes its limits. Returns `null`.
    Limit {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
        /// What its services may use together.
        limits: Limits,
    },
    /// Stops the engine's machine from accepting packets from the sandbox's current networks. Returns `null`.
    ProtectHost {
        /// The instance id of the sandbox.
        sandbox: SandboxId,
    },
    /// Performs a control group operation. A keeper that cannot make control groups sends this to its storage server.
    /// Returns the `Result` of [`cgroup::Groups::perform`], errors as text.
    Group {
        /// The operation.
        request: cgroup::Request,
    },
    /// Suppresses the restart of containers that are stopped on purpose, whatever their `restart` says, until a user
    /// starts them. When this client disconnects, containers that it did not stop are no longer suppressed. Returns the
    /// names of those that were about to be restarted.
    SuppressRestart {
        /// Their names.
        containers: Vec<String>,
    },
    /// Sets the containers that this client pauses or stops for a moment. If the connection drops before the client
    /// clears the set, the keeper resumes and starts them. Returns whether the client held the set without interruption
    /// since its last call.
    Still {
        /// Their names.
        containers: Vec<String>,
        /// Whether the connection over which the client set them before has broken.
        #[serde(default)]
        again: bool,
    },
    /// Finish the work in progress, then exit: a newer keeper takes over. Returns `null`.
    Retire,
}

impl RequestKind {
    /// Returns the sandbox whose notices a client subscribes to with this request, by a lease or a watch.
    pub fn claimed(&self) -> Option<&SandboxId> {
        match self {
            Self::Lease(terms) => Some(&terms.sandbox),
            Self::Watch { sandbox } => Some(sandbox),
            _ => None,
        }
    }

    /// Whether this is a storage operation.
    pub fn is_storage(&self) -> bool {
        matches!(self, Self::Storage { .. })
    }
}

/// Identifies a binary. The greater value is the newer build.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Build {
    /// The protocol version.
    pub protocol: u32,
    /// The program's version: major, minor, patch.
    pub version: [u32; 3],
    /// When the binary was built, in seconds since 1970: distinguishes builds of one version.
    pub made: u64,
    /// The digest of the binary, the same that the image's tag carries.
    pub digest: String,
}

/// What a client requests with a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// The sandbox's name.
    pub name: SandboxName,
    /// Its instance id.
    pub sandbox: SandboxId,
    /// How long the sandbox survives the loss of the lease.
    #[serde(with = "super::millis")]
    pub grace: Duration,
    /// What ends the sandbox even while the lease is held.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// Whether the client resumes a broken lease: then the keeper must know the sandbox.
    #[serde(default)]
    pub again: bool,
    /// Whether an existing sandbox is only being changed: until the change is done it keeps its lifetime, and the end
    /// of the lease does not end it.
    #[serde(default)]
    pub changing: bool,
    /// The client's number: only the same client may resume its lease on another connection.
    #[serde(default)]
    pub client: u64,
}

//! What a client asks for.

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
    /// Chosen by the client; the reply carries it back.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub ask: RequestKind,
}

/// What a client can ask of the keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum RequestKind {
    /// The first message of a connection. Answered with [`super::Greeting`].
    Hello(Build),
    /// Hold a sandbox alive for as long as this connection lives. Also takes up a lease that broke.
    /// Answered with [`super::Standing`].
    Lease(LeaseRequest),
    /// The client lives. Answered with `null`.
    Heartbeat,
    /// The client is about to be stopped (Ctrl-Z): its silence is no loss until it resumes.
    Suspend,
    /// The client runs again.
    Resume,
    /// The sandbox outlives this connection from now on: the end of `up -d`. Answered with [`super::Standing`].
    Detach {
        /// Which sandbox.
        sandbox: SandboxId,
        /// When it ends.
        lifetime: Lifetime,
    },
    /// The sandbox that this client was changing is left to the lifetime that it had before. Answered with
    /// [`super::Standing`].
    Relinquish {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// This client wants the notices about a sandbox that it does not keep alive. A lease under which it was changing the
    /// sandbox ends as with [`RequestKind::Relinquish`]. Answered with [`super::Standing`].
    Watch {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// This client is about to destroy the sandbox: if it goes before it says that it has ([`RequestKind::Release`]), the keeper
    /// does. Answered with `null`.
    BeginDestroy {
        /// Which sandbox.
        sandbox: SandboxId,
        /// Why.
        reason: Reason,
    },
    /// The client has destroyed the sandbox, or never made it. The keeper makes sure that nothing is left of it,
    /// forgets it and notes why. Answered with [`super::Destroyed`].
    Release {
        /// Which sandbox.
        sandbox: SandboxId,
        /// Why it ended.
        reason: Reason,
    },
    /// Move a sandbox's deadline. Answered with [`super::Standing`].
    Extend {
        /// Which sandbox.
        name: SandboxName,
        /// How.
        how: Extension,
    },
    /// A sandbox has been used just now. Answered with `null`, also if there is no such sandbox.
    Touch {
        /// Which sandbox.
        name: SandboxName,
    },
    /// All sandboxes that the keeper knows. Answered with a list of [`super::Standing`].
    Sandboxes,
    /// Write down what a sandbox is from now on. Answered with `null`.
    Declare {
        /// Which sandbox.
        sandbox: SandboxId,
        /// What it is to be.
        declared: Box<Declared>,
    },
    /// Read what was declared last. Answered with [`Declared`], or `null` if nothing was.
    Declared {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// Destroy a sandbox. Answered with [`super::Destroyed`] once that is done.
    Destroy {
        /// Which sandbox.
        name: SandboxName,
        /// Why.
        reason: Reason,
    },
    /// What was destroyed, and whatever else is worth telling, in the last 24 hours. Answered with a list of
    /// [`super::Record`].
    Events {
        /// Only what is younger than this.
        #[serde(default)]
        since: Option<Timestamp>,
    },
    /// The logs and artifacts that destroyed sandboxes left behind. Answered with a list of [`super::Leftovers`].
    Left {
        /// Only those of this name.
        #[serde(default)]
        name: Option<SandboxName>,
    },
    /// An operation of the storage. Answered with the `Result` of [`crate::storage::perform`], errors included.
    Storage {
        /// Which one.
        request: crate::storage::Request,
    },
    /// Give a sandbox a control group of its own, above those of its services, or change what it may use. Answered with
    /// `null`.
    Limit {
        /// Which sandbox.
        sandbox: SandboxId,
        /// What its services may use together.
        limits: Limits,
    },
    /// Have the engine's machine take in nothing from the networks that a sandbox has now. Answered with `null`.
    ProtectHost {
        /// Which sandbox.
        sandbox: SandboxId,
    },
    /// An operation of whoever makes the control groups: from a keeper that cannot to its storage server. Answered with the
    /// `Result` of [`cgroup::Groups::perform`], errors as text.
    Group {
        /// Which one.
        request: cgroup::Request,
    },
    /// Containers are stopped on purpose: they are not started again, whatever their `restart` says, until somebody
    /// starts them. What this client has not stopped when it goes no longer rests. Answered with the names of those that
    /// were about to be started again.
    SuppressRestart {
        /// Their names.
        containers: Vec<String>,
    },
    /// This client is about to freeze or to stop containers for a moment, and keeps none still but these. If it goes
    /// before it says that there are none, they are thawed and started. Answered with whether these were kept still for
    /// it all the while.
    Still {
        /// Their names.
        containers: Vec<String>,
        /// Whether the connection broke over which it had said so before.
        #[serde(default)]
        again: bool,
    },
    /// Finish what is under way, then leave: a newer keeper takes over. Answered with `null`.
    Retire,
}

impl RequestKind {
    /// The sandbox that a client wants to hear of from now on, by a lease or without one.
    pub fn claimed(&self) -> Option<&SandboxId> {
        match self {
            Self::Lease(terms) => Some(&terms.sandbox),
            Self::Watch { sandbox } => Some(sandbox),
            _ => None,
        }
    }

    /// Whether it is an operation of the storage.
    pub fn is_storage(&self) -> bool {
        matches!(self, Self::Storage { .. })
    }
}

/// Which binary speaks. The greater one is the newer one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Build {
    /// The version of the messages.
    pub protocol: u32,
    /// The version of the program: major, minor, patch.
    pub version: [u32; 3],
    /// When the binary was made, in seconds since 1970: tells builds of one version apart.
    pub made: u64,
    /// The digest of the binary, the same that the image's tag carries.
    pub digest: String,
}

/// What a client asks for with a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// The sandbox's name.
    pub name: SandboxName,
    /// Its incarnation.
    pub sandbox: SandboxId,
    /// How long the sandbox survives the loss of the lease.
    #[serde(with = "millis")]
    pub grace: Duration,
    /// What ends it even while the lease is held.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// Whether a lease that broke is taken up: then the sandbox must be one that the keeper knows.
    #[serde(default)]
    pub again: bool,
    /// Whether the sandbox was there before and is only being changed: until that is done it keeps the lifetime that it
    /// has, and the end of the lease is not its end.
    #[serde(default)]
    pub changing: bool,
    /// Which client: the same one may take its lease up on another connection, another one may not.
    #[serde(default)]
    pub client: u64,
}

/// A duration as whole milliseconds.
pub(super) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// A duration as whole milliseconds, or nothing.
pub(super) mod opt_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        duration.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}

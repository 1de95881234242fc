//! The messages between a client and the keeper: one JSON object a line, in both directions.
//!
//! A client sends [`Request`]s, each with a number of its own; the keeper answers every one with a [`Reply`] of
//! the same number, in any order, and sends [`Notice`]s unasked to whoever holds the lease they are about.
//! Unknown fields are ignored on both sides, so that an older client can speak to a newer keeper.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::identity::{SandboxId, SandboxName};
use crate::pool::StorageKind;
use crate::sweep::Swept;

/// The version of these messages. A keeper of another version is replaced, never spoken to.
pub const VERSION: u32 = 1;

/// The longest line that either side accepts, in bytes.
pub const LONGEST_LINE: usize = 1024 * 1024;

/// How often a client that holds a lease says that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// One line from a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client; the reply carries it back.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub ask: Ask,
}

/// What a client can ask of the keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Ask {
    /// The first message of a connection. Answered with [`Greeting`].
    Hello(Build),
    /// Hold a sandbox alive for as long as this connection lives. Also takes up a lease that broke.
    /// Answered with [`Standing`].
    Lease(Terms),
    /// The client lives. Answered with `null`.
    Heartbeat,
    /// The client is about to be stopped (Ctrl-Z): its silence is no loss until it resumes.
    Suspend,
    /// The client runs again.
    Resume,
    /// The sandbox outlives this connection from now on: the end of `up -d`. Answered with [`Standing`].
    Detach {
        /// Which sandbox.
        sandbox: SandboxId,
        /// When it ends.
        lifetime: Lifetime,
    },
    /// The client has destroyed the sandbox, or never made it. The keeper makes sure that nothing is left of it,
    /// forgets it and notes why. Answered with [`Destroyed`].
    Release {
        /// Which sandbox.
        sandbox: SandboxId,
        /// Why it ended.
        reason: Reason,
    },
    /// Move a sandbox's deadline. Answered with [`Standing`].
    Extend {
        /// Which sandbox.
        name: SandboxName,
        /// Its new deadline.
        until: Timestamp,
    },
    /// A sandbox has been used just now. Answered with `null`, also if there is no such sandbox.
    Touch {
        /// Which sandbox.
        name: SandboxName,
    },
    /// All sandboxes that the keeper knows. Answered with a list of [`Standing`].
    Sandboxes,
    /// Destroy a sandbox. Answered with [`Destroyed`] once that is done.
    Destroy {
        /// Which sandbox.
        name: SandboxName,
        /// Why.
        reason: Reason,
    },
    /// What was destroyed, and whatever else is worth telling, in the last 24 hours. Answered with a list of
    /// [`Record`].
    Events {
        /// Only what is younger than this.
        #[serde(default)]
        since: Option<Timestamp>,
    },
    /// The logs and artifacts that destroyed sandboxes left behind. Answered with a list of [`Left`].
    Left {
        /// Only those of this name.
        #[serde(default)]
        name: Option<SandboxName>,
    },
    /// An operation of the storage. Answered with the `Result` of [`crate::pool::perform`], errors included.
    Storage {
        /// Which one.
        request: crate::pool::Request,
    },
    /// Finish what is under way, then leave: a newer keeper takes over. Answered with `null`.
    Retire,
}

impl Ask {
    /// The sandbox that a lease is asked for.
    pub fn leased(&self) -> Option<&SandboxId> {
        match self {
            Self::Lease(terms) => Some(&terms.sandbox),
            _ => None,
        }
    }

    /// Whether it is an operation of the storage.
    pub fn is_storage(&self) -> bool {
        matches!(self, Self::Storage { .. })
    }
}

/// A line of `agent export` and `agent import`, about the snapshot file that goes through them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Carrying {
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
    },
    /// It failed. The last line.
    Failed {
        /// Why.
        message: String,
        /// The way out.
        hint: Option<String>,
    },
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

/// What the keeper says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// Its binary.
    pub build: Build,
    /// The storage that it serves, if any.
    #[serde(default)]
    pub storage: Option<StorageKind>,
    /// Why better kinds of storage, or all, are not to be had here.
    #[serde(default)]
    pub storage_refused: Vec<(StorageKind, String)>,
    /// How many sandboxes it knows.
    #[serde(default)]
    pub sandboxes: usize,
}

/// What a client asks for with a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
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
}

/// What ends a sandbox whose lease is not lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// The wall-clock time at which it ends. A detached sandbox without one ends four hours after its last use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// How long it may be unused.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "opt_millis")]
    pub idle: Option<Duration>,
}

/// Why a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The session that held it ended in order.
    SessionEnded,
    /// The session that held it is gone without a word.
    LeaseLost,
    /// Its time was over.
    Ttl,
    /// Nobody used it for as long as was allowed.
    Idle,
    /// `sandbox down`.
    Down,
    /// It could not be built.
    Failed,
    /// A new sandbox of that name takes its place.
    Replaced,
    /// Nothing of it was left on the engine: somebody else removed it.
    Vanished,
    /// A client swept it, since its time was over and no keeper had done so.
    Swept,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SessionEnded => "its session ended",
            Self::LeaseLost => "its session is gone without a word",
            Self::Ttl => "its time was over",
            Self::Idle => "nobody used it",
            Self::Down => "`sandbox down`",
            Self::Failed => "it could not be built",
            Self::Replaced => "a new sandbox of its name takes its place",
            Self::Vanished => "somebody else removed it",
            Self::Swept => "its time was over, and no keeper had seen to it",
        })
    }
}

/// How a sandbox stands with the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The sandbox's name.
    pub name: SandboxName,
    /// Its incarnation.
    pub sandbox: SandboxId,
    /// Who keeps it alive.
    pub hold: Hold,
    /// When it ends if nobody does anything; none for a session without a written end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
    /// Its last known use.
    pub used: Timestamp,
}

/// Who keeps a sandbox alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// A client's lease.
    Held,
    /// A client's lease; the client is stopped and said so before.
    Suspended,
    /// A lease that broke less than `grace` ago.
    Lost,
    /// Nobody: it lives to its deadline.
    Detached,
    /// Nobody: it is being destroyed.
    Ending,
}

/// What came of a destruction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destroyed {
    /// How many objects were removed, by kind (`container`, `network`, `volume`).
    #[serde(default)]
    pub removed: BTreeMap<String, usize>,
    /// What could not be removed, each with the cause.
    #[serde(default)]
    pub left: Vec<String>,
}

impl From<&Swept> for Destroyed {
    fn from(swept: &Swept) -> Self {
        let mut destroyed = Self::default();
        for (kind, _) in &swept.removed {
            *destroyed.removed.entry(kind.to_string()).or_default() += 1;
        }
        destroyed.left = swept.left.iter().map(ToString::to_string).collect();
        destroyed
    }
}

/// One line of the keeper's log of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    pub at: Timestamp,
    /// Which sandbox, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SandboxName>,
    /// Its incarnation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxId>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// The keeper started.
    KeeperStarted {
        /// Of which version.
        version: String,
    },
    /// A client took a lease for the first time.
    Leased,
    /// A lease broke.
    LeaseLost,
    /// A broken lease was taken up again.
    LeaseRegained,
    /// The sandbox outlives its session.
    Detached,
    /// Its deadline moved.
    Extended {
        /// To this time.
        until: Timestamp,
    },
    /// It was destroyed.
    Destroyed {
        /// Why.
        reason: Reason,
        /// By whom: the client or the keeper.
        by: Who,
        /// What could not be removed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left: Vec<String>,
    },
    /// A service was started again.
    Restarted {
        /// Which container.
        container: String,
        /// With which code it had exited.
        code: i64,
    },
    /// The engine's disk is nearly full.
    DiskFull {
        /// The containers that were frozen.
        frozen: Vec<String>,
    },
    /// The engine's disk has room again.
    DiskEased {
        /// The containers that were thawed.
        thawed: Vec<String>,
    },
    /// The pool's file system takes no writes any more.
    PoolReadOnly,
    /// The pool was attached anew and takes writes again.
    PoolMended {
        /// The containers that had to be stopped for it and were started again.
        started: Vec<String>,
    },
    /// Something that this version has no word for.
    #[serde(other)]
    Other,
}

impl fmt::Display for What {
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

/// Who did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// The client.
    Client,
    /// The keeper.
    Keeper,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Keeper => "keeper",
        })
    }
}

/// What a destroyed sandbox left in the keeper's volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The sandbox's name.
    pub name: SandboxName,
    /// Its incarnation.
    pub sandbox: SandboxId,
    /// When it was destroyed.
    pub at: Timestamp,
    /// The folder, as the keeper sees it.
    pub folder: String,
    /// The files in it, relative to `folder`, with their sizes in bytes.
    pub files: BTreeMap<String, u64>,
}

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
    /// The keeper itself failed.
    Internal,
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
        ends: Timestamp,
    },
    /// The keeper destroys the sandbox.
    Ending {
        /// Which sandbox.
        sandbox: SandboxId,
        /// Why.
        reason: Reason,
    },
}

impl Notice {
    /// The sandbox that it is about.
    pub fn sandbox(&self) -> &SandboxId {
        match self {
            Self::EndsSoon { sandbox, .. }
            | Self::EndMoved { sandbox, .. }
            | Self::Ending { sandbox, .. } => sandbox,
        }
    }
}

/// A duration as whole milliseconds.
mod millis {
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
mod opt_millis {
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

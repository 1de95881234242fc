//! Errors between a client and the keeper.

use std::io;
use std::path::PathBuf;

use crate::agent::image::ImageError;
use crate::agent::protocol::{Refusal, RefusalKind};
use crate::engine::{EngineError, ErrorKind};
use crate::storage::StorageKind;

/// Why a request to the keeper, or starting the keeper, failed.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The engine refused an operation that the keeper needs.
    #[error("cannot {doing}")]
    Engine {
        /// The operation.
        doing: &'static str,
        /// The cause.
        source: EngineError,
    },
    /// Our own image could not be made.
    #[error("cannot make the keeper's image")]
    Image(#[from] ImageError),
    /// The keeper does not start.
    #[error("the keeper does not answer: {cause}")]
    Silent {
        /// The last known cause.
        cause: String,
    },
    /// The keeper cannot reach the engine by any socket of the engine's machine.
    #[error("the keeper finds no socket of the engine on the engine's machine: {}", tried_sockets(tried))]
    EngineSocket {
        /// The paths that were tried, each with the cause.
        tried: Vec<(String, String)>,
    },
    /// The keeper speaks a later version of the protocol.
    #[error("the keeper on this engine is of the later version {version}")]
    TooNew {
        /// Its version.
        version: String,
    },
    /// The connection broke and could not be restored.
    #[error("lost the keeper: {cause}")]
    Lost {
        /// The cause.
        cause: String,
    },
    /// The keeper refused the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The keeper's reply does not match the request.
    #[error("the keeper's answer makes no sense")]
    Answer(#[from] serde_json::Error),
    /// The keeper's process, or its folder, cannot be created on this machine.
    #[error("cannot {doing} `{}`", path.display())]
    Process {
        /// The operation.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The keeper serves no storage, or another kind than the requested one.
    #[error("{}: {cause}", storage_failure(*requested))]
    Storage {
        /// The kind that `SANDBOX_STORAGE` requests.
        requested: Option<StorageKind>,
        /// The kind that the keeper serves.
        served: Option<StorageKind>,
        /// The cause.
        cause: String,
    },
    /// An environment variable has an invalid value.
    #[error("{variable}: {cause}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// What is wrong.
        cause: String,
    },
}

fn tried_sockets(tried: &[(String, String)]) -> String {
    let tried: Vec<String> = tried.iter().map(|(path, cause)| format!("`{path}`: {cause}")).collect();
    tried.join("; ")
}

fn storage_failure(requested: Option<StorageKind>) -> String {
    match requested {
        Some(kind) => format!("SANDBOX_STORAGE=`{kind}` does not work"),
        None => "no storage works".to_owned(),
    }
}

/// The operation in [`KeeperError::Engine`] when the keeper's container could not be started.
pub(super) const STARTING: &str = "start the keeper";
/// The same for a storage server's container.
pub(super) const STOCKING: &str = "start the container that serves the storage";
const ELSEWHERE: &str =
    "where the engine's socket cannot be mounted into a container, set SANDBOX_KEEPER=process";

/// Formats an error with all its causes on one line.
pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl KeeperError {
    /// Returns a hint for the user, if there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Engine { doing: STARTING, source } => {
                Some(source.hint().unwrap_or_else(|| ELSEWHERE.to_owned()))
            }
            Self::Engine { source, .. } => source.hint(),
            Self::Image(error) => error.hint(),
            Self::Refused(refusal) => refusal.hint.clone(),
            Self::TooNew { .. } => {
                Some("update sandbox, or run `sandbox down --all` with the later one".to_owned())
            }
            Self::EngineSocket { .. } => Some(
                "set SANDBOX_ENGINE_SOCKET to the socket's path on the engine's machine, or SANDBOX_KEEPER=process"
                    .to_owned(),
            ),
            Self::Silent { .. } => Some(ELSEWHERE.to_owned()),
            Self::Storage { served: Some(_), .. } => {
                Some("unset SANDBOX_STORAGE, or end those sandboxes first (`sandbox ls`)".to_owned())
            }
            Self::Storage { requested: Some(_), .. } => {
                Some("unset SANDBOX_STORAGE to use the best kind that works".to_owned())
            }
            Self::Storage { .. } => Some("`sandbox doctor` checks what each kind needs".to_owned()),
            Self::Lost { .. } | Self::Answer(_) | Self::Process { .. } | Self::Setting { .. } => None,
        }
    }

    /// Whether the keeper's state is unknown because its engine does not answer.
    pub(super) fn is_engine_away(&self) -> bool {
        matches!(self, Self::Engine { source, .. } if source.kind == ErrorKind::Unreachable)
    }

    /// Whether the keeper knows no such sandbox.
    pub fn is_no_such_sandbox(&self) -> bool {
        self.refusal() == Some(RefusalKind::NoSuchSandbox)
    }

    /// Whether another session holds the lease on the name.
    pub fn is_held(&self) -> bool {
        self.refusal() == Some(RefusalKind::Held)
    }

    /// Whether the only failure is that services' packets cannot be kept off the engine's machine.
    pub fn is_of_host_firewall(&self) -> bool {
        self.refusal() == Some(RefusalKind::HostFirewall)
    }

    fn refusal(&self) -> Option<RefusalKind> {
        match self {
            Self::Refused(refusal) => Some(refusal.kind),
            _ => None,
        }
    }

    pub(super) fn engine(doing: &'static str) -> impl FnOnce(EngineError) -> Self {
        move |source| Self::Engine { doing, source }
    }
}

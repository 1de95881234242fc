//! What can go wrong between a client and the keeper.

use std::io;
use std::path::PathBuf;

use crate::agent::image::ImageError;
use crate::agent::protocol::{Refusal, RefusalKind};
use crate::engine::{EngineError, ErrorKind};

/// A request to the keeper, or the making of one, that failed.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The engine refused something that the keeper needs.
    #[error("cannot {doing}")]
    Engine {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: EngineError,
    },
    /// Our own image could not be made.
    #[error("cannot make the keeper's image")]
    Image(#[from] ImageError),
    /// The keeper does not come up.
    #[error("the keeper does not answer: {cause}")]
    Silent {
        /// The last that is known.
        cause: String,
    },
    /// The keeper is of a later version that speaks otherwise.
    #[error("the keeper on this engine is of the later version {version}")]
    TooNew {
        /// Its version.
        version: String,
    },
    /// The connection broke and could not be made again.
    #[error("lost the keeper: {cause}")]
    Lost {
        /// Why.
        cause: String,
    },
    /// The keeper refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The keeper's answer is not what was asked for.
    #[error("the keeper's answer makes no sense")]
    Answer(#[from] serde_json::Error),
    /// The keeper's process, or its folder, cannot be made on this machine.
    #[error("cannot {doing} `{}`", path.display())]
    Process {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A variable of the environment makes no sense.
    #[error("{variable}: {cause}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// What is wrong.
        cause: String,
    },
}

/// What [`KeeperError::Engine`] was doing when the keeper's container could not be started.
pub(super) const STARTING: &str = "start the keeper";
/// The same of a storage server's container.
pub(super) const STOCKING: &str = "start the container that serves the storage";
const ELSEWHERE: &str =
    "where the engine's socket cannot be mounted into a container, set SANDBOX_KEEPER=process";

/// An error with all its causes, on one line.
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
    /// The way out, if there is one.
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
            Self::Silent { .. } => Some(ELSEWHERE.to_owned()),
            Self::Lost { .. } | Self::Answer(_) | Self::Process { .. } | Self::Setting { .. } => None,
        }
    }

    /// Whether nothing can be told of the keeper, since its engine does not answer.
    pub(super) fn is_engine_away(&self) -> bool {
        matches!(self, Self::Engine { source, .. } if source.kind == ErrorKind::Unreachable)
    }

    /// Whether the keeper knows no such sandbox.
    pub fn is_no_such_sandbox(&self) -> bool {
        self.refusal() == Some(RefusalKind::NoSuchSandbox)
    }

    /// Whether another session holds the name.
    pub fn is_held(&self) -> bool {
        self.refusal() == Some(RefusalKind::Held)
    }

    /// Whether all that failed is to keep services' packets off the engine's machine.
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

//! What can go wrong with storage. Serializable, since the keeper sends it to its clients.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A storage operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StorageError {
    /// Nothing of the name is stored.
    #[error("nothing is stored as `{path}`")]
    NotFound {
        /// The set or volume.
        path: String,
    },
    /// The name is taken.
    #[error("`{path}` is already stored")]
    Exists {
        /// The set or volume.
        path: String,
    },
    /// The host's disk has no room for new work.
    #[error("the engine's disk is short of space: {free} bytes are free, {need} must stay free")]
    Short {
        /// Bytes free.
        free: u64,
        /// Bytes that must remain.
        need: u64,
    },
    /// What is stored has reached its budget.
    #[error("stored data takes {used} bytes of its budget of {budget}")]
    OverBudget {
        /// Bytes taken.
        used: u64,
        /// Bytes allowed.
        budget: u64,
    },
    /// The pool's file system stopped accepting writes.
    #[error("the pool turned read-only (the engine's disk was full, or it failed)")]
    ReadOnly,
    /// This kind of storage cannot be had on this engine.
    #[error("storage `{storage}` cannot be used here: {reason}")]
    Unavailable {
        /// The kind.
        storage: String,
        /// Why not.
        reason: String,
    },
    /// A system call failed.
    #[error("cannot {operation} `{path}`: {cause}")]
    Io {
        /// What was being done, as a verb.
        operation: String,
        /// To what.
        path: String,
        /// The system's words.
        cause: String,
    },
    /// The request made no sense here.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The keeper that holds the storage could not be asked.
    #[error("the keeper did not answer: {cause}")]
    Link {
        /// What went wrong with the connection.
        cause: String,
    },
}

impl StorageError {
    /// An error of the system's, said of a path.
    pub(crate) fn io(operation: &str, path: &Path, cause: impl Into<io::Error>) -> Self {
        let cause = cause.into();
        if cause.raw_os_error() == Some(libc::EROFS) {
            return Self::ReadOnly;
        }
        Self::Io {
            operation: operation.to_owned(),
            path: path.display().to_string(),
            cause: cause.to_string(),
        }
    }

    /// The way out, where one is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Short { .. } => Some(
                "nothing was changed; `sandbox gc --baselines` removes what no sandbox uses, `sandbox snapshot rm NAME` a snapshot",
            ),
            Self::OverBudget { .. } => Some(
                "`sandbox gc --baselines` removes every baseline that no sandbox uses, `sandbox snapshot rm NAME` a snapshot",
            ),
            Self::ReadOnly => Some(
                "free some disk space and end the sandboxes that run (`sandbox down --all`): the pool is then attached anew",
            ),
            Self::Unavailable { .. } => {
                Some("unset SANDBOX_STORAGE to let the best kind that works be chosen")
            }
            Self::Exists { .. } => Some("choose another name, or remove the one that is there first"),
            Self::NotFound { .. } | Self::Io { .. } | Self::Refused { .. } | Self::Link { .. } => None,
        }
    }
}

//! Errors of storage operations. Serializable, because the keeper sends them to its clients.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A storage operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StorageError {
    /// No set or volume has this name.
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
    /// The host's disk is short of space, so new work is refused.
    #[error("the engine's disk is short of space: {free} bytes are free, {need} must stay free")]
    Short {
        /// Free bytes.
        free: u64,
        /// Bytes that must stay free.
        need: u64,
    },
    /// The stored data has reached its budget.
    #[error("stored data takes {used} bytes of its budget of {budget}")]
    OverBudget {
        /// Used bytes.
        used: u64,
        /// Bytes allowed.
        budget: u64,
    },
    /// The pool's file system stopped accepting writes.
    #[error("the pool turned read-only (the engine's disk was full, or it failed)")]
    ReadOnly,
    /// This kind of storage does not work on this engine.
    #[error("storage `{storage}` cannot be used here: {reason}")]
    Unavailable {
        /// The kind of storage.
        storage: String,
        /// Why it does not work.
        reason: String,
    },
    /// A system call failed.
    #[error("cannot {operation} `{path}`: {cause}")]
    Io {
        /// The operation that failed, as a verb.
        operation: String,
        /// The path that it failed on.
        path: String,
        /// The system's error message.
        cause: String,
    },
    /// The request is not valid for this storage.
    #[error("{reason}")]
    Refused {
        /// Why it is not valid.
        reason: String,
    },
    /// The keeper, which holds the storage, did not reply.
    #[error("the keeper did not answer: {cause}")]
    Link {
        /// The connection error.
        cause: String,
    },
}

impl StorageError {
    /// Wraps a system error with its operation and path.
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

    /// The hint for the user, if there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Short { .. } => Some(
                "nothing was changed; `sandbox gc --baselines` removes what no sandbox uses, `sandbox snapshot rm NAME` a snapshot",
            ),
            Self::OverBudget { .. } => Some(
                "`sandbox gc --baselines` removes every baseline that no sandbox uses, `sandbox snapshot rm NAME` a snapshot",
            ),
            Self::ReadOnly => Some(
                "free some disk space and end the sandboxes that run (`sandbox down --all`): the pool is then attached again",
            ),
            Self::Unavailable { .. } => {
                Some("unset SANDBOX_STORAGE to let the best kind that works be chosen")
            }
            Self::Exists { .. } => Some("choose another name, or remove the one that is there first"),
            Self::NotFound { path } if path.starts_with("snapshot/") => {
                Some("`sandbox snapshot ls` shows the snapshots that there are")
            }
            Self::NotFound { .. } | Self::Io { .. } | Self::Refused { .. } | Self::Link { .. } => None,
        }
    }
}

//! Sandboxes of a git repository: temporary clones and worktrees, and the state of branches. All of it runs the `git`
//! of this machine, since that knows the user's credentials, proxies and keys.

pub mod address;
pub mod branches;
pub mod checkout;
mod command;
mod remote;
pub mod store;

use std::path::PathBuf;

/// Why something could not be done with git.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no `git`.
    #[error("`git` is not installed")]
    NotInstalled,
    /// A command of git failed.
    #[error("cannot {what}: {said}")]
    Failed {
        /// The operation.
        what: String,
        /// The end of what git said.
        said: String,
    },
    /// The address of a repository is invalid.
    #[error("`{text}` is not a repository: {reason}")]
    Address {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The name of a branch, commit or request is invalid.
    #[error("`{text}` names no branch, commit or pull request: {reason}")]
    Reference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The repository has no such branch, commit or request.
    #[error("{place} has no {what}")]
    NotFound {
        /// The repository.
        place: String,
        /// The branch, commit or request.
        what: String,
    },
    /// A folder is in no repository.
    #[error("`{}` is in no git repository", .0.display())]
    NoRepository(PathBuf),
    /// A folder in a repository does not exist.
    #[error("the repository has no folder `{0}`")]
    NoFolder(String),
    /// Files could not be made or removed.
    #[error("cannot {what} `{}`", .path.display())]
    File {
        /// The operation.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The user interrupted git.
    #[error("interrupted")]
    Cancelled,
}

impl GitError {
    /// How to solve it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotInstalled => Some("install git".to_owned()),
            Self::Failed { said, .. } if said.contains("terminal prompts disabled") => Some(
                "git has no credentials for it: log in with your credential helper, or use an `ssh://` URL"
                    .to_owned(),
            ),
            Self::Address { .. } => Some(
                "write `https://HOST/PATH`, `ssh://HOST/PATH`, `file:///PATH` or a path, then `#REF` and `:FOLDER`"
                    .to_owned(),
            ),
            Self::NotFound { .. } => {
                Some("`git ls-remote` shows what there is; `git fetch` brings a new branch".to_owned())
            }
            Self::NoRepository(_) => {
                Some("run it in a clone, or name the repository: `sandbox up URL#REF`".to_owned())
            }
            Self::Failed { .. }
            | Self::Reference { .. }
            | Self::NoFolder(_)
            | Self::File { .. }
            | Self::Cancelled => None,
        }
    }
}

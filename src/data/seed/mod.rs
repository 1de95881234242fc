//! Seeds: files that are copied into volumes before a service starts, and statements and commands that run when it is
//! ready. This module prepares the commands and data; the session runs and sends them.

mod digest;
mod source;
mod sql;

use std::path::PathBuf;

use crate::engine::{Exec, Image};
use crate::spec::{Seed, Service};

pub use digest::{Inputs, differ, digest_inputs};
pub use source::{copy_tar, open_input, parse_owner};
pub use sql::SqlClient;

/// A seed that cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// A file of the spec cannot be read.
    #[error("cannot read the seed `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// No file matches a pattern.
    #[error("no file matches the seed `{pattern}`")]
    NoMatch {
        /// The pattern as written.
        pattern: String,
    },
    /// The database client of an image is not known.
    #[error("it is not known how to run SQL in image `{image}`")]
    UnknownClient {
        /// The image's reference.
        image: String,
    },
    /// An owner is not a pair of numbers.
    #[error("the owner `{owner}` is not `UID` or `UID:GID`")]
    BadOwner {
        /// The text in the spec.
        owner: String,
    },
}

impl SeedError {
    /// The hint for the user, if there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::UnknownClient { .. } => Some(
                "use `exec` with the client's command and `stdin`, or an image of PostgreSQL, MySQL or MariaDB",
            ),
            Self::BadOwner { .. } => Some("names are the image's own; give their numbers"),
            Self::NoMatch { .. } => Some("paths are relative to the file that names them"),
            Self::Unreadable { .. } => None,
        }
    }
}

/// One command of a seed, to run in the service's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedCommand {
    /// Its name in messages: the file or the command.
    pub label: String,
    /// The command.
    pub exec: Exec,
    /// The file for its standard input, to be opened with [`open_input`].
    pub input: Option<PathBuf>,
}

/// The commands of a service's seed. `copy` seeds have none (see [`copy_tar`]), nor have `snapshot` seeds (their
/// volumes are cloned).
pub fn commands(service: &Service, image: &Image, seed: &Seed) -> Result<Vec<SeedCommand>, SeedError> {
    match seed {
        Seed::Copy { .. } | Seed::Snapshot { .. } => Ok(Vec::new()),
        Seed::Sql { pattern, files, database, user, .. } => {
            if files.is_empty() {
                return Err(SeedError::NoMatch { pattern: pattern.clone() });
            }
            let reference = service.image().unwrap_or_default();
            let client = SqlClient::of(reference, image)
                .ok_or_else(|| SeedError::UnknownClient { image: reference.to_owned() })?;
            let mut files = files.clone();
            files.sort();
            let command = |file: PathBuf| SeedCommand {
                label: file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned(),
                exec: Exec { stdin: true, ..client.command(database.as_deref(), user.as_deref()) },
                input: Some(file),
            };
            Ok(files.into_iter().map(command).collect())
        }
        Seed::Exec { command, stdin, user, .. } => {
            let exec =
                Exec { user: user.clone(), stdin: stdin.is_some(), ..Exec::new(command.iter().cloned()) };
            Ok(vec![SeedCommand { label: command.join(" "), exec, input: stdin.clone() }])
        }
    }
}

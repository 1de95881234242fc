//! Seeds: files that are copied into volumes before a service starts, and statements and commands that run when it is
//! ready. This module prepares the commands and data, one file
//! for each kind; the session runs and sends them.

mod copy;
mod digest;
mod exec;
mod source;
mod sql;

use std::path::PathBuf;

use crate::engine::{ByteStream, Exec, Image};
use crate::host_files::WritableFolders;
use crate::spec::{Seed, Service};

pub use digest::{Inputs, differ, digest_inputs};
pub use source::open_input;

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
    #[error("no file matches the seed `{patterns}`")]
    NoMatch {
        /// The patterns as written.
        patterns: String,
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

/// What a seed puts into a volume.
pub struct VolumeContents {
    /// The folder in the volume, if not its root.
    pub folder: Option<String>,
    /// The files as a tar.
    pub archive: ByteStream,
}

/// The commands that a seed runs in a service.
pub fn commands(service: &Service, image: &Image, seed: &Seed) -> Result<Vec<SeedCommand>, SeedError> {
    match seed {
        Seed::Sql(sql) => sql::commands(sql, service, image),
        Seed::Exec(exec) => Ok(exec::commands(exec)),
        Seed::Copy(_) | Seed::Snapshot(_) => Ok(Vec::new()),
    }
}

/// What a seed puts into a volume before a service starts. No link that a service can have made is followed. Blocking.
pub fn contents(seed: &Seed, writable: &WritableFolders) -> Result<Option<VolumeContents>, SeedError> {
    match seed {
        Seed::Copy(copy) => copy::contents(copy, writable).map(Some),
        Seed::Sql(_) | Seed::Exec(_) | Seed::Snapshot(_) => Ok(None),
    }
}

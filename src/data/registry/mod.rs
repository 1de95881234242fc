//! A client of OCI registries, for snapshots.
//!
//! Written on the HTTP stack that is here already: `oci-client` follows redirects of blobs wherever they lead, and has
//! no bounds on what a registry sends. What a registry says is not trusted: every body has a limit and a digest.

mod address;
mod auth;
mod blobs;
mod client;
mod connection;
mod manifest;
mod manifests;
mod reference;

use std::io;

pub use blobs::Ranged;
pub use client::{Access, Registry};
pub use manifest::{Descriptor, EMPTY_CONFIG, INDEX_TYPE, Manifest, PACK_TYPE, sha256};
pub use reference::Reference;

/// Result of an operation on a registry.
pub type Result<T> = std::result::Result<T, RegistryError>;

/// An error of a registry, or of the connection to it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No connection.
    #[error("cannot connect to the registry `{host}`")]
    Unreachable {
        /// Its host.
        host: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the registry `{host}` broke while it {doing}")]
    Broken {
        /// Its host.
        host: String,
        /// What was done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: hyper::Error,
    },
    /// It sent nothing for too long.
    #[error("the registry `{host}` does not answer")]
    Silent {
        /// Its host.
        host: String,
    },
    /// It refuses the credentials, or wants some.
    #[error("the registry `{host}` refuses access to `{repository}`: {reason}")]
    Denied {
        /// Its host.
        host: String,
        /// The repository.
        repository: String,
        /// What it says.
        reason: String,
    },
    /// It does not have what was asked for.
    #[error("the registry has no `{what}`")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// It returned an unexpected status.
    #[error("the registry `{host}` answers {status} to {asked}: {said}")]
    Status {
        /// Its host.
        host: String,
        /// The status code.
        status: u16,
        /// What was asked.
        asked: String,
        /// What it says.
        said: String,
    },
    /// What it sends is not used.
    #[error("what the registry `{host}` sends is refused: {reason}")]
    Refused {
        /// Its host.
        host: String,
        /// Why.
        reason: String,
    },
    /// There is an artifact of another kind.
    #[error("`{what}` is no snapshot of sandbox")]
    Foreign {
        /// What was asked for.
        what: String,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}

impl RegistryError {
    /// The hint for the user, if there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { host, source } if source.to_string().contains("certificate") => {
                Some(format!(
                    "if the registry has a certificate of its own, put its authority in `/etc/docker/certs.d/{host}/ca.crt`"
                ))
            }
            Self::Denied { host, .. } => Some(format!("`docker login {host}` keeps the credentials for it")),
            Self::NotFound { .. } => Some("check the name and the tag".to_owned()),
            Self::Foreign { .. } => {
                Some("`sandbox snapshot push` writes one; an image is pulled by `up`".to_owned())
            }
            Self::Refused { .. } => Some("nothing was stored".to_owned()),
            Self::Broken { .. } | Self::Silent { .. } => {
                Some("try again: what was transferred completely is not sent again by a push".to_owned())
            }
            Self::Unreachable { .. } | Self::Status { .. } | Self::Tls(_) => None,
        }
    }
}

//! Pushes stored sets to a registry and pulls them from it. This machine reaches the registry; the keeper's container,
//! which has no network, has the data.

mod packer;
mod pull;
mod push;

use std::time::Duration;

use crate::data::chunk::{Index, MAX_INDEX};
use crate::data::registry::{Access, Manifest, Reference, Registry, RegistryError};
use crate::engine::docker::{ConnectRequest, credentials};
use crate::session::error::SessionError;

pub use pull::{RemoteSnapshot, pull, pulled};
pub use push::{PushRequest, push};

/// How many transfers with a registry run at the same time.
const PARALLEL: usize = 4;

/// Statistics of a finished transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySummary {
    /// The digest of the manifest.
    pub digest: String,
    /// Number of entries in all volumes.
    pub entries: u64,
    /// Size of their data, in bytes.
    pub bytes: u64,
    /// Bytes that were sent to or fetched from the registry.
    pub moved: u64,
    /// Number of sockets and devices, which a snapshot in a registry cannot hold.
    pub left_out: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Opens the repository of a reference with the credentials of the Docker configuration.
async fn open(reference: &Reference, access: Access) -> Result<Registry, RegistryError> {
    let config = ConnectRequest::from_env().config;
    let credentials = credentials::registry_credentials(config.as_deref(), &reference.host).await;
    Registry::open(reference, credentials, access).await
}

/// Fetches the index of a snapshot. Returns it as it is stored, and what it says.
async fn fetch_index(
    registry: &Registry,
    reference: &Reference,
    manifest: &Manifest,
) -> Result<(Vec<u8>, Index), SessionError> {
    let blob = manifest.index().ok_or_else(|| RegistryError::Foreign { what: reference.to_string() })?;
    let stored = registry.blob(blob, MAX_INDEX).await?;
    let index = Index::decode(&stored).map_err(|error| refused(reference, error.to_string()))?;
    Ok((stored, index))
}

fn refused(reference: &Reference, reason: String) -> SessionError {
    RegistryError::Refused { host: reference.host.clone(), reason }.into()
}

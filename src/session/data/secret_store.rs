//! Stores and restores a sandbox's secrets. The gateway holds them in memory and loses them in a reboot. Generated
//! secrets are stored with the data that is made with them; the others are read again from where the spec says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::secret_files::{Generated, Values};
use crate::data::manifest::{Consistency, Manifest};
use crate::engine::identity::{self, SandboxId};
use crate::engine::{Engine, EngineError};
use crate::plan;
use crate::session::error::SessionError;
use crate::spec::{self, SandboxName, SecretName, Service, ServiceName, Spec, Variables};
use crate::storage::{SetPath, Storage};

/// Which of these services have secrets that the running gateway no longer holds.
///
/// # Errors
/// Fails if the engine does not answer.
pub async fn forgotten(
    engine: &dyn Engine,
    name: &SandboxName,
    services: &[&Service],
) -> Result<BTreeSet<ServiceName>, EngineError> {
    let gateway = identity::gateway(name.as_str());
    let mut forgotten = BTreeSet::new();
    for service in services {
        for file in plan::held(service) {
            if engine.stat_path(&gateway, &file.path).await?.is_none() {
                forgotten.insert(service.name.clone());
                break;
            }
        }
    }
    Ok(forgotten)
}

/// The generated secrets that are stored with a sandbox's data.
///
/// # Errors
/// Fails if the storage does not answer.
pub async fn kept(storage: &dyn Storage, id: &SandboxId) -> Result<Generated, SessionError> {
    let Ok(live) = SetPath::live(id.as_str()) else { return Ok(Generated::new()) };
    let manifest = storage.inspect(&live).await?.and_then(|set| Manifest::of(&set));
    Ok(manifest.map(|manifest| manifest.secret_values()).unwrap_or_default())
}

/// Stores generated secrets with a sandbox's data.
///
/// # Errors
/// Fails if the storage rejects the write.
pub async fn keep(storage: &dyn Storage, live: &SetPath, secrets: Generated) -> Result<(), SessionError> {
    // The code that copies the data sets its consistency.
    let manifest = Manifest::new(String::new(), Consistency::Crash).with_secrets(secrets);
    Ok(storage.note(live, &manifest.to_json()).await?)
}

/// Reads the secrets of these services again: from the stored data, or from where the spec says. A generated secret
/// that was never stored gets a new value.
///
/// # Errors
/// Names the secret whose file or variable no longer exists.
pub async fn recall(
    storage: &Arc<dyn Storage>,
    id: &SandboxId,
    spec: &Spec,
    services: &BTreeSet<ServiceName>,
) -> Result<Values, SessionError> {
    if services.is_empty() {
        return Ok(Values::default());
    }
    let granted: BTreeSet<SecretName> = services
        .iter()
        .filter_map(|name| spec.services.get(name))
        .flat_map(|service| &service.secrets)
        .filter_map(|grant| SecretName::new(grant.source.as_str()).ok())
        .collect();
    let kept = kept(&**storage, id).await?;
    let mut narrowed = spec.clone();
    // Stored secrets are written as a whole, so secrets that no listed service uses are retained.
    narrowed.secrets.retain(|name, _| granted.contains(name) || kept.contains_key(name.as_str()));
    narrowed.configs.clear();
    Values::of(&narrowed, &variables(spec), &kept)
}

/// The variables of a spec that is not loaded again.
pub fn variables(spec: &Spec) -> Variables {
    spec::variables_in(&spec.folder, environment())
}

fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

//! What the operations of a session share.

use std::sync::Arc;

use super::build::limits::Limiter;
use super::error::SessionError;
use super::event::Events;
use super::settings;
use crate::agent::client::{Keeper, KeeperError};
use crate::agent::image::{self, Payload};
use crate::data::fsync_profile;
use crate::engine::identity::{SandboxId, Scope};
use crate::engine::{Engine, EngineInfo, EngineKind};
use crate::plan::SubnetPool;
use crate::storage::Storage;

/// The engine, the keeper, the storage and the settings. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The engine's API.
    pub engine: Arc<dyn Engine>,
    /// Kind, version and properties of the engine.
    pub info: EngineInfo,
    /// The storage that has the volumes' data.
    pub storage: Arc<dyn Storage>,
    /// The name of our container that mounts the storage's files.
    pub storage_container: String,
    /// Sets the sandbox's shared limits, or why this keeper cannot.
    pub limiter: Result<Limiter, String>,
    /// The connection to the keeper.
    pub keeper: Keeper,
    /// The reference of our own image.
    pub agent_image: String,
    /// The scope in which the sandbox is.
    pub scope: Scope,
    /// The ranges that subnets are allocated from.
    pub subnets: SubnetPool,
    /// The seccomp profile that makes `fsync` a no-op.
    pub throwaway_seccomp: Option<String>,
    /// Where events are sent.
    pub events: Events,
}

/// What a plan needs to know besides the spec and the observed state.
pub struct PlanEnvironment<'a> {
    /// Kind, version and properties of the engine.
    pub info: &'a EngineInfo,
    /// The scope in which the sandbox is.
    pub scope: &'a Scope,
    /// The ranges that subnets are allocated from.
    pub subnets: &'a SubnetPool,
    /// The reference of our own image.
    pub agent_image: &'a str,
    /// The seccomp profile that makes `fsync` a no-op.
    pub throwaway_seccomp: Option<&'a String>,
    /// The parent control group of the services.
    pub group: Option<String>,
}

impl Context {
    /// Creates the context of a session, once the keeper runs.
    ///
    /// # Errors
    /// Fails if the keeper has no storage, if our image cannot be loaded, or if a setting is invalid.
    pub async fn open(
        engine: &Arc<dyn Engine>,
        scope: &Scope,
        keeper: Keeper,
        events: Events,
    ) -> Result<Self, SessionError> {
        let info = keeper.engine_info().await?.clone();
        let payload = Payload::find(&info.arch, None).map_err(KeeperError::from)?;
        // A keeper of another build, or one that runs as a process, does not bring the gateway's image.
        let agent_image = image::ensure(&**engine, &payload).await.map_err(KeeperError::from)?;
        Ok(Self {
            engine: Arc::clone(engine),
            storage: keeper.storage()?,
            storage_container: keeper.storage_container(),
            limiter: Limiter::of(&keeper),
            keeper,
            agent_image,
            scope: scope.clone(),
            subnets: settings::subnets()?,
            throwaway_seccomp: throwaway_seccomp(&info),
            info,
            events,
        })
    }

    pub(crate) fn environment(&self, sandbox: &SandboxId) -> PlanEnvironment<'_> {
        PlanEnvironment {
            info: &self.info,
            scope: &self.scope,
            subnets: &self.subnets,
            agent_image: &self.agent_image,
            throwaway_seccomp: self.throwaway_seccomp.as_ref(),
            group: self.limiter.as_ref().ok().map(|limiter| limiter.parent(&self.scope, sandbox)),
        }
    }
}

/// The seccomp profile that makes `fsync` a no-op, if the engine accepts one. Podman reads profiles only from files of
/// its own machine.
pub(crate) fn throwaway_seccomp(info: &EngineInfo) -> Option<String> {
    (info.security.seccomp && info.kind != EngineKind::Podman).then(fsync_profile::profile)
}

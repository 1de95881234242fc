//! What the operations of a session share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::build::limits::Limiter;
use super::error::SessionError;
use super::event::Events;
use super::request::BuildRequest;
use super::settings;
use crate::agent::client::{Keeper, KeeperError};
use crate::agent::image;
use crate::data::fsync_profile;
use crate::engine::identity::{SandboxId, Scope};
use crate::engine::{Engine, EngineInfo, EngineKind};
use crate::plan::{Age, AnonymousVolumes, DesiredState, Seeding, SubnetPool, Unfinished};
use crate::spec::{SandboxName, Spec};
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
        let payload = image::payload(&**engine, &info.arch, None).await.map_err(KeeperError::from)?;
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

impl PlanEnvironment<'_> {
    /// The desired state of an existing sandbox, with its data as it is.
    pub(crate) fn existing<'s>(
        &self,
        spec: &'s Spec,
        name: &SandboxName,
        id: &SandboxId,
    ) -> DesiredState<'s> {
        DesiredState {
            spec,
            name: name.clone(),
            id: id.clone(),
            scope: self.scope.clone(),
            kind: self.info.kind,
            expires: None,
            agent_image: self.agent_image.to_owned(),
            sources: BTreeMap::new(),
            seeding: Seeding::Done,
            age: Age::Standing,
            throwaway_seccomp: self.throwaway_seccomp.cloned(),
            group: self.group.clone(),
            subnets: self.subnets.clone(),
            only_made: BTreeSet::new(),
            remove_orphans: false,
            recreate: BTreeSet::new(),
            anonymous_volumes: AnonymousVolumes::Kept,
            unfinished: Unfinished::default(),
        }
    }

    /// The desired state of a build request.
    pub(crate) fn desired<'s>(&self, request: &'s BuildRequest) -> DesiredState<'s> {
        DesiredState {
            expires: request.expires,
            sources: request.sources.clone(),
            seeding: request.seeding,
            age: request.age,
            only_made: request.only_made.clone(),
            remove_orphans: request.remove_orphans,
            recreate: request.recreate.clone(),
            anonymous_volumes: request.anonymous_volumes,
            ..self.existing(&request.spec, &request.name, &request.id)
        }
    }
}

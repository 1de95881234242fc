//! What a session is asked to build: the options of `up`, and the build request made from them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::data::secret_files::Values;
use crate::data::manifest::ImageIdentity;
use crate::engine::identity::SandboxId;
use crate::plan::{Age, AnonymousVolumes, Seeding, VolumeSource};
use crate::spec::{SandboxName, ServiceName, Spec};
use crate::storage::SetPath;

/// The options of `up`.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// The requested services; empty means all.
    pub services: Vec<String>,
    /// The sandbox's name; by default from the spec and the branch.
    pub name: Option<SandboxName>,
    /// Its maximum lifetime; overrides the spec.
    pub ttl: Option<Duration>,
    /// The stored set that its data comes from.
    pub from: Option<SetPath>,
    /// The egress policy; overrides the spec.
    pub egress: Option<String>,
    /// Whether to build images that exist.
    pub rebuild: bool,
    /// Whether to recreate containers that have not changed.
    pub recreate: bool,
    /// What becomes of the anonymous volumes of a container that is recreated.
    pub anonymous_volumes: AnonymousVolumes,
    /// What to do if a host port is not free.
    pub ports: PreferredPort,
    /// The longest time to wait for a service.
    pub patience: Duration,
    /// Whether to use the data even if an image differs.
    pub drift: Drift,
    /// Whether the spec may access the host.
    pub allow_host_access: bool,
    /// Whether to create containers without starting them.
    pub only_create: bool,
    /// What to do with a sandbox that cannot be built.
    pub on_failure: OnFailure,
    /// Where artifacts and logs are copied to, if not to a folder beside the spec.
    pub artifacts: Option<PathBuf>,
    /// Whether to open an existing sandbox of the name.
    pub instance: InstanceChoice,
}

/// Which sandbox to open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InstanceChoice {
    /// The sandbox of that name; it is created if it does not exist.
    #[default]
    Named,
    /// A new sandbox with a numbered name, such as `NAME-run-1`, after the verb that makes it.
    Numbered {
        /// The verb.
        verb: &'static str,
    },
}

impl Default for UpOptions {
    /// The options of an `up` without flags.
    fn default() -> Self {
        Self {
            services: Vec::new(),
            name: None,
            ttl: None,
            from: None,
            egress: None,
            rebuild: false,
            recreate: false,
            anonymous_volumes: AnonymousVolumes::Kept,
            ports: PreferredPort::Any,
            patience: Duration::from_mins(1),
            drift: Drift::Refused,
            allow_host_access: false,
            only_create: false,
            on_failure: OnFailure::default(),
            artifacts: None,
            instance: InstanceChoice::default(),
        }
    }
}

/// What to do with a sandbox that cannot be built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Destroy what exists so far.
    #[default]
    Destroy,
    /// Detach from what exists so far, for inspection.
    Keep,
}

/// Whether the images may differ from those that the data was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// They must be the same.
    Refused,
    /// They may differ (`--allow-image-drift`).
    Allowed,
}

/// What to do if a host port that the spec prefers is not free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PreferredPort {
    /// Use another port.
    #[default]
    Any,
    /// Fail (`--strict-ports`).
    Strict,
}

/// What to build: the spec, the sandbox's name and id, and the options of the build.
#[derive(Clone)]
pub struct BuildRequest {
    /// The spec, with only the requested services.
    pub spec: Arc<Spec>,
    /// The values of its secrets and configs.
    pub values: Arc<Values>,
    /// The sandbox's name.
    pub name: SandboxName,
    /// The instance id of the sandbox.
    pub id: SandboxId,
    /// The first deadline.
    pub expires: Option<Timestamp>,
    /// Where the initial content of volumes comes from.
    pub sources: BTreeMap<String, VolumeSource>,
    /// The images that the data was made with. They must still be the same.
    pub made_with: BTreeMap<String, ImageIdentity>,
    /// Which seeds to run.
    pub seeding: Seeding,
    /// Whether it is built for the first time.
    pub age: Age,
    /// Services whose image is built even if it exists.
    pub rebuild: BTreeSet<ServiceName>,
    /// Services whose containers are recreated even if nothing changed.
    pub recreate: BTreeSet<ServiceName>,
    /// What becomes of the anonymous volumes of a container that is recreated.
    pub anonymous_volumes: AnonymousVolumes,
    /// Services that are created and whose volumes are filled, but that are not started.
    pub only_made: BTreeSet<ServiceName>,
    /// Whether to remove services that the spec no longer has.
    pub remove_orphans: bool,
    /// The longest time to wait for a service.
    pub patience: Duration,
    /// What to do if a host port is not free.
    pub ports: PreferredPort,
}

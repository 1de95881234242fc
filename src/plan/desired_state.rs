//! The desired state of a sandbox: its spec and the settings of this run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::Observed;
use super::subnet::SubnetPool;
use super::unfinished::Unfinished;
use super::volume_source::VolumeSource;
use crate::engine::EngineKind;
use crate::engine::identity as label;
use crate::engine::identity::{Role, SandboxId, Scope};
use crate::spec::{Limits, SandboxName, ServiceName, Spec};

/// The desired state that the planner reads.
#[derive(Debug, Clone)]
pub struct DesiredState<'a> {
    /// The spec, reduced to the requested services.
    pub spec: &'a Spec,
    /// The sandbox's name, which is also the prefix of its objects' names.
    pub name: SandboxName,
    /// The sandbox's instance id.
    pub id: SandboxId,
    /// The scope on the engine that the sandbox belongs to.
    pub scope: Scope,
    /// The product that implements the engine.
    pub kind: EngineKind,
    /// The first deadline, as the labels record it.
    pub expires: Option<Timestamp>,
    /// The reference of the `sandbox-agent` image.
    pub agent_image: String,
    /// Where the initial content of volumes comes from; a volume that is not listed starts empty.
    pub sources: BTreeMap<String, VolumeSource>,
    /// Whether the seeds run.
    pub seeding: Seeding,
    /// Whether the sandbox is new. If it is, objects that exist already were created by an attempt that a conflict
    /// stopped a moment ago, and still have to be filled.
    pub age: Age,
    /// The seccomp profile that turns fsync into a no-op; `None` if the engine rejects it.
    pub throwaway_seccomp: Option<String>,
    /// The parent control group of the services' containers, in the engine's notation; `None` if there can be none, so
    /// that `limits` is divided among the containers.
    pub group: Option<String>,
    /// The address ranges that subnets are allocated from.
    pub subnets: SubnetPool,
    /// Services that are created and seeded through their volumes, but not started.
    pub only_made: BTreeSet<ServiceName>,
    /// Whether to remove services that the spec no longer has. False if only some services were requested.
    pub remove_orphans: bool,
    /// Services to recreate even if nothing changed.
    pub recreate: BTreeSet<ServiceName>,
    /// What becomes of the anonymous volumes of a container that is recreated.
    pub anonymous_volumes: AnonymousVolumes,
    /// What an earlier plan did not finish, so that it is made again.
    pub unfinished: Unfinished,
}

/// What becomes of the anonymous volumes of a container that is recreated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AnonymousVolumes {
    /// The new container gets those of its predecessor.
    #[default]
    Kept,
    /// The new container gets new ones.
    Renewed,
}

/// Whether the seeds run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seeding {
    /// All seeds run: the volumes start empty.
    Run,
    /// No seed runs: the volumes were cloned from seeded data.
    Done,
}

/// Whether the `pre_start` commands of services run that start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreStart {
    /// Of those of which no container runs.
    Run,
    /// None: the services were stopped only for a moment.
    Skip,
}

/// Whether a sandbox is created or updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// It is created by this plan.
    New,
    /// It exists, and this plan updates it.
    Standing,
}

impl DesiredState<'_> {
    /// The complete labels of an object of this sandbox.
    pub fn labels(&self, role: Role) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            (label::NAME.to_owned(), self.name.to_string()),
            (label::ID.to_owned(), self.id.to_string()),
            (label::ROLE.to_owned(), role.as_str().to_owned()),
            (label::FOLDER.to_owned(), self.spec.folder.display().to_string()),
        ]);
        if !self.scope.as_str().is_empty() {
            labels.insert(label::SCOPE.to_owned(), self.scope.to_string());
        }
        if let Some(expires) = self.expires {
            labels.insert(label::EXPIRES.to_owned(), expires.to_string());
        }
        labels
    }

    /// The control group that services share, if any. A sandbox that was created with one keeps it: leaving it would
    /// mean recreating all services.
    pub fn shared(&self, observed: &Observed) -> Option<&String> {
        let limited = self.spec.limits != Limits::default() || observed.limits.is_some();
        self.group.as_ref().filter(|_| limited)
    }

    /// The name of a replica's container.
    pub fn container(&self, service: &ServiceName, replica: u32) -> String {
        label::service(self.name.as_str(), service.as_str(), replica)
    }

    /// The name of the gateway's container.
    pub fn gateway(&self) -> String {
        label::gateway(self.name.as_str())
    }
}

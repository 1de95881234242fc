//! What is wanted: a spec, and the circumstances under which it is built.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::Observed;
use super::subnet::SubnetPool;
use super::volume::VolumeSource;
use crate::engine::identity as label;
use crate::engine::identity::{Role, SandboxId, Scope};
use crate::spec::{Limits, SandboxName, ServiceName, Spec};

/// What is to be built.
#[derive(Debug, Clone)]
pub struct DesiredState<'a> {
    /// The spec, with only the services that are asked for.
    pub spec: &'a Spec,
    /// The sandbox's name.
    pub name: SandboxName,
    /// Its incarnation.
    pub id: SandboxId,
    /// Its world.
    pub scope: Scope,
    /// The first deadline, as the labels tell it.
    pub expires: Option<Timestamp>,
    /// The reference of our own image.
    pub agent_image: String,
    /// Where volumes' first content comes from; a volume that is not named here starts empty.
    pub sources: BTreeMap<String, VolumeSource>,
    /// Which seeds run.
    pub seeding: Seeding,
    /// Whether it is being built for the first time: then what is there already was made a moment ago, by an attempt
    /// that somebody else's took the better of, and has still to be filled.
    pub age: Age,
    /// The seccomp profile under which fsync costs nothing; `None` where the engine refuses it.
    pub throwaway_seccomp: Option<String>,
    /// The control group above those of the services' containers, in the engine's words; `None` where there can be none,
    /// so that `limits` has to be divided.
    pub group: Option<String>,
    /// Where subnets come from.
    pub subnets: SubnetPool,
    /// Services that are made and whose volumes are filled, but that are not started.
    pub only_made: BTreeSet<ServiceName>,
    /// Whether services that the spec no longer has are removed. Not when only some were asked for.
    pub remove_orphans: bool,
    /// Services that are made anew even if nothing about them changed.
    pub recreate: BTreeSet<ServiceName>,
}

/// Which seeds run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seeding {
    /// All of them: the volumes start empty.
    Run,
    /// None: the volumes were cloned from data that was seeded.
    Done,
}

/// Whether a sandbox is being built or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// It is being built.
    New,
    /// It was built before, and is changed.
    Standing,
}

impl DesiredState<'_> {
    /// The labels of an object of this sandbox.
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

    /// Whether services share what the sandbox may use. One that had a control group keeps it: to leave it, its services
    /// would have to be made anew.
    pub fn shared(&self, observed: &Observed) -> Option<&String> {
        let limited = self.spec.limits != Limits::default() || observed.limits.is_some();
        self.group.as_ref().filter(|_| limited)
    }

    /// The container of a service's replica.
    pub fn container(&self, service: &ServiceName, replica: u32) -> String {
        label::service(self.name.as_str(), service.as_str(), replica)
    }

    /// The gateway's container.
    pub fn gateway(&self) -> String {
        label::gateway(self.name.as_str())
    }
}

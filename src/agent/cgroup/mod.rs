//! The control group of a sandbox: the parent of its services' container groups, so that a limit applies to all of them
//! together.
//!
//! The keeper's container (or the storage server, if the keeper is a process) has the engine's cgroup tree mounted and
//! creates the sandbox's group next to its own, so that a limit on all containers of the engine applies to these as
//! well. Engines with the systemd driver accept only a slice as a parent, and only systemd can create slices, so it is
//! asked over D-Bus.

mod hierarchy;
mod local;
mod systemd;
mod tree;

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use local::Local;

use crate::engine::identity::{SandboxId, Scope};
use crate::engine::{CgroupVersion, EngineInfo, EngineKind};
use crate::spec::Limits;

/// Where the engine's cgroup tree is mounted in our container.
pub const TREE: &str = "/cgroup";
/// Where it is on the engine's machine.
pub const HOST_TREE: &str = "/sys/fs/cgroup";
/// The folder of systemd's bus socket, in the container and on the machine.
pub const BUS: &str = "/run/dbus";

/// The engine's cgroup driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// The engine creates groups itself, as folders.
    Cgroupfs,
    /// systemd creates them, as scopes and slices.
    Systemd,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        })
    }
}

impl FromStr for Driver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cgroupfs" => Ok(Self::Cgroupfs),
            "systemd" => Ok(Self::Systemd),
            other => Err(format!("`{other}` is no driver of control groups")),
        }
    }
}

/// Returns the cgroup driver of an engine on which a sandbox can have its own group.
///
/// # Errors
/// Fails with the reason why it cannot.
pub fn driver_of(info: &EngineInfo) -> Result<Driver, String> {
    if info.kind != EngineKind::Docker {
        return Err(format!("{} is not known to take a group that it has not made", info.kind));
    }
    if info.security.rootless {
        return Err("an engine without root may make no groups but below its own".to_owned());
    }
    if info.security.userns {
        return Err("containers of an engine that maps users own no groups of the host".to_owned());
    }
    match info.cgroup_driver.parse()? {
        Driver::Systemd if info.cgroup == CgroupVersion::V1 => {
            Err("systemd keeps a slice's limits only on control groups of version 2".to_owned())
        }
        driver => Ok(driver),
    }
}

/// How the groups of sandboxes are named on an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouping {
    /// The cgroup driver.
    pub driver: Driver,
    /// The group that contains the engine's containers, from the root of its tree; without a slash at either end.
    pub base: String,
}

impl Grouping {
    /// The most likely naming, if it has not been checked.
    pub fn presumed(driver: Driver) -> Self {
        let base = match driver {
            Driver::Cgroupfs => "docker",
            Driver::Systemd => "system.slice",
        };
        Self { driver, base: base.to_owned() }
    }

    /// Returns the name that the sandbox's containers use as their cgroup parent.
    pub fn parent(&self, scope: &Scope, sandbox: &SandboxId) -> String {
        match self.driver {
            Driver::Cgroupfs => format!("/{}", self.path(scope, sandbox)),
            Driver::Systemd => self.slice(scope, sandbox),
        }
    }

    /// Returns the group's path in the tree.
    fn path(&self, scope: &Scope, sandbox: &SandboxId) -> String {
        let name = match self.driver {
            Driver::Cgroupfs => format!("{}{sandbox}", stem(scope)),
            Driver::Systemd => self.slice(scope, sandbox),
        };
        if self.base.is_empty() { name } else { format!("{}/{name}", self.base) }
    }

    /// systemd places `PARENT-NAME.slice` in `PARENT.slice`.
    fn slice(&self, scope: &Scope, sandbox: &SandboxId) -> String {
        format!("{}{}{sandbox}.slice", self.slice_prefix(), stem(scope))
    }

    fn slice_prefix(&self) -> String {
        let outer = self.base.rsplit('/').next().and_then(|last| last.strip_suffix(".slice"));
        outer.map(|outer| format!("{outer}-")).unwrap_or_default()
    }

    /// Returns the sandbox of this scope whose group has this name, if there is one.
    fn sandbox(&self, scope: &Scope, name: &str) -> Option<SandboxId> {
        let name = match self.driver {
            Driver::Cgroupfs => name,
            Driver::Systemd => name.strip_suffix(".slice")?.strip_prefix(&self.slice_prefix())?,
        };
        name.strip_prefix(&stem(scope))?.parse().ok()
    }
}

/// The part of a group's name before the instance id. It has no dash: systemd would create a slice for each part.
fn stem(scope: &Scope) -> String {
    if scope.as_str().is_empty() { "sandbox_".to_owned() } else { format!("sandbox_{scope}_") }
}

/// A request to create, change or remove the control groups of sandboxes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "group", rename_all = "snake_case")]
pub enum Request {
    /// Create the group of a sandbox, or change its limits.
    Limit {
        /// Its instance id.
        sandbox: SandboxId,
        /// The limits for all its services together.
        limits: Limits,
    },
    /// Remove the group. It is no error if it does not exist.
    Remove {
        /// Its instance id.
        sandbox: SandboxId,
    },
    /// Remove the empty groups of all sandboxes except these.
    Keep {
        /// The existing sandboxes.
        sandboxes: Vec<SandboxId>,
    },
    /// Find out whose limit was reached when a container ran out of memory.
    Starved {
        /// Its instance id.
        sandbox: SandboxId,
        /// The container's id.
        container: String,
    },
}

/// The reply to a [`Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The request was carried out.
    Done,
    /// Why the container ran out of memory.
    Starved(Starved),
}

/// Why a container ran out of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starved {
    /// Whether the limit of the whole sandbox was reached.
    pub shared: bool,
    /// How many of its processes were killed since the last request; `None` if the container is gone.
    pub killed: Option<u64>,
}

/// Why a control group operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GroupError(pub String);

/// Makes control groups, here or in a storage server.
#[async_trait]
pub trait Groups: Send + Sync {
    /// Returns how they are named.
    fn grouping(&self) -> &Grouping;

    /// Performs a request.
    async fn perform(&self, request: Request) -> Result<Reply, GroupError>;
}

/// The requests, each with the type of its reply.
impl dyn Groups + '_ {
    /// Creates the group of a sandbox, or changes its limits.
    pub async fn limit(&self, sandbox: &SandboxId, limits: &Limits) -> Result<(), GroupError> {
        let (sandbox, limits) = (sandbox.clone(), limits.clone());
        self.perform(Request::Limit { sandbox, limits }).await.map(drop)
    }

    /// Removes the group of a sandbox.
    pub async fn remove(&self, sandbox: &SandboxId) -> Result<(), GroupError> {
        self.perform(Request::Remove { sandbox: sandbox.clone() }).await.map(drop)
    }

    /// Removes the empty groups of all sandboxes except these.
    pub async fn keep(&self, sandboxes: Vec<SandboxId>) -> Result<(), GroupError> {
        self.perform(Request::Keep { sandboxes }).await.map(drop)
    }

    /// Finds out whose limit was reached when a container ran out of memory.
    pub async fn starved(&self, sandbox: &SandboxId, container: &str) -> Result<Starved, GroupError> {
        let (sandbox, container) = (sandbox.clone(), container.to_owned());
        match self.perform(Request::Starved { sandbox, container }).await? {
            Reply::Starved(starved) => Ok(starved),
            Reply::Done => Err(GroupError("an answer of another kind came".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> SandboxId {
        "0123456789ab".parse().unwrap()
    }

    fn grouping(driver: Driver, base: &str) -> Grouping {
        Grouping { driver, base: base.to_owned() }
    }

    #[test]
    fn a_group_lies_beside_the_engine_s_other_containers() {
        let files = grouping(Driver::Cgroupfs, "docker");
        assert_eq!(files.parent(&Scope::default(), &id()), "/docker/sandbox_0123456789ab");
        let slices = grouping(Driver::Systemd, "system.slice");
        assert_eq!(slices.parent(&Scope::default(), &id()), "system-sandbox_0123456789ab.slice");
        assert_eq!(slices.path(&Scope::default(), &id()), "system.slice/system-sandbox_0123456789ab.slice");
        let inner = grouping(Driver::Systemd, "a.slice/a-b.slice");
        assert_eq!(inner.parent(&Scope::default(), &id()), "a-b-sandbox_0123456789ab.slice");
        assert_eq!(
            grouping(Driver::Systemd, "").parent(&Scope::default(), &id()),
            "sandbox_0123456789ab.slice"
        );
    }

    #[test]
    fn a_group_s_name_tells_whose_it_is_and_another_scope_s_does_not() {
        let scope: Scope = "test".parse().unwrap();
        for driver in [Driver::Cgroupfs, Driver::Systemd] {
            let grouping = Grouping::presumed(driver);
            let path = grouping.path(&scope, &id());
            let name = path.rsplit('/').next().unwrap();
            assert_eq!(grouping.sandbox(&scope, name), Some(id()));
            assert_eq!(grouping.sandbox(&Scope::default(), name), None);
            assert_eq!(grouping.sandbox(&scope, "docker-0123456789ab.scope"), None);
        }
    }
}

//! The control group of a sandbox: one above the groups of its services' containers, which binds them all together.
//!
//! A container of ours (the keeper's, or the storage server of a keeper that is a process) has the engine's own tree of
//! groups mounted and makes the sandbox's beside its own, so that whatever binds all of an engine's containers binds
//! these as well. Engines whose driver is systemd take nothing but a slice for that, and a slice is systemd's to make:
//! it is asked to on the bus.

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

/// Where the engine's tree of groups is mounted in a container of ours.
pub const TREE: &str = "/cgroup";
/// Where it is on the engine's own machine.
pub const HOST_TREE: &str = "/sys/fs/cgroup";
/// Where systemd's bus is, on either side.
pub const BUS: &str = "/run/dbus";

/// Who makes the engine's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// The engine itself, as folders.
    Cgroupfs,
    /// systemd, as scopes and slices.
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

/// The driver of an engine on which a sandbox can have a group of its own.
///
/// # Errors
/// Why it cannot.
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

/// How sandboxes' groups are called on an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouping {
    /// Who makes them.
    pub driver: Driver,
    /// The group that the engine puts containers in, from the root of its tree; without a slash at either end.
    pub base: String,
}

impl Grouping {
    /// What it most likely is, where nobody has looked yet.
    pub fn presumed(driver: Driver) -> Self {
        let base = match driver {
            Driver::Cgroupfs => "docker",
            Driver::Systemd => "system.slice",
        };
        Self { driver, base: base.to_owned() }
    }

    /// A sandbox's group in the engine's words: what its containers name as their parent.
    pub fn parent(&self, scope: &Scope, sandbox: &SandboxId) -> String {
        match self.driver {
            Driver::Cgroupfs => format!("/{}", self.path(scope, sandbox)),
            Driver::Systemd => self.slice(scope, sandbox),
        }
    }

    /// The same as a path in the tree.
    fn path(&self, scope: &Scope, sandbox: &SandboxId) -> String {
        let name = match self.driver {
            Driver::Cgroupfs => format!("{}{sandbox}", stem(scope)),
            Driver::Systemd => self.slice(scope, sandbox),
        };
        if self.base.is_empty() { name } else { format!("{}/{name}", self.base) }
    }

    /// `PARENT-NAME.slice` is what systemd puts into `PARENT.slice`.
    fn slice(&self, scope: &Scope, sandbox: &SandboxId) -> String {
        format!("{}{}{sandbox}.slice", self.slice_prefix(), stem(scope))
    }

    fn slice_prefix(&self) -> String {
        let outer = self.base.rsplit('/').next().and_then(|last| last.strip_suffix(".slice"));
        outer.map(|outer| format!("{outer}-")).unwrap_or_default()
    }

    /// The sandbox of this scope whose group has this name, if it is one.
    fn sandbox(&self, scope: &Scope, name: &str) -> Option<SandboxId> {
        let name = match self.driver {
            Driver::Cgroupfs => name,
            Driver::Systemd => name.strip_suffix(".slice")?.strip_prefix(&self.slice_prefix())?,
        };
        name.strip_prefix(&stem(scope))?.parse().ok()
    }
}

/// What comes before the incarnation in a group's name. No dash: systemd would make a slice of each part.
fn stem(scope: &Scope) -> String {
    if scope.as_str().is_empty() { "sandbox_".to_owned() } else { format!("sandbox_{scope}_") }
}

/// What can be asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "group", rename_all = "snake_case")]
pub enum Request {
    /// Make the group of a sandbox, or change what it may use.
    Limit {
        /// Whose.
        sandbox: SandboxId,
        /// What all in it may use together.
        limits: Limits,
    },
    /// Remove it; that there is none is fine.
    Remove {
        /// Whose.
        sandbox: SandboxId,
    },
    /// Remove those that nothing is in and that belong to none of these.
    Keep {
        /// The sandboxes that there are.
        sandboxes: Vec<SandboxId>,
    },
    /// A container had too little memory: whose limit was it?
    Starved {
        /// The sandbox.
        sandbox: SandboxId,
        /// The container's id.
        container: String,
    },
}

/// What it is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Done,
    /// About a container that had too little memory.
    Starved(Starved),
}

/// Why a container had too little memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starved {
    /// Whether it was the whole sandbox that had too little.
    pub shared: bool,
    /// How many of its processes were killed since somebody asked last; none if the container is gone.
    pub killed: Option<u64>,
}

/// Why something about a group did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GroupError(pub String);

/// Whoever makes groups, here or elsewhere.
#[async_trait]
pub trait Groups: Send + Sync {
    /// How they are called.
    fn grouping(&self) -> &Grouping;

    /// Does what is asked for.
    async fn perform(&self, request: Request) -> Result<Reply, GroupError>;
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

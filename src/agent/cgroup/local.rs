//! Control groups in the cgroup tree that is mounted in this container.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::event::{EventfdFlags, eventfd};

use super::tree::{Tree, number, write};
use super::{Driver, GroupError, Grouping, Groups, Reply, Request, Starved, systemd};
use crate::engine::identity::{SandboxId, Scope};
use crate::spec::Limits;

/// If the sandbox's own limit was reached within this time, a container that runs out of memory counts as a
/// consequence.
const CONSEQUENCE: Duration = Duration::from_secs(10);

/// Makes control groups in the mounted tree.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

struct Inner {
    tree: Tree,
    scope: Scope,
    grouping: Grouping,
    bus: PathBuf,
    watched: Mutex<BTreeMap<SandboxId, Watched>>,
}

/// The last known counters of a sandbox's group, to recognise new events.
struct Watched {
    alarm: Alarm,
    reached: Option<Instant>,
    /// The number of processes killed so far, by container group.
    killed: BTreeMap<String, u64>,
}

/// How a group reports that it ran out of memory.
enum Alarm {
    /// Version 1: an eventfd that the kernel signals.
    Bell(OwnedFd),
    /// Version 2: the number of events so far.
    Count(u64),
    /// It does not report it.
    None,
}

impl Local {
    /// Opens the tree at this path, for groups next to that of the container with this id (or its prefix). Creates one
    /// group as a test.
    ///
    /// # Errors
    /// Fails with the reason why control groups are impossible here.
    pub fn open(
        root: &Path,
        bus: &Path,
        driver: Driver,
        scope: &Scope,
        own: &str,
    ) -> Result<Self, GroupError> {
        let tree = Tree::at(root)?;
        let base = tree
            .around(own)
            .ok_or_else(|| GroupError("the keeper does not find its own control group".to_owned()))?;
        let grouping = Grouping { driver, base };
        let local = Self {
            inner: Arc::new(Inner {
                tree,
                scope: scope.clone(),
                grouping,
                bus: bus.to_owned(),
                watched: Mutex::default(),
            }),
        };
        let (trial, limits) =
            (SandboxId::random(), Limits { memory: Some(1 << 30), cpus: Some(1.0), pids: Some(100) });
        let tried = local.inner.limit(&trial, &limits);
        local.inner.remove(&trial)?;
        tried.map(|()| local)
    }
}

#[async_trait]
impl Groups for Local {
    fn grouping(&self) -> &Grouping {
        &self.inner.grouping
    }

    async fn perform(&self, request: Request) -> Result<Reply, GroupError> {
        let inner = Arc::clone(&self.inner);
        // The kernel can take a while to reclaim memory.
        let done = tokio::task::spawn_blocking(move || inner.perform(&request)).await;
        done.map_err(|error| GroupError(error.to_string()))?
    }
}

impl Inner {
    fn perform(&self, request: &Request) -> Result<Reply, GroupError> {
        match request {
            Request::Limit { sandbox, limits } => self.limit(sandbox, limits)?,
            Request::Remove { sandbox } => self.remove(sandbox)?,
            Request::Keep { sandboxes } => self.keep(sandboxes),
            Request::Starved { sandbox, container } => {
                return Ok(Reply::Starved(self.starved(sandbox, container)));
            }
        }
        Ok(Reply::Done)
    }

    fn path(&self, sandbox: &SandboxId) -> String {
        self.grouping.path(&self.scope, sandbox)
    }

    fn limit(&self, sandbox: &SandboxId, limits: &Limits) -> Result<(), GroupError> {
        match self.grouping.driver {
            Driver::Cgroupfs => self.tree.limit(&self.path(sandbox), limits)?,
            Driver::Systemd => {
                self.tree.leaves_room(&self.path(sandbox), limits.memory)?;
                let slice = self.grouping.slice(&self.scope, sandbox);
                systemd::limit(&self.bus, &slice, limits)?;
                systemd::appears(&self.tree.folder("memory", &self.path(sandbox)))?;
            }
        }
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.entry(sandbox.clone()).or_insert_with(|| Watched {
            alarm: self.alarm(sandbox),
            reached: None,
            killed: self.all_killed(sandbox),
        });
        Ok(())
    }

    fn remove(&self, sandbox: &SandboxId) -> Result<(), GroupError> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).remove(sandbox);
        let path = self.path(sandbox);
        if self.grouping.driver == Driver::Systemd && self.tree.folder("memory", &path).exists() {
            systemd::stop(&self.bus, &self.grouping.slice(&self.scope, sandbox))?;
        }
        self.tree.remove(&path)
    }

    fn keep(&self, sandboxes: &[SandboxId]) {
        let base = &self.grouping.base;
        let ours = self.tree.below(base).into_iter();
        let ours = ours.filter_map(|name| self.grouping.sandbox(&self.scope, &name));
        for sandbox in ours.filter(|sandbox| !sandboxes.contains(sandbox)) {
            let path = self.path(&sandbox);
            if self.grouping.driver == Driver::Systemd
                && self.tree.below(&path).is_empty()
                && let Err(error) = systemd::stop(&self.bus, &self.grouping.slice(&self.scope, &sandbox))
            {
                tracing::warn!(%error, "cannot remove the control group of a sandbox that is gone");
            }
            self.tree.remove_empty(&path);
        }
    }

    fn alarm(&self, sandbox: &SandboxId) -> Alarm {
        let folder = self.tree.folder("memory", &self.path(sandbox));
        match &self.tree {
            Tree::Unified(_) => Alarm::Count(number(&folder.join(LOCAL_EVENTS), Some("oom")).unwrap_or(0)),
            Tree::Split(_) => bell(&folder).map_or(Alarm::None, Alarm::Bell),
        }
    }

    fn starved(&self, sandbox: &SandboxId, container: &str) -> Starved {
        let folder = self.tree.folder("memory", &self.path(sandbox));
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watched) = all.get_mut(sandbox) else { return Starved { shared: false, killed: None } };
        if watched.alarm.rang(&folder) {
            watched.reached = Some(Instant::now());
        }
        let shared = watched.reached.is_some_and(|at| at.elapsed() < CONSEQUENCE);
        let name = self.tree.below(&self.path(sandbox)).into_iter().find(|name| name.contains(container));
        let killed = name.and_then(|name| {
            let all = self.killed(&folder.join(&name))?;
            let before = watched.killed.insert(name, all).unwrap_or(0);
            // A restarted container has a new group of the same name, which counts from zero.
            Some(all.checked_sub(before).unwrap_or(all))
        });
        Starved { shared, killed }
    }

    /// Counts the processes killed so far in each container group.
    fn all_killed(&self, sandbox: &SandboxId) -> BTreeMap<String, u64> {
        let path = self.path(sandbox);
        let folder = self.tree.folder("memory", &path);
        let count = |name: String| self.killed(&folder.join(&name)).map(|killed| (name, killed));
        self.tree.below(&path).into_iter().filter_map(count).collect()
    }

    /// Counts the processes of a container that the kernel killed for lack of memory, if the container still exists.
    fn killed(&self, folder: &Path) -> Option<u64> {
        let file = match self.tree {
            Tree::Unified(_) => "memory.events",
            Tree::Split(_) => "memory.oom_control",
        };
        number(&folder.join(file), Some("oom_kill")).ok()
    }
}

/// The events at a group's own limit, without those of its children.
const LOCAL_EVENTS: &str = "memory.events.local";

impl Alarm {
    /// Returns whether there was an event since the last call.
    fn rang(&mut self, folder: &Path) -> bool {
        match self {
            Self::Bell(bell) => rustix::io::read(bell.as_fd(), &mut [0; 8]).is_ok(),
            Self::Count(before) => {
                let now = number(&folder.join(LOCAL_EVENTS), Some("oom")).unwrap_or(*before);
                std::mem::replace(before, now) < now
            }
            Self::None => false,
        }
    }
}

/// Registers an eventfd for a version 1 group that runs out of memory, or whose parent does.
fn bell(folder: &Path) -> std::io::Result<OwnedFd> {
    let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let control = File::open(folder.join("memory.oom_control"))?;
    let order = format!("{} {}", bell.as_raw_fd(), control.as_raw_fd());
    write(&folder.join("cgroup.event_control"), order)?;
    Ok(bell)
}

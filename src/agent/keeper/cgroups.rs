//! Control groups in the keeper: who makes them, what to make again after a reboot, and why a container ran out of
//! memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::Arguments;
use super::state::{Discovered, Event};
use crate::agent::cgroup::{self, GroupError, Groups, Local, Starved};
use crate::agent::client::StorageServer;
use crate::agent::protocol::{Line, Outcome, Refusal, RefusalKind, Reply as RequestResult};
use crate::engine::identity::{SandboxId, Scope};
use crate::spec::Limits;

/// How long after the engine's out-of-memory event the kernel may take to kill processes.
const AFTERWARDS: Duration = Duration::from_millis(300);
/// How often to check for killed processes: a killed container is removed, and perhaps restarted, within that time.
const LOOK: Duration = Duration::from_millis(25);

/// The control group operations, or why there are none.
pub type Opened = Result<Arc<dyn Groups>, String>;

/// What the keeper's command line says about the engine's cgroup tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupReport {
    /// It is mounted in the keeper's container.
    Mounted(cgroup::Driver),
    /// It is not, and why.
    Refused(String),
}

/// Opens the cgroup tree that is mounted here.
pub async fn open_local(arguments: &Arguments, scope: &Scope) -> Opened {
    let driver = match &arguments.groups {
        GroupReport::Mounted(driver) => *driver,
        GroupReport::Refused(why) => return Err(why.clone()),
    };
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let scope = scope.clone();
    let opened = tokio::task::spawn_blocking(move || {
        Local::open(Path::new(cgroup::TREE), Path::new(cgroup::BUS), driver, &scope, &own)
    });
    match opened.await {
        Ok(Ok(local)) => Ok(Arc::new(local)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns the control groups that a storage server makes.
pub fn far(storage_server: &StorageServer) -> Opened {
    let greeting = storage_server.greeting();
    match storage_server.groups() {
        Some(groups) => Ok(groups),
        None => {
            Err(greeting.groups_refused.clone().unwrap_or_else(|| "the storage server makes none".to_owned()))
        }
    }
}

/// Makes the groups of all known sandboxes again, because a reboot removes them. Returns those for which that failed.
pub async fn take_up(groups: &dyn Groups, found: &[Discovered]) -> Vec<SandboxId> {
    let mut failed = Vec::new();
    let limited = found.iter().filter_map(|it| Some((it, it.kept.as_ref()?.limits.clone()?)));
    for (sandbox, limits) in limited {
        if let Err(error) = groups.limit(&sandbox.sandbox, &limits).await {
            tracing::warn!(name = %sandbox.name, %error, "its services are not limited together");
            failed.push(sandbox.sandbox.clone());
        }
    }
    failed
}

/// Removes the groups that belong to no sandbox. No group may be created meanwhile.
pub async fn remove_others(groups: &dyn Groups, found: &[Discovered]) {
    let sandboxes = found.iter().map(|it| it.sandbox.clone()).collect();
    if let Err(error) = groups.keep(sandboxes).await {
        tracing::warn!(%error, "cannot remove control groups of sandboxes that are gone");
    }
}

/// Gives a sandbox its control group and replies to the request.
pub async fn limit(
    groups: Option<Arc<dyn Groups>>,
    lines: mpsc::UnboundedSender<Line>,
    id: u64,
    sandbox: SandboxId,
    limits: Limits,
) -> Event {
    let done = match groups {
        Some(groups) => groups.limit(&sandbox, &limits).await,
        None => Err(GroupError("this keeper makes no control groups".to_owned())),
    };
    let (outcome, event) = match done {
        Ok(()) => (Outcome::Ok(serde_json::Value::Null), Event::Limited(sandbox, limits)),
        Err(error) => {
            let refusal = Refusal { kind: RefusalKind::Group, message: error.to_string(), hint: None };
            (Outcome::Error(refusal), Event::Alarm)
        }
    };
    // The client may have disconnected; the group is removed with the sandbox.
    let _ = lines.send(Line::Reply(RequestResult { id, outcome }));
    event
}

/// Finds out whose limit a container ran into.
pub async fn diagnose(groups: Option<Arc<dyn Groups>>, sandbox: &SandboxId, container: String) -> Starved {
    let unknown = Starved { shared: false, killed: None };
    let Some(groups) = groups else { return unknown };
    let begin = Instant::now();
    loop {
        match groups.starved(sandbox, &container).await {
            Ok(Starved { killed: Some(0), .. }) if begin.elapsed() < AFTERWARDS => sleep(LOOK).await,
            Ok(starved) => return starved,
            Err(_) => return unknown,
        }
    }
}

/// Removes groups that were created after their sandbox was destroyed.
pub async fn remove_late(groups: &dyn Groups, gone: &[SandboxId]) {
    for sandbox in gone {
        if let Err(error) = groups.remove(sandbox).await {
            tracing::warn!(%error, "cannot remove the control group of a sandbox that is gone");
        }
    }
}

//! Shared limits of a sandbox: a control group that the keeper creates, or limits divided among the services where it
//! cannot.

use std::sync::Arc;

use crate::agent::cgroup::{self, Grouping};
use crate::agent::client::{self, Keeper, KeeperError, KeeperPlacement, Limiting, Options};
use crate::agent::protocol::RecordKind;
use crate::engine::identity::{SandboxId, Scope};
use crate::engine::{CgroupVersion, Engine, EngineInfo};
use crate::plan::{self, Sharing};
use crate::session::error::SessionError;
use crate::session::event::{Event, Events};
use crate::spec::{Limits, Spec};

/// Sets the limits of a sandbox's control group through the keeper.
#[derive(Clone)]
pub struct Limiter {
    keeper: Keeper,
    grouping: Grouping,
}

impl Limiter {
    /// Creates a limiter that uses this keeper.
    ///
    /// # Errors
    /// Why the keeper creates no control groups.
    pub fn of(keeper: &Keeper) -> Result<Self, String> {
        if keeper.limiting() == Limiting::Divided {
            return Err("SANDBOX_LIMITS says so".to_owned());
        }
        let greeting = keeper.greeting();
        match greeting.groups.clone() {
            Some(grouping) => Ok(Self { keeper: keeper.clone(), grouping }),
            None => {
                Err(greeting.groups_refused.clone().unwrap_or_else(|| "this keeper makes none".to_owned()))
            }
        }
    }

    /// The parent control group that a sandbox's containers name.
    pub fn parent(&self, scope: &Scope, sandbox: &SandboxId) -> String {
        self.grouping.parent(scope, sandbox)
    }

    /// The limits of a sandbox's control group, if it has one.
    ///
    /// # Errors
    /// Fails if the keeper does not answer.
    pub async fn standing(&self, sandbox: &SandboxId) -> Result<Option<Limits>, KeeperError> {
        let all = self.keeper.sandboxes().await?;
        Ok(all.into_iter().find(|standing| standing.sandbox == *sandbox).and_then(|standing| standing.limits))
    }

    /// Creates a sandbox's control group, or changes its limits.
    ///
    /// # Errors
    /// Fails if there is no such sandbox, or if the limits cannot be applied.
    pub async fn limit(&self, sandbox: &SandboxId, limits: &Limits) -> Result<(), KeeperError> {
        self.keeper.limit(sandbox, limits).await
    }
}

/// The parent control group that a sandbox would get and its current limits, without starting a keeper.
///
/// # Errors
/// Fails if the keeper or the engine does not answer.
pub(crate) async fn foresee(
    engine: &Arc<dyn Engine>,
    info: &EngineInfo,
    scope: &Scope,
    sandbox: &SandboxId,
) -> Result<(Option<String>, Option<Limits>), SessionError> {
    let options = Options::from_env()?;
    // A keeper of another build would be replaced.
    let asked = match options.place {
        KeeperPlacement::Container => Keeper::container_at_hand(engine, options.clone()).await?.is_some(),
        KeeperPlacement::Process => client::keeper_state(engine, &options).await?.is_some(),
    };
    if !asked {
        let shared = options.limiting == Limiting::Shared;
        let presumed = cgroup::driver_of(info).ok().filter(|_| shared).map(Grouping::presumed);
        return Ok((presumed.map(|grouping| grouping.parent(scope, sandbox)), None));
    }
    let keeper = Keeper::ensure(engine, options).await?;
    match Limiter::of(&keeper) {
        Ok(limiter) => Ok((Some(limiter.parent(scope, sandbox)), limiter.standing(sandbox).await?)),
        Err(_) => Ok((None, None)),
    }
}

/// Warns what happens to the sandbox's limits if they cannot be shared.
pub(crate) fn tell(events: &Events, info: &EngineInfo, spec: &Spec, limiter: &Result<Limiter, String>) {
    let Err(why) = limiter else { return };
    if spec.limits == Limits::default() {
        return;
    }
    if info.security.rootless && info.cgroup == CgroupVersion::V1 {
        let text = "`limits` is not applied: the engine runs without root on control groups of version 1";
        let hint = "boot its machine with `systemd.unified_cgroup_hierarchy=1`, or use an engine with root";
        events.emit(Event::Warning { text: text.to_owned(), hint: Some(hint.to_owned()) });
        return;
    }
    let parts: Vec<String> = plan::shares(spec, Sharing::Parts)
        .iter()
        .map(|(service, share)| {
            let memory = share.memory.map(|bytes| format!("{} MiB", bytes >> 20));
            let cpus = share.cpus.map(|cpus| format!("{cpus} cpus"));
            let pids = share.pids.map(|pids| format!("{pids} pids"));
            let words: Vec<String> = memory.into_iter().chain(cpus).chain(pids).collect();
            format!("{service} {}", words.join(" "))
        })
        .collect();
    let text = format!("`limits` is divided among the services' containers, not shared: {why}");
    let hint = format!(
        "they have {}; a service's own `mem_limit` or `cpus` gives it another part",
        parts.join(", ")
    );
    events.emit(Event::Warning { text, hint: Some(hint) });
}

/// Reports that a service ran out of memory.
pub(crate) fn tell_of_want(events: &Events, container: &str, limit: Option<u64>) {
    let text = RecordKind::OutOfMemory { container: container.to_owned(), limit }.to_string();
    let hint = match limit {
        Some(_) => {
            "give the sandbox more with `limits: { memory: … }`; a second `up` applies it to what runs"
        }
        None => "give the service more with `mem_limit`",
    };
    events.emit(Event::Warning { text, hint: Some(hint.to_owned()) });
}

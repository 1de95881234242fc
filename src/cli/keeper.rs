//! Requests of read-only verbs to a running keeper. None of them starts a keeper.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::Failure;
use crate::agent::client::{self, Keeper, Options};
use crate::engine::Engine;
use crate::spec::SandboxName;

/// Bounds of the interval at which a long-running verb reports to the keeper that the sandbox is in use.
const OFTENEST: Duration = Duration::from_secs(1);
const SELDOMEST: Duration = Duration::from_secs(15);

/// How long read-only verbs wait for the keeper.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects to the keeper if it is running.
pub async fn running(engine: &Arc<dyn Engine>) -> Result<Option<Keeper>, Failure> {
    let options = Options::from_env()?;
    match client::keeper_state(engine, &options).await? {
        Some(state) if state.is_alive() => {
            let reached = tokio::time::timeout(PATIENCE, Keeper::ensure(engine, options)).await;
            match reached {
                Ok(keeper) => Ok(Some(keeper?)),
                Err(_) => Err(Failure::failed(
                    format!("the keeper does not answer within {} seconds", PATIENCE.as_secs()),
                    Some("`sandbox doctor` says more".to_owned()),
                )),
            }
        }
        _ => Ok(None),
    }
}

/// Reports to the keeper that a sandbox is in use, until dropped.
pub struct UsageGuard(JoinHandle<()>);

impl UsageGuard {
    /// Reports now and then at intervals, well within the sandbox's idle time. Does nothing without a keeper, because then no sandbox expires by disuse.
    pub fn of(engine: &Arc<dyn Engine>, name: &str) -> Self {
        let (engine, name) = (Arc::clone(engine), name.parse::<SandboxName>());
        Self(tokio::spawn(async move {
            let (Ok(name), Ok(options)) = (name, Options::from_env()) else { return };
            let there = client::keeper_state(&engine, &options).await;
            if !there.is_ok_and(|state| state.is_some_and(crate::engine::ContainerState::is_alive)) {
                return;
            }
            let Ok(keeper) = Keeper::ensure(&engine, options).await else { return };
            if keeper.touch(&name).await.is_err() {
                return;
            }
            let again = interval(&keeper, &name).await;
            loop {
                tokio::time::sleep(again).await;
                if keeper.touch(&name).await.is_err() {
                    return;
                }
            }
        }))
    }
}

/// The interval of reports for a sandbox that was used just now: a quarter of the time that each use defers its end by.
async fn interval(keeper: &Keeper, name: &SandboxName) -> Duration {
    let all = keeper.sandboxes().await.unwrap_or_default();
    let idle = all
        .iter()
        .find(|standing| standing.name == *name && standing.unless_used)
        .and_then(|standing| Duration::try_from(standing.ends?.duration_since(standing.used)).ok());
    idle.map_or(SELDOMEST, |idle| (idle / 4).clamp(OFTENEST, SELDOMEST))
}

impl Drop for UsageGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

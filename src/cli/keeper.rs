//! What reading verbs ask of the keeper, if there is one: none of them starts it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::Failure;
use crate::agent::client::{self, Keeper, Options};
use crate::engine::Engine;
use crate::spec::SandboxName;

/// How often a verb that goes on for long says that the sandbox is being used.
const AGAIN: Duration = Duration::from_mins(1);

/// Verbs that only look do not wait longer for the keeper.
const PATIENCE: Duration = Duration::from_secs(5);

/// The keeper, if it runs.
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

/// A sandbox is being used for as long as this lives.
pub struct UsageGuard(JoinHandle<()>);

impl UsageGuard {
    /// Tells the keeper now, and again every minute. Without a keeper nothing is told: nothing ends by disuse then.
    pub fn of(engine: &Arc<dyn Engine>, name: &str) -> Self {
        let (engine, name) = (Arc::clone(engine), name.parse::<SandboxName>());
        Self(tokio::spawn(async move {
            let (Ok(name), Ok(options)) = (name, Options::from_env()) else { return };
            let there = client::keeper_state(&engine, &options).await;
            if !there.is_ok_and(|state| state.is_some_and(crate::engine::ContainerState::is_alive)) {
                return;
            }
            let Ok(keeper) = Keeper::ensure(&engine, options).await else { return };
            while keeper.touch(&name).await.is_ok() {
                tokio::time::sleep(AGAIN).await;
            }
        }))
    }
}

impl Drop for UsageGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

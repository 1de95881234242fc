//! Tries what `doctor` reports. A keeper is started in a scope of its own, asked what it could do, and removed again:
//! whether a socket can be mounted or a loop device attached is seen only where the engine runs.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::start::Starter;
use super::{Keeper, KeeperError, Options, in_full};
use crate::agent::image;
use crate::agent::protocol::{DiskSpace, Greeting};
use crate::engine::identity::{self, Role, Scope};
use crate::engine::{CreateContainer, Engine, EngineError, NetworkMode, Resources};

/// A keeper whose client was killed leaves after this time.
const LINGER: Duration = Duration::from_secs(10);
/// How long the engine may take to let go of the volume.
const CLEANUP: Duration = Duration::from_secs(10);

/// What worked on this engine.
#[derive(Debug, Clone)]
pub struct Trial {
    /// What the keeper reported about itself.
    pub greeting: Greeting,
    /// Why containers cannot be paused, if they cannot.
    pub pausing: Result<(), String>,
    /// The engine's warnings about a container with limits of memory, processors and processes.
    pub ignored_limits: Vec<String>,
}

impl Trial {
    /// Returns the space on the engine's disk.
    pub fn disk(&self) -> Option<DiskSpace> {
        self.greeting.disk
    }
}

/// Tries to start a keeper and to use it, and removes everything again.
///
/// # Errors
/// Fails if no keeper can be started.
pub async fn trial(engine: &Arc<dyn Engine>, options: &Options) -> Result<Trial, KeeperError> {
    let options = Options { scope: trial_scope(&options.scope), linger: LINGER, ..options.clone() };
    let tried = attempt(engine, &options).await;
    clean_up(engine, &options).await;
    tried
}

async fn attempt(engine: &Arc<dyn Engine>, options: &Options) -> Result<Trial, KeeperError> {
    let keeper = Keeper::ensure(engine, options.clone()).await?;
    let container = keeper.storage_container();
    let pausing = paused(&**engine, &container).await.map_err(|error| in_full(&error));
    let ignored_limits =
        limited(&**engine, &container, options).await.unwrap_or_else(|error| vec![in_full(&error)]);
    Ok(Trial { greeting: keeper.greeting().clone(), pausing, ignored_limits })
}

async fn paused(engine: &dyn Engine, container: &str) -> Result<(), EngineError> {
    engine.pause_container(container).await?;
    engine.unpause_container(container).await
}

/// Creates a container with limits, of the keeper's image, which is never started; returns the engine's warnings.
async fn limited(engine: &dyn Engine, keeper: &str, options: &Options) -> Result<Vec<String>, EngineError> {
    let Some(image) = engine.container(keeper).await?.map(|keeper| keeper.image) else {
        return Ok(Vec::new());
    };
    let mut create = CreateContainer::new(limited_name(&options.scope), &image);
    create.cmd = Some(vec![image::PATH.to_owned()]);
    create.network_mode = NetworkMode::None;
    create.labels = [(identity::ROLE.to_owned(), Role::Probe.as_str().to_owned())].into();
    options.scope.mark(&mut create.labels);
    create.resources =
        Resources { memory: Some(64 << 20), cpus: Some(0.5), pids_limit: Some(16), ..Resources::default() };
    let made = engine.create_container_with_warnings(&create).await;
    let _ = engine.remove_container(&create.name, true, true).await;
    made.map(|(_, warnings)| warnings)
}

/// Removes the keeper and its volume. What cannot be removed now is removed by the next trial.
async fn clean_up(engine: &Arc<dyn Engine>, options: &Options) {
    let scope = &options.scope;
    let dismissed = Starter::new(Arc::clone(engine), options.clone()).dismiss().await;
    let storage = Starter::of_storage_server(Arc::clone(engine), options.clone()).dismiss().await;
    for error in dismissed.err().into_iter().chain(storage.err()) {
        tracing::debug!(error = in_full(&error), "cannot remove the keeper of a trial");
    }
    for container in [scope.host_firewall(), limited_name(scope)] {
        let _ = engine.remove_container(&container, true, false).await;
    }
    let begin = Instant::now();
    while let Err(error) = engine.remove_volume(&scope.pool()).await {
        if error.is_not_found() || begin.elapsed() > CLEANUP {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

fn limited_name(scope: &Scope) -> String {
    format!("{}-limits", scope.keeper())
}

/// A scope that no sandbox has, the same at each trial.
fn trial_scope(of: &Scope) -> Scope {
    let digest = hex::encode(Sha256::digest(of.as_str().as_bytes()));
    format!("doctor{}", &digest[..12]).parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_has_a_scope_of_its_own() {
        let of = |name: &str| trial_scope(&name.parse().unwrap());
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        assert_ne!(of(""), Scope::default());
    }
}

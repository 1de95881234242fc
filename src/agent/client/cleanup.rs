//! Housekeeping: what every call of the program does on the side, and the removal of everything.

use std::sync::Arc;

use super::start::Starter;
use super::{Keeper, KeeperError, KeeperPlacement, Options};
use crate::agent::protocol::{LeaseStatus, Reason};
use crate::agent::{built_images, image};
use crate::engine::{ContainerState, Engine, EngineError};
use crate::sweep::{self, Patience, StopMode, Target};

/// Returns the state of the keeper, wherever it runs; `None` if there is none. Starts nothing.
///
/// # Errors
/// Fails if the engine does not answer.
pub async fn keeper_state(
    engine: &Arc<dyn Engine>,
    options: &Options,
) -> Result<Option<ContainerState>, KeeperError> {
    let starter = Starter::new(Arc::clone(engine), options.clone());
    Ok(match options.place {
        KeeperPlacement::Container => starter.container().await?.map(|container| container.state),
        KeeperPlacement::Process => starter.has_process().await?.then_some(ContainerState::Running),
    })
}

/// Makes sure that expired sandboxes are destroyed even if no keeper runs: if the engine has any sandbox and there is
/// no running keeper, starts one. Costs two to four small look-ups.
pub async fn sweep_expired(engine: &Arc<dyn Engine>, options: &Options) -> Result<(), KeeperError> {
    let starter = Starter::new(Arc::clone(engine), options.clone());
    let watched = keeper_state(engine, options).await?.is_some_and(ContainerState::is_alive);
    if !watched && starter.any_sandbox().await? {
        Keeper::ensure(engine, options.clone()).await?;
    }
    Ok(())
}

/// Removes everything of ours from the engine: sandboxes, keeper, stored data, edge network, and images, including
/// those that were built for specs. Returns what could not be removed, each with its cause; a missing object is no
/// failure.
pub async fn remove_everything(
    engine: &Arc<dyn Engine>,
    options: &Options,
) -> Result<Vec<String>, KeeperError> {
    let mut left = Vec::new();
    let starter = Starter::new(Arc::clone(engine), options.clone());
    if starter.any_sandbox().await? {
        let keeper = Keeper::ensure(engine, options.clone()).await?;
        for standing in keeper.sandboxes().await?.iter().filter(|it| it.hold != LeaseStatus::Ending) {
            match keeper.destroy(&standing.name, Reason::Down).await {
                Ok(destroyed) => left.extend(destroyed.left.iter().map(ToString::to_string)),
                Err(error) if error.is_no_such_sandbox() => {}
                Err(error) => return Err(error),
            }
        }
    }
    // Sandboxes that no keeper knows are found by their labels.
    let rest = Target::sandboxes(&options.scope);
    let swept = sweep::destroy(&**engine, &rest, StopMode::Kill, &Patience::default(), &sweep::NoHooks).await;
    left.extend(swept.left.iter().map(ToString::to_string));
    left.dedup();
    starter.dismiss().await?;
    Starter::of_storage_server(Arc::clone(engine), options.clone()).dismiss().await?;
    let scope = &options.scope;
    for (what, removed) in [
        (scope.host_firewall(), engine.remove_container(&scope.host_firewall(), true, false).await),
        (scope.pool(), engine.remove_volume(&scope.pool()).await),
        (scope.edge(), engine.remove_network(&scope.edge()).await),
        ("sandbox-agent".to_owned(), image::remove_all(engine).await),
    ] {
        note(&mut left, &what, removed);
    }
    match built_images::unused(&**engine, scope).await {
        Ok(images) => {
            for image in images {
                note(&mut left, &image.reference, built_images::remove(&**engine, &image).await);
            }
        }
        Err(error) => note(&mut left, "images that were built", Err(error)),
    }
    Ok(left)
}

fn note(left: &mut Vec<String>, what: &str, removed: Result<(), EngineError>) {
    match removed {
        Err(error) if !error.is_not_found() => left.push(format!("`{what}`: {}", super::in_full(&error))),
        _ => {}
    }
}

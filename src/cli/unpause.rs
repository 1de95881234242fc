//! `unpause`: resumes the processes of paused services.

use super::support::containers;
use super::{Context, Exit, Failure};
use crate::engine::ContainerState;

pub use super::pause::Args;

/// Runs `unpause`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let observed = context.chosen().await?;
    let chosen = containers::chosen(&observed, &args.services)?;
    for container in chosen.into_iter().filter(|one| one.state == ContainerState::Paused) {
        engine.unpause_container(&container.name).await?;
    }
    Ok(Exit::Done)
}

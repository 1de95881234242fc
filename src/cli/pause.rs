//! `pause`: freezes the processes of services.

use clap_complete::engine::ArgValueCandidates;

use super::support::containers;
use super::{Context, Exit, Failure, complete};
use crate::engine::ContainerState;

/// Arguments of `pause` and `unpause`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services (default: all)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    pub(super) services: Vec<String>,
}

/// Runs `pause`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let observed = context.chosen().await?;
    let chosen = containers::chosen(&observed, &args.services)?;
    let chosen = containers::running(&observed, chosen, &args.services)?;
    for container in chosen.into_iter().filter(|one| one.state != ContainerState::Paused) {
        engine.pause_container(&container.name).await?;
    }
    Ok(Exit::Done)
}

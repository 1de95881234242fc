//! `kill`: sends a signal to services.

use clap_complete::engine::ArgValueCandidates;

use super::support::containers;
use super::{Context, Exit, Failure, complete};

/// Arguments of `kill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services (default: all that run)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    /// Signal to send
    #[arg(long, short, default_value = "SIGKILL", value_name = "SIGNAL")]
    signal: String,
    /// Accepted for Compose; `up` removes orphans
    #[arg(long, hide = true)]
    remove_orphans: bool,
}

/// Runs `kill`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let observed = context.chosen().await?;
    let chosen = containers::chosen(&observed, &args.services)?;
    let chosen = containers::running(&observed, chosen, &args.services)?;
    for container in chosen {
        engine.kill_container(&container.name, &args.signal).await?;
    }
    Ok(Exit::Done)
}

//! `fault rm`: removes faults from services.

use clap_complete::engine::ArgValueCandidates;

use super::{Context, Exit, Failure, complete, imposed};
use crate::session::existing::fault;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Services
    #[arg(value_name = "SERVICE", required_unless_present = "all", add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    /// Remove the faults of all services
    #[arg(long, conflicts_with = "services")]
    all: bool,
}

/// Runs `fault rm`.
pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let observed = context.chosen().await?;
    for service in &args.services {
        observed.container(service, 1)?;
    }
    for one in imposed(context).await? {
        let service = crate::session::inspect::service_of(&one.container);
        if args.all || args.services.iter().any(|named| named == service) {
            fault::lift(&*engine, &one).await?;
        }
    }
    Ok(Exit::Done)
}

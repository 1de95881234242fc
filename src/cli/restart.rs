//! `restart`: stops and starts services of an existing sandbox.

use super::change::{Change, ChangedServices, StopOptions, WaitOptions, change};
use super::{Context, Exit, Failure};

/// Arguments of `restart`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    services: ChangedServices,
    #[command(flatten)]
    waiting: WaitOptions,
    #[command(flatten)]
    stopping: StopOptions,
    /// Accepted for Compose; dependents are not restarted
    #[arg(long, hide = true)]
    no_deps: bool,
}

/// Runs `restart`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let (within, patience) = (args.stopping.within(), args.waiting.patience());
    change(args.services, Change::Restart { within, patience }, context).await
}

//! `start`: starts services of an existing sandbox.

use super::change::{Change, ChangedServices, WaitOptions, change};
use super::{Context, Exit, Failure};

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    services: ChangedServices,
    #[command(flatten)]
    waiting: WaitOptions,
    /// Accepted for Compose; services are always waited for
    #[arg(long, hide = true)]
    wait: bool,
}

/// Runs `start`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    change(args.services, Change::Start { patience: args.waiting.patience() }, context).await
}

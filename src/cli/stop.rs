//! `stop`: stops services of an existing sandbox.

use super::change::{Change, ChangedServices, StopOptions, change};
use super::{Context, Exit, Failure};

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    services: ChangedServices,
    #[command(flatten)]
    stopping: StopOptions,
}

/// Runs `stop`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    change(args.services, Change::Stop { within: args.stopping.within() }, context).await
}

//! `create`: creates a sandbox's containers without starting them.

use super::build_options::BuildArgs;
use super::{Context, Exit, Failure, up};

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: BuildArgs,
    /// Do not show the progress of pulls
    #[arg(long)]
    quiet_pull: bool,
    /// Accepted for Compose; nothing is asked
    #[arg(long, short, hide = true)]
    yes: bool,
}

/// Runs `create`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let Args { target, quiet_pull, .. } = args;
    up::run(up::Args { target, quiet_pull, no_start: true, ..up::Args::default() }, context).await
}

//! `watch`: an attached `up` that applies changes of files and of the spec.

use super::build_options::BuildArgs;
use super::{Context, Exit, Failure, up};

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: BuildArgs,
    /// Do not show the output of builds
    #[arg(long)]
    quiet: bool,
    /// Accepted for Compose
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    prune: Option<bool>,
}

/// Runs `watch`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let Args { target, quiet, .. } = args;
    let up = up::Args { target, watch: true, no_logs: true, quiet_build: quiet, ..up::Args::default() };
    up::run(up, context).await
}

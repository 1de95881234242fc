//! `create`: creates a sandbox's containers without starting them.

use clap_complete::engine::ArgValueCandidates;

use super::up::{self, BuildOptions};
use super::{Context, Exit, Failure, SpecOptions, complete};

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services to create, with their dependencies (default: all)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    #[command(flatten)]
    spec: SpecOptions,
    #[command(flatten)]
    build: BuildOptions,
    /// Do not show the progress of pulls
    #[arg(long)]
    quiet_pull: bool,
    /// Accepted for Compose; nothing is asked
    #[arg(long, short, hide = true)]
    yes: bool,
}

/// Runs `create`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let Args { services, spec, build, quiet_pull, .. } = args;
    let up = up::Args { services, spec, build, quiet_pull, no_start: true, ..up::Args::default() };
    up::run(up, context).await
}

//! `watch`: an attached `up` that applies changes of files and of the spec.

use clap_complete::engine::ArgValueCandidates;

use super::up::{self, BuildOptions};
use super::{Context, Exit, Failure, SpecOptions, complete};

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services to build, with their dependencies (default: all)
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(complete::services))]
    services: Vec<String>,
    #[command(flatten)]
    spec: SpecOptions,
    #[command(flatten)]
    build: BuildOptions,
    /// Do not show the output of builds
    #[arg(long)]
    quiet: bool,
    /// Accepted for Compose
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    prune: Option<bool>,
}

/// Runs `watch`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let Args { services, spec, build, quiet, .. } = args;
    let up = up::Args {
        services,
        spec,
        build,
        watch: true,
        no_logs: true,
        quiet_build: quiet,
        ..up::Args::default()
    };
    up::run(up, context).await
}

//! `scale`: changes how many containers services have.

use super::build_options::{BuildArgs, BuildOptions, scale};
use super::{Context, Exit, Failure, SpecOptions, up};
use crate::spec::ServiceName;

/// Arguments of `scale`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services and their numbers of containers
    #[arg(value_name = "SERVICE=NUMBER", required = true, value_parser = scale)]
    services: Vec<(ServiceName, u32)>,
    #[command(flatten)]
    spec: SpecOptions,
    /// Do not start the services that these depend on
    #[arg(long)]
    no_deps: bool,
}

/// Runs `scale`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let services = args.services.iter().map(|(name, _)| name.to_string()).collect();
    let build = BuildOptions { scale: args.services, ..BuildOptions::default() };
    let target = BuildArgs { services, spec: args.spec, build };
    let up = up::Args { target, detach: true, no_deps: args.no_deps, ..up::Args::default() };
    up::run(up, context).await
}

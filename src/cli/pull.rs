//! `pull`: pulls images.

use super::support::fetch::{ImageArgs, Which};
use super::{Context, Exit, Failure};
use crate::spec::PullPolicy;

/// Arguments of `pull`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    images: ImageArgs,
    /// When images are pulled
    #[arg(long, value_name = "WHEN", value_enum, default_value = "always")]
    policy: Policy,
    /// Accepted for Compose; images that are built are never pulled
    #[arg(long, hide = true)]
    ignore_buildable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Policy {
    /// Every time
    Always,
    /// Only if the engine does not have it
    Missing,
}

/// Runs `pull`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let mut spec = args.images.chosen(Which::Pulled, context)?;
    let policy = match args.policy {
        Policy::Always => PullPolicy::Always,
        Policy::Missing => PullPolicy::Missing,
    };
    for service in spec.services.values_mut() {
        service.pull_policy = Some(policy);
    }
    args.images.fetch(spec, context).await
}

//! `build`: builds images.

use super::support::fetch::{ImageArgs, Which};
use super::{Context, Exit, Failure};
use crate::spec::ImageSource;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    images: ImageArgs,
    /// Do not use the build cache
    #[arg(long)]
    no_cache: bool,
    /// Pull newer versions of the base images
    #[arg(long)]
    pull: bool,
}

/// Runs `build`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let mut spec = args.images.chosen(Which::Built, context)?;
    for service in spec.services.values_mut() {
        if let ImageSource::Build(build) = &mut service.source {
            build.no_cache |= args.no_cache;
            build.pull |= args.pull;
        }
    }
    args.images.fetch(spec, context).await
}

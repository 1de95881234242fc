//! `bake`: runs the seeds before the first `up`.

use tokio_util::sync::CancellationToken;

use super::build_options::BakeOptions;
use super::{Context, Exit, Failure, SpecOptions};
use crate::session::build::bake::{self, Missing};
use crate::session::build::converge;
use crate::session::lifecycle::open;
use crate::spec::Refusals;

/// Arguments of `bake`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecOptions,
    #[command(flatten)]
    build: BakeOptions,
}

/// Runs `bake`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let mut loaded = context.load(&args.spec, &[], Refusals::Fail)?;
    args.build.apply(&mut loaded.spec);
    let reporting = context.reporter();
    reporting.warn(&loaded.warnings);
    let outcome = async {
        let session = context.session_context(reporting.events.clone()).await?;
        let opening = args.build.opening(context, &args.spec);
        let mut order = open::order_of(&loaded, &opening)?;
        let token = CancellationToken::new();
        let images = converge::images(&session, &order.spec, &order.rebuild, &token).await?;
        bake::provide(&session, &mut order, &images, Missing::Bake, &token).await?;
        Ok(Exit::Done)
    }
    .await;
    reporting.finish().await;
    outcome
}

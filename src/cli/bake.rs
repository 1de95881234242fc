//! `bake`: runs the seeds before the first `up`.

use tokio_util::sync::CancellationToken;

use super::build_options::BakeOptions;
use super::{Context, Exit, Failure, SpecOptions};
use crate::agent::client::{Keeper, Options};
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
    let engine = context.engine().await?;
    let reporting = context.reporter();
    reporting.warn(&loaded.warnings);
    let outcome = async {
        let keeper = Keeper::ensure(&engine, Options::from_env()?).await?;
        let session = crate::session::context::Context::open(
            &engine,
            &context.scope()?,
            keeper,
            reporting.events.clone(),
        )
        .await?;
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

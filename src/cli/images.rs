//! `build`, `pull`, `bake`: ahead of an `up`.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::up::BuildOptions;
use super::{Context, Exit, Failure, SpecOptions};
use crate::agent::client::{Keeper, Options};
use crate::session::bake::{self, Missing};
use crate::session::{open, raise};
use crate::spec::{ImageSource, PullPolicy, Refusals, Spec};

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct BuildArgs {
    #[command(flatten)]
    args: Args,
    /// Run every step anew.
    #[arg(long)]
    no_cache: bool,
    /// Look for newer base images.
    #[arg(long)]
    pull: bool,
}

/// Arguments of `pull`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The services (default: all).
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    spec: SpecOptions,
}

/// Arguments of `bake`.
#[derive(Debug, clap::Args)]
pub struct BakeArgs {
    #[command(flatten)]
    spec: SpecOptions,
    #[command(flatten)]
    build: BuildOptions,
}

/// Which images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those that are built.
    Built,
    /// Those that are pulled.
    Pulled,
}

/// Runs `build`.
pub async fn build(args: BuildArgs, context: &Context) -> Result<Exit, Failure> {
    let mut spec = args.args.chosen(Which::Built, context)?;
    for service in spec.services.values_mut() {
        if let ImageSource::Build(build) = &mut service.source {
            build.no_cache |= args.no_cache;
            build.pull |= args.pull;
        }
    }
    fetch(spec, context).await
}

/// Runs `pull`.
pub async fn pull(args: Args, context: &Context) -> Result<Exit, Failure> {
    let mut spec = args.chosen(Which::Pulled, context)?;
    for service in spec.services.values_mut() {
        service.pull_policy = Some(PullPolicy::Always);
    }
    fetch(spec, context).await
}

impl Args {
    /// The spec with only the services that are meant.
    fn chosen(&self, which: Which, context: &Context) -> Result<Spec, Failure> {
        let mut spec = context.load(&self.spec, &self.services, Refusals::Fail)?.spec;
        spec.services.retain(|name, service| {
            let asked =
                self.services.is_empty() || self.services.iter().any(|wanted| wanted == name.as_str());
            asked && service.build().is_some() == (which == Which::Built)
        });
        Ok(spec)
    }
}

async fn fetch(spec: Spec, context: &Context) -> Result<Exit, Failure> {
    let rebuild: BTreeSet<_> = spec.services.keys().cloned().collect();
    let engine = context.engine().await?;
    let reporting = context.reporter();
    let outcome = async {
        let keeper = Keeper::ensure(&engine, Options::from_env()?).await?;
        let site = open::site(&engine, &context.scope()?, &keeper, reporting.events.clone()).await?;
        raise::images(&site, &Arc::new(spec), &rebuild, &CancellationToken::new()).await?;
        Ok(Exit::Done)
    }
    .await;
    reporting.finish().await;
    outcome
}

/// Runs `bake`.
pub async fn bake(args: BakeArgs, context: &Context) -> Result<Exit, Failure> {
    let loaded = args.build.applied(context.load(&args.spec, &[], Refusals::Fail)?)?;
    let engine = context.engine().await?;
    let reporting = context.reporter();
    reporting.warn(&loaded.warnings);
    let outcome = async {
        let keeper = Keeper::ensure(&engine, Options::from_env()?).await?;
        let site = open::site(&engine, &context.scope()?, &keeper, reporting.events.clone()).await?;
        let opening = args.build.opening(context, &args.spec, &[], None);
        let mut order = open::order_of(&loaded, &opening)?;
        let token = CancellationToken::new();
        let images = raise::images(&site, &order.spec, &order.rebuild, &token).await?;
        bake::provide(&site, &keeper, &mut order, &images, Missing::Bake, &token).await?;
        Ok(Exit::Done)
    }
    .await;
    reporting.finish().await;
    outcome
}

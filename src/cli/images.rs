//! `build`, `pull`, `bake`: ahead of an `up`.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::up::BuildOptions;
use super::{Context, Exit, Failure, SpecOptions};
use crate::agent::client::{Keeper, Options};
use crate::session::bake::{self, Missing};
use crate::session::{open, raise};
use crate::spec::{PullPolicy, Refusals};

/// Arguments of `build` and `pull`.
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
pub enum Which {
    /// Those that are built.
    Built,
    /// Those that are pulled.
    Pulled,
}

/// Runs `build` or `pull`.
pub async fn run(args: Args, which: Which, context: &Context) -> Result<Exit, Failure> {
    let mut spec = context.load(&args.spec, &args.services, Refusals::Fail)?.spec;
    spec.services.retain(|name, service| {
        let asked = args.services.is_empty() || args.services.iter().any(|wanted| wanted == name.as_str());
        asked && service.build().is_some() == (which == Which::Built)
    });
    for service in spec.services.values_mut().filter(|_| which == Which::Pulled) {
        service.pull_policy = Some(PullPolicy::Always);
    }
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
    let loaded = context.load(&args.spec, &[], Refusals::Fail)?;
    let engine = context.engine().await?;
    let reporting = context.reporter();
    reporting.warn(&loaded.warnings);
    let outcome = async {
        let keeper = Keeper::ensure(&engine, Options::from_env()?).await?;
        let site = open::site(&engine, &context.scope()?, &keeper, reporting.events.clone()).await?;
        let opening = args.build.opening(context, &args.spec, &[], None);
        let mut order = open::order_of(&loaded, &opening)?;
        let token = CancellationToken::new();
        raise::images(&site, &order.spec, &order.rebuild, &token).await?;
        bake::provide(&site, &keeper, &mut order, Missing::Bake, &token).await?;
        Ok(Exit::Done)
    }
    .await;
    reporting.finish().await;
    outcome
}

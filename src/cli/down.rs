//! `sandbox down`: destroys sandboxes, and makes sure that nothing is left.

use super::{Context, Exit, Failure};
use crate::agent::client::{Keeper, Options};
use crate::agent::protocol::Reason;
use crate::session::teardown::Doomed;
use crate::session::{observe, present};
use crate::spec::SandboxName;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Arguments of `down`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sandboxes (default: the folder's).
    #[arg(value_name = "NAME")]
    pub names: Vec<SandboxName>,
    /// All of them.
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Volumes too; they always are
    #[arg(short, long, hide = true)]
    pub volumes: bool,
    /// What the spec has no longer, too; it always is
    #[arg(long, hide = true)]
    pub remove_orphans: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let scope = context.scope()?;
    let sightings = observe::sandboxes(&*engine, &scope).await?;
    let chosen: Vec<&observe::Sighting> = if args.all {
        sightings.iter().collect()
    } else if args.names.is_empty() {
        vec![context.own(&sightings)?]
    } else {
        let wanted = |name: &&observe::Sighting| args.names.iter().any(|wanted| wanted.as_str() == name.name);
        sightings.iter().filter(wanted).collect()
    };
    let missing = args.names.iter().find(|name| !sightings.iter().any(|one| one.name == name.as_str()));
    if chosen.is_empty() && missing.is_none() {
        return Ok(Exit::Done);
    }
    let reporting = context.reporter();
    let keeper = Keeper::ensure(&engine, Options::from_env()?).await?;
    let mut doomed = Vec::new();
    for sighting in chosen {
        let spec = present::declared(&keeper, sighting).await?.map(Arc::new);
        let others = sighting.others.iter().map(|id| (id, None));
        for (id, spec) in std::iter::once((&sighting.id, spec)).chain(others) {
            let (Ok(name), Ok(id)) = (sighting.name.parse(), id.parse()) else { continue };
            doomed.push(Doomed {
                engine: Arc::clone(&engine),
                keeper: keeper.clone(),
                events: reporting.events.clone(),
                scope: scope.clone(),
                name,
                id,
                spec,
            });
        }
    }
    let force = CancellationToken::new();
    let ends = doomed.iter().map(|one| one.destroy("as asked", Reason::Down, &force));
    let ended = futures_util::future::join_all(ends).await;
    drop(doomed);
    reporting.finish().await;
    let mut exit = Exit::Done;
    for destroyed in ended {
        if !destroyed?.left.is_empty() {
            exit = Exit::Failed;
        }
    }
    match missing {
        Some(name) => Err(Failure::NoSandbox(observe::NoSandbox::Named {
            name: name.to_string(),
            known: sightings.into_iter().map(|one| one.name).collect(),
        })),
        None => Ok(exit),
    }
}

//! `sandbox down`: destroys sandboxes and verifies that nothing is left.

use super::context::Reporting;
use super::{Context, Exit, Failure, complete};
use crate::agent::client::{Keeper, Options};
use crate::agent::protocol::Reason;
use crate::engine::Engine;
use crate::plan;
use crate::session::event::Event;
use crate::session::lifecycle::teardown::Teardown;
use crate::session::{existing, inspect};
use crate::spec::{SandboxName, Spec};
use clap_complete::engine::ArgValueCandidates;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Arguments of `down`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Sandboxes (default: that of the directory)
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::sandboxes))]
    pub names: Vec<SandboxName>,
    /// Destroy all sandboxes
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Seconds to wait for each service to stop, before it is killed (default: the spec's `stop_grace_period`)
    #[arg(long, short, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Remove the images of the services as well: those without an `image:` of their own, or all
    #[arg(long, value_name = "WHICH", value_enum)]
    pub rmi: Option<Rmi>,
    /// Accepted for Compose; volumes are always removed
    #[arg(short, long, hide = true)]
    pub volumes: bool,
    /// Accepted for Compose; what the spec has no longer is always removed
    #[arg(long, hide = true)]
    pub remove_orphans: bool,
}

/// Which images go with a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Rmi {
    /// Those that were built and have no name in the spec
    Local,
    /// All that the services use
    All,
}

/// Runs `down`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let engine = context.engine().await?;
    let scope = context.scope()?;
    let sightings = inspect::sandboxes(&*engine, &scope).await?;
    let chosen: Vec<&inspect::ObservedSandbox> = if args.all {
        sightings.iter().collect()
    } else if args.names.is_empty() {
        vec![context.own(&sightings)?]
    } else {
        let wanted =
            |name: &&inspect::ObservedSandbox| args.names.iter().any(|wanted| wanted.as_str() == name.name);
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
        let spec = existing::declared(&keeper, sighting).await?.map(Arc::new);
        let others = sighting.others.iter().map(|id| (id, None));
        for (id, spec) in std::iter::once((&sighting.id, spec)).chain(others) {
            let (Ok(name), Ok(id)) = (sighting.name.parse(), id.parse()) else { continue };
            doomed.push(Teardown {
                engine: Arc::clone(&engine),
                keeper: keeper.clone(),
                events: reporting.events.clone(),
                scope: scope.clone(),
                name,
                id,
                spec,
                stop_timeout: args.timeout.map(Duration::from_secs),
                follower: None,
            });
        }
    }
    let images: BTreeSet<String> = match args.rmi {
        Some(which) => {
            doomed.iter().filter_map(|one| one.spec.as_deref()).flat_map(|spec| images(spec, which)).collect()
        }
        None => BTreeSet::new(),
    };
    let force = CancellationToken::new();
    let ends = doomed.iter().map(|one| one.destroy("as asked", Reason::Down, &force));
    let ended = futures_util::future::join_all(ends).await;
    drop(doomed);
    for image in &images {
        remove_image(&engine, image, &reporting).await;
    }
    reporting.finish().await;
    let mut exit = Exit::Done;
    for destroyed in ended {
        if !destroyed?.left.is_empty() {
            exit = Exit::Failed;
        }
    }
    match missing {
        Some(name) => Err(Failure::NoSandbox(inspect::NoSandbox::Named {
            name: name.to_string(),
            known: sightings.into_iter().map(|one| one.name).collect(),
        })),
        None => Ok(exit),
    }
}

/// The selected images of a spec's services.
fn images(spec: &Spec, which: Rmi) -> Vec<String> {
    let meant = spec.services.values().filter(|service| match which {
        Rmi::All => true,
        Rmi::Local => service.build().is_some_and(|build| build.tag.is_none()),
    });
    meant.map(|service| plan::image_reference(spec, service)).collect()
}

async fn remove_image(engine: &Arc<dyn Engine>, image: &str, reporting: &Reporting) {
    let event = match engine.remove_image(image).await {
        Ok(()) => Event::Notice { text: format!("removed image `{image}`") },
        Err(error) if error.is_not_found() => return,
        // Another sandbox or container uses the image.
        Err(error) => {
            Event::Warning { text: format!("image `{image}` stays: {}", error.cause.0), hint: error.hint() }
        }
    };
    reporting.events.emit(event);
}

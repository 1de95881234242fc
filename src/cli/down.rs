//! `sandbox down`: destroys sandboxes and verifies that nothing is left.

use super::context::Reporting;
use super::{Context, Exit, Failure, complete};
use crate::agent::client::{Keeper, KeeperError, Options};
use crate::agent::protocol::{Reason, RefusalKind};
use crate::engine::identity::Scope;
use crate::engine::{Engine, join_bounded};
use crate::plan;
use crate::session::event::{Event, Removed};
use crate::session::git::store;
use crate::session::inspect;
use crate::session::lifecycle::teardown::{Teardown, TeardownCause};
use crate::spec::{SandboxName, Spec};
use clap_complete::engine::ArgValueCandidates;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
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
    let observed = inspect::sandboxes(&*engine, &scope).await?;
    let Chosen { there: chosen, missing } = choose(&args, context, &observed)?;
    if chosen.is_empty() && missing.is_empty() {
        return Ok(Exit::Done);
    }
    let reporting = context.reporter();
    let (mut exit, mut unknown) = (Exit::Done, None);
    for (name, error) in missing {
        match finish(&engine, &name, &reporting).await? {
            Some(Finished::Whole) => {}
            Some(Finished::InPart) => exit = Exit::Failed,
            None => unknown = unknown.or(Some(error)),
        }
    }
    if chosen.is_empty() {
        reporting.finish().await;
        return unknown.map_or(Ok(exit), Err);
    }
    let keeper = Keeper::ensure(&engine, Options::from_env()?).await?;
    let timeout = args.timeout.map(Duration::from_secs);
    let doomed = teardowns(&engine, &keeper, &scope, &chosen, timeout, &reporting).await?;
    let images: BTreeSet<String> = match args.rmi {
        Some(which) => {
            doomed.iter().filter_map(|one| one.spec.as_deref()).flat_map(|spec| images(spec, which)).collect()
        }
        None => BTreeSet::new(),
    };
    let destroyed = destroy(doomed, "requested").await;
    for image in &images {
        remove_image(&engine, image, &reporting).await;
    }
    reporting.finish().await;
    store::sweep(&*engine, &scope).await?;
    if destroyed? == Exit::Failed {
        exit = Exit::Failed;
    }
    unknown.map_or(Ok(exit), Err)
}

/// How to destroy these sandboxes, with the remains of earlier ones of the same names.
pub(super) async fn teardowns(
    engine: &Arc<dyn Engine>,
    keeper: &Keeper,
    scope: &Scope,
    chosen: &[&inspect::ObservedSandbox],
    stop_timeout: Option<Duration>,
    reporting: &Reporting,
) -> Result<Vec<Teardown>, Failure> {
    let mut doomed = Vec::new();
    for observed in chosen {
        let spec = inspect::declared(keeper, observed).await?.map(Arc::new);
        let others = observed.others.iter().map(|id| (id, None));
        for (id, spec) in std::iter::once((&observed.id, spec)).chain(others) {
            let (Ok(name), Ok(id)) = (observed.name.parse(), id.parse()) else { continue };
            doomed.push(Teardown {
                engine: Arc::clone(engine),
                keeper: keeper.clone(),
                events: reporting.events.clone(),
                scope: scope.clone(),
                name,
                id,
                spec,
                stop_timeout,
                follower: None,
                artifacts: None,
                cause: TeardownCause::Other,
            });
        }
    }
    Ok(doomed)
}

/// Destroys sandboxes and returns whether nothing is left of them.
pub(super) async fn destroy(doomed: Vec<Teardown>, reason: &str) -> Result<Exit, Failure> {
    let force = CancellationToken::new();
    let ends = doomed.iter().map(|one| one.destroy(reason, Reason::Down, &force));
    let mut exit = Exit::Done;
    for destroyed in join_bounded(ends).await {
        if !destroyed?.left.is_empty() {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

/// The sandboxes to destroy, and names of which the engine has no object, each with the error that says so.
struct Chosen<'a> {
    there: Vec<&'a inspect::ObservedSandbox>,
    missing: Vec<(SandboxName, Failure)>,
}

fn choose<'a>(
    args: &Args,
    context: &Context,
    observed: &'a [inspect::ObservedSandbox],
) -> Result<Chosen<'a>, Failure> {
    if args.all {
        return Ok(Chosen { there: observed.iter().collect(), missing: Vec::new() });
    }
    if args.names.is_empty() {
        return match (context.own(observed), context.derived_name()) {
            (Ok(own), _) => Ok(Chosen { there: vec![own], missing: Vec::new() }),
            (Err(error), Some(name)) => Ok(Chosen { there: Vec::new(), missing: vec![(name, error)] }),
            (Err(error), None) => Err(error),
        };
    }
    let is_there = |name: &SandboxName| observed.iter().any(|one| one.name == name.as_str());
    let wanted = |one: &&inspect::ObservedSandbox| args.names.iter().any(|name| name.as_str() == one.name);
    let missing = args.names.iter().filter(|name| !is_there(name)).map(|name| {
        let known = observed.iter().map(|one| one.name.clone()).collect();
        let error = inspect::NoSandbox::Named { name: name.to_string(), known };
        (name.clone(), Failure::NoSandbox(error))
    });
    Ok(Chosen { there: observed.iter().filter(wanted).collect(), missing: missing.collect() })
}

/// How far the rest of a destroyed sandbox was removed.
enum Finished {
    Whole,
    InPart,
}

/// Has the keeper remove what an earlier `down` left of a sandbox; `None` if it knows of nothing.
async fn finish(
    engine: &Arc<dyn Engine>,
    name: &SandboxName,
    reporting: &Reporting,
) -> Result<Option<Finished>, Failure> {
    let Some(keeper) = super::keeper::running(engine).await? else { return Ok(None) };
    let began = Instant::now();
    let left = match keeper.destroy(name, Reason::Down).await {
        Ok(destroyed) => destroyed.left,
        Err(KeeperError::Refused(refusal)) if refusal.kind == RefusalKind::NoSuchSandbox => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let name = name.to_string();
    Ok(Some(if left.is_empty() {
        let removed = Removed { containers: 0, networks: 0, volumes: 0 };
        reporting.events.emit(Event::Torn { name, removed, elapsed: began.elapsed() });
        Finished::Whole
    } else {
        reporting.events.emit(Event::Left { name, objects: left });
        Finished::InPart
    }))
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

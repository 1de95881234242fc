//! Runs the steps of a plan: each starts as soon as its dependencies are done, with a limit on parallel steps.
//!
//! The scheduler makes no decisions. After a failure or a cancellation, no further step starts. Running engine calls
//! are awaited, because their objects would otherwise appear after the teardown. Steps that only wait hold the same
//! token and return early.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::engine::CALLS;
use crate::plan::{Op, Plan, Step, StepId};

/// Maximum number of images pulled or built in parallel.
const IMAGES: usize = 4;

/// What kind of load a step causes while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    /// A call to the engine.
    Call,
    /// The engine pulls or builds an image.
    Image,
    /// The step mostly waits.
    Wait,
}

impl Load {
    fn of(op: &Op) -> Self {
        match op {
            Op::PullImage(_) | Op::BuildImage(_) => Self::Image,
            Op::Await { .. }
            | Op::RunHook { .. }
            | Op::Seed { .. }
            | Op::Stop { .. }
            | Op::ProtectHost(_)
            | Op::Limit { .. } => Self::Wait,
            _ => Self::Call,
        }
    }

    /// How many steps of this kind run in parallel.
    fn most(self) -> usize {
        match self {
            Self::Call => CALLS,
            Self::Image => IMAGES,
            Self::Wait => usize::MAX,
        }
    }
}

/// Why the plan stopped before every step was done.
#[derive(Debug)]
pub enum Halt<E> {
    /// This step failed first.
    Failed(Box<Step>, E),
    /// The token was cancelled.
    Cancelled,
    /// These steps wait for each other.
    Stuck(Vec<StepId>),
}

/// Runs every step of `plan` through `perform`.
///
/// # Errors
/// The first failure, once all running steps have ended; [`Halt::Cancelled`] if the caller cancelled `token` before
/// every step was done; [`Halt::Stuck`] if steps remain that can never start.
pub async fn run<E, F, Fut>(plan: Plan, token: &CancellationToken, perform: F) -> Result<(), Halt<E>>
where
    E: Send + 'static,
    F: Fn(Arc<Step>, CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
{
    let mut waiting: BTreeMap<StepId, Arc<Step>> =
        plan.into_steps().into_iter().map(|step| (step.id.clone(), Arc::new(step))).collect();
    let known: BTreeSet<StepId> = waiting.keys().cloned().collect();
    let mut done: BTreeSet<StepId> = BTreeSet::new();
    let mut running: JoinSet<(Arc<Step>, Result<(), E>)> = JoinSet::new();
    let mut busy: BTreeMap<Load, usize> = BTreeMap::new();
    let stop = token.child_token();
    let mut failure = None;

    loop {
        if !stop.is_cancelled() {
            for step in ready(&mut waiting, &known, &done, &mut busy) {
                let work = perform(Arc::clone(&step), stop.clone());
                running.spawn(async move { (step, work.await) });
            }
        }
        let Some(ended) = running.join_next().await else { break };
        if let Ok((step, _)) = &ended {
            busy.entry(Load::of(&step.op)).and_modify(|count| *count -= 1);
        }
        match ended {
            Ok((step, Ok(()))) => {
                done.insert(step.id.clone());
            }
            Ok((step, Err(error))) => {
                stop.cancel();
                failure.get_or_insert((step, error));
            }
            Err(join) => std::panic::resume_unwind(join.into_panic()),
        }
    }
    match failure {
        Some(_) if token.is_cancelled() => Err(Halt::Cancelled),
        Some((step, error)) => Err(Halt::Failed(Box::new(Arc::unwrap_or_clone(step)), error)),
        None if waiting.is_empty() => Ok(()),
        None if token.is_cancelled() => Err(Halt::Cancelled),
        None => Err(Halt::Stuck(waiting.into_keys().collect())),
    }
}

/// Takes from `waiting` the steps that can start now: all their dependencies are done, at least one of the steps that
/// they give way to is done (if there are any), and the `busy` steps leave room. A dependency that no step of the plan
/// provides exists already.
fn ready(
    waiting: &mut BTreeMap<StepId, Arc<Step>>,
    known: &BTreeSet<StepId>,
    done: &BTreeSet<StepId>,
    busy: &mut BTreeMap<Load, usize>,
) -> Vec<Arc<Step>> {
    let is_met = |need: &StepId| done.contains(need) || !known.contains(need);
    let met = |step: &Step| {
        let free = step.gives_way_to.is_empty() || step.gives_way_to.iter().any(is_met);
        free && step.needs.iter().all(is_met)
    };
    let mut has_room = |step: &Step| {
        let load = Load::of(&step.op);
        let count = busy.entry(load).or_default();
        let room = *count < load.most();
        *count += usize::from(room);
        room
    };
    let ids: Vec<StepId> =
        waiting.iter().filter(|(_, step)| met(step) && has_room(step)).map(|(id, _)| id.clone()).collect();
    ids.iter().filter_map(|id| waiting.remove(id)).collect()
}

//! Runs the steps of a plan: each as soon as what it needs is done, and a bounded number of them side by side.
//!
//! The scheduler decides nothing. When a step fails, or the session is cancelled, no further step begins; calls to the
//! engine that are under way are waited for (their objects would otherwise appear after the teardown), and whatever
//! only waits gives up by itself, since it holds the same token.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::plan::{Op, Plan, Step, StepId};

/// Calls to the engine that are under way at once. With more it is not faster, and answers nobody else meanwhile.
const CALLS: usize = 16;
/// Images that are pulled or built at once.
const IMAGES: usize = 4;

/// What a step takes up while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    /// The engine works for it.
    Call,
    /// The engine fetches or builds an image.
    Image,
    /// It mostly waits for something else.
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

    /// How many steps of this load run at once.
    fn most(self) -> usize {
        match self {
            Self::Call => CALLS,
            Self::Image => IMAGES,
            Self::Wait => usize::MAX,
        }
    }
}

/// How a run of the plan ended when not every step was done.
#[derive(Debug)]
pub enum Halt<E> {
    /// This step failed, first of all.
    Failed(Box<Step>, E),
    /// The token was cancelled.
    Cancelled,
}

/// Runs every step of `plan` through `perform`.
///
/// # Errors
/// The first failure, once all that was under way has come to rest; [`Halt::Cancelled`] if `token` was cancelled
/// from outside before every step was done.
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
        None if token.is_cancelled() && !waiting.is_empty() => Err(Halt::Cancelled),
        None => Ok(()),
    }
}

/// Takes the steps out of `waiting` whose needs are all done, and one of those that they give way to, as far as there is
/// room for them among those that are `busy`. A need that no step of the plan meets is something that exists already.
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

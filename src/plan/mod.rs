//! Compares the desired and the observed state and returns a plan: a list of operations, each with its cause and undo.
//!
//! [`DesiredState`] (the spec) and [`Observed`] (what the engine has) go in, a [`Plan`] comes out; its `Display` is
//! the output of the dry run and what the tests compare. The layer is pure: it does not access an engine, a clock or a
//! file. An update of a running sandbox is planned like a new one: what exists already is not in the plan.

mod container;
mod desired_state;
mod divided_limits;
mod fingerprint;
mod gateway;
pub mod gateway_config;
mod images;
mod network;
mod observed;
mod op;
mod planner;
mod port_binding;
mod published_ports;
mod readiness;
mod secret_files;
mod subnet;
#[cfg(test)]
mod tests;
mod unfinished;
mod volume;
mod volume_source;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::plan::desired_state::{Age, AnonymousVolumes, DesiredState, PreStart, Seeding};
pub use crate::plan::divided_limits::{Share, Sharing, shares};
pub use crate::plan::planner::in_order;
pub use crate::plan::port_binding::{PortBinding, PublishedService};
pub use crate::plan::published_ports::{bindings, published, recall, wished_ports};
pub use crate::plan::readiness::is_optional;
pub use crate::plan::secret_files::{FOLDER as SECRETS_FOLDER, held, held_path};
pub use fingerprint::fingerprint;
pub use images::{image_references, plan_images, reference as image_reference};
pub use observed::{ExistingContainer, ExistingGateway, ExistingNetwork, Observed};
pub use op::{FileSource, GrantedFile, Handover, Op, Until};
pub use subnet::{InvalidRange, Subnet, SubnetPool};
pub use unfinished::{Progress, Unfinished};
pub use volume::{Volumes, volumes_of};
pub use volume_source::VolumeSource;

use crate::spec::ServiceName;

/// The name of a step within its plan, such as `start db`. Other steps refer to it in `needs`, and events by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(String);

impl StepId {
    pub(crate) fn new(verb: &str, object: impl fmt::Display) -> Self {
        Self(format!("{verb} {object}"))
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kind of work of a step, in the order of display.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Stops and removes objects.
    Remove,
    /// Pulls an image.
    Pull,
    /// Builds an image.
    Build,
    /// Claims the name and creates networks.
    Network,
    /// Creates, clones and fills volumes.
    Data,
    /// Creates containers.
    Create,
    /// Starts containers.
    Start,
    /// Waits for readiness.
    Ready,
    /// Runs the seeds of services.
    Seed,
}

impl Phase {
    /// The heading in a plan's text. Some phases share one, since their steps alternate.
    fn heading(self) -> &'static str {
        match self {
            Self::Pull | Self::Build => "images",
            Self::Ready => Self::Start.word(),
            other => other.word(),
        }
    }

    /// The phase in a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Pull => "pull",
            Self::Build => "build",
            Self::Network => "network",
            Self::Data => "data",
            Self::Create => "create",
            Self::Start => "start",
            Self::Ready => "ready",
            Self::Seed => "seed",
        }
    }
}

/// One operation of a plan with its cause and its dependencies.
#[derive(Debug, Clone)]
pub struct Step {
    /// The step's name within the plan.
    pub id: StepId,
    /// The operation to execute.
    pub op: Op,
    /// The reason for the step, in the spec or on the engine.
    pub cause: String,
    /// The service that the step belongs to, if any.
    pub service: Option<ServiceName>,
    /// Steps that must be done first. One that is not in the plan counts as done.
    pub needs: BTreeSet<StepId>,
    /// If not empty, the step begins only once one of these is done. They do not wait for it.
    pub gives_way_to: BTreeSet<StepId>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  # {}", self.op, self.cause)
    }
}

/// Operations in dependency order.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    /// The operations in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The operations in order, for the executor.
    pub fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    /// Whether the plan has no operations.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds a step. A step is added after those it needs, so a plan has no cycle.
    fn push(&mut self, step: Step) {
        debug_assert!(
            !self.steps.iter().any(|other| other.id == step.id),
            "two steps are called `{}`",
            step.id
        );
        self.steps.push(step);
    }

    /// All steps that run before this one, as direct or transitive dependencies.
    fn before<'a>(&'a self, step: &'a Step) -> impl Iterator<Item = &'a Step> {
        let mut open: Vec<&StepId> = step.needs.iter().collect();
        let mut seen = BTreeSet::new();
        std::iter::from_fn(move || {
            loop {
                let next = open.pop()?;
                let known = || self.steps.iter().find(|step| step.id == *next);
                if let Some(step) = seen.insert(next).then(known).flatten() {
                    open.extend(&step.needs);
                    return Some(step);
                }
            }
        })
    }

    /// Makes a step wait for another one, unless that would be a cycle.
    fn add_need(&mut self, id: &StepId, other: &StepId) {
        let waits = |step: &Step| step.id == *id;
        if let Some(step) = self.steps.iter().find(|step| step.id == *other)
            && step.id != *id
            && !self.before(step).any(waits)
            && let Some(step) = self.steps.iter_mut().find(|step| step.id == *id)
        {
            step.needs.insert(other.clone());
        }
    }

    /// Sorts steps topologically; the sort is stable.
    fn sort(&mut self) {
        let mut open = std::mem::take(&mut self.steps);
        while !open.is_empty() {
            let ready =
                |step: &Step| step.needs.iter().all(|need| open.iter().all(|other| other.id != *need));
            let next = open.iter().position(ready).unwrap_or(0);
            self.steps.push(open.remove(next));
        }
    }

    /// Makes a step give way to others, which do not wait for it.
    fn put_off(&mut self, id: &StepId, others: impl IntoIterator<Item = StepId>) {
        if let Some(step) = self.steps.iter_mut().find(|step| step.id == *id) {
            step.gives_way_to.extend(others);
        }
    }

    /// Removes the step if the plan starts nothing, since it only serves starts.
    fn spare(&mut self, id: &StepId) {
        if !self.steps.iter().any(|step| matches!(step.op, Op::Start { .. })) {
            self.steps.retain(|step| step.id != *id);
        }
    }

    /// Appends the steps of another plan.
    #[must_use]
    pub fn then(mut self, next: Self) -> Self {
        for step in next.steps {
            self.push(step);
        }
        self
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nothing to do");
        }
        let mut phases: Vec<Phase> = self.steps.iter().map(|step| step.op.phase()).collect();
        phases.sort_unstable();
        phases.dedup_by_key(|phase| phase.heading());
        for heading in phases.into_iter().map(Phase::heading) {
            writeln!(f, "{heading}")?;
            for step in self.steps.iter().filter(|step| step.op.phase().heading() == heading) {
                writeln!(f, "  {step}")?;
                if let Some(undo) = step.op.undo() {
                    writeln!(f, "      undo: {undo}")?;
                }
            }
        }
        Ok(())
    }
}

/// Why planning failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Every subnet of the pool overlaps an existing network or route.
    #[error("no subnet is free for network `{network}`")]
    NoSubnet {
        /// The network's key in the spec.
        network: String,
    },
}

impl PlanError {
    /// How the user can resolve the error.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoSubnet { .. } => {
                "destroy sandboxes that are not needed (`sandbox ls`), or give other ranges in SANDBOX_SUBNETS=10.50.0.0/16,…"
            }
        }
    }
}

/// Plans everything except the images: from the claim on the name to the last seed.
///
/// # Errors
/// Fails if no subnet is free.
pub fn plan(wish: &DesiredState<'_>, observed: &Observed) -> Result<Plan, PlanError> {
    planner::draft(wish, observed)
}

/// Plans the start of stopped services: those in `which`, in the order of their dependencies, each awaited. The gateway
/// runs already. With [`PreStart::Run`], `observed` needs the networks and containers.
///
/// # Errors
/// Fails if the networks have no address for a `pre_start` container.
pub fn plan_start(
    desired: &DesiredState<'_>,
    observed: &Observed,
    which: &BTreeSet<ServiceName>,
    pre_start: PreStart,
) -> Result<Plan, PlanError> {
    planner::draft_start(desired, observed, which, pre_start)
}

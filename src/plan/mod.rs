//! A spec and what is observed become a plan: a list of operations, each with its cause and its undo. Pure.
//!
//! [`DesiredState`] (what is wanted) and [`Observed`] (what the engine has) go in, a [`Plan`] comes out; its `Display` is the
//! dry run and the oracle of the tests. Nothing here asks an engine, a clock or a file. A running sandbox is planned
//! for in the same way as a new one: what is there already is simply not in the plan.

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
mod published_ports;
mod readiness;
mod secret_files;
mod start;
mod subnet;
#[cfg(test)]
mod tests;
mod volume;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::plan::desired_state::{Age, DesiredState, Seeding};
pub use crate::plan::divided_limits::{Share, Sharing, shares};
pub use crate::plan::planner::in_order;
pub use crate::plan::published_ports::{
    PortBinding, PublishedService, bindings, published, recall, wished_ports,
};
pub use crate::plan::readiness::is_optional;
pub use crate::plan::secret_files::{held, held_path};
pub use fingerprint::fingerprint;
pub use images::{image_references, plan_images, reference as image_reference};
pub use observed::{ExistingContainer, ExistingGateway, ExistingNetwork, Observed};
pub use op::{FileSource, GrantedFile, Handover, Op, Until};
pub use start::plan_start;
pub use subnet::{InvalidRange, Subnet, SubnetPool};
pub use volume::{VolumeSource, Volumes, volumes_of};

use crate::spec::ServiceName;

/// What a step is called within its plan, such as `start db`. Other steps name it as their need.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(String);

impl StepId {
    fn new(verb: &str, object: impl fmt::Display) -> Self {
        Self(format!("{verb} {object}"))
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The part of a build that a step belongs to, in the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// What has changed goes away.
    Remove,
    /// Images are fetched or built.
    Images,
    /// The name is claimed, networks are made.
    Network,
    /// Volumes are made and filled.
    Data,
    /// Containers are made.
    Create,
    /// They are started and waited for.
    Start,
    /// Services are seeded.
    Seed,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Remove => "remove",
            Self::Images => "images",
            Self::Network => "network",
            Self::Data => "data",
            Self::Create => "create",
            Self::Start => "start",
            Self::Seed => "seed",
        })
    }
}

/// One operation of a plan.
#[derive(Debug, Clone)]
pub struct Step {
    /// What it is called.
    pub id: StepId,
    /// What is done.
    pub op: Op,
    /// Why: what in the spec or on the engine asks for it.
    pub cause: String,
    /// The service it is done for.
    pub service: Option<ServiceName>,
    /// The steps that must be done before. One that is not in the plan is met already.
    pub needs: BTreeSet<StepId>,
    /// Steps that it gives way to, if there are any: it begins once one of them is done. They do not wait for it.
    pub gives_way_to: BTreeSet<StepId>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  # {}", self.op, self.cause)
    }
}

/// Operations in an order in which each comes after what it needs.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    /// The operations.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The operations, to be run.
    pub fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds a step. Steps are added after those they need, so a plan has no cycle.
    fn push(&mut self, step: Step) {
        debug_assert!(
            !self.steps.iter().any(|other| other.id == step.id),
            "two steps are called `{}`",
            step.id
        );
        self.steps.push(step);
    }

    /// All steps that are done before this one, directly needed or not.
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

    /// Has a step wait for another one that does not wait for it, directly or not; otherwise nothing changes.
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

    /// Puts steps after those they need, and otherwise leaves them in their order.
    fn sort(&mut self) {
        let mut open = std::mem::take(&mut self.steps);
        while !open.is_empty() {
            let ready =
                |step: &Step| step.needs.iter().all(|need| open.iter().all(|other| other.id != *need));
            let next = open.iter().position(ready).unwrap_or(0);
            self.steps.push(open.remove(next));
        }
    }

    /// Has a step give way to others, which do not wait for it.
    fn put_off(&mut self, id: &StepId, others: impl IntoIterator<Item = StepId>) {
        if let Some(step) = self.steps.iter_mut().find(|step| step.id == *id) {
            step.gives_way_to.extend(others);
        }
    }

    /// Leaves a step out if nothing starts, which is what it is there for.
    fn spare(&mut self, id: &StepId) {
        if !self.steps.iter().any(|step| matches!(step.op, Op::Start { .. })) {
            self.steps.retain(|step| step.id != *id);
        }
    }

    /// Puts one plan's steps behind another's.
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
        phases.dedup();
        for phase in phases {
            writeln!(f, "{phase}")?;
            for step in self.steps.iter().filter(|step| step.op.phase() == phase) {
                writeln!(f, "  {step}")?;
                if let Some(undo) = step.op.undo() {
                    writeln!(f, "      undo: {undo}")?;
                }
            }
        }
        Ok(())
    }
}

/// Why no plan can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Every subnet of the pool overlaps something.
    #[error("no subnet is free for network `{network}`")]
    NoSubnet {
        /// The network of the spec.
        network: String,
    },
}

impl PlanError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoSubnet { .. } => {
                "destroy sandboxes that are not needed (`sandbox ls`), or give other ranges in SANDBOX_SUBNETS=10.50.0.0/16,…"
            }
        }
    }
}

/// Plans everything but the images: from the claim on the name to the last seed.
///
/// # Errors
/// When no subnet is free.
pub fn plan(wish: &DesiredState<'_>, observed: &Observed) -> Result<Plan, PlanError> {
    planner::draft(wish, observed)
}

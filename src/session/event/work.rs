//! What a session works at: planned steps, their kinds, how far they are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::millis;

/// Names a step of a plan for as long as the plan runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub usize);

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Names it in the events that follow.
    pub id: StepId,
    /// What kind of work it is.
    pub phase: Phase,
    /// What it does.
    pub what: String,
    /// Why it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The service it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// The kinds of work that a sandbox's time goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The engine, the keeper, the lock on the name.
    Prepare,
    /// Getting an image.
    Pull,
    /// Making an image.
    Build,
    /// Networks and the gateway.
    Network,
    /// Volumes, baselines, clones and copies into them.
    Data,
    /// Creating containers.
    Create,
    /// Starting containers.
    Start,
    /// Waiting for readiness.
    Ready,
    /// Running seeds.
    Seed,
    /// Stopping and removing.
    Remove,
}

/// So many of so many; `total` is 0 while it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is done.
    pub done: u64,
    /// What there is to do.
    pub total: u64,
}

/// What is the matter with a baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum BakeState {
    /// It is there already.
    Found,
    /// Another session makes it; this one waits.
    Awaited,
    /// It is being made.
    Started,
    /// It has been made.
    Done {
        /// How long that took.
        #[serde(rename = "elapsed_ms", with = "millis")]
        elapsed: Duration,
    },
}

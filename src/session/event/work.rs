//! Steps of a plan and their progress.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::protocol::millis;
use crate::plan::{Phase, StepId};
use crate::spec::Spec;

/// A step of a plan, for display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Identifies the step in later events.
    pub id: StepId,
    /// The kind of work.
    pub phase: Phase,
    /// The action.
    pub what: String,
    /// The reason for the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The service that the step belongs to, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// Progress as a count; `total` is 0 while it is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The completed part.
    pub done: u64,
    /// The whole.
    pub total: u64,
}

/// The state of a baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum BakeState {
    /// It exists already.
    Found,
    /// Another session is making it, and this one waits.
    Awaited,
    /// This session is making it.
    Started,
    /// This session has made it.
    Done {
        /// How long it took.
        #[serde(rename = "elapsed_ms", with = "millis")]
        elapsed: Duration,
    },
}

/// A task of the spec, as a list of tasks shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedTask {
    /// Its name.
    pub name: String,
    /// What it does, if the spec says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl ListedTask {
    /// The tasks of a spec.
    pub fn all(spec: &Spec) -> Vec<Self> {
        let tasks = spec.tasks.iter();
        tasks
            .map(|(name, task)| Self { name: name.to_string(), description: task.description.clone() })
            .collect()
    }
}

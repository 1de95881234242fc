//! When a service counts as healthy, as ready, and who waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::At;

/// Compose's healthcheck: overrides the image's, field by field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// The test; the image's if none.
    pub test: Option<HealthTest>,
    /// Whether `disable: true` was written.
    pub disable: bool,
    /// Time between two checks.
    pub interval: Option<Duration>,
    /// The longest a check may take.
    pub timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u64>,
    /// Time in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between two checks while in the start period.
    pub start_interval: Option<Duration>,
}

impl Healthcheck {
    /// Whether there is no check, whatever the image says.
    pub fn is_disabled(&self) -> bool {
        self.disable || matches!(self.test, Some(HealthTest::None))
    }
}

/// The command of a healthcheck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// None: the image's check is disabled (`["NONE"]`).
    None,
    /// A command without a shell (`["CMD", …]`).
    Exec(Vec<String>),
    /// A command line for the container's shell (`["CMD-SHELL", …]`).
    Shell(String),
}

impl HealthTest {
    /// In the engine's words: `["CMD", …]`.
    pub fn to_words(&self) -> Vec<String> {
        match self {
            Self::None => vec!["NONE".to_owned()],
            Self::Exec(words) => std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect(),
            Self::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        }
    }
}

/// How a service is seen to be ready (`ready`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// What is tried.
    pub probe: Probe,
    /// How long it may take before `up` gives up.
    #[serde(default)]
    pub timeout: Option<Duration>,
    /// Where it stands.
    #[serde(skip)]
    pub at: At,
}

/// What is tried until a service is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Nothing: the service is ready once it runs (`ready: none`).
    None,
    /// A command in the container that must succeed.
    Exec(Vec<String>),
    /// A port that must accept.
    Tcp {
        /// The container's port.
        port: u16,
    },
    /// A request that must be answered.
    Http {
        /// The container's port; its first exposed one if none.
        port: Option<u16>,
        /// The path, with its query.
        path: String,
        /// The status that is asked for; any from 200 to 399 if none.
        status: Option<u16>,
        /// Headers to send.
        headers: BTreeMap<String, String>,
    },
    /// A line of the log that must appear.
    Log {
        /// A regular expression.
        pattern: String,
    },
}

/// What must be true of a service before one that depends on it starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// It was started.
    #[default]
    #[serde(rename = "service_started")]
    Started,
    /// It is healthy (or ready, or its seeds have run).
    #[serde(rename = "service_healthy")]
    Healthy,
    /// It ran and exited with 0.
    #[serde(rename = "service_completed_successfully")]
    CompletedSuccessfully,
}

impl Condition {
    /// Compose's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Started => "service_started",
            Self::Healthy => "service_healthy",
            Self::CompletedSuccessfully => "service_completed_successfully",
        }
    }
}

/// One entry of `depends_on`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// What is waited for.
    pub condition: Condition,
    /// Whether its absence is an error.
    pub required: bool,
    /// Whether the dependent is restarted when this one is.
    pub restart: bool,
}

impl Default for Dependency {
    fn default() -> Self {
        Self { condition: Condition::Started, required: true, restart: false }
    }
}

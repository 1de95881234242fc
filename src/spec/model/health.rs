//! Healthchecks, readiness probes and dependency conditions of a service.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::At;

/// Compose's `healthcheck`: overrides the image's, field by field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// The test; the image's if `None`.
    pub test: Option<HealthTest>,
    /// Whether `disable: true` is set.
    pub disable: bool,
    /// Time between two checks.
    pub interval: Option<Duration>,
    /// Maximum time of a check.
    pub timeout: Option<Duration>,
    /// Consecutive failures after which the service is unhealthy.
    pub retries: Option<u64>,
    /// Time after the start during which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between two checks during `start_period`.
    pub start_interval: Option<Duration>,
}

impl Healthcheck {
    /// Whether the healthcheck is disabled, including the image's.
    pub fn is_disabled(&self) -> bool {
        self.disable || matches!(self.test, Some(HealthTest::None))
    }
}

/// The command of a healthcheck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// The image's check is disabled (`["NONE"]`).
    None,
    /// A command without a shell (`["CMD", …]`).
    Exec(Vec<String>),
    /// A command line for the container's shell (`["CMD-SHELL", …]`).
    Shell(String),
}

impl HealthTest {
    /// Returns the engine's list form: `["CMD", …]`.
    pub fn to_words(&self) -> Vec<String> {
        match self {
            Self::None => vec!["NONE".to_owned()],
            Self::Exec(words) => std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect(),
            Self::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        }
    }
}

/// The readiness settings of a service (`ready`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// The readiness probe.
    pub probe: Probe,
    /// Time after which `up` gives up.
    #[serde(default)]
    pub timeout: Option<Duration>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

/// A readiness probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// No probe: the service is ready once it runs (`ready: none`).
    None,
    /// A command in the container must succeed.
    Exec(Vec<String>),
    /// A port must accept connections.
    Tcp {
        /// The container's port.
        port: u16,
    },
    /// An HTTP request must get a response.
    Http {
        /// The container's port; its first exposed one if `None`.
        port: Option<u16>,
        /// The path, with its query.
        path: String,
        /// The expected status; any from 200 to 399 if `None`.
        status: Option<u16>,
        /// Headers to send.
        headers: BTreeMap<String, String>,
    },
    /// A line must appear in the log.
    Log {
        /// A regular expression.
        pattern: String,
    },
}

/// The condition that a dependency must meet before its dependent starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// It has started.
    #[default]
    #[serde(rename = "service_started")]
    Started,
    /// It is healthy (or ready, or its seeds have run).
    #[serde(rename = "service_healthy")]
    Healthy,
    /// It exited with 0.
    #[serde(rename = "service_completed_successfully")]
    CompletedSuccessfully,
}

impl Condition {
    /// The keyword in Compose.
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
    /// The condition to wait for.
    pub condition: Condition,
    /// Whether it is an error if the dependency is missing.
    pub required: bool,
    /// Whether the dependent restarts when the dependency restarts.
    pub restart: bool,
}

impl Default for Dependency {
    fn default() -> Self {
        Self { condition: Condition::Started, required: true, restart: false }
    }
}

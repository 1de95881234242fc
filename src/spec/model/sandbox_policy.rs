//! Our own top-level keys: lifetime, limits, artifacts, tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{At, ServiceName};

/// The lifetime of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lifetime {
    /// Maximum lifetime (`ttl`), if set.
    pub ttl: Option<Duration>,
    /// Maximum idle time, if set.
    pub idle: Option<Duration>,
    /// Time to re-acquire a lost lease, if set.
    pub grace: Option<Duration>,
}

impl Lifetime {
    /// Default time to re-acquire a lost lease.
    pub const GRACE: Duration = Duration::from_secs(10);
    /// Default idle time after which a detached sandbox without a `ttl` is destroyed.
    pub const DETACHED_IDLE: Duration = Duration::from_hours(4);

    /// Time to re-acquire a lost lease.
    pub fn grace(&self) -> Duration {
        self.grace.unwrap_or(Self::GRACE)
    }
}

/// Resource limits that all services of a sandbox share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processors.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// A path that is copied out of a service before it is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The service to copy from.
    pub service: ServiceName,
    /// The absolute path in the container.
    pub path: String,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

/// A named command of the spec (`sandbox task NAME`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The command; a command line becomes `["sh", "-c", line]`.
    pub command: Vec<String>,
    /// The service to run in; `None` runs it on the host, with the sandbox's addresses.
    #[serde(default)]
    pub service: Option<ServiceName>,
    /// A description for listings.
    #[serde(default)]
    pub description: Option<String>,
    /// Additional environment variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The working directory.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

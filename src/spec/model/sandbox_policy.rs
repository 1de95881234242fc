//! Our own words at the top level: lifetime, limits, artifacts, tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{At, ServiceName};

/// How long a sandbox lives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lifetime {
    /// Its longest life, if written.
    pub ttl: Option<Duration>,
    /// How long it may be unused, if written.
    pub idle: Option<Duration>,
    /// How long a lost lease may stay lost, if written.
    pub grace: Option<Duration>,
}

impl Lifetime {
    /// How long a lost lease may stay lost, if nothing is written.
    pub const GRACE: Duration = Duration::from_secs(10);
    /// How long after its last use a detached sandbox without a written `ttl` ends.
    pub const DETACHED_IDLE: Duration = Duration::from_hours(4);

    /// How long a lost lease may stay lost.
    pub fn grace(&self) -> Duration {
        self.grace.unwrap_or(Self::GRACE)
    }
}

/// Limits shared by all services of a sandbox.
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

/// Something that is brought out of a service before it is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The service.
    pub service: ServiceName,
    /// An absolute path in it.
    pub path: String,
    /// Where it stands.
    #[serde(skip)]
    pub at: At,
}

/// A named command of the spec (`sandbox task NAME`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The command; a single line was written for a shell and is `["sh", "-c", line]`.
    pub command: Vec<String>,
    /// The service it runs in; on the host, with the sandbox's addresses, if none.
    #[serde(default)]
    pub service: Option<ServiceName>,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// More environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The folder it runs in.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// Where it stands.
    #[serde(skip)]
    pub at: At,
}

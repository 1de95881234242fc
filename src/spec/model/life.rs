//! What happens at the turns of a container's life.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What happens when a service's container exits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It is started again.
    Always,
    /// It is started again if it failed.
    OnFailure {
        /// So often at most.
        max: Option<u32>,
    },
    /// It is started again unless it was stopped on purpose.
    UnlessStopped,
}

/// `logging`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// The driver.
    pub driver: Option<String>,
    /// Its options; one without a value is left out.
    pub options: BTreeMap<String, Option<String>>,
}

/// A command that runs in a service's container at a turn of its life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// The command.
    pub command: Vec<String>,
    /// The user, if not the service's.
    pub user: Option<String>,
    /// Whether it runs privileged (host access).
    pub privileged: bool,
    /// The folder it runs in.
    pub working_dir: Option<String>,
    /// More environment.
    pub environment: BTreeMap<String, Option<String>>,
}

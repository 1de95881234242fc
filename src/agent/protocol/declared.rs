//! The current spec of a sandbox, as the keeper records it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::{PortBinding, Unfinished};
use crate::spec::{ServiceName, Spec};

/// The desired state of a sandbox: each `up` and each change under `--watch` replaces it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// The resolved spec, secrets left out.
    pub spec: Spec,
    /// The published ports before the last change. The gateway's labels show the current ones, but while a gateway is
    /// being replaced there is none to read.
    #[serde(default)]
    pub ports: Vec<PortBinding>,
    /// Digests of the files that services get: configs, and secrets that are not generated.
    #[serde(default)]
    pub files: BTreeMap<ServiceName, String>,
    /// What the last change has not completed yet.
    #[serde(default)]
    pub unfinished: Unfinished,
}

//! The spec that a sandbox has now, as the keeper records it.

use serde::{Deserialize, Serialize};

use crate::plan::PortBinding;
use crate::spec::Spec;

/// The desired state of a sandbox: each `up` and each change under `--watch` replaces it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// The resolved spec, secrets left out.
    pub spec: Spec,
    /// The published ports as they were before the last change. The gateway's labels tell how they are, but there is no
    /// gateway for a moment while it is replaced.
    #[serde(default)]
    pub ports: Vec<PortBinding>,
}

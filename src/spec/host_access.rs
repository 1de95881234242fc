//! Host access that a spec asks for.

use super::model::At;

/// One form of host access in a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostAccessPath {
    pub at: At,
    pub message: String,
    /// The service and its key, if it is a single key.
    pub key: Option<(String, &'static str)>,
}

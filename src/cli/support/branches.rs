//! The branches that sandboxes were created from, and whether they are merged or gone.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Failure;
use crate::agent::client::Keeper;
use crate::engine::join_bounded;
use crate::session::git::branches::{self, BranchState};
use crate::session::inspect::{self, ObservedSandbox};
use crate::spec::GitBranch;

/// A sandbox's branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SandboxBranch {
    /// The branch.
    #[serde(rename = "branch")]
    pub name: String,
    /// Its state; `None` if git does not know, as when the repository is not there.
    #[serde(rename = "branch_state")]
    pub state: Option<BranchState>,
}

/// The branches of sandboxes, by instance id.
///
/// # Errors
/// Fails if the keeper does not answer.
pub async fn of(
    keeper: &Keeper,
    observed: &[ObservedSandbox],
) -> Result<BTreeMap<String, SandboxBranch>, Failure> {
    let declared = observed.iter().map(|sandbox| async move {
        let spec = inspect::declared(keeper, sandbox).await?;
        Ok::<_, Failure>(spec.and_then(|spec| spec.branch).map(|branch| (sandbox.id.clone(), branch)))
    });
    let declared: Result<Vec<_>, Failure> = join_bounded(declared).await.into_iter().collect();
    let found: Vec<(String, GitBranch)> = declared?.into_iter().flatten().collect();
    let all: Vec<GitBranch> = found.iter().map(|(_, branch)| branch.clone()).collect();
    let states = tokio::task::spawn_blocking(move || branches::states(&all)).await;
    let states = states.map_err(std::io::Error::other)?;
    let named = found.into_iter().map(|(id, branch)| {
        let state = states.get(&branches::key(&branch)).copied();
        (id, SandboxBranch { name: branch.name, state })
    });
    Ok(named.collect())
}

impl std::fmt::Display for SandboxBranch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.state {
            Some(BranchState::Merged) => write!(f, "{} (merged)", self.name),
            Some(BranchState::Gone) => write!(f, "{} (gone)", self.name),
            Some(BranchState::Open) | None => f.write_str(&self.name),
        }
    }
}

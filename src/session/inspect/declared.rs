//! The current spec of a sandbox, from the keeper's record.

use super::ObservedSandbox;
use crate::agent::client::Keeper;
use crate::session::error::SessionError;
use crate::spec::Spec;

/// The current spec of a sandbox from the keeper's record; `None` if the sandbox is incomplete.
///
/// # Errors
/// Fails if the keeper does not answer.
pub async fn declared(keeper: &Keeper, observed: &ObservedSandbox) -> Result<Option<Spec>, SessionError> {
    let Ok(id) = observed.id.parse() else { return Ok(None) };
    Ok(keeper.declared(&id).await?.map(|declared| declared.spec))
}

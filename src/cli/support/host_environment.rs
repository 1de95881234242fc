//! The environment of commands on this machine: the addresses of a sandbox, and the `env` of its spec.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Failure;
use crate::cli::{consent, keeper};
use crate::engine::Engine;
use crate::report::Output;
use crate::session::inspect::{self, ObservedSandbox, Passwords};
use crate::spec::{HostAccess, Spec, SpecOrigin};

/// The variables for commands on this machine. The `env` is that of the spec that the sandbox was built from, since a
/// service may be able to write the one in the folder.
///
/// # Errors
/// Fails if the engine or the keeper does not answer.
pub async fn of(
    engine: &Arc<dyn Engine>,
    observed: &ObservedSandbox,
    access: HostAccess,
) -> Result<BTreeMap<String, String>, Failure> {
    let statuses = inspect::statuses(&**engine, observed, Passwords::Included).await?;
    let mut variables = inspect::environment(&observed.name, &statuses);
    let Some(keeper) = keeper::running(engine).await? else { return Ok(variables) };
    let declared = inspect::declared(&keeper, observed).await?.filter(|spec| !spec.env.is_empty());
    let Some(spec) = declared else { return Ok(variables) };
    if !may_set(&spec, access).await? {
        return Ok(variables);
    }
    let own = inspect::host_variables(&**engine, observed, &statuses, &spec).await?;
    for line in &own.missing {
        Output::stderr().line(&format!("warning: {line}"));
    }
    variables.extend(own.known);
    Ok(variables)
}

/// Whether the variables of a spec may be set on this machine. Those of a stranger could make any program run another.
async fn may_set(spec: &Spec, access: HostAccess) -> Result<bool, Failure> {
    if spec.origin == SpecOrigin::Local || access == HostAccess::Allowed {
        return Ok(true);
    }
    let names = spec.env.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let what = format!("the spec {} and sets {names} for commands on this machine", spec.origin.came());
    if consent::ask(vec![what.clone()]).await? {
        return Ok(true);
    }
    Output::stderr().lines([
        format!("warning: {what}: they are left out"),
        "  if you trust its maker, add `--allow-host-access`".to_owned(),
    ]);
    Ok(false)
}

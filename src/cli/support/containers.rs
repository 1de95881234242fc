//! Selects the containers that a verb acts on, by service name.

use crate::cli::Failure;
use crate::cli::support::command::not_running;
use crate::engine::ContainerSummary;
use crate::session::inspect::{ObservedSandbox, service_of};

/// The containers of these services, or of all.
///
/// # Errors
/// Fails if the sandbox has no such service.
pub fn chosen<'a>(
    observed: &'a ObservedSandbox,
    services: &[String],
) -> Result<Vec<&'a ContainerSummary>, Failure> {
    for service in services {
        observed.container(service, 1)?;
    }
    let wanted =
        |one: &&ContainerSummary| services.is_empty() || services.iter().any(|name| name == service_of(one));
    Ok(observed.services.iter().filter(wanted).collect())
}

/// The running containers of `chosen`.
///
/// # Errors
/// Fails if none is running, or if a named service is not running.
pub fn running<'a>(
    observed: &ObservedSandbox,
    chosen: Vec<&'a ContainerSummary>,
    named: &[String],
) -> Result<Vec<&'a ContainerSummary>, Failure> {
    if let Some(stopped) = chosen.iter().find(|one| !named.is_empty() && !one.state.is_alive()) {
        return Err(not_running(service_of(stopped), stopped.state));
    }
    let running: Vec<_> = chosen.into_iter().filter(|one| one.state.is_alive()).collect();
    if running.is_empty() {
        let hint = Some("`sandbox start` starts them".to_owned());
        return Err(Failure::failed(format!("no service of sandbox `{}` runs", observed.name), hint));
    }
    Ok(running)
}

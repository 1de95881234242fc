//! Injects, lists and removes network faults of a sandbox's services.

use super::ExistingSandbox;
use crate::agent::fault_injector::Fault;
use crate::agent::fault_injector::container::{self, FaultError, Imposed};
use crate::engine::identity;
use crate::engine::{ContainerSummary, Engine, EngineError, Filter};
use crate::session::error::SessionError;
use crate::session::inspect::{self, ObservedSandbox};
use crate::spec::NetworkMode;

/// Lists the faults of a sandbox.
///
/// # Errors
/// Fails if the engine does not answer.
pub async fn all(engine: &dyn Engine, observed: &ObservedSandbox) -> Result<Vec<Imposed>, EngineError> {
    container::find(engine, Filter::all().label(identity::ID, &observed.id)).await
}

/// Removes a fault.
///
/// # Errors
/// Fails if the engine fails.
pub async fn lift(engine: &dyn Engine, imposed: &Imposed) -> Result<(), EngineError> {
    container::lift(engine, &imposed.container.name).await
}

impl ExistingSandbox {
    /// Injects a fault into every container of a service, in addition to its existing faults. Returns all faults that
    /// are now active.
    ///
    /// # Errors
    /// Fails if the service does not run or has no network of its own, or if the engine or its kernel rejects the
    /// fault.
    pub async fn impose(&self, service: &str, fault: &Fault) -> Result<Fault, SessionError> {
        let containers: Vec<&ContainerSummary> = self.observed().containers(service).collect();
        self.has_a_line(service, &containers)?;
        let engine = &*self.context.engine;
        let there = all(engine, self.observed()).await?;
        let mut whole = fault.clone();
        for container in containers {
            let before = there.iter().find(|imposed| imposed.target() == container.name);
            whole = before.map_or_else(Fault::default, |imposed| imposed.fault.clone()).and(fault);
            whole.check().map_err(|problem| refused(problem.to_owned(), None))?;
            container::impose(engine, &container.name, &container.labels, &self.context.agent_image, &whole)
                .await
                .map_err(|error| match error {
                    FaultError::Engine(error) => error.into(),
                    cause @ FaultError::Refused(_) => refused(cause.to_string(), None),
                })?;
        }
        Ok(whole)
    }

    /// Checks that the service has its own network traffic.
    fn has_a_line(&self, service: &str, containers: &[&ContainerSummary]) -> Result<(), SessionError> {
        let spec = self.spec.services.get(service);
        match spec.and_then(|spec| spec.network_mode.as_ref()) {
            Some(NetworkMode::Service(other)) => {
                let what = format!("service `{service}` has the network of `{other}`");
                return Err(refused(what, Some(format!("sandbox fault add {other} …"))));
            }
            Some(_) => return Err(refused(format!("service `{service}` has no network of its own"), None)),
            None => {}
        }
        match containers.iter().find(|container| !container.state.is_alive()) {
            Some(_) => {
                let what = format!("service `{service}` does not run");
                Err(refused(what, Some(format!("start it first: sandbox start {service}"))))
            }
            None => Ok(()),
        }
    }
}

/// The service that a fault affects, with the replica's number from the second on.
pub fn service_of(imposed: &Imposed) -> String {
    match inspect::replica_of(&imposed.container) {
        1 => inspect::service_of(&imposed.container).to_owned(),
        replica => format!("{}.{replica}", inspect::service_of(&imposed.container)),
    }
}

fn refused(what: String, hint: Option<String>) -> SessionError {
    SessionError::Fault { what, hint }
}

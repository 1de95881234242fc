//! Reconstructs how a sandbox came up, from the engine's times of when its containers were created, started and ready.

use std::time::Duration;

use jiff::Timestamp;

use super::{ObservedSandbox, log_name};
use crate::engine::{Container, Engine, EngineError};
use crate::session::event::{Event, Phase, Recorded, StepId};

/// The sandbox's events, as far as they can be reconstructed.
pub async fn recollection(
    engine: &dyn Engine,
    observed: &ObservedSandbox,
) -> Result<Vec<Recorded>, EngineError> {
    let mut containers = Vec::new();
    for summary in observed.gateway.iter().chain(&observed.services) {
        if let Some(container) = engine.container(&summary.name).await? {
            let service = observed.services.iter().any(|s| s.name == summary.name).then(|| log_name(summary));
            containers.push((service, container));
        }
    }
    let networks = observed.networks.iter().filter_map(|network| network.created);
    let made = containers.iter().filter_map(|(_, container)| container.created);
    let Some(begin) = networks.chain(made).min() else { return Ok(Vec::new()) };
    let mut events: Vec<Recorded> = containers
        .iter()
        .flat_map(|(service, container)| spans(begin, service.as_deref(), container))
        .collect();
    events.sort_by_key(|recorded| recorded.at);
    let services = containers.iter().filter_map(|(service, _)| service.clone()).collect();
    let started = Event::Started { name: observed.name.clone(), id: observed.id.clone(), services };
    events.insert(0, Recorded { at: Duration::ZERO, event: started });
    Ok(events)
}

fn spans(begin: Timestamp, service: Option<&str>, container: &Container) -> Vec<Recorded> {
    let at = |moment: Timestamp| Duration::try_from(moment.duration_since(begin)).unwrap_or_default();
    let between =
        |from: Timestamp, to: Timestamp| Duration::try_from(to.duration_since(from)).unwrap_or_default();
    let mut events = Vec::new();
    if let (Some(created), Some(started)) = (container.created, container.started_at) {
        events.push(Recorded {
            at: at(started),
            event: Event::StepDone {
                id: StepId::new("create", &container.name),
                phase: Phase::Create,
                what: "created, until started".to_owned(),
                service: Some(service.unwrap_or("gateway").to_owned()),
                elapsed: between(created, started),
            },
        });
    }
    let healthy = container.health.iter().flat_map(|health| &health.log).find(|probe| probe.exit_code == 0);
    if let (Some(service), Some(started), Some(ready)) =
        (service, container.started_at, healthy.and_then(|probe| probe.end))
    {
        let after = between(started, ready);
        events.push(Recorded { at: at(ready), event: Event::Ready { service: service.to_owned(), after } });
    }
    events
}

//! When a service is ready: what is waited for, and what is tried to find out.

use super::container::expose;
use super::op::Until;
use crate::engine::{self, Image, Protocol};
use crate::spec::{Condition, HealthTest, NetworkMode, Probe, Service, ServiceName, Spec};

/// What is waited for: the spec's own `ready`, else the healthcheck (the image's too), else the first exposed port,
/// else that it runs.
pub(super) fn until(spec: &Spec, service: &Service, image: Option<&Image>) -> Until {
    // The gateway tries it, and is on the sandbox's own networks alone.
    let mode = &spec.network_owner(service).network_mode;
    let apart = matches!(mode, Some(NetworkMode::None | NetworkMode::Host));
    let port = first_port(service, image).filter(|_| !apart);
    if let Some(ready) = &service.ready {
        let probe = match &ready.probe {
            Probe::Http { port: None, path, status, headers } => {
                Probe::Http { port, path: path.clone(), status: *status, headers: headers.clone() }
            }
            other => other.clone(),
        };
        return Until::Ready { after_port: awaited_port(&probe, port), probe, timeout: ready.timeout };
    }
    if awaited_completion(spec, &service.name) {
        return Until::Completed;
    }
    if let Some(command) = health_command(service, image) {
        return Until::Ready { probe: Probe::Exec(command), timeout: None, after_port: port };
    }
    match port {
        Some(port) if service.network_mode.is_none() => {
            Until::Ready { probe: Probe::Tcp { port }, timeout: None, after_port: None }
        }
        _ => Until::Running,
    }
}

fn awaited_port(probe: &Probe, port: Option<u16>) -> Option<u16> {
    matches!(probe, Probe::Exec(_)).then_some(port).flatten()
}

/// Whether some service waits for this one to complete.
fn awaited_completion(spec: &Spec, name: &ServiceName) -> bool {
    spec.services.values().any(|service| {
        service.depends_on.get(name).is_some_and(|on| on.condition == Condition::CompletedSuccessfully)
    })
}

/// The first TCP port that a service is known to listen on.
fn first_port(service: &Service, image: Option<&Image>) -> Option<u16> {
    let published = service.ports.iter().map(|port| port.container);
    let exposed = service.expose.iter().flat_map(|entry| expose(entry)).filter(tcp).map(|port| port.number);
    let declared = image.into_iter().flat_map(|image| &image.config.exposed).copied().filter(tcp);
    declared.map(|port| port.number).chain(exposed).chain(published).next()
}

fn tcp(port: &engine::Port) -> bool {
    port.protocol == Protocol::Tcp
}

/// The healthcheck's command, as a program with arguments. `None`: there is none, or it is disabled.
fn health_command(service: &Service, image: Option<&Image>) -> Option<Vec<String>> {
    let written = service.healthcheck.as_ref();
    if written.is_some_and(crate::spec::Healthcheck::is_disabled) {
        return None;
    }
    let shell = |line: &String| vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()];
    match written.and_then(|health| health.test.as_ref()) {
        Some(HealthTest::Exec(words)) => Some(words.clone()),
        Some(HealthTest::Shell(line)) => Some(shell(line)),
        Some(HealthTest::None) => None,
        None => match &image?.config.healthcheck.as_ref()?.test {
            engine::HealthTest::Exec(words) => Some(words.clone()),
            engine::HealthTest::Shell(line) => Some(shell(line)),
            engine::HealthTest::Inherit | engine::HealthTest::Disabled => None,
        },
    }
}

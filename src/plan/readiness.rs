//! Decides when a service is ready: what to wait for and which probe to run.

use super::container::expose;
use super::op::Until;
use crate::engine::{self, Image, Protocol};
use crate::spec::{self, Condition, HealthTest, NetworkMode, Probe, Service, ServiceName, Spec};

/// Maximum number of ports probed for a service without readiness settings.
const MOST_PORTS: usize = 4;

/// What to wait for: the spec's `ready`, otherwise the healthcheck (or the image's), otherwise that it runs, as with
/// `docker compose up --wait`. If a seed or a `service_healthy` needs more, a TCP port must accept connections.
pub(super) fn until(spec: &Spec, service: &Service, image: Option<&Image>) -> Until {
    // The gateway runs the probe and is only on the sandbox's own networks.
    let mode = &spec.network_owner(service).network_mode;
    let apart = matches!(mode, Some(NetworkMode::None | NetworkMode::Host));
    let port = first_port(service, image).filter(|_| !apart);
    if let Some(ready) = &service.ready {
        let probe = match &ready.probe {
            Probe::None => return Until::Running { ports: Vec::new() },
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
    if service.network_mode.is_some() {
        return Until::Running { ports: Vec::new() };
    }
    match port {
        Some(port) if service.is_seeded() || awaited_health(spec, &service.name) => {
            Until::Ready { probe: Probe::Tcp { port }, timeout: None, after_port: None }
        }
        _ => Until::Running { ports: probable_ports(service, image) },
    }
}

/// Whether a failure of this service is only a warning: it has dependents, and none requires it.
pub fn is_optional(spec: &Spec, name: &ServiceName) -> bool {
    let mut on = spec.services.values().filter_map(|service| service.depends_on.get(name)).peekable();
    on.peek().is_some() && on.all(|dependency| !dependency.required)
}

/// Whether the service is known to be a server, so that it must run again after a stop.
pub(super) fn serves(spec: &Spec, service: &Service, image: Option<&Image>) -> bool {
    match until(spec, service, image) {
        Until::Ready { .. } => true,
        Until::Running { .. } => first_port(service, image).is_some(),
        Until::Completed => false,
    }
}

fn awaited_port(probe: &Probe, port: Option<u16>) -> Option<u16> {
    matches!(probe, Probe::Exec(_)).then_some(port).flatten()
}

/// Whether a service depends on this one with `service_completed_successfully`.
fn awaited_completion(spec: &Spec, name: &ServiceName) -> bool {
    is_awaited(spec, name, Condition::CompletedSuccessfully)
}

/// Whether a service depends on this one with `service_healthy`.
fn awaited_health(spec: &Spec, name: &ServiceName) -> bool {
    is_awaited(spec, name, Condition::Healthy)
}

fn is_awaited(spec: &Spec, name: &ServiceName, condition: Condition) -> bool {
    let mut on = spec.services.values().filter_map(|service| service.depends_on.get(name));
    on.any(|dependency| dependency.condition == condition)
}

/// The first TCP port that a service is known to listen on.
fn first_port(service: &Service, image: Option<&Image>) -> Option<u16> {
    declared(image).chain(exposed(service)).chain(published(service)).next()
}

/// TCP ports that will probably open: published ones, and those of an image that runs its own command.
fn probable_ports(service: &Service, image: Option<&Image>) -> Vec<u16> {
    let image = image.filter(|_| service.command.is_none() && service.entrypoint.is_none());
    let mut ports: Vec<u16> = Vec::new();
    for port in published(service).chain(declared(image)) {
        if !ports.contains(&port) && ports.len() < MOST_PORTS {
            ports.push(port);
        }
    }
    ports
}

fn published(service: &Service) -> impl Iterator<Item = u16> {
    let tcp = service.ports.iter().filter(|port| port.protocol == spec::Protocol::Tcp);
    tcp.map(|port| port.container)
}

fn exposed(service: &Service) -> impl Iterator<Item = u16> {
    service.expose.iter().flat_map(|entry| expose(entry)).filter(tcp).map(|port| port.number)
}

fn declared(image: Option<&Image>) -> impl Iterator<Item = u16> {
    image.into_iter().flat_map(|image| &image.config.exposed).copied().filter(tcp).map(|port| port.number)
}

fn tcp(port: &engine::Port) -> bool {
    port.protocol == Protocol::Tcp
}

/// The healthcheck's command as arguments; `None` if there is none or it is disabled.
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

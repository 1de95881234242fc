//! Checks published ports once all services run: an engine may fail to bind a port without reporting it.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::engine;
use crate::plan::{self, Observed, PublishedService};
use crate::session::event::{Endpoint, Event, Protocol, ServiceStatus};
use crate::spec::Spec;

/// How long a connection to a port of this machine may take.
const ACCEPT: Duration = Duration::from_secs(1);
/// How long the forwarder of an engine in a virtual machine may take to open the ports on this machine.
pub(crate) const FORWARDERS_TIME: Duration = Duration::from_secs(10);
/// The pause between two looks at a port that is not open yet.
const PAUSE: Duration = Duration::from_millis(100);

/// Warnings about ports that the spec publishes. `local`: the engine publishes on this machine. Waits together at most
/// for `patience` for ports that are not open yet.
pub(crate) async fn unreached(
    spec: &Spec,
    services: &[ServiceStatus],
    local: bool,
    patience: Duration,
) -> Vec<Event> {
    let deadline = Instant::now() + patience;
    let mut troubles = Vec::new();
    for port in plan::published(spec, &Observed::default()) {
        let bound = endpoints(&port, services).next();
        let what = format!("port {} of service `{}`", port.target, port.service);
        match bound {
            None => troubles.push(Event::Warning {
                text: format!("{what} is not published: the engine bound nothing"),
                hint: Some(
                    "`sandbox doctor` looks at the engine; `sandbox up --force-recreate` tries again"
                        .to_owned(),
                ),
            }),
            Some(endpoint) if local && endpoint.protocol == Protocol::Tcp => {
                let at = SocketAddr::new(endpoint.host, endpoint.port);
                if !opens(at, deadline).await {
                    troubles.push(Event::Warning {
                        text: format!("{what} does not answer at {at}"),
                        hint: Some(
                            "the engine says that it does: is it on another machine, or a firewall in between?".to_owned(),
                        ),
                    });
                }
            }
            Some(_) => {}
        }
    }
    troubles
}

/// The endpoints of a port that the spec publishes.
pub(crate) fn endpoints<'a>(
    port: &PublishedService,
    services: &'a [ServiceStatus],
) -> impl Iterator<Item = &'a Endpoint> {
    let (service, replica) = (port.service.clone(), port.replica.unwrap_or(1));
    let (target, host) = (port.target, port.loopback.address());
    let protocol = match port.transport() {
        engine::Protocol::Udp => Protocol::Udp,
        engine::Protocol::Tcp | engine::Protocol::Sctp => Protocol::Tcp,
    };
    let statuses =
        services.iter().filter(move |status| status.service == service.as_str() && status.replica == replica);
    statuses.flat_map(|status| &status.endpoints).filter(move |endpoint| {
        (endpoint.target, endpoint.protocol, endpoint.host) == (target, protocol, host)
    })
}

/// Whether a process listens on an address before the deadline. If a process binds the port, a bind shows it without a
/// connection, which a service might count as a client. An engine that only redirects packets to the port needs a
/// connection. Only the first look binds: later it might take the port from a forwarder that is about to open it.
async fn opens(at: SocketAddr, deadline: Instant) -> bool {
    if TcpListener::bind(at).is_err() {
        return true;
    }
    loop {
        if matches!(timeout(ACCEPT, TcpStream::connect(at)).await, Ok(Ok(_))) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::ServiceState;
    use crate::spec::{Service, ServiceName};

    fn spec() -> Spec {
        let mut spec = Spec::new("shop".parse().unwrap(), std::path::Path::new("/shop"));
        let name = ServiceName::new("web").unwrap();
        let mut service = Service::new(name.clone(), "web");
        service.ports = vec![serde_json::from_value(serde_json::json!({ "container": 80 })).unwrap()];
        spec.services.insert(name, service);
        spec
    }

    fn status(port: Option<u16>) -> ServiceStatus {
        let endpoint = |port| Endpoint {
            host: std::net::Ipv4Addr::LOCALHOST.into(),
            port,
            target: 80,
            protocol: Protocol::Tcp,
            url: None,
        };
        ServiceStatus {
            service: "web".to_owned(),
            replica: 1,
            container: "sbx-shop.web".to_owned(),
            image: "web".to_owned(),
            state: ServiceState::Running,
            endpoints: port.map(endpoint).into_iter().collect(),
        }
    }

    #[tokio::test]
    async fn a_port_that_the_engine_did_not_bind_is_told() {
        let troubles = unreached(&spec(), &[status(None)], true, FORWARDERS_TIME).await;
        assert!(matches!(&troubles[..], [Event::Warning { text, .. }] if text.contains("bound nothing")));
    }

    #[tokio::test]
    async fn only_a_port_without_a_listener_is_reported() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let troubles = |local| async move {
            unreached(&spec(), &[status(Some(port))], local, Duration::from_millis(300)).await
        };
        assert!(troubles(true).await.is_empty());
        drop(listener);
        assert_eq!(troubles(true).await.len(), 1);
        assert!(troubles(false).await.is_empty(), "another machine's");
    }

    #[tokio::test]
    async fn a_port_that_a_forwarder_opens_later_is_waited_for() {
        let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let forwarder = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            TcpListener::bind(at).unwrap()
        });
        assert!(unreached(&spec(), &[status(Some(at.port()))], true, FORWARDERS_TIME).await.is_empty());
        forwarder.join().unwrap();
    }
}

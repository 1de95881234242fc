//! Checks published ports once all services run: an engine may fail to bind a port without reporting it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::engine;
use crate::plan::{self, Observed, PublishedService};
use crate::session::event::{Endpoint, Event, Protocol, ServiceStatus};
use crate::spec::Spec;

/// How long a connection to a port of this machine may take.
const ACCEPT: Duration = Duration::from_secs(1);

/// Warnings about ports that the spec publishes. `local`: the engine publishes on this machine.
pub(crate) fn unreached(spec: &Spec, services: &[ServiceStatus], local: bool) -> Vec<Event> {
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
                if !listens(at) {
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

/// Whether a process listens on an address. If a process binds the port, a bind shows it without a connection, which a
/// service might count as a client. An engine that only redirects packets to the port needs a connection.
fn listens(at: SocketAddr) -> bool {
    TcpListener::bind(at).is_err() || TcpStream::connect_timeout(&at, ACCEPT).is_ok()
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

    #[test]
    fn a_port_that_the_engine_did_not_bind_is_told() {
        let troubles = unreached(&spec(), &[status(None)], true);
        assert!(matches!(&troubles[..], [Event::Warning { text, .. }] if text.contains("bound nothing")));
    }

    #[test]
    fn only_a_port_without_a_listener_is_reported() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(unreached(&spec(), &[status(Some(port))], true).is_empty());
        drop(listener);
        assert_eq!(unreached(&spec(), &[status(Some(port))], true).len(), 1);
        assert!(unreached(&spec(), &[status(Some(port))], false).is_empty(), "another machine's");
    }
}

//! Published ports: which of the gateway's ports leads to which service.

use std::collections::BTreeSet;

use super::Observed;
use crate::engine::{Port, Protocol, PublishedPort};
use crate::spec::{self, Service, ServiceName, Spec};

/// The first of the ports that the gateway listens on for the host.
const FIRST_EDGE_PORT: u16 = 20_000;

/// A port of a service that the host reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedService {
    /// The service.
    pub service: ServiceName,
    /// The service's own port.
    pub target: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The gateway's port that leads to it.
    pub edge_port: u16,
    /// The host's port that the spec wishes for.
    pub wanted: Option<u16>,
    /// The host's port that is asked of the engine; `None`: a free one.
    pub asked: Option<u16>,
}

impl PublishedService {
    /// What the engine is asked to publish: always on loopback.
    pub(super) fn publish(&self) -> PublishedPort {
        PublishedPort {
            container: Port { number: self.edge_port, protocol: self.protocol },
            host_ip: Some(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
            host_port: self.asked,
        }
    }
}

/// Every published port of a spec, in the order of services and of their `ports`. Gateway's ports are numbered in
/// that order, so the same spec always gets the same ones.
pub fn published(spec: &Spec, observed: &Observed) -> Vec<PublishedService> {
    let mut asked: BTreeSet<(u16, Protocol)> = BTreeSet::new();
    let ports = spec.services.values().flat_map(ports);
    ports
        .zip(FIRST_EDGE_PORT..)
        .map(|((service, target, protocol, wanted), edge_port)| {
            let free = wanted.filter(|port| !observed.busy_ports.contains(port));
            let given = free.filter(|port| asked.insert((*port, protocol)));
            PublishedService { service, target, protocol, edge_port, wanted, asked: given }
        })
        .collect()
}

fn ports(service: &Service) -> impl Iterator<Item = (ServiceName, u16, Protocol, Option<u16>)> + '_ {
    service.ports.iter().filter_map(|port| {
        let protocol = match port.protocol {
            spec::Protocol::Tcp => Protocol::Tcp,
            spec::Protocol::Udp => Protocol::Udp,
            spec::Protocol::Sctp => return None,
        };
        let wanted = port.host.map(|range| range.start).filter(|port| *port != 0);
        Some((service.name.clone(), port.container, protocol, wanted))
    })
}

//! Published ports: which of the gateway's ports leads to which service.

use std::collections::BTreeSet;

use super::Observed;
use crate::engine::{Port, Protocol, PublishedPort};
use crate::spec::{self, PortRange, Service, ServiceName, Spec};

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
    /// The host's ports that the spec wishes for: any of them.
    pub wanted: Option<PortRange>,
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
/// that order, so the same spec always gets the same ones. One port of the host's is given before any of a range.
pub fn published(spec: &Spec, observed: &Observed) -> Vec<PublishedService> {
    let mut all: Vec<PublishedService> =
        spec.services.values().flat_map(ports).zip(FIRST_EDGE_PORT..).map(numbered).collect();
    let mut given: BTreeSet<Port> = BTreeSet::new();
    for ranges in [false, true] {
        for port in &mut all {
            let Some(wanted) = port.wanted.filter(|range| (range.start != range.end) == ranges) else {
                continue;
            };
            let mut numbers = wanted.start..=wanted.end;
            port.asked = numbers.find(|number| {
                let wish = Port { number: *number, protocol: port.protocol };
                !observed.busy_ports.contains(&wish) && given.insert(wish)
            });
        }
    }
    all
}

/// The ports of the host that a spec wishes for, those of its ranges included.
pub fn wished_ports(spec: &Spec) -> BTreeSet<Port> {
    let wishes = spec.services.values().flat_map(ports);
    wishes
        .filter_map(|wish| Some((wish.wanted?, wish.protocol)))
        .flat_map(|(range, protocol)| (range.start..=range.end).map(move |number| Port { number, protocol }))
        .collect()
}

/// A port as the spec has it.
struct Written {
    service: ServiceName,
    target: u16,
    protocol: Protocol,
    wanted: Option<PortRange>,
}

fn numbered((written, edge_port): (Written, u16)) -> PublishedService {
    let Written { service, target, protocol, wanted } = written;
    PublishedService { service, target, protocol, edge_port, wanted, asked: None }
}

fn ports(service: &Service) -> impl Iterator<Item = Written> + '_ {
    service.ports.iter().filter_map(|port| {
        let protocol = match port.protocol {
            spec::Protocol::Tcp => Protocol::Tcp,
            spec::Protocol::Udp => Protocol::Udp,
            spec::Protocol::Sctp => return None,
        };
        let wanted = port.host.filter(|range| range.start != 0);
        Some(Written { service: service.name.clone(), target: port.container, protocol, wanted })
    })
}

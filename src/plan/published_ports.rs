//! Maps published ports: which of the gateway's ports leads to which service.
//!
//! The table is keyed by service, replica and container port. A label of the gateway stores it, so that it can be read
//! without a spec, and an unchanged entry keeps its port numbers when others are added or removed.

use std::collections::{BTreeMap, BTreeSet};

use super::Observed;
use super::port_binding::{Loopback, PortBinding, PublishedService};
use crate::engine::identity;
use crate::engine::{Port, PublishedPort};
use crate::spec::{self, Service, Spec};

/// The first edge port of the gateway.
const FIRST_EDGE_PORT: u16 = 20_000;

/// Reads the published ports of a gateway from its labels and port bindings.
pub fn bindings(labels: &BTreeMap<String, String>, bound: &[PublishedPort]) -> Vec<PortBinding> {
    let table: Vec<PublishedService> =
        labels.get(identity::PORTS).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    table
        .into_iter()
        .map(|port| {
            let mine = |it: &&PublishedPort| {
                it.container == Port { number: port.edge_port, protocol: port.transport() }
            };
            PortBinding { host_port: bound.iter().find(mine).and_then(|it| it.host_port), port }
        })
        .collect()
}

/// Completes the observed ports from earlier ones, for a gateway that is stopped or briefly missing.
pub fn recall(observed: &mut Vec<PortBinding>, before: &[PortBinding]) {
    if observed.is_empty() {
        observed.extend_from_slice(before);
    }
    for binding in observed.iter_mut().filter(|it| it.host_port.is_none()) {
        let earlier = before.iter().find(|it| it.port.edge_port == binding.port.edge_port);
        binding.host_port = earlier.filter(|it| it.port.continues(&binding.port)).and_then(|it| it.host_port);
    }
}

/// All published ports of a spec, in the order of services and of their `ports`. An existing entry keeps its edge port
/// and host port, unless it asks for one fixed host port that was taken and is free now; of the others, those that ask
/// for one fixed host port get theirs before the ranges.
pub fn published(spec: &Spec, observed: &Observed) -> Vec<PublishedService> {
    let mut all: Vec<PublishedService> = spec.services.values().flat_map(ports).collect();
    let kept = keep(&mut all, &observed.ports);
    let mut used: BTreeSet<u16> = all.iter().map(|port| port.edge_port).collect();
    let mut free = FIRST_EDGE_PORT..;
    for port in all.iter_mut().filter(|port| port.edge_port == 0) {
        port.edge_port = free.find(|number| used.insert(*number)).unwrap_or_default();
    }
    let mut given = Given { busy: &observed.busy_ports, taken: BTreeSet::new() };
    for (port, kept) in all.iter_mut().zip(&kept) {
        let number = port
            .single()
            .filter(|wanted| observed.busy_ports_known || kept.is_none_or(|kept| kept == *wanted));
        port.asked = given.first(port, number);
    }
    for (port, kept) in all.iter_mut().zip(&kept) {
        port.asked = port.asked.or_else(|| given.first(port, *kept));
    }
    for port in all.iter_mut().filter(|port| port.asked.is_none()) {
        port.asked = port.wanted.and_then(|range| given.first(port, range.start..=range.end));
    }
    all
}

/// The host ports assigned so far.
struct Given<'a> {
    busy: &'a BTreeSet<Port>,
    taken: BTreeSet<(Loopback, Port)>,
}

impl Given<'_> {
    fn first(&mut self, of: &PublishedService, numbers: impl IntoIterator<Item = u16>) -> Option<u16> {
        numbers.into_iter().find(|number| {
            let port = Port { number: *number, protocol: of.transport() };
            !self.busy.contains(&port) && self.taken.insert((of.loopback, port))
        })
    }
}

/// Gives ports their existing edge ports. Returns the host port each of them keeps: one that the spec asks for, or one
/// assigned earlier for the same request.
fn keep(all: &mut [PublishedService], there: &[PortBinding]) -> Vec<Option<u16>> {
    let mut left: Vec<&PortBinding> = there.iter().collect();
    let mut kept = vec![None; all.len()];
    for same_wish in [true, false] {
        for (port, kept) in all.iter_mut().zip(&mut kept).filter(|(port, _)| port.edge_port == 0) {
            let continued =
                |it: &&PortBinding| port.continues(&it.port) && (!same_wish || port.wanted == it.port.wanted);
            let Some(at) = left.iter().position(continued) else { continue };
            let binding = left.remove(at);
            port.edge_port = binding.port.edge_port;
            let welcome =
                |number: &u16| same_wish || port.wanted.is_some_and(|range| range.contains(*number));
            *kept = binding.host_port.filter(welcome);
        }
    }
    kept
}

/// All host ports that a spec asks for, including those in its ranges.
pub fn wished_ports(spec: &Spec) -> BTreeSet<Port> {
    let wishes = spec.services.values().flat_map(ports);
    wishes
        .filter_map(|wish| Some((wish.wanted?, wish.transport())))
        .flat_map(|(range, protocol)| (range.start..=range.end).map(move |number| Port { number, protocol }))
        .collect()
}

/// A service's ports, without numbers. If the host port may be any of several, each replica gets its own.
fn ports(service: &Service) -> Vec<PublishedService> {
    let forwarded = service.ports.iter().filter(|port| port.protocol != spec::Protocol::Sctp);
    let each = forwarded.flat_map(|port| {
        let wanted = port.host.filter(|range| range.start != 0);
        let shared = service.replicas() <= 1 || wanted.is_some_and(|range| range.start == range.end);
        let replicas = if shared { vec![None] } else { (1..=service.replicas()).map(Some).collect() };
        replicas.into_iter().map(move |replica| PublishedService {
            service: service.name.clone(),
            replica,
            target: port.container,
            protocol: port.protocol,
            edge_port: 0,
            wanted,
            loopback: Loopback::written(port.host_ip.as_deref()),
            app_protocol: port.app_protocol.clone(),
            asked: None,
        })
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ServiceName;

    fn service(name: &str, ports: &[&str], replicas: u32) -> Service {
        let mut service = Service::new(ServiceName::new(name).unwrap(), "web");
        service.scale = Some(replicas);
        service.ports = ports.iter().map(|port| port_of(port)).collect();
        service
    }

    /// Parses `80`, `8080:80`, `8080-8082:80`.
    fn port_of(written: &str) -> spec::Port {
        let (host, container) = written.split_once(':').unwrap_or(("", written));
        let (start, end) = host.split_once('-').unwrap_or((host, host));
        let host = (!host.is_empty()).then(|| {
            serde_json::json!({ "start": start.parse::<u16>().unwrap(), "end": end.parse::<u16>().unwrap() })
        });
        let container: u16 = container.parse().unwrap();
        serde_json::from_value(serde_json::json!({ "host": host, "container": container })).unwrap()
    }

    fn spec(services: &[(&str, &[&str], u32)]) -> Spec {
        let mut spec = Spec::new("shop".parse().unwrap(), std::path::Path::new("/shop"));
        for (name, ports, replicas) in services {
            spec.services.insert(ServiceName::new(*name).unwrap(), service(name, ports, *replicas));
        }
        spec
    }

    /// The bindings after a spec was built; ports without a requested host port get one from 40000 on.
    fn built(spec: &Spec, before: &[PortBinding]) -> Vec<PortBinding> {
        let observed = Observed { ports: before.to_vec(), ..Observed::default() };
        let mut free = 40_000 + u16::try_from(before.len()).unwrap()..;
        let bind = |port: PublishedService| {
            let host_port = port.asked.or_else(|| free.next());
            PortBinding { port, host_port }
        };
        published(spec, &observed).into_iter().map(bind).collect()
    }

    fn numbers<'a>(bindings: &'a [PortBinding], service: &str) -> Vec<(u16, Option<u16>)> {
        let of = |it: &&'a PortBinding| it.port.service.as_str() == service;
        bindings.iter().filter(of).map(|it| (it.port.edge_port, it.host_port)).collect()
    }

    #[test]
    fn a_port_keeps_its_number_when_others_come_and_go() {
        let first = built(&spec(&[("web", &["80", "8080:81"], 1)]), &[]);
        let more = [("api", &["80"][..], 1), ("web", &["80", "8080:81"], 1), ("zoo", &["80"], 1)];
        let second = built(&spec(&more), &first);
        assert_eq!(numbers(&second, "web"), numbers(&first, "web"));
        let third = built(&spec(&[("zoo", &["80"], 1), ("web", &["8080:81", "80"], 1)]), &second);
        let mut reordered = numbers(&third, "web");
        reordered.reverse();
        assert_eq!(reordered, numbers(&first, "web"));
        assert_eq!(numbers(&third, "zoo"), numbers(&second, "zoo"));
        let edge: BTreeSet<u16> = second.iter().map(|it| it.port.edge_port).collect();
        assert_eq!(edge.len(), 4);
    }

    #[test]
    fn another_wish_for_a_host_port_is_followed() {
        let first = built(&spec(&[("web", &["8080:80"], 1)]), &[]);
        let moved = built(&spec(&[("web", &["8081:80"], 1)]), &first);
        assert_eq!(numbers(&moved, "web"), [(20_000, Some(8081))]);
        let within = built(&spec(&[("web", &["8000-8090:80"], 1)]), &moved);
        assert_eq!(numbers(&within, "web"), [(20_000, Some(8081))]);
        let any = built(&spec(&[("web", &["80"], 1)]), &within);
        assert_eq!(numbers(&any, "web"), [(20_000, Some(40_001))]);
    }

    #[test]
    fn who_wants_just_one_port_gets_it_from_who_wants_any() {
        let first = built(&spec(&[("web", &["80"], 1)]), &[]);
        assert_eq!(numbers(&first, "web"), [(20_000, Some(40_000))]);
        let both = built(&spec(&[("api", &["40000:80"], 1), ("web", &["80"], 1)]), &first);
        assert_eq!(numbers(&both, "api"), [(20_001, Some(40_000))]);
        assert_ne!(numbers(&both, "web")[0].1, Some(40_000));
    }

    #[test]
    fn each_replica_has_its_own_port_where_there_are_several() {
        let range = built(&spec(&[("web", &["6005-6015:80"], 3)]), &[]);
        assert_eq!(
            numbers(&range, "web").iter().map(|it| it.1).collect::<Vec<_>>(),
            [Some(6005), Some(6006), Some(6007)]
        );
        assert!(range[1].port.is_of("web", 2) && !range[1].port.is_of("web", 1));
        let any = built(&spec(&[("web", &["80"], 2)]), &[]);
        assert_eq!(any.len(), 2);
        let fixed = built(&spec(&[("web", &["8080:80"], 2)]), &[]);
        assert_eq!(fixed.iter().map(|it| it.port.replica).collect::<Vec<_>>(), [None]);
        let scaled = built(&spec(&[("web", &["6005-6015:80"], 1)]), &range);
        assert_eq!(numbers(&scaled, "web"), numbers(&range, "web")[..1]);
    }

    #[test]
    fn the_table_is_read_back_from_the_label() {
        let table = published(&spec(&[("web", &["80"], 1)]), &Observed::default());
        let labels = [(identity::PORTS.to_owned(), serde_json::to_string(&table).unwrap())].into();
        let bound = PublishedPort { host_port: Some(49_153), ..table[0].publish() };
        let read = bindings(&labels, &[bound]);
        assert_eq!(read, [PortBinding { port: table[0].clone(), host_port: Some(49_153) }]);
    }
}

//! Collects the observed state of the engine and the host before planning.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use futures_util::future::try_join4;
use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::host_ports;
use crate::engine::identity::{self, Role, SandboxId, Scope};
use crate::engine::network::Subnet as EngineSubnet;
use crate::engine::{
    ContainerState, ContainerSummary, Engine, EngineError, EngineInfo, Filter, Image, Network, Port, Volume,
    join_bounded,
};
use crate::plan::{
    self, ExistingContainer, ExistingGateway, ExistingNetwork, Observed, Subnet, image_references,
};
use crate::session::data::secret_store;
use crate::spec::{self, NetworkName, SandboxName, Service, ServiceName, Spec, VolumeName};

/// Images by the reference that a spec uses.
pub type Images = BTreeMap<String, Image>;

/// The observed state, and the instance that it belongs to.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// The state that the planner needs.
    pub observed: Observed,
    /// The instance id of the existing sandbox.
    pub id: Option<SandboxId>,
    /// The folder that it was created from.
    pub folder: Option<String>,
    /// Volumes whose labels differ from the spec's: an engine cannot change the labels of an existing volume.
    pub relabelled: Vec<String>,
}

/// Collects everything that a plan for `name` depends on.
///
/// # Errors
/// Fails if the engine does not answer.
pub async fn survey(
    engine: &dyn Engine,
    info: &EngineInfo,
    scope: &Scope,
    name: &SandboxName,
    spec: &Spec,
) -> Result<Observation, EngineError> {
    let ours = Filter::all().label(identity::NAME, name.as_str());
    let every = Filter::all();
    let (networks, containers, volumes, images) = try_join4(
        engine.networks(&every),
        engine.containers(&ours),
        engine.volumes(&ours),
        images(engine, spec),
    )
    .await?;
    let containers: Vec<ContainerSummary> =
        containers.into_iter().filter(|container| scope.owns(&container.labels)).collect();
    let gateway = containers.iter().find(|container| has_role(&container.labels, Role::Gateway));
    let local = info.location.is_local();
    let sends_logs = !info.log_driver.is_empty() && !spec::keeps_logs(&info.log_driver);
    let mut observed =
        Observed { now: Timestamp::now(), processors: info.cpus, sends_logs, images, ..Observed::default() };
    sort_networks(&mut observed, scope, name, &networks);
    if local {
        observed.taken.extend(host_routes());
        observed.host_addresses = host_addresses();
        observed.busy_ports_known = true;
        observed.busy_ports = host_ports::taken(spec, &own_ports(&containers));
    }
    let relabelled = relabelled(spec, &volumes);
    observed.volumes =
        volumes.into_iter().filter(|volume| scope.owns(&volume.labels)).map(|volume| volume.name).collect();
    observed.ports = gateway.map(|it| plan::bindings(&it.labels, &it.ports)).unwrap_or_default();
    observed.gateway = gateway.map(|container| ExistingGateway {
        config_hash: container.labels.get(identity::CONFIG_HASH).cloned().unwrap_or_default(),
        running: container.state == ContainerState::Running,
    });
    observed.containers = containers.iter().filter_map(existing).collect();
    observed.forgotten = forgotten(engine, name, spec, &observed).await?;
    let first = gateway.or(containers.first());
    let label = |key: &str| first.and_then(|container| container.labels.get(key));
    let id = label(identity::ID).and_then(|id| id.parse().ok());
    let folder = label(identity::FOLDER).cloned();
    Ok(Observation { observed, id, folder, relabelled })
}

fn relabelled(spec: &Spec, volumes: &[Volume]) -> Vec<String> {
    let differs = |volume: &&Volume| {
        let key = volume.labels.get(identity::KEY).and_then(|key| VolumeName::new(key.as_str()).ok());
        let written = key.and_then(|key| spec.volumes.get(&key));
        let has = volume.labels.iter().filter(|(label, _)| !spec::reserved::is_label(label));
        written.is_some_and(|written| !has.eq(written.labels.iter()))
    };
    let changed = volumes.iter().filter(differs);
    changed.filter_map(|volume| volume.labels.get(identity::KEY)).cloned().collect()
}

/// The stopped services whose secrets the gateway no longer holds. None if the gateway is stopped too.
async fn forgotten(
    engine: &dyn Engine,
    name: &SandboxName,
    spec: &Spec,
    observed: &Observed,
) -> Result<BTreeSet<ServiceName>, EngineError> {
    let stopped: BTreeSet<&ServiceName> = observed
        .containers
        .values()
        .filter(|container| !container.running)
        .map(|container| &container.service)
        .collect();
    match &observed.gateway {
        Some(gateway) if gateway.running => {
            let services: Vec<&Service> =
                stopped.into_iter().filter_map(|name| spec.services.get(name)).collect();
            secret_store::forgotten(engine, name, &services).await
        }
        _ => Ok(stopped.into_iter().cloned().collect()),
    }
}

/// The images of a spec that the engine has.
///
/// # Errors
/// Fails if the engine does not answer.
pub async fn images(engine: &dyn Engine, spec: &Spec) -> Result<Images, EngineError> {
    let found = join_bounded(image_references(spec).into_iter().map(|reference| async move {
        let image = engine.image(&reference).await?;
        Ok::<_, EngineError>(image.map(|image| (reference, image)))
    }))
    .await;
    found.into_iter().filter_map(Result::transpose).collect()
}

fn has_role(labels: &BTreeMap<String, String>, role: Role) -> bool {
    labels.get(identity::ROLE).is_some_and(|found| found == role.as_str())
}

fn existing(container: &ContainerSummary) -> Option<(String, ExistingContainer)> {
    if !has_role(&container.labels, Role::Service) {
        return None;
    }
    let service = ServiceName::new(container.labels.get(identity::SERVICE)?.as_str()).ok()?;
    let existing = ExistingContainer {
        service,
        config_hash: container.labels.get(identity::CONFIG_HASH).cloned().unwrap_or_default(),
        running: container.state.is_alive(),
        addresses: addresses(container),
        exit_code: exit_code(&container.status),
    };
    Some((container.name.clone(), existing))
}

fn addresses(container: &ContainerSummary) -> BTreeMap<String, Ipv4Addr> {
    let on = container.networks.iter().filter_map(|(network, endpoint)| match endpoint.ipv4 {
        Some(IpAddr::V4(address)) => Some((network.clone(), address)),
        _ => None,
    });
    on.collect()
}

/// Parses the exit code from the engine's `Exited (137) 2 hours ago`.
pub(crate) fn exit_code(status: &str) -> Option<i64> {
    status.strip_prefix("Exited (")?.split(')').next()?.parse().ok()
}

fn sort_networks(observed: &mut Observed, scope: &Scope, name: &SandboxName, networks: &[Network]) {
    for network in networks {
        let Some(net) = network.subnets.iter().find_map(EngineSubnet::ipv4) else { continue };
        if scope.owns(&network.labels) && has_role(&network.labels, Role::Edge) {
            observed.edge = Some(Subnet::of(net));
        }
        let key = network.labels.get(identity::KEY).and_then(|key| NetworkName::new(key.as_str()).ok());
        let own = network.labels.get(identity::NAME).is_some_and(|owner| owner == name.as_str())
            && scope.owns(&network.labels);
        match key {
            Some(key) if own => {
                let (subnet, internal, ipv6) = (Subnet::of(net), network.internal, network.ipv6);
                let config_hash = network.labels.get(identity::CONFIG_HASH).cloned().unwrap_or_default();
                let existing = ExistingNetwork { config_hash, subnet, internal, ipv6 };
                observed.networks.insert(key, existing);
            }
            _ => observed.taken.push(net),
        }
    }
}

/// The shortest prefix that counts as a network's route. Shorter ones stand for the internet, as the default route
/// does: a VPN that takes all traffic adds 0.0.0.0/1 and 128.0.0.0/1.
const WIDEST_NETWORK: u8 = 8;

/// The networks that the host has routes to, those of a VPN included. Empty without `/proc`.
fn host_routes() -> Vec<Ipv4Net> {
    routes(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// Parses the networks of a routing table.
fn routes(table: &str) -> Vec<Ipv4Net> {
    table.lines().skip(1).filter_map(route).filter(|net| net.prefix_len() >= WIDEST_NETWORK).collect()
}

/// `IFACE DESTINATION GATEWAY FLAGS … MASK …`, addresses as little-endian hexadecimal (proc(5)).
fn route(line: &str) -> Option<Ipv4Net> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |field: &str| Some(Ipv4Addr::from(u32::from_str_radix(field, 16).ok()?.swap_bytes()));
    let (destination, mask) = (address(fields.get(1)?)?, address(fields.get(7)?)?);
    Ipv4Net::with_netmask(destination, mask).ok()
}

/// The host's own addresses. Empty without `/proc`.
fn host_addresses() -> Vec<Ipv4Net> {
    let trie = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut last: Option<Ipv4Addr> = None;
    let mut found = BTreeSet::new();
    for line in trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last.filter(|address| !address.is_loopback()));
        }
    }
    found.into_iter().map(Ipv4Net::from).collect()
}

/// The host ports that containers have.
fn own_ports(containers: &[ContainerSummary]) -> BTreeSet<Port> {
    let published = containers.iter().flat_map(|container| &container.ports);
    published
        .filter_map(|port| Some(Port { number: port.host_port?, protocol: port.container.protocol }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_read_as_the_kernel_writes_it() {
        let line = "eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        assert_eq!(route(line), Some("192.168.0.0/24".parse().unwrap()));
    }

    #[test]
    fn a_vpn_s_routes_for_all_traffic_take_no_network() {
        let line = |destination: &str, mask: &str| {
            format!("tun0\t{destination}\t0100080A\t0003\t0\t0\t0\t{mask}\t0\t0\t0\n")
        };
        let table = [
            "Iface\tDestination\tGateway\n".to_owned(),
            line("00000000", "00000000"),
            line("00000000", "00000080"),
            line("00000080", "00000080"),
            line("0000000A", "000000FF"),
        ];
        assert_eq!(routes(&table.concat()), ["10.0.0.0/8".parse().unwrap()]);
    }

    #[test]
    fn an_exit_code_is_read_from_the_engine_s_words() {
        assert_eq!(exit_code("Exited (137) 2 hours ago"), Some(137));
        assert_eq!(exit_code("Up 3 minutes (healthy)"), None);
    }
}

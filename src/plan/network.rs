//! Plans the networks of a sandbox (one per network of the spec) and the addresses on them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::gateway_config::GatewayMode;
use super::{DesiredState, ExistingNetwork, Observed, PlanError, Subnet};
use crate::engine::CreateNetwork;
use crate::engine::identity::{self, Role, SandboxId};
use crate::engine::network::Subnet as EngineSubnet;
use crate::spec::{Network, NetworkName, Service, ServiceName, Spec};

/// State of a network on the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Absent,
    /// It exists with the desired configuration.
    Kept,
    /// Its configuration differs. An engine cannot change a network, so it is recreated with everything on it.
    Outdated,
}

/// A network of the sandbox with its addresses assigned.
#[derive(Debug, Clone)]
pub(super) struct Laid {
    pub name: String,
    pub subnet: Subnet,
    /// Whether the network is internal (no route to the outside).
    pub internal: bool,
    /// Whether the engine has it already.
    pub standing: Standing,
    /// The address of each replica.
    pub addresses: BTreeMap<(ServiceName, u32), Ipv4Addr>,
}

/// Assigns a subnet to every network of the spec and an address to every service on it.
pub(super) fn lay(
    wish: &DesiredState<'_>,
    observed: &Observed,
) -> Result<BTreeMap<NetworkName, Laid>, PlanError> {
    let mut taken = observed.taken.clone();
    // Networks that the spec no longer has keep their subnets until nothing is on them.
    let stray = observed.networks.iter().filter(|(key, _)| !wish.spec.networks.contains_key(*key));
    taken.extend(stray.map(|(_, existing)| existing.subnet.net()));
    let routed = mode(wish.spec) == GatewayMode::Router;
    let mut laid = BTreeMap::new();
    for (key, network) in &wish.spec.networks {
        let members: Vec<&Service> =
            wish.spec.services.values().filter(|service| service.networks.contains_key(key)).collect();
        let containers: u32 = members.iter().map(|service| service.replicas()).sum();
        let internal = network.internal || !routed;
        let existing = observed.networks.get(key);
        let fits = |existing: &&ExistingNetwork| existing.subnet.places() >= containers as usize;
        let standing = match existing {
            None => Standing::Absent,
            Some(it)
                if fits(&it)
                    && it.internal == internal
                    && it.ipv6 == network.has_ipv6()
                    && it.config_hash == config_hash(network) =>
            {
                Standing::Kept
            }
            Some(_) => Standing::Outdated,
        };
        // A network that has become too small is recreated with a larger subnet.
        let subnet = match existing.filter(fits) {
            Some(existing) => existing.subnet,
            None => choose(wish, key, containers as usize, &taken)?,
        };
        taken.push(subnet.net());
        let name = identity::network(wish.name.as_str(), key.as_str());
        let has = |service: &ServiceName, replica| {
            let container = observed.containers.get(&wish.container(service, replica))?;
            container.addresses.get(&name).copied().filter(|address| subnet.net().contains(address))
        };
        let addresses = addresses(key, subnet, &members, has)?;
        laid.insert(key.clone(), Laid { name, subnet, internal, standing, addresses });
    }
    Ok(laid)
}

/// How the spec's egress policy is enforced.
pub(super) fn mode(spec: &Spec) -> GatewayMode {
    spec.egress.mode()
}

/// Picks a free subnet from the pool. One written in the spec (`ipam`) would prevent a second sandbox.
fn choose(
    wish: &DesiredState<'_>,
    key: &NetworkName,
    containers: usize,
    taken: &[Ipv4Net],
) -> Result<Subnet, PlanError> {
    let seed = u64::from_str_radix(wish.id.as_str(), 16).unwrap_or_default();
    let subnet = wish.subnets.pick(containers, taken, seed);
    subnet.ok_or_else(|| PlanError::NoSubnet { network: key.to_string() })
}

/// Keeps the address of an existing container, so that a change of one service does not move the others; otherwise
/// assigns the lowest free one after the gateway's, in the order of the services' names.
fn addresses(
    key: &NetworkName,
    subnet: Subnet,
    members: &[&Service],
    has: impl Fn(&ServiceName, u32) -> Option<Ipv4Addr>,
) -> Result<BTreeMap<(ServiceName, u32), Ipv4Addr>, PlanError> {
    let places: Vec<(ServiceName, u32)> = members
        .iter()
        .flat_map(|service| (1..=service.replicas()).map(|replica| (service.name.clone(), replica)))
        .collect();
    let kept = places.iter().filter_map(|place| Some((place.clone(), has(&place.0, place.1)?)));
    let mut given: BTreeMap<(ServiceName, u32), Ipv4Addr> = kept.collect();
    let used: Vec<Ipv4Addr> = given.values().copied().collect();
    let mut free = subnet.net().hosts().skip(2).filter(|address| !used.contains(address));
    for place in places {
        if let Entry::Vacant(entry) = given.entry(place) {
            let none = || PlanError::NoSubnet { network: key.to_string() };
            entry.insert(free.next().ok_or_else(none)?);
        }
    }
    Ok(given)
}

/// The engine's network for a network of the spec.
pub(super) fn create(
    wish: &DesiredState<'_>,
    key: &NetworkName,
    network: &Network,
    laid: &Laid,
) -> CreateNetwork {
    let mut create = CreateNetwork::bridge(&laid.name);
    create.labels = network.labels.clone();
    create.labels.extend(wish.labels(Role::Network));
    create.labels.insert(identity::KEY.to_owned(), key.to_string());
    create.labels.insert(identity::CONFIG_HASH.to_owned(), config_hash(network));
    create.internal = laid.internal;
    create.attachable = network.attachable;
    create.options = network.driver_opts.clone();
    create.options.insert(CreateNetwork::INHIBIT_IPV4.to_owned(), "true".to_owned());
    if !laid.internal {
        create.options.insert(CreateNetwork::MASQUERADE.to_owned(), "false".to_owned());
    }
    let mut subnet = EngineSubnet::new(IpNet::V4(laid.subnet.net()));
    subnet.gateway = Some(IpAddr::V4(laid.subnet.bridge()));
    subnet.range = Some(IpNet::V4(laid.subnet.services()));
    create.subnets = vec![subnet];
    if network.has_ipv6() {
        create.ipv6 = true;
        create.subnets.push(EngineSubnet::new(IpNet::V6(unique_local(&wish.id, key))));
    }
    create
}

/// Hashes what the spec says of a network but the engine does not report.
pub(super) fn config_hash(network: &Network) -> String {
    use sha2::{Digest, Sha256};
    let said = serde_json::json!([network.labels, network.driver_opts, network.attachable]);
    hex::encode(&Sha256::digest(said.to_string().as_bytes())[..8])
}

/// A unique IPv6 subnet for a network of this instance: a unique local address (RFC 4193, 3.2) with its own global id.
fn unique_local(id: &SandboxId, key: &NetworkName) -> Ipv6Net {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(format!("{id} {key}").as_bytes());
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&hash[..5]);
    Ipv6Net::new_assert(Ipv6Addr::from(octets), 64)
}

/// The network that all gateways publish on; containers on it cannot reach each other.
pub(super) fn create_edge(wish: &DesiredState<'_>, subnet: Subnet) -> CreateNetwork {
    let mut create = CreateNetwork::bridge(wish.scope.edge());
    create.labels = BTreeMap::from([(identity::ROLE.to_owned(), Role::Edge.as_str().to_owned())]);
    if !wish.scope.as_str().is_empty() {
        create.labels.insert(identity::SCOPE.to_owned(), wish.scope.to_string());
    }
    // Network names are not unique, bridge names are: if two first sandboxes race, only one creates it.
    create.options.insert(CreateNetwork::BRIDGE_NAME.to_owned(), wish.scope.edge_bridge(wish.kind));
    create.options.insert(CreateNetwork::ENABLE_ICC.to_owned(), "false".to_owned());
    create.options.insert(CreateNetwork::HOST_BINDING.to_owned(), "127.0.0.1".to_owned());
    let mut engine_subnet = EngineSubnet::new(IpNet::V4(subnet.net()));
    engine_subnet.gateway = Some(IpAddr::V4(subnet.bridge()));
    create.subnets = vec![engine_subnet];
    create
}

//! Plans the gateway's container and its configuration.

use std::collections::BTreeMap;

use super::gateway_config::{
    EdgeNetwork, EgressRule, Forward, GatewayConfig, GatewayMode, GatewayNetwork,
    Protocol as ForwardProtocol, ServiceAddress,
};
use super::network::{self, Laid};
use super::port_binding::PublishedService;
use super::{DesiredState, Observed, Subnet, secret_files};
use crate::engine::identity::{self, Role};
use crate::engine::{
    Attachment, CreateContainer, CreateVolume, Logging, Mount, MountKind, Port, Protocol, Resources,
};
use crate::spec::{NetworkMode, NetworkName, Service, Spec};

/// The gateway's container with its whole configuration. Creating it claims the sandbox's name and allocates the
/// memory that holds the secrets.
pub(super) fn create(
    wish: &DesiredState<'_>,
    config: &GatewayConfig,
    published: &[PublishedService],
) -> CreateContainer {
    let mut create = CreateContainer::new(wish.gateway(), &wish.agent_image);
    create.labels = wish.labels(Role::Gateway);
    if let Ok(table) = serde_json::to_string(published) {
        create.labels.insert(identity::PORTS.to_owned(), table);
    }
    create.entrypoint = Some(vec!["/sandbox".to_owned()]);
    create.cmd = Some(["agent", "gateway"].map(str::to_owned).to_vec());
    create.env = config.to_environment().into_iter().map(|(key, value)| (key, Some(value))).collect();
    create.settings.user = Some("0".to_owned());
    create.networks = vec![Attachment::new(wish.scope.edge())];
    create.exposed =
        published.iter().map(|port| Port { number: port.edge_port, protocol: port.transport() }).collect();
    create.published = published.iter().map(PublishedService::publish).collect();
    create.settings.read_only = true;
    create.settings.cap_drop = vec!["ALL".to_owned()];
    create.settings.security_opt = vec!["no-new-privileges:true".to_owned()];
    create.resources = Resources { pids_limit: Some(64), ..Resources::default() };
    create.logging = Some(Logging {
        driver: Some("json-file".to_owned()),
        options: BTreeMap::from([
            ("max-size".to_owned(), "1m".to_owned()),
            ("max-file".to_owned(), "2".to_owned()),
        ]),
    });
    // Docker sets this by default, Podman does not; the gateway binds port 53 without a capability.
    create.settings.sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
    let router = network::mode(wish.spec) == GatewayMode::Router;
    if router {
        create.settings.cap_add = vec!["NET_ADMIN".to_owned()];
    }
    // A new network namespace inherits the host's default, which is to forward. Without a filter it must not.
    let forwards = if router { "1" } else { "0" };
    create.settings.sysctls.insert("net.ipv4.ip_forward".to_owned(), forwards.to_owned());
    create.mounts = wish
        .spec
        .services
        .values()
        .filter(|service| !service.secrets.is_empty())
        .map(|service| Mount {
            read_only: false,
            ..secrets_mount(wish, service, secret_files::held_at(service))
        })
        .collect();
    create
}

/// A service's secrets: a tmpfs volume that the gateway and the service share.
pub(super) fn secrets_mount(wish: &DesiredState<'_>, service: &Service, target: String) -> Mount {
    let mut labels = wish.labels(Role::Secret);
    labels.insert(identity::SERVICE.to_owned(), service.name.to_string());
    let create = CreateVolume {
        name: identity::secrets_volume(wish.name.as_str(), service.name.as_str()),
        driver: Some("local".to_owned()),
        options: BTreeMap::from([
            ("type".to_owned(), "tmpfs".to_owned()),
            ("device".to_owned(), "tmpfs".to_owned()),
            ("o".to_owned(), "size=16m,mode=0755,nosuid,nodev,noexec".to_owned()),
        ]),
        labels,
    };
    Mount { target, read_only: true, kind: MountKind::NewVolume { create, no_copy: true } }
}

/// The gateway's configuration.
pub(super) fn config(
    wish: &DesiredState<'_>,
    observed: &Observed,
    laid: &BTreeMap<NetworkName, Laid>,
    edge: Subnet,
    published: &[PublishedService],
) -> GatewayConfig {
    let router = network::mode(wish.spec) == GatewayMode::Router;
    GatewayConfig {
        sandbox: wish.name.to_string(),
        networks: laid
            .iter()
            .map(|(key, laid)| GatewayNetwork {
                name: key.to_string(),
                subnet: laid.subnet.net(),
                address: laid.subnet.gateway(),
                adopt: (router && !laid.internal).then(|| laid.subnet.bridge()),
                internal: laid.internal,
            })
            .collect(),
        edge: Some(EdgeNetwork { subnet: edge.net(), bridge: edge.bridge() }),
        forwards: published.iter().map(|port| forward(wish, port)).collect(),
        egress: wish.spec.egress.clone(),
        services: owners_first(wish.spec).flat_map(|service| addresses(wish, service, laid)).collect(),
        forbidden: forbidden(wish, observed),
        resolver: None,
    }
}

fn forward(wish: &DesiredState<'_>, port: &PublishedService) -> Forward {
    Forward {
        edge_port: port.edge_port,
        protocol: match port.transport() {
            Protocol::Udp => ForwardProtocol::Udp,
            Protocol::Tcp | Protocol::Sctp => ForwardProtocol::Tcp,
        },
        service: port.service.to_string(),
        container: port.replica.map(|replica| wish.container(&port.service, replica)),
        container_port: port.target,
        network: None,
    }
}

/// Services with networks of their own first, before those that share another's, so that an address maps to its owner.
fn owners_first(spec: &Spec) -> impl Iterator<Item = &Service> {
    let of = |joined: bool| {
        let joins = |service: &&Service| matches!(service.network_mode, Some(NetworkMode::Service(_)));
        spec.services.values().filter(move |service| joins(service) == joined)
    };
    of(false).chain(of(true))
}

fn addresses(
    wish: &DesiredState<'_>,
    service: &Service,
    laid: &BTreeMap<NetworkName, Laid>,
) -> Vec<ServiceAddress> {
    let owner = wish.spec.network_owner(service);
    let joins = owner.name != service.name;
    (1..=service.replicas())
        .map(|replica| ServiceAddress {
            service: service.name.to_string(),
            container: wish.container(&service.name, replica),
            aliases: service
                .networks
                .values()
                .flat_map(|on| on.aliases.iter().cloned())
                .chain(service.settings.hostname.clone())
                .chain(service.container_name.clone())
                .collect(),
            addresses: owner
                .networks
                .keys()
                .filter_map(|key| {
                    let place = (owner.name.clone(), if joins { 1 } else { replica });
                    let address = laid.get(key)?.addresses.get(&place)?;
                    Some((key.to_string(), *address))
                })
                .collect(),
        })
        .collect()
}

/// Addresses that egress never reaches: the host and everything else on the engine, unless a rule names it.
fn forbidden(wish: &DesiredState<'_>, observed: &Observed) -> Vec<ipnet::Ipv4Net> {
    let rules = wish.spec.egress.rules().iter();
    let named: Vec<ipnet::Ipv4Net> = rules
        .filter_map(|rule| match rule {
            EgressRule::Net { net, .. } => Some(*net),
            EgressRule::Name { .. } => None,
        })
        .collect();
    let ours = wish.subnets.ranges().iter().copied();
    observed
        .host_addresses
        .iter()
        .copied()
        .chain(ours)
        .filter(|net| !named.iter().any(|name| net.contains(name)))
        .collect()
}

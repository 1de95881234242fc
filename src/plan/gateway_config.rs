//! The gateway's configuration, which is passed in its environment.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use crate::spec::{EgressPolicy, EgressRule, GatewayMode, NamePattern, RuleError, is_label};

/// Prefix of the environment variables that carry the configuration; a number from 0 follows.
const VARIABLE: &str = "SANDBOX_GATEWAY_";

/// Maximum bytes per variable: the kernel rejects 128 KiB or more (`MAX_ARG_STRLEN`).
const PIECE: usize = 100_000;

/// Everything the gateway needs to know when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// The sandbox's name, used only in log messages.
    pub sandbox: String,
    /// The sandbox's own networks.
    pub networks: Vec<GatewayNetwork>,
    /// The shared bridge between the host, the gateway and the outside; `None` if no port is published and egress is
    /// denied.
    #[serde(default)]
    pub edge: Option<EdgeNetwork>,
    /// Published ports.
    #[serde(default)]
    pub forwards: Vec<Forward>,
    /// The egress policy of the sandbox.
    pub egress: EgressPolicy,
    /// The services with their names and addresses.
    #[serde(default)]
    pub services: Vec<ServiceAddress>,
    /// Destinations that are always blocked, whatever the policy says: the engine host's addresses, the ranges of
    /// sandboxes' subnets, the engine's other networks. This takes precedence over every rule, so an address that a
    /// spec names explicitly must not be listed here.
    #[serde(default)]
    pub forbidden: Vec<Ipv4Net>,
    /// The DNS server for outside names; the engine's resolver if absent.
    #[serde(default)]
    pub resolver: Option<SocketAddr>,
}

/// One network of the sandbox, as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayNetwork {
    /// The network's key in the spec, such as `default`.
    pub name: String,
    /// The network's subnet.
    pub subnet: Ipv4Net,
    /// The gateway's own fixed address.
    pub address: Ipv4Addr,
    /// The address that IPAM reserves as "the gateway" and that services use as their default route; the gateway
    /// adopts it in router mode.
    #[serde(default)]
    pub adopt: Option<Ipv4Addr>,
    /// Whether the engine isolates the network (nothing is routed from it).
    pub internal: bool,
}

/// The shared edge bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeNetwork {
    /// Its subnet; addresses in it are never valid destinations.
    pub subnet: Ipv4Net,
    /// The bridge's own address: the host's side, and the gateway's default route.
    pub bridge: Ipv4Addr,
}

/// A published port, forwarded from the edge network to a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// The port the gateway listens on at the edge; the engine publishes it on the host's loopback.
    pub edge_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The target service; one of [`GatewayConfig::services`].
    pub service: String,
    /// The only container to forward to; if absent, connections are distributed round-robin over the replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The port inside the service's container.
    pub container_port: u16,
    /// The network to reach the service on; any common network if absent.
    #[serde(default)]
    pub network: Option<String>,
}

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A service's container with its names and addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAddress {
    /// The service's name in the spec; replicas share it.
    pub service: String,
    /// The container's name on the engine, looked up at the engine's resolver if no address is known.
    pub container: String,
    /// Further names inside the sandbox (aliases, the hostname); they are never resolved outside.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The container's fixed address on each network, by the network's name.
    #[serde(default)]
    pub addresses: BTreeMap<String, Ipv4Addr>,
}

impl GatewayConfig {
    /// Encodes the configuration as JSON in environment variables, so that the container needs no configuration file.
    pub fn to_environment(&self) -> BTreeMap<String, String> {
        // JSON can represent all of it: keys are text, numbers are finite.
        let json = serde_json::to_string(self).unwrap_or_default();
        let mut rest = json.as_str();
        let pieces = std::iter::from_fn(|| {
            let (piece, more) = rest.split_at(rest.floor_char_boundary(PIECE));
            rest = more;
            (!piece.is_empty()).then(|| piece.to_owned())
        });
        pieces.enumerate().map(|(number, piece)| (format!("{VARIABLE}{number}"), piece)).collect()
    }

    /// Reads the configuration from environment variables.
    ///
    /// # Errors
    /// Fails if the variables are missing or do not contain a configuration.
    pub fn from_environment(value: impl Fn(&str) -> Option<String>) -> Result<Self, serde_json::Error> {
        let pieces = (0..).map_while(|number| value(&format!("{VARIABLE}{number}")));
        serde_json::from_str(&pieces.collect::<String>())
    }

    /// How the gateway enforces this policy.
    pub fn mode(&self) -> GatewayMode {
        self.egress.mode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(services: usize) -> GatewayConfig {
        let service = |number| ServiceAddress {
            service: format!("worker-{number}"),
            container: format!("sbx-shop.worker-{number}"),
            aliases: vec!["büro".repeat(5)],
            addresses: BTreeMap::new(),
        };
        GatewayConfig {
            sandbox: "shop".to_owned(),
            networks: Vec::new(),
            edge: None,
            forwards: Vec::new(),
            egress: EgressPolicy::Deny,
            services: (0..services).map(service).collect(),
            forbidden: Vec::new(),
            resolver: None,
        }
    }

    #[test]
    fn the_environment_carries_a_configuration_of_any_length() {
        for (services, variables) in [(1, 1), (3000, 4)] {
            let config = config(services);
            let environment = config.to_environment();
            assert_eq!(environment.len(), variables, "{services} services");
            assert!(environment.values().all(|value| value.len() < 128 << 10));
            let read = GatewayConfig::from_environment(|name| environment.get(name).cloned());
            assert_eq!(read.unwrap(), config);
        }
        assert!(GatewayConfig::from_environment(|_| None).is_err());
    }
}

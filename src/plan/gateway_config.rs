//! What the gateway is told: its configuration, which its environment carries.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use crate::spec::{EgressPolicy, EgressRule, GatewayMode, NamePattern, RuleError, is_label};

/// The variables of the gateway's environment that carry the configuration: this and a number from 0 on.
const VARIABLE: &str = "SANDBOX_GATEWAY_";

/// The most that one variable carries, in bytes: the kernel takes none of 128 KiB or more (`MAX_ARG_STRLEN`).
const PIECE: usize = 100_000;

/// Everything the gateway knows when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// The sandbox's name; only for the log.
    pub sandbox: String,
    /// The sandbox's own networks.
    pub networks: Vec<GatewayNetwork>,
    /// The shared bridge through which the host reaches us and we reach the outside; `None` if nothing is published
    /// and nothing let out.
    #[serde(default)]
    pub edge: Option<EdgeNetwork>,
    /// Published ports.
    #[serde(default)]
    pub forwards: Vec<Forward>,
    /// What may leave.
    pub egress: EgressPolicy,
    /// The services, their names and their addresses.
    #[serde(default)]
    pub services: Vec<ServiceAddress>,
    /// Never let out, whatever the policy says: the engine host's own addresses, the pool that sandboxes' subnets
    /// come from, the engine's other networks. It wins over every rule, so what a spec names on purpose must not be
    /// put here.
    #[serde(default)]
    pub forbidden: Vec<Ipv4Net>,
    /// Who resolves outside names; the engine's own resolver if absent.
    #[serde(default)]
    pub resolver: Option<SocketAddr>,
}

/// One network of the sandbox, as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayNetwork {
    /// The key in the spec, such as `default`.
    pub name: String,
    /// The network's subnet.
    pub subnet: Ipv4Net,
    /// The gateway container's own fixed address.
    pub address: Ipv4Addr,
    /// The address that IPAM keeps for "the gateway" and that services have as their default route; adopted in router
    /// mode.
    #[serde(default)]
    pub adopt: Option<Ipv4Addr>,
    /// Whether the engine isolates the network (then nothing is ever routed from it).
    pub internal: bool,
}

/// The shared edge bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeNetwork {
    /// Its subnet; nothing in it is ever a destination.
    pub subnet: Ipv4Net,
    /// The bridge's own address: the host's side, and our default route.
    pub bridge: Ipv4Addr,
}

/// A published port: from the edge to a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// The port we listen on at the edge; the engine publishes it on the host's loopback.
    pub edge_port: u16,
    /// Of which protocol.
    pub protocol: Protocol,
    /// The service; one of [`GatewayConfig::services`].
    pub service: String,
    /// Its only container that it leads to; absent if they take turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The port inside the service's container.
    pub container_port: u16,
    /// The network to reach it by; any the service is on if absent.
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

/// A service's container: what it is called and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAddress {
    /// The service's name in the spec; replicas share it.
    pub service: String,
    /// The container's name on the engine, asked of the engine's resolver when no address is known.
    pub container: String,
    /// Further names inside the sandbox (aliases, the hostname): these are never outside names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Its fixed address on each network, by the network's name.
    #[serde(default)]
    pub addresses: BTreeMap<String, Ipv4Addr>,
}

impl GatewayConfig {
    /// The variables that carry it, as JSON: what is known before the container is made needs no file in it.
    pub fn to_environment(&self) -> BTreeMap<String, String> {
        // Keys are text and numbers are finite: JSON has a form for all of it.
        let json = serde_json::to_string(self).unwrap_or_default();
        let mut rest = json.as_str();
        let pieces = std::iter::from_fn(|| {
            let (piece, more) = rest.split_at(rest.floor_char_boundary(PIECE));
            rest = more;
            (!piece.is_empty()).then(|| piece.to_owned())
        });
        pieces.enumerate().map(|(number, piece)| (format!("{VARIABLE}{number}"), piece)).collect()
    }

    /// Reads it from the variables that carry it.
    ///
    /// # Errors
    /// When they are missing, or do not carry a configuration.
    pub fn from_environment(value: impl Fn(&str) -> Option<String>) -> Result<Self, serde_json::Error> {
        let pieces = (0..).map_while(|number| value(&format!("{VARIABLE}{number}")));
        serde_json::from_str(&pieces.collect::<String>())
    }

    /// How this policy is enforced.
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

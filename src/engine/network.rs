//! Networks as the engine keeps them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;

/// A network to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateNetwork {
    /// Its name.
    pub name: String,
    /// The driver, `bridge` as a rule.
    pub driver: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether packets stay on it.
    pub internal: bool,
    /// Whether containers may be put on it from outside a swarm service.
    pub attachable: bool,
    /// Whether it has IPv6 addresses.
    pub ipv6: bool,
    /// Its subnets; empty: the engine's choice.
    pub subnets: Vec<Subnet>,
    /// Options of its driver, see the constants of this type.
    pub options: BTreeMap<String, String>,
    /// The driver that gives out addresses; `None`: `default`.
    pub ipam_driver: Option<String>,
    /// Options of that driver.
    pub ipam_options: BTreeMap<String, String>,
}

impl CreateNetwork {
    /// `true`: the host has no IPv4 address on the bridge.
    pub const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
    /// `false`: containers on the bridge do not reach each other.
    pub const ENABLE_ICC: &str = "com.docker.network.bridge.enable_icc";
    /// `false`: addresses are not translated on the way out.
    pub const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
    /// The host's address that ports are published on by default.
    pub const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
    /// The bridge's name on the host.
    pub const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
    /// The packets' greatest size.
    pub const MTU: &str = "com.docker.network.driver.mtu";

    /// A bridge of this name and nothing else.
    pub fn bridge(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            driver: "bridge".into(),
            labels: BTreeMap::new(),
            internal: false,
            attachable: false,
            ipv6: false,
            subnets: Vec::new(),
            options: BTreeMap::new(),
            ipam_driver: None,
            ipam_options: BTreeMap::new(),
        }
    }
}

/// A range of addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// All its addresses.
    pub subnet: IpNet,
    /// The address that the bridge has (or, with `inhibit_ipv4`, that is kept free).
    pub gateway: Option<IpAddr>,
    /// The part that addresses are given out from.
    pub range: Option<IpNet>,
    /// Addresses that must not be given out, by name.
    pub reserved: BTreeMap<String, IpAddr>,
}

impl Subnet {
    /// A subnet and nothing else.
    pub fn new(subnet: IpNet) -> Self {
        Self { subnet, gateway: None, range: None, reserved: BTreeMap::new() }
    }

    /// Its addresses, if they are of IPv4.
    pub fn ipv4(&self) -> Option<Ipv4Net> {
        match self.subnet {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }
    }
}

/// A network of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Options of its driver.
    pub options: BTreeMap<String, String>,
    /// Whether packets stay on it.
    pub internal: bool,
    /// Whether it has IPv6 addresses.
    pub ipv6: bool,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// Names and ids of the running containers on it; empty in listings.
    pub containers: Vec<NetworkMember>,
    /// When it was made.
    pub created: Option<Timestamp>,
}

/// A running container on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkMember {
    /// The container's id.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// Its address there.
    pub address: Option<IpAddr>,
}

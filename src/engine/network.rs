//! Networks of the engine, and the parameters to create them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;

/// The parameters of a network to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateNetwork {
    /// Its name.
    pub name: String,
    /// The driver; normally `bridge`.
    pub driver: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether the network is internal (no route to the outside).
    pub internal: bool,
    /// Whether standalone containers may be connected to a swarm network.
    pub attachable: bool,
    /// Whether it has IPv6 addresses.
    pub ipv6: bool,
    /// Its subnets; if empty, the engine chooses.
    pub subnets: Vec<Subnet>,
    /// Options of the driver; see the constants of this type.
    pub options: BTreeMap<String, String>,
    /// The IPAM driver; `None` for `default`.
    pub ipam_driver: Option<String>,
    /// Options of the IPAM driver.
    pub ipam_options: BTreeMap<String, String>,
}

impl CreateNetwork {
    /// `true`: the host gets no IPv4 address on the bridge.
    pub const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
    /// `false`: containers on the bridge cannot reach each other.
    pub const ENABLE_ICC: &str = "com.docker.network.bridge.enable_icc";
    /// `false`: outgoing packets are not masqueraded.
    pub const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
    /// The default host address for published ports.
    pub const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
    /// The bridge's name on the host.
    pub const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
    /// The maximum packet size.
    pub const MTU: &str = "com.docker.network.driver.mtu";

    /// A bridge network with this name and default settings.
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

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The whole address range.
    pub subnet: IpNet,
    /// The bridge's address (with `inhibit_ipv4`, a reserved address).
    pub gateway: Option<IpAddr>,
    /// The range that addresses are assigned from.
    pub range: Option<IpNet>,
    /// Addresses that are never assigned, by name.
    pub reserved: BTreeMap<String, IpAddr>,
}

impl Subnet {
    /// A subnet with default settings.
    pub fn new(subnet: IpNet) -> Self {
        Self { subnet, gateway: None, range: None, reserved: BTreeMap::new() }
    }

    /// The range, if it is IPv4.
    pub fn ipv4(&self) -> Option<Ipv4Net> {
        match self.subnet {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }
    }
}

/// A network that the engine has.
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
    /// Whether the network is internal (no route to the outside).
    pub internal: bool,
    /// Whether it has IPv6 addresses.
    pub ipv6: bool,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// The running containers on it; empty in listings.
    pub containers: Vec<NetworkMember>,
    /// Creation time.
    pub created: Option<Timestamp>,
}

/// A running container on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkMember {
    /// The container's id.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// Its address on the network.
    pub address: Option<IpAddr>,
}

//! Networks, and a service's attachments and published ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{At, Json, ServiceName};

/// A network (`networks`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// The name in the spec. Never applied: a sandbox's networks are its own.
    pub written_name: Option<String>,
    /// The driver, if set; only `bridge` is accepted.
    pub driver: Option<String>,
    /// The driver's options.
    pub driver_opts: BTreeMap<String, String>,
    /// Whether the network has no egress, whatever the policy.
    pub internal: bool,
    /// `attachable`, kept only for display.
    pub attachable: bool,
    /// Whether IPv6 is enabled, if set.
    pub enable_ipv6: Option<bool>,
    /// Address management (`ipam`). Never applied: each sandbox gets subnets of its own.
    pub ipam: Ipam,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is external. Such a spec is rejected, unless it is only displayed.
    pub external: bool,
    /// Extension keys (`x-…`).
    pub extensions: BTreeMap<String, Json>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

/// Address management of a network (`ipam`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// The IPAM driver.
    pub driver: Option<String>,
    /// The address pools.
    pub config: Vec<IpamPool>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// One address pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamPool {
    /// The subnet.
    pub subnet: Option<String>,
    /// The gateway.
    pub gateway: Option<String>,
    /// The range that addresses are assigned from.
    pub ip_range: Option<String>,
    /// Reserved addresses.
    pub aux_addresses: BTreeMap<String, String>,
}

/// A service's attachment to a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Additional DNS names on the network.
    pub aliases: Vec<String>,
    /// A fixed address. Never applied: subnets are the sandbox's own.
    pub ipv4_address: Option<String>,
    /// A fixed IPv6 address. Never applied.
    pub ipv6_address: Option<String>,
    /// Link-local addresses.
    pub link_local_ips: Vec<String>,
    /// The MAC address.
    pub mac_address: Option<String>,
    /// Order of connection, highest first.
    pub priority: i64,
    /// Options of the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// Whether the spec sets anything beyond the network's name.
    pub written: bool,
    /// Extension keys (`x-…`).
    pub extensions: BTreeMap<String, Json>,
}

impl Network {
    /// Whether the network has IPv6; disabled by default.
    pub fn has_ipv6(&self) -> bool {
        self.enable_ipv6 == Some(true)
    }
}

/// The network namespace of a service (`network_mode`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Loopback only.
    None,
    /// The host's network (host access).
    Host,
    /// The engine's default bridge; rejected, because it is shared.
    Bridge(String),
    /// The network of another service.
    Service(ServiceName),
    /// The network of a foreign container; rejected.
    Container(String),
    /// A network by its name on the engine; rejected.
    Other(String),
}

/// One published port (`ports`); ranges are expanded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// The host address in the spec. Not applied: ports are always published on 127.0.0.1.
    #[serde(default)]
    pub host_ip: Option<String>,
    /// The requested host ports: one, or any of a range; `None` for any free port.
    #[serde(default)]
    pub host: Option<PortRange>,
    /// The container's port.
    pub container: u16,
    /// The transport protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// The port's name in the spec.
    #[serde(default)]
    pub name: Option<String>,
    /// The application protocol, such as `http`.
    #[serde(default)]
    pub app_protocol: Option<String>,
    /// `host` or `ingress`, kept only for display.
    #[serde(default)]
    pub mode: Option<String>,
    /// Extension keys (`x-…`).
    #[serde(default)]
    pub extensions: BTreeMap<String, Json>,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

/// An inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// The first port.
    pub start: u16,
    /// The last port.
    pub end: u16,
}

impl PortRange {
    /// Whether the port is in the range.
    pub fn contains(self, port: u16) -> bool {
        (self.start..=self.end).contains(&port)
    }
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP; rejected, because the gateway does not forward it.
    Sctp,
}

impl Protocol {
    /// The lower-case name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

//! Networks, what a service does on them, and what may leave them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{At, Json, ServiceName};

/// A network (`networks`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// The name written in the spec. Never applied: a sandbox's networks are its own.
    pub written_name: Option<String>,
    /// The driver, if written; only `bridge` is taken.
    pub driver: Option<String>,
    /// The driver's options.
    pub driver_opts: BTreeMap<String, String>,
    /// Whether nothing leaves it, whatever the egress policy.
    pub internal: bool,
    /// `attachable`, kept for display.
    pub attachable: bool,
    /// Whether it has IPv6.
    pub enable_ipv6: Option<bool>,
    /// Address management as written. Never applied: each sandbox gets subnets of its own.
    pub ipam: Ipam,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it was declared external. Such a spec is refused, unless it is only shown.
    pub external: bool,
    /// Free `x-` keys.
    pub extensions: BTreeMap<String, Json>,
    /// Where it stands.
    #[serde(skip)]
    pub at: At,
}

/// Address management of a network, as written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// The driver.
    pub driver: Option<String>,
    /// Its pools.
    pub config: Vec<IpamPool>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// One pool of addresses, as written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamPool {
    /// The subnet.
    pub subnet: Option<String>,
    /// The gateway.
    pub gateway: Option<String>,
    /// The range that addresses are given from.
    pub ip_range: Option<String>,
    /// Addresses kept for others.
    pub aux_addresses: BTreeMap<String, String>,
}

/// A service on one network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// More names it is found by.
    pub aliases: Vec<String>,
    /// A fixed address as written. Never applied: subnets are the sandbox's own.
    pub ipv4_address: Option<String>,
    /// A fixed IPv6 address as written. Never applied.
    pub ipv6_address: Option<String>,
    /// Link-local addresses.
    pub link_local_ips: Vec<String>,
    /// Its hardware address.
    pub mac_address: Option<String>,
    /// Order of connecting, highest first.
    pub priority: i64,
    /// Options of the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// Whether anything was written beyond the network's name.
    pub written: bool,
    /// Free `x-` keys.
    pub extensions: BTreeMap<String, Json>,
}

impl Network {
    /// Whether it has IPv6, too: off unless it is asked for.
    pub fn has_ipv6(&self) -> bool {
        self.enable_ipv6 == Some(true)
    }
}

/// `network_mode`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// No network at all.
    None,
    /// The host's (host access).
    Host,
    /// The engine's own bridge or default; refused, since it is shared.
    Bridge(String),
    /// Another service's.
    Service(ServiceName),
    /// A foreign container's; refused.
    Container(String),
    /// A network by its engine name; refused.
    Other(String),
}

/// One published port (`ports`), ranges already spread out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// The host's address as written. Published ports are on 127.0.0.1 whatever it says.
    #[serde(default)]
    pub host_ip: Option<String>,
    /// The wish for a host port: one, or any of a range; none means any free one.
    #[serde(default)]
    pub host: Option<PortRange>,
    /// The container's port.
    pub container: u16,
    /// Its protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Its name in the spec.
    #[serde(default)]
    pub name: Option<String>,
    /// The application's protocol, such as `http`.
    #[serde(default)]
    pub app_protocol: Option<String>,
    /// `host` or `ingress`, kept for display.
    #[serde(default)]
    pub mode: Option<String>,
    /// Free `x-` keys.
    #[serde(default)]
    pub extensions: BTreeMap<String, Json>,
    /// Where it stands.
    #[serde(skip)]
    pub at: At,
}

/// Ports from `start` to `end`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// The first.
    pub start: u16,
    /// The last.
    pub end: u16,
}

impl PortRange {
    /// Whether a port is one of them.
    pub fn contains(self, port: u16) -> bool {
        (self.start..=self.end).contains(&port)
    }
}

/// A transport.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP; refused, the gateway does not forward it.
    Sctp,
}

impl Protocol {
    /// Its lower-case name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

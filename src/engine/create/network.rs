//! The networks of a container to create, and its addresses on them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

/// The network stack of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub enum NetworkMode {
    /// Its own, connected to the networks in `networks`; loopback only if there are none.
    #[default]
    Attached,
    /// Its own, with loopback only.
    None,
    /// The engine's default bridge.
    Bridge,
    /// The host's network stack.
    Host,
    /// The network stack of this container.
    Container(String),
}

/// A connection of a container to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// The network's name or id.
    pub network: String,
    /// Names that the network's DNS resolves to this container.
    pub aliases: Vec<String>,
    /// A fixed IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// A fixed IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// Additional link-local addresses.
    pub link_local: Vec<IpAddr>,
    /// A fixed MAC address.
    pub mac: Option<String>,
    /// Links to other containers on this network: `CONTAINER:ALIAS`.
    pub links: Vec<String>,
    /// Options of the network's driver.
    pub options: BTreeMap<String, String>,
    /// The network with the highest priority provides the default route; API 1.48 and later.
    pub gateway_priority: Option<i64>,
}

impl Attachment {
    /// A connection to this network with default settings.
    pub fn new(network: impl Into<String>) -> Self {
        Self { network: network.into(), ..Self::default() }
    }

    /// Adds an alias.
    #[must_use]
    pub fn alias(mut self, alias: impl Into<String>) -> Self {
        self.aliases.push(alias.into());
        self
    }

    /// Sets a fixed address.
    #[must_use]
    pub fn at(mut self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => self.ipv4 = Some(address),
            IpAddr::V6(_) => self.ipv6 = Some(address),
        }
        self
    }
}

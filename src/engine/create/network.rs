//! Which networks a container is on, and where.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

/// Which network stack a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub enum NetworkMode {
    /// Its own, on the networks that it is attached to; with none, only loopback.
    #[default]
    Attached,
    /// Its own, with loopback only.
    None,
    /// The engine's default bridge.
    Bridge,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
}

/// A container's place on a network, to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// The network's name or id.
    pub network: String,
    /// Names that the network's resolver answers for it.
    pub aliases: Vec<String>,
    /// A fixed address.
    pub ipv4: Option<IpAddr>,
    /// A fixed IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// More addresses, of the link only.
    pub link_local: Vec<IpAddr>,
    /// A fixed hardware address.
    pub mac: Option<String>,
    /// Names of other containers on this network: `CONTAINER:ALIAS`.
    pub links: Vec<String>,
    /// Options of the network's driver.
    pub options: BTreeMap<String, String>,
    /// Which network the default route takes: the highest; engines from API 1.48 on.
    pub gateway_priority: Option<i64>,
}

impl Attachment {
    /// A place on this network and nothing else.
    pub fn new(network: impl Into<String>) -> Self {
        Self { network: network.into(), ..Self::default() }
    }

    /// With one more name.
    #[must_use]
    pub fn alias(mut self, alias: impl Into<String>) -> Self {
        self.aliases.push(alias.into());
        self
    }

    /// At a fixed address.
    #[must_use]
    pub fn at(mut self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => self.ipv4 = Some(address),
            IpAddr::V6(_) => self.ipv6 = Some(address),
        }
        self
    }
}

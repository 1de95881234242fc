//! A published port: which of the gateway's ports leads to which service, and the host port that it has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::engine::{Port, Protocol, PublishedPort};
use crate::spec::{self, PortRange, ServiceName};

/// A published port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedService {
    /// The service.
    pub service: ServiceName,
    /// The target replica; `None` distributes connections over all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<u32>,
    /// The service's own port.
    pub target: u16,
    /// Its protocol.
    pub protocol: spec::Protocol,
    /// The gateway's port that forwards to it.
    pub edge_port: u16,
    /// The range of host ports that the spec asks for; any of them will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<PortRange>,
    /// The loopback address of the host that it is published on.
    #[serde(default, skip_serializing_if = "is_ipv4")]
    pub loopback: Loopback,
    /// The application protocol (`app_protocol`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// The host port that the engine is asked for; `None` for any free one.
    #[serde(skip)]
    pub asked: Option<u16>,
}

/// A loopback address of the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loopback {
    /// 127.0.0.1
    #[default]
    Ipv4,
    /// ::1
    Ipv6,
}

impl Loopback {
    /// The address.
    pub fn address(self) -> IpAddr {
        match self {
            Self::Ipv4 => Ipv4Addr::LOCALHOST.into(),
            Self::Ipv6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    pub(super) fn written(host_ip: Option<&str>) -> Self {
        match host_ip.and_then(|ip| ip.trim_matches(['[', ']']).parse::<Ipv6Addr>().ok()) {
            Some(Ipv6Addr::LOCALHOST) => Self::Ipv6,
            _ => Self::Ipv4,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_ipv4(loopback: &Loopback) -> bool {
    *loopback == Loopback::Ipv4
}

/// A published port that exists, with its host port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// The port's target.
    pub port: PublishedService,
    /// The host's port; `None` while the gateway does not run.
    pub host_port: Option<u16>,
}

impl PublishedService {
    /// The engine's port binding: always on loopback.
    pub(super) fn publish(&self) -> PublishedPort {
        PublishedPort {
            container: Port { number: self.edge_port, protocol: self.transport() },
            host_ip: Some(self.loopback.address()),
            host_port: self.asked,
        }
    }

    /// The transport protocol in the engine's type.
    pub fn transport(&self) -> Protocol {
        match self.protocol {
            spec::Protocol::Tcp => Protocol::Tcp,
            spec::Protocol::Udp => Protocol::Udp,
            spec::Protocol::Sctp => Protocol::Sctp,
        }
    }

    /// Whether it is published for this replica. A port shared by all replicas belongs to the first.
    pub fn is_of(&self, service: &str, replica: u32) -> bool {
        self.service.as_str() == service && self.replica.unwrap_or(1) == replica
    }

    /// Whether it is the same port as an entry of an earlier table.
    pub(super) fn continues(&self, other: &Self) -> bool {
        self.service == other.service
            && self.replica.unwrap_or(1) == other.replica.unwrap_or(1)
            && (self.target, self.protocol, self.loopback) == (other.target, other.protocol, other.loopback)
    }

    /// The host port, if the spec asks for exactly one.
    pub(super) fn single(&self) -> Option<u16> {
        self.wanted.filter(|range| range.start == range.end).map(|range| range.start)
    }
}

//! What the engine has, as far as a plan needs to know it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::published_ports::PortBinding;
use super::subnet::Subnet;
use crate::engine::{Image, Port};
use crate::spec::{Limits, NetworkName, ServiceName};

/// What was found before planning.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Processors of the engine's machine; 0 if that is not known.
    pub processors: u32,
    /// Whether containers that name no log driver get one with which the engine sends away what they write.
    pub sends_logs: bool,
    /// Subnets that must not be used: the engine's networks and the host's routes.
    pub taken: Vec<Ipv4Net>,
    /// The images of the spec that the engine has, by the reference the spec uses.
    pub images: BTreeMap<String, Image>,
    /// The images that the Dockerfiles of services which are built name.
    pub base_images: BTreeMap<ServiceName, BTreeSet<String>>,
    /// The edge network's subnet, if there is one.
    pub edge: Option<Subnet>,
    /// The engine's host's own addresses, as far as they are known: nothing is let out to them.
    pub host_addresses: Vec<Ipv4Net>,
    /// Host ports that the spec's ports wish for and that are not free.
    pub busy_ports: BTreeSet<Port>,
    /// The published ports that are there.
    pub ports: Vec<PortBinding>,
    /// The sandbox's gateway, if it was claimed already.
    pub gateway: Option<ExistingGateway>,
    /// Services that are stopped and whose secrets the gateway does not hold any more.
    pub forgotten: BTreeSet<ServiceName>,
    /// The sandbox's networks.
    pub networks: BTreeMap<NetworkName, ExistingNetwork>,
    /// The sandbox's volumes, by the engine's name.
    pub volumes: BTreeSet<String>,
    /// What the sandbox's control group is limited to, if it has one.
    pub limits: Option<Limits>,
    /// The sandbox's services' containers, by the engine's name.
    pub containers: BTreeMap<String, ExistingContainer>,
}

/// A network that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingNetwork {
    /// The hash of what the spec says of it; empty if it is not known.
    pub config_hash: String,
    /// Its addresses.
    pub subnet: Subnet,
    /// Whether packets stay on it.
    pub internal: bool,
    /// Whether it has IPv6 addresses.
    pub ipv6: bool,
}

/// A gateway that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingGateway {
    /// The hash of what it was made from.
    pub config_hash: String,
    /// Whether it runs.
    pub running: bool,
}

/// A service's container that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingContainer {
    /// Its service.
    pub service: ServiceName,
    /// The hash of what it was made from.
    pub config_hash: String,
    /// Whether it runs.
    pub running: bool,
    /// Its address on each network, by the engine's name.
    pub addresses: BTreeMap<String, Ipv4Addr>,
    /// The code with which it ended; `None` if it never did.
    pub exit_code: Option<i64>,
}

//! The observed state: what the engine has, as far as the planner needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::port_binding::PortBinding;
use super::subnet::Subnet;
use crate::engine::{Image, Port};
use crate::spec::{Limits, NetworkName, ServiceName};

/// The observed state, collected before planning.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// When it was collected.
    pub now: Timestamp,
    /// Number of processors of the engine's host; 0 if unknown.
    pub processors: u32,
    /// Whether the engine's default log driver sends logs to another machine.
    pub sends_logs: bool,
    /// Subnets that are in use: the engine's networks and the host's routes.
    pub taken: Vec<Ipv4Net>,
    /// Those images of the spec that the engine has, by the reference in the spec.
    pub images: BTreeMap<String, Image>,
    /// The images that the Dockerfiles of built services reference.
    pub base_images: BTreeMap<ServiceName, BTreeSet<String>>,
    /// The edge network's subnet, if the network exists.
    pub edge: Option<Subnet>,
    /// The known addresses of the engine's host; egress to them is blocked.
    pub host_addresses: Vec<Ipv4Net>,
    /// Host ports that the spec asks for and that are in use.
    pub busy_ports: BTreeSet<Port>,
    /// Whether `busy_ports` is complete: those of another machine cannot be looked at.
    pub busy_ports_known: bool,
    /// The ports that are published now.
    pub ports: Vec<PortBinding>,
    /// The sandbox's gateway, if it exists.
    pub gateway: Option<ExistingGateway>,
    /// Stopped services whose secrets the gateway no longer holds.
    pub forgotten: BTreeSet<ServiceName>,
    /// The sandbox's networks, by their key in the spec.
    pub networks: BTreeMap<NetworkName, ExistingNetwork>,
    /// The sandbox's volumes, by their name on the engine.
    pub volumes: BTreeSet<String>,
    /// The limits of the sandbox's control group, if it has one.
    pub limits: Option<Limits>,
    /// The containers of the sandbox's services, by their name on the engine.
    pub containers: BTreeMap<String, ExistingContainer>,
}

/// A network that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingNetwork {
    /// The hash of its configuration in the spec; empty if unknown.
    pub config_hash: String,
    /// Its addresses.
    pub subnet: Subnet,
    /// Whether it is internal (no route to the outside).
    pub internal: bool,
    /// Whether it has IPv6 addresses.
    pub ipv6: bool,
}

/// A gateway that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingGateway {
    /// The hash of its configuration.
    pub config_hash: String,
    /// Whether it runs.
    pub running: bool,
}

/// A service's container that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingContainer {
    /// Its service.
    pub service: ServiceName,
    /// The hash of its configuration.
    pub config_hash: String,
    /// Whether it runs.
    pub running: bool,
    /// Its address on each network, by the network's name on the engine.
    pub addresses: BTreeMap<String, Ipv4Addr>,
    /// Its exit code; `None` if it never exited.
    pub exit_code: Option<i64>,
}

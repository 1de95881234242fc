//! The current state of a service, and its addresses.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The current state of one replica of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The service.
    pub service: String,
    /// The replica's number, from 1.
    pub replica: u32,
    /// The container's name.
    pub container: String,
    /// The image as the spec names it.
    pub image: String,
    /// The state of its container.
    pub state: ServiceState,
    /// Its published ports on the host.
    pub endpoints: Vec<Endpoint>,
}

/// The state of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ServiceState {
    /// Created, not started.
    Created,
    /// Started, not ready yet.
    Starting,
    /// Running, without a healthcheck.
    Running,
    /// Running, and its healthcheck succeeds.
    Healthy,
    /// Running; `up` has seen it ready, but the engine has not run its healthcheck yet.
    Ready,
    /// Running, and its healthcheck fails.
    Unhealthy,
    /// Paused by the engine.
    Paused,
    /// Exited, and not about to restart.
    Exited {
        /// Its exit code.
        code: i64,
    },
    /// Exited, and about to restart.
    Restarting,
}

/// A published port, with its connection string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address on the host.
    pub host: IpAddr,
    /// The port on the host.
    pub port: u16,
    /// The port in the container.
    pub target: u16,
    /// `tcp` or `udp`.
    pub protocol: Protocol,
    /// A connection string (`postgres://…`, `http://…`), if the protocol is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The protocol of a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

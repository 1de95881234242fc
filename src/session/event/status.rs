//! A service as it is now, and how to reach it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A service (one replica of it) as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The service.
    pub service: String,
    /// Which replica, from 1 on.
    pub replica: u32,
    /// The container's name.
    pub container: String,
    /// The image as the spec names it.
    pub image: String,
    /// What it is doing.
    pub state: ServiceState,
    /// How to reach it from the host.
    pub endpoints: Vec<Endpoint>,
}

/// What a service is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ServiceState {
    /// Made, not started.
    Created,
    /// Started, not ready yet.
    Starting,
    /// Running; it says nothing of its health.
    Running,
    /// Running, and its check succeeds.
    Healthy,
    /// Running, and `up` has seen that it is ready; the engine has not checked it yet.
    Ready,
    /// Running, and its check fails.
    Unhealthy,
    /// Frozen.
    Paused,
    /// Ended.
    Exited {
        /// Its exit code.
        code: i64,
    },
    /// Ended, and about to be started again.
    Restarting,
}

/// A published port: where it is and what to say to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address on the host.
    pub host: IpAddr,
    /// The port on the host.
    pub port: u16,
    /// The port inside.
    pub target: u16,
    /// `tcp` or `udp`.
    pub protocol: Protocol,
    /// A connection string (`postgres://…`, `http://…`), where the protocol can be told.
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

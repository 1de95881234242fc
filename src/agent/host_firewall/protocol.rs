//! The messages between the keeper and the host firewall process, as JSON lines.

use serde::{Deserialize, Serialize};

/// A request of the keeper: one JSON line each.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// What to do with the bridge of the edge network.
    pub edge: Edge,
    /// The bridges from which the machine must not accept packets.
    pub bridges: Vec<Bridge>,
}

/// The state of the edge network.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Edge {
    /// Filter it; the name of its bridge.
    Filtered(String),
    /// Remove its filter: no sandbox uses it.
    Released,
}

/// A bridge of a sandbox.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bridge {
    pub name: String,
    /// Whether the network has IPv6.
    pub ipv6: bool,
}

/// The answer of the process, one JSON line each.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FilterReply {
    /// The machine accepts no packets from these bridges.
    Filtered,
    /// It may accept packets from some of them: which, and why.
    Refused(String),
}

//! What the keeper and the process that filters say to each other, as JSON.

use serde::{Deserialize, Serialize};

/// What the process is asked for: one JSON line each.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// The edge network's bridge, from which only what its gateways let out on purpose is taken in; or that this ends.
    pub edge: Edge,
    /// The bridges from which nothing is to be taken in.
    pub bridges: Vec<Bridge>,
}

/// What becomes of the edge network.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Edge {
    /// It is filtered; its bridge's name.
    Filtered(String),
    /// Nothing is left to be filtered.
    Released,
}

/// A bridge of a sandbox's.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bridge {
    /// Its name.
    pub name: String,
    /// Whether services speak IPv6 on it.
    pub ipv6: bool,
}

/// What it answers, one JSON line each.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FilterReply {
    /// Nothing is taken in from them.
    Filtered,
    /// From some of them something may be: which, and why.
    Refused(String),
}

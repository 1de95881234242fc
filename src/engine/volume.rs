//! Volumes as the engine keeps them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

/// A volume to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CreateVolume {
    /// Its name.
    pub name: String,
    /// The driver; `None`: `local`.
    pub driver: Option<String>,
    /// The driver's options (`type`, `device`, `o`).
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The driver that keeps it.
    pub driver: String,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where its files are on the engine's machine.
    pub mountpoint: String,
    /// When it was made.
    pub created: Option<Timestamp>,
}

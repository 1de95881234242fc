//! Volumes of the engine, and the parameters to create them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

/// The parameters of a volume to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CreateVolume {
    /// Its name.
    pub name: String,
    /// The driver; `None` for `local`.
    pub driver: Option<String>,
    /// The driver's options (`type`, `device`, `o`).
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The volume driver.
    pub driver: String,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The path of its files on the engine's host.
    pub mountpoint: String,
    /// Creation time.
    pub created: Option<Timestamp>,
}

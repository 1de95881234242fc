//! Resource limits, devices and `deploy` of a service.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{At, Json};

/// A ulimit; `-1` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ulimit {
    /// The soft limit.
    pub soft: i64,
    /// The hard limit.
    pub hard: i64,
    /// Whether the spec has a single number for both.
    pub single: bool,
}

/// The service-level limits in the spec. The effective values are in [`super::Service::memory_limit`] and similar
/// methods, which also consider `deploy.resources`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `mem_limit`, bytes.
    pub mem_limit: Option<u64>,
    /// `mem_reservation`, bytes.
    pub mem_reservation: Option<u64>,
    /// `mem_swappiness`, 0 to 100.
    pub mem_swappiness: Option<u64>,
    /// `memswap_limit`, bytes; `-1` is unlimited.
    pub memswap_limit: Option<i64>,
    /// `cpus`.
    pub cpus: Option<f64>,
    /// `cpu_percent` (Windows).
    pub cpu_percent: Option<f64>,
    /// `cpu_period`, microseconds.
    pub cpu_period: Option<i64>,
    /// `cpu_quota`, microseconds.
    pub cpu_quota: Option<i64>,
    /// `cpu_rt_period`, microseconds.
    pub cpu_rt_period: Option<i64>,
    /// `cpu_rt_runtime`, microseconds.
    pub cpu_rt_runtime: Option<i64>,
    /// `pids_limit`; `-1` is unlimited.
    pub pids_limit: Option<i64>,
    /// `blkio_config`.
    pub blkio: Option<BlkioConfig>,
    /// `ulimits`.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// `gpus`.
    pub gpus: Vec<DeviceRequest>,
}

/// `blkio_config`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioConfig {
    /// I/O weight, 10 to 1000.
    pub weight: Option<u16>,
    /// I/O weights per device.
    pub weight_device: Vec<DeviceWeight>,
    /// Bytes read per second, per device.
    pub device_read_bps: Vec<DeviceRate>,
    /// Reads per second, per device.
    pub device_read_iops: Vec<DeviceRate>,
    /// Bytes written per second, per device.
    pub device_write_bps: Vec<DeviceRate>,
    /// Writes per second, per device.
    pub device_write_iops: Vec<DeviceRate>,
}

/// The I/O weight of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceWeight {
    /// The device's path.
    pub path: String,
    /// The I/O weight.
    pub weight: u16,
}

/// An I/O limit of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRate {
    /// The device's path.
    pub path: String,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// A host device that is added to a container (`devices`; host access).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// The path on the host, or the qualified name of a CDI device.
    pub source: String,
    /// The path in the container.
    pub target: String,
    /// A subset of `rwm`.
    pub permissions: String,
    /// Its location in the spec.
    #[serde(skip)]
    pub at: At,
}

/// A request for devices that a driver provides, such as GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// Required capabilities.
    pub capabilities: Vec<String>,
    /// The driver.
    pub driver: Option<String>,
    /// Number of devices; `-1` for all.
    pub count: Option<i64>,
    /// Ids of specific devices.
    pub device_ids: Vec<String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// `deploy`. Replicas, restart policy and resources are applied; the swarm-specific rest is kept only for display.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deploy {
    /// Number of replicas.
    pub replicas: Option<u32>,
    /// The resource limits.
    pub limits: Option<ResourceBounds>,
    /// The resource reservations.
    pub reservations: Option<ResourceBounds>,
    /// The restart policy in the form of the spec.
    pub restart_policy: Option<Json>,
    /// Labels of the (swarm) service.
    pub labels: BTreeMap<String, String>,
    /// `mode`.
    pub mode: Option<String>,
    /// `endpoint_mode`.
    pub endpoint_mode: Option<String>,
    /// `placement`.
    pub placement: Json,
    /// `update_config`.
    pub update_config: Option<Json>,
    /// `rollback_config`.
    pub rollback_config: Option<Json>,
    /// Extension keys (`x-…`).
    pub extensions: BTreeMap<String, Json>,
}

/// The limits or the reservations of `deploy.resources`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceBounds {
    /// Number of processors as text; [`ResourceBounds::cpus`] parses it.
    pub cpus: Option<String>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Number of processes.
    pub pids: Option<i64>,
    /// Devices.
    pub devices: Vec<DeviceRequest>,
    /// `generic_resources`, kept only for display.
    pub generic_resources: Vec<Json>,
}

impl ResourceBounds {
    /// The number of processors.
    pub fn cpus(&self) -> Option<f64> {
        self.cpus.as_deref().and_then(|text| text.parse().ok())
    }
}

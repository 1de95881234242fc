//! What a service may use of the machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{At, Json};

/// A ulimit. `-1` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ulimit {
    /// The soft limit.
    pub soft: i64,
    /// The hard limit.
    pub hard: i64,
    /// Whether it was written as a single number.
    pub single: bool,
}

/// The service-level limits, as written. What holds is [`super::Service::memory_limit`] and its siblings,
/// which also look at `deploy.resources`.
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
    /// `cpu_count` (Windows).
    pub cpu_count: Option<i64>,
    /// `cpu_percent` (Windows).
    pub cpu_percent: Option<f64>,
    /// `cpu_shares`.
    pub cpu_shares: Option<i64>,
    /// `cpu_period`, microseconds.
    pub cpu_period: Option<i64>,
    /// `cpu_quota`, microseconds.
    pub cpu_quota: Option<i64>,
    /// `cpu_rt_period`, microseconds.
    pub cpu_rt_period: Option<i64>,
    /// `cpu_rt_runtime`, microseconds.
    pub cpu_rt_runtime: Option<i64>,
    /// `cpuset`.
    pub cpuset: Option<String>,
    /// `pids_limit`; `-1` is unlimited.
    pub pids_limit: Option<i64>,
    /// `oom_kill_disable`.
    pub oom_kill_disable: bool,
    /// `oom_score_adj`.
    pub oom_score_adj: Option<i64>,
    /// `shm_size`, bytes.
    pub shm_size: Option<u64>,
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
    /// Share of I/O, 10 to 1000.
    pub weight: Option<u16>,
    /// Shares of single devices.
    pub weight_device: Vec<DeviceWeight>,
    /// Bytes per second read from a device.
    pub device_read_bps: Vec<DeviceRate>,
    /// Operations per second read from a device.
    pub device_read_iops: Vec<DeviceRate>,
    /// Bytes per second written to a device.
    pub device_write_bps: Vec<DeviceRate>,
    /// Operations per second written to a device.
    pub device_write_iops: Vec<DeviceRate>,
}

/// A device's share of I/O.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceWeight {
    /// The device's path.
    pub path: String,
    /// Its share.
    pub weight: u16,
}

/// A device's rate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRate {
    /// The device's path.
    pub path: String,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// A device given to a container (`devices`; host access).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// The host's path, or the qualified name of a CDI device.
    pub source: String,
    /// The container's path.
    pub target: String,
    /// Some of `rwm`.
    pub permissions: String,
    /// Where it stands.
    #[serde(skip)]
    pub at: At,
}

/// A request for devices of a driver, such as GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// What they must be able to do.
    pub capabilities: Vec<String>,
    /// The driver.
    pub driver: Option<String>,
    /// How many; `-1` is all.
    pub count: Option<i64>,
    /// Which.
    pub device_ids: Vec<String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// `deploy`. Replicas, restart policy and resources are applied; the rest speaks of a swarm and is kept for
/// display.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deploy {
    /// How many containers.
    pub replicas: Option<u32>,
    /// The most the service may use.
    pub limits: Option<ResourceBounds>,
    /// What it is promised.
    pub reservations: Option<ResourceBounds>,
    /// The restart policy, as written.
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
    /// Free `x-` keys.
    pub extensions: BTreeMap<String, Json>,
}

/// One side of `deploy.resources`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceBounds {
    /// Processors, as written; parse with [`ResourceBounds::cpus`].
    pub cpus: Option<String>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes.
    pub pids: Option<i64>,
    /// Devices.
    pub devices: Vec<DeviceRequest>,
    /// `generic_resources`, kept for display.
    pub generic_resources: Vec<Json>,
}

impl ResourceBounds {
    /// Processors as a number.
    pub fn cpus(&self) -> Option<f64> {
        self.cpus.as_deref().and_then(|text| text.parse().ok())
    }
}

//! Resource limits and devices of a container to create.

use std::collections::BTreeMap;

use serde::Serialize;

/// A resource limit of a container's processes (`setrlimit`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ulimit {
    /// The resource, such as `nofile`.
    pub name: String,
    /// The soft limit; -1 for unlimited.
    pub soft: i64,
    /// The hard limit; -1 for unlimited.
    pub hard: i64,
}

/// A device of the host that is added to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// The path on the host.
    pub source: String,
    /// The path in the container.
    pub target: String,
    /// A subset of `rwm`.
    pub permissions: String,
}

/// A request for devices that a driver provides, such as GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeviceRequest {
    /// The driver, such as `nvidia`.
    pub driver: Option<String>,
    /// Number of devices; -1 for all.
    pub count: Option<i64>,
    /// Ids of specific devices.
    pub ids: Vec<String>,
    /// Alternative sets of capabilities; a device must have all of one set.
    pub capabilities: Vec<Vec<String>>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// The resource limits of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 for unlimited.
    pub memory_swap: Option<i64>,
    /// Soft memory limit in bytes, used when the host's memory is low.
    pub memory_reservation: Option<i64>,
    /// Swappiness from 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Number of processors, may be fractional.
    pub cpus: Option<f64>,
    /// CPU period in microseconds.
    pub cpu_period: Option<i64>,
    /// CPU time per period in microseconds.
    pub cpu_quota: Option<i64>,
    /// Real-time CPU period in microseconds.
    pub cpu_rt_period: Option<i64>,
    /// Real-time CPU time per period in microseconds.
    pub cpu_rt_runtime: Option<i64>,
    /// Percentage of the processors (Windows).
    pub cpu_percent: Option<i64>,
    /// Usable memory nodes, such as `0`.
    pub cpuset_mems: Option<String>,
    /// Maximum number of processes and threads; -1 for unlimited.
    pub pids_limit: Option<i64>,
    /// Block I/O weight, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Block I/O weight per device.
    pub blkio_weight_device: Vec<BlkioLimit>,
    /// Bytes read per second, per device.
    pub blkio_read_bps: Vec<BlkioLimit>,
    /// Reads per second, per device.
    pub blkio_read_iops: Vec<BlkioLimit>,
    /// Bytes written per second, per device.
    pub blkio_write_bps: Vec<BlkioLimit>,
    /// Writes per second, per device.
    pub blkio_write_iops: Vec<BlkioLimit>,
}

/// A block I/O limit or weight of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlkioLimit {
    /// The device's path on the host.
    pub path: String,
    /// The limit or weight.
    pub value: i64,
}

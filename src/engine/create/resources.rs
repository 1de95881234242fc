//! What a container may use.

use std::collections::BTreeMap;

use serde::Serialize;

/// A limit of a container's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ulimit {
    /// Such as `nofile`.
    pub name: String,
    /// The soft limit; -1: none.
    pub soft: i64,
    /// The hard limit; -1: none.
    pub hard: i64,
}

/// A device of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// The path on the host.
    pub source: String,
    /// The path in the container.
    pub target: String,
    /// Of `rwm`.
    pub permissions: String,
}

/// A request for devices that a driver provides, such as GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeviceRequest {
    /// Such as `nvidia`.
    pub driver: Option<String>,
    /// How many; -1: all.
    pub count: Option<i64>,
    /// Which ones.
    pub ids: Vec<String>,
    /// Sets of capabilities, one of which must be met.
    pub capabilities: Vec<Vec<String>>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// How much a container may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1: any.
    pub memory_swap: Option<i64>,
    /// Bytes of memory that are kept when memory is short.
    pub memory_reservation: Option<i64>,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Processors, in parts.
    pub cpus: Option<f64>,
    /// Weight among others.
    pub cpu_shares: Option<i64>,
    /// Microseconds of a scheduling period.
    pub cpu_period: Option<i64>,
    /// Microseconds in each such period.
    pub cpu_quota: Option<i64>,
    /// Microseconds of a real-time period.
    pub cpu_rt_period: Option<i64>,
    /// Microseconds in each such period.
    pub cpu_rt_runtime: Option<i64>,
    /// Windows: processors.
    pub cpu_count: Option<i64>,
    /// Windows: percent.
    pub cpu_percent: Option<i64>,
    /// Such as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, such as `0`.
    pub cpuset_mems: Option<String>,
    /// Processes and threads; -1: any number.
    pub pids_limit: Option<i64>,
    /// Do not kill it for want of memory.
    pub oom_kill_disable: Option<bool>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i64>,
    /// Weight of block I/O, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// The same by device.
    pub blkio_weight_device: Vec<BlkioLimit>,
    /// Bytes read a second, by device.
    pub blkio_read_bps: Vec<BlkioLimit>,
    /// Reads a second, by device.
    pub blkio_read_iops: Vec<BlkioLimit>,
    /// Bytes written a second, by device.
    pub blkio_write_bps: Vec<BlkioLimit>,
    /// Writes a second, by device.
    pub blkio_write_iops: Vec<BlkioLimit>,
}

/// A figure for one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlkioLimit {
    /// The device's path on the host.
    pub path: String,
    /// The figure.
    pub value: i64,
}

//! Control groups as systemd slices. systemd itself stores their limits, so that they survive a reload of its units; it
//! may overwrite values that are written to the cgroup's files directly.

use std::path::Path;
use std::time::Duration;

use super::GroupError;
use super::hierarchy::quota;
use crate::agent::linux::dbus::{Bus, Failure, Value};
use crate::spec::Limits;

/// How long to wait for a slice's cgroup, in steps of [`PAUSE`].
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Creates a slice, or changes an existing one.
pub(super) fn limit(bus: &Path, slice: &str, limits: &Limits) -> Result<(), GroupError> {
    let mut bus = connect(bus)?;
    let properties = properties(limits);
    let made = bus.call(
        "StartTransientUnit",
        &[Value::Text(slice), Value::Text("replace"), Value::Properties(&properties), Value::NoUnits],
    );
    match made {
        Err(Failure::Refused { name, .. }) if name.ends_with(".UnitExists") => {
            let changed = bus.call(
                "SetUnitProperties",
                &[Value::Text(slice), Value::Flag(true), Value::Properties(&properties)],
            );
            changed.map_err(|error| failed("change", slice, &error))
        }
        made => made.map_err(|error| failed("make", slice, &error)),
    }
}

/// Removes a slice and its drop-in files.
pub(super) fn stop(bus: &Path, slice: &str) -> Result<(), GroupError> {
    let mut bus = connect(bus)?;
    match bus.call("StopUnit", &[Value::Text(slice), Value::Text("replace")]) {
        Err(Failure::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => return Ok(()),
        stopped => stopped.map_err(|error| failed("stop", slice, &error))?,
    }
    // There may be no drop-in files.
    let _ = bus.call("RevertUnitFiles", &[Value::Texts(&[slice])]);
    Ok(())
}

/// Waits until a slice's cgroup exists.
pub(super) fn appears(folder: &Path) -> Result<(), GroupError> {
    for _ in 0..TRIES {
        if folder.exists() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err(GroupError(format!("systemd has made no `{}`", folder.display())))
}

/// The properties of systemd.resource-control(5). "Infinity" is the largest number.
fn properties(limits: &Limits) -> [(&'static str, u64); 4] {
    let bound = |value: Option<u64>| value.unwrap_or(u64::MAX);
    [
        ("MemoryMax", bound(limits.memory)),
        ("MemorySwapMax", bound(limits.memory.map(|_| 0))),
        // Per second; `quota` returns it for a tenth of a second.
        ("CPUQuotaPerSecUSec", bound(limits.cpus.map(|cpus| quota(cpus) * 10))),
        ("TasksMax", bound(limits.pids)),
    ]
}

fn connect(bus: &Path) -> Result<Bus, GroupError> {
    Bus::connect(&bus.join("system_bus_socket"))
        .map_err(|error| GroupError(format!("cannot reach systemd: {error}")))
}

fn failed(doing: &str, slice: &str, failure: &Failure) -> GroupError {
    GroupError(format!("cannot {doing} `{slice}`: {failure}"))
}

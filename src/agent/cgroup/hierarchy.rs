//! Groups as folders: made, given their limits by files, removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::GroupError;
use super::tree::{CONTROLLERS, Tree, number, write};
use crate::spec::Limits;

/// The period of which a processor's share is measured, in microseconds.
const PERIOD: u64 = 100_000;
/// What the kernel grants at least of a period.
const LEAST: u64 = 1_000;
/// How long the engine may take to remove the last container's group, in steps of [`PAUSE`].
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

impl Tree {
    /// Makes a group, or takes up the one that is there, and gives it its limits.
    pub(super) fn limit(&self, path: &str, limits: &Limits) -> Result<(), GroupError> {
        for controller in CONTROLLERS {
            let folder = self.folder(controller, path);
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed("make", &folder, &error));
                }
                _ => {}
            }
        }
        match self {
            Self::Split(_) => self.limit_split(path, limits),
            Self::Unified(_) => self.limit_unified(path, limits),
        }
    }

    fn limit_unified(&self, path: &str, limits: &Limits) -> Result<(), GroupError> {
        let folder = self.folder("memory", path);
        if !folder.join("memory.max").exists()
            && let Some(outer) = folder.parent()
        {
            let all = CONTROLLERS.map(|name| format!("+{name}")).join(" ");
            set(&outer.join("cgroup.subtree_control"), all)?;
        }
        let max = |value: Option<u64>| value.map_or_else(|| "max".to_owned(), |value| value.to_string());
        if folder.join("memory.swap.max").exists() {
            set(&folder.join("memory.swap.max"), if limits.memory.is_some() { "0" } else { "max" })?;
        }
        let quota = max(limits.cpus.map(quota));
        set(&folder.join("cpu.max"), format!("{quota} {PERIOD}"))?;
        set(&folder.join("pids.max"), max(limits.pids))?;
        self.leaves_room(path, limits.memory)?;
        set(&folder.join("memory.max"), max(limits.memory))
    }

    /// Makes sure that a group of version 2 is not limited to less memory than is in use and cannot be given back: the
    /// kernel would kill until it fits. (Version 1 refuses by itself.)
    pub(super) fn leaves_room(&self, path: &str, bytes: Option<u64>) -> Result<(), GroupError> {
        let (Self::Unified(_), Some(bytes)) = (self, bytes) else { return Ok(()) };
        let file = self.folder("memory", path).join("memory.stat");
        // A group that is not there yet uses nothing.
        let used = |key| number(&file, Some(key)).unwrap_or(0);
        if used("anon") + used("shmem") > bytes { Err(too_little(bytes)) } else { Ok(()) }
    }

    fn limit_split(&self, path: &str, limits: &Limits) -> Result<(), GroupError> {
        let memory = self.folder("memory", path);
        let hierarchical = memory.join("memory.use_hierarchy");
        if number(&hierarchical, None).is_ok_and(|it| it == 0) {
            set(&hierarchical, 1)?;
        }
        set_memory(&memory, limits.memory)?;
        let pids = limits.pids.map_or_else(|| "max".to_owned(), |pids| pids.to_string());
        set(&self.folder("pids", path).join("pids.max"), pids)?;
        let cpu = self.folder("cpu", path);
        set(&cpu.join("cpu.cfs_period_us"), PERIOD)?;
        let Some(quota) = limits.cpus.map(quota) else { return set(&cpu.join("cpu.cfs_quota_us"), -1) };
        // No group may be granted more than the one above it.
        for container in self.below(path) {
            let container = cpu.join(container);
            let granted = number(&container.join("cpu.cfs_quota_us"), None);
            let period = number(&container.join("cpu.cfs_period_us"), None);
            if let (Ok(granted), Ok(period)) = (granted, period)
                && granted * PERIOD > quota * period
            {
                set(&container.join("cpu.cfs_quota_us"), (quota * period / PERIOD).max(LEAST))?;
            }
        }
        set(&cpu.join("cpu.cfs_quota_us"), quota)
    }

    /// Removes a group once nothing is in it; waits for the engine to remove its last container's.
    pub(super) fn remove(&self, path: &str) -> Result<(), GroupError> {
        self.folders(path).into_iter().try_for_each(|folder| remove_soon(&folder))
    }

    /// Removes a group if nothing is in it.
    pub(super) fn remove_empty(&self, path: &str) {
        for folder in self.folders(path) {
            // One that is used goes with its sandbox.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn remove_soon(folder: &Path) -> Result<(), GroupError> {
    for _ in 0..TRIES {
        match fs::remove_dir(folder) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => std::thread::sleep(PAUSE),
            Err(error) if !is_none(&error) => return Err(failed("remove", folder, &error)),
            _ => return Ok(()),
        }
    }
    Err(GroupError(format!("the control group `{}` is still in use", folder.display())))
}

/// There is no such group; or the name above it is a file, as controllers' other names beside the hierarchies may be.
fn is_none(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Memory with swap may never be less than memory: which of the two is written first depends on where it goes.
fn set_memory(folder: &Path, bytes: Option<u64>) -> Result<(), GroupError> {
    let value = bytes.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string());
    let alone = folder.join("memory.limit_in_bytes");
    let with_swap: Option<PathBuf> =
        Some(folder.join("memory.memsw.limit_in_bytes")).filter(|file| file.exists());
    let more = number(&alone, None).is_ok_and(|now| bytes.is_none_or(|bytes| bytes > now));
    if more {
        with_swap.iter().try_for_each(|file| set(file, &value))?;
        return set(&alone, &value);
    }
    match set(&alone, &value) {
        Err(_)
            if bytes.is_some_and(|bytes| {
                number(&folder.join("memory.usage_in_bytes"), None).is_ok_and(|used| used > bytes)
            }) =>
        {
            Err(too_little(bytes.unwrap_or_default()))
        }
        other => {
            other?;
            with_swap.iter().try_for_each(|file| set(file, &value))
        }
    }
}

fn too_little(bytes: u64) -> GroupError {
    GroupError(format!(
        "the services use more than {} MiB already: stop some of them, or leave them more memory",
        bytes >> 20
    ))
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "microseconds of a period, far below 2^52 and never negative"
)]
pub(super) fn quota(cpus: f64) -> u64 {
    ((cpus * PERIOD as f64).round() as u64).max(LEAST)
}

fn set(file: &Path, value: impl std::fmt::Display) -> Result<(), GroupError> {
    write(file, value).map_err(|error| failed("write", file, &error))
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> GroupError {
    GroupError(format!("cannot {doing} `{}`: {error}", path.display()))
}

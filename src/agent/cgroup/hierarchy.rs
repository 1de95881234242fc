//! Control groups as folders: creates them, writes their limits, removes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::GroupError;
use super::tree::{CONTROLLERS, Tree, number, write};
use crate::spec::Limits;

/// The period of the CPU quota, in microseconds.
const PERIOD: u64 = 100_000;
/// The smallest quota that the kernel accepts, in microseconds.
const LEAST: u64 = 1_000;
/// How long the engine may take to remove the last container's group, in steps of [`PAUSE`].
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

impl Tree {
    /// Creates a group, or reuses an existing one, and sets its limits.
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

    /// Fails if a version 2 group would be limited to less memory than it uses and cannot reclaim: the kernel would
    /// kill processes until it fits. (Version 1 refuses such a limit.)
    pub(super) fn leaves_room(&self, path: &str, bytes: Option<u64>) -> Result<(), GroupError> {
        let (Self::Unified(_), Some(bytes)) = (self, bytes) else { return Ok(()) };
        let file = self.folder("memory", path).join("memory.stat");
        // A group that does not exist yet uses nothing.
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
        // A group cannot have a larger limit than its parent.
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

    /// Removes a group once it is empty; waits for the engine to remove its last container's group.
    pub(super) fn remove(&self, path: &str) -> Result<(), GroupError> {
        self.folders(path).into_iter().try_for_each(|folder| remove_soon(&folder))
    }

    /// Removes a group if it is empty.
    pub(super) fn remove_empty(&self, path: &str) {
        for folder in self.folders(path) {
            // A group in use is removed with its sandbox.
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

/// Whether the group does not exist; its parent may also be a file, because the links to combined version 1 hierarchies
/// may be files.
fn is_none(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Sets the memory limit. The limit of memory with swap may never be lower than that of memory, so the order of the two
/// writes depends on the direction of the change.
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

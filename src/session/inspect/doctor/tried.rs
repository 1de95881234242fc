//! The checks that were tried on the engine: its socket, storage, limits, pausing, and the space on its disk.

use std::path::Path;

use super::{Finding, Keeper};
use crate::agent::client::{KeeperError, Limiting, Trial, in_full};
use crate::agent::protocol::DiskSpace;
use crate::engine::EngineInfo;
use crate::storage::StorageKind;

/// The findings of a trial. A keeper that runs has tried some of them itself.
pub(super) fn findings(
    info: &EngineInfo,
    keeper: &Keeper,
    trial: &Result<Trial, KeeperError>,
) -> Vec<Finding> {
    let answer = match (keeper, trial) {
        (Keeper::Answers { storage, refused, ungrouped, .. }, _) => {
            Some((*storage, refused.clone(), ungrouped.clone()))
        }
        (_, Ok(trial)) => {
            let refused = trial.greeting.storage_refused.iter();
            let refused = refused.map(|(kind, why)| format!("{kind}: {why}")).collect();
            Some((trial.greeting.storage, refused, trial.greeting.groups_refused.clone()))
        }
        (_, Err(_)) => None,
    };
    let mut findings = vec![socket(trial)];
    if let Some((kind, refused, ungrouped)) = answer {
        findings.push(storage(kind, &refused));
        findings.push(limits(info, ungrouped));
    }
    if let Ok(trial) = trial {
        findings.push(pausing(&trial.pausing));
        findings.extend(ignored_limits(info, &trial.ignored_limits));
        findings.extend(trial.disk().map(|space| disk(&info.root_dir, space)));
    }
    findings
}

fn socket(trial: &Result<Trial, KeeperError>) -> Finding {
    match trial {
        Ok(_) => Finding::ok("trial", "a keeper was started, reached its engine, and was removed"),
        Err(error) => {
            let hint = error.hint().unwrap_or_else(|| "`docker logs` of the keeper says more".to_owned());
            Finding::fail("trial", format!("no keeper can be started: {}", in_full(error)), &hint)
        }
    }
}

fn storage(kind: Option<StorageKind>, refused: &[String]) -> Finding {
    const BETTER: &str = "clones copy every byte: `pool` needs Btrfs in the kernel, loop devices and SYS_ADMIN for the \
                          keeper, `reflink` a data root on XFS or Btrfs";
    let why = if refused.is_empty() { String::new() } else { format!(" ({})", refused.join("; ")) };
    match kind {
        Some(StorageKind::Copy) => Finding::warn("storage", format!("`copy`{why}"), BETTER),
        Some(kind) => Finding::ok("storage", format!("`{kind}` works{why}")),
        None => Finding::fail("storage", format!("no kind works{why}"), BETTER),
    }
}

/// How a sandbox's `limits` are applied to all of its services.
fn limits(info: &EngineInfo, ungrouped: Option<String>) -> Finding {
    const DIVIDED: &str =
        "`limits` of a sandbox is divided among its services: what one does not use is lost to the others";
    let why = match Limiting::from_env() {
        Ok(Limiting::Divided) => Some("SANDBOX_LIMITS says so".to_owned()),
        _ => ungrouped,
    };
    match why {
        None => {
            let found =
                format!("shared by a sandbox's services, by a control group ({})", info.cgroup_driver);
            Finding::ok("limits", found)
        }
        Some(why) => Finding::warn("limits", format!("divided: {why}"), DIVIDED),
    }
}

fn pausing(paused: &Result<(), String>) -> Finding {
    match paused {
        Ok(()) => Finding::ok("pausing", "a container was paused and resumed"),
        Err(cause) => Finding::warn(
            "pausing",
            format!("a container cannot be paused: {cause}"),
            "`pause`, `fork` and `snapshot create --crash` need that; `snapshot create` stops the services instead",
        ),
    }
}

fn ignored_limits(info: &EngineInfo, warnings: &[String]) -> Option<Finding> {
    if warnings.is_empty() {
        return None;
    }
    let hint = if info.security.rootless {
        "`limits` and `mem_limit` do nothing: an engine without root needs control groups of version 2 that its user may use"
    } else {
        "`limits` and `mem_limit` do nothing: see the engine's documentation on kernel options"
    };
    Some(Finding::warn("container limits", warnings.join("; "), hint))
}

fn disk(root: &Path, space: DiskSpace) -> Finding {
    let DiskSpace { free, total } = space;
    let found = format!("{} GiB free of {} GiB at {}", free >> 30, total >> 30, root.display());
    let hint = "`sandbox gc` shows what is kept; `docker system df` what the engine keeps";
    if free < 1 << 30 {
        Finding::fail("disk", found, hint)
    } else if free < 5 << 30 || free / (total.max(1) / 20).max(1) < 1 {
        Finding::warn("disk", found, hint)
    } else {
        Finding::ok("disk", found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_disk_is_judged_by_the_free_space_of_the_engines_machine() {
        let verdict =
            |free: u64| disk(Path::new("/data"), DiskSpace { free: free << 30, total: 100 << 30 }).verdict;
        assert_eq!([verdict(0), verdict(4), verdict(50)], [Verdict::Fail, Verdict::Warn, Verdict::Ok]);
    }

    #[test]
    fn what_cannot_be_paused_is_a_warning_with_its_cause() {
        let finding = pausing(&Err("cgroups: no freezer".to_owned()));
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.found.contains("no freezer"));
    }
}

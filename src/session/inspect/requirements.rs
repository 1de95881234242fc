//! Compares what a spec requires of the machine with what there is.

use std::path::{Path, PathBuf};

use crate::engine::{EngineInfo, EngineKind};
use crate::spec::Requirements;

/// A requirement and whether it is met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedRequirement {
    /// What there is, and what is required.
    pub found: String,
    /// The way out if it is not met.
    pub unmet: Option<String>,
}

impl CheckedRequirement {
    fn new(found: String, is_met: bool, way_out: &str) -> Self {
        Self { found, unmet: (!is_met).then(|| way_out.to_owned()) }
    }
}

/// Checks all requirements. What cannot be found out, such as the free space of a remote engine, counts as met.
pub fn check(requires: &Requirements, info: &EngineInfo) -> Vec<CheckedRequirement> {
    let path: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let free = rustix::fs::statvfs(&info.root_dir).ok().filter(|_| info.location.is_local());
    let free = free.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    checked(requires, info, free, &path)
}

fn checked(
    requires: &Requirements,
    info: &EngineInfo,
    free: Option<u64>,
    path: &[PathBuf],
) -> Vec<CheckedRequirement> {
    let mut found = Vec::new();
    if let Some(wanted) = requires.memory {
        let text = format!(
            "memory: the engine's machine has {}, the spec requires {}",
            gibibytes(info.memory),
            gibibytes(wanted)
        );
        // The kernel keeps a part of a machine's memory for itself.
        let is_met = info.memory.saturating_add(info.memory / 16) >= wanted;
        found.push(CheckedRequirement::new(text, is_met, "memory: give the engine's machine more"));
    }
    if let (Some(wanted), Some(free)) = (requires.disk, free) {
        let (there, needed) = (gibibytes(free), gibibytes(wanted));
        let text =
            format!("disk: {there} are free at `{}`, the spec requires {needed}", info.root_dir.display());
        let way_out = "disk: `sandbox gc` and `docker system prune` make room";
        found.push(CheckedRequirement::new(text, free >= wanted, way_out));
    }
    if let Some(wanted) = &requires.engine {
        // Podman counts its versions on its own.
        let is_met = info.kind == EngineKind::Podman || wanted.is_met_by(&info.version);
        let text = format!("engine: this is {} {}, the spec requires {wanted}", info.kind, info.version);
        found.push(CheckedRequirement::new(text, is_met, "engine: install another version of it"));
    }
    for command in &requires.commands {
        let is_met = path.iter().any(|folder| is_program(&folder.join(command)));
        let place = if is_met { "it is on the PATH" } else { "it is not on the PATH of this machine" };
        let text = format!("command `{command}`: {place}");
        let way_out = format!("command `{command}`: install it");
        found.push(CheckedRequirement::new(text, is_met, &way_out));
    }
    found
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// "3.8 GiB"; below a gibibyte "512 MiB".
fn gibibytes(bytes: u64) -> String {
    if bytes < 1 << 30 {
        return format!("{} MiB", bytes >> 20);
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let size = bytes as f64 / f64::from(1 << 30);
    format!("{size:.1} GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::engine::recording::Recording;

    async fn info() -> EngineInfo {
        EngineInfo {
            memory: 2 << 30,
            version: "20.10.24+dfsg1".to_owned(),
            ..Recording::new().info().await.unwrap()
        }
    }

    #[tokio::test]
    async fn everything_that_is_missing_is_found_at_once_with_its_way_out() {
        let requires = Requirements {
            memory: Some(4 << 30),
            disk: Some(10 << 30),
            engine: Some(">=24".parse().unwrap()),
            commands: vec!["no-such-command".to_owned()],
        };
        let found = checked(&requires, &info().await, Some(1 << 30), &["/usr/bin".into()]);
        let found: Vec<_> = found.into_iter().map(|it| (it.found, it.unmet.unwrap_or_default())).collect();
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found.iter().all(|(_, way_out)| !way_out.is_empty()), "{found:?}");
        assert!(found[0].0.contains("2.0 GiB, the spec requires 4.0 GiB"), "{found:?}");
    }

    #[tokio::test]
    async fn what_is_there_is_met_and_what_is_unknown_too() {
        let bin = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/bin/sh", bin.path().join("node")).unwrap();
        let requires = Requirements {
            memory: Some(2 << 30),
            disk: Some(10 << 30),
            engine: Some(">=20.10".parse().unwrap()),
            commands: vec!["node".to_owned()],
        };
        let found = checked(&requires, &info().await, None, &[bin.path().to_owned()]);
        assert!(found.iter().all(|it| it.unmet.is_none()), "{found:?}");
        assert_eq!(found.len(), 3);
    }
}

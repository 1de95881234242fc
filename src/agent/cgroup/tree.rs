//! The engine's cgroup tree as it is mounted here: its version, and where the engine places containers.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::GroupError;

/// The most groups that are searched for our own container's.
const LOOKS: usize = 4096;

/// A mounted tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree {
    /// Version 1: one hierarchy per controller, all below one folder.
    Split(PathBuf),
    /// Version 2: one hierarchy for all controllers.
    Unified(PathBuf),
}

/// The controllers that a sandbox's group needs.
pub(super) const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

impl Tree {
    /// Detects what is mounted at a path.
    pub(super) fn at(root: &Path) -> Result<Self, GroupError> {
        if root.join("cgroup.controllers").exists() {
            return Ok(Self::Unified(root.to_owned()));
        }
        match CONTROLLERS.iter().find(|name| !root.join(name).join("cgroup.procs").exists()) {
            None => Ok(Self::Split(root.to_owned())),
            Some(name) => Err(GroupError(format!("the engine's machine has no control groups for `{name}`"))),
        }
    }

    /// Returns a group's folder for one controller.
    pub(super) fn folder(&self, controller: &str, path: &str) -> PathBuf {
        match self {
            Self::Split(root) => root.join(controller).join(path),
            Self::Unified(root) => root.join(path),
        }
    }

    /// Returns a group's folder in every hierarchy: the engine creates one in each, needed or not.
    pub(super) fn folders(&self, path: &str) -> Vec<PathBuf> {
        match self {
            Self::Unified(root) => vec![root.join(path)],
            Self::Split(root) => {
                let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
                hierarchies.map(|one| one.path().join(path)).collect()
            }
        }
    }

    /// Returns the names of a group's direct children, in any hierarchy.
    pub(super) fn below(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> =
            self.folders(path).iter().flat_map(|folder| folders_in(folder)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the group of the container with this id (or prefix), from the root of the tree.
    ///
    /// If it is found, this is the tree in which the engine creates its groups.
    pub(super) fn around(&self, container: &str) -> Option<String> {
        let root = self.folder("memory", "");
        let mut coming: VecDeque<String> =
            ["docker", "system.slice", ""].into_iter().map(str::to_owned).collect();
        for _ in 0..LOOKS {
            let path = coming.pop_front()?;
            for name in folders_in(&root.join(&path)) {
                if is_of(&name, container) {
                    return Some(path);
                }
                coming.push_back(if path.is_empty() { name } else { format!("{path}/{name}") });
            }
        }
        None
    }
}

/// Whether a group belongs to a container: the engine names it by the id, systemd `docker-ID.scope`.
fn is_of(name: &str, container: &str) -> bool {
    name.strip_prefix("docker-").filter(|_| name.ends_with(".scope")).unwrap_or(name).starts_with(container)
}

fn folders_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Reads a number from a group's file: the first one, or the one after a key.
pub(super) fn number(file: &Path, key: Option<&str>) -> io::Result<u64> {
    let text = fs::read_to_string(file)?;
    let found = match key {
        None => text.split_whitespace().next(),
        Some(key) => text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')),
    };
    found.and_then(|number| number.trim().parse().ok()).ok_or_else(|| io::Error::other("it has no number"))
}

/// Writes a group's file.
pub(super) fn write(file: &Path, value: impl std::fmt::Display) -> io::Result<()> {
    // The kernel needs the value in one write, and the file must not be created.
    use std::io::Write as _;
    fs::OpenOptions::new().write(true).open(file)?.write_all(value.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unified(groups: &[&str]) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "memory cpu pids\n").unwrap();
        for group in groups {
            fs::create_dir_all(folder.path().join(group)).unwrap();
        }
        let tree = Tree::at(folder.path()).unwrap();
        (folder, tree)
    }

    #[test]
    fn our_own_container_tells_where_the_engine_puts_its_groups() {
        let (_folder, tree) = unified(&["docker/1234", "docker/abcdef"]);
        assert_eq!(tree.around("abc").as_deref(), Some("docker"));
        let (_folder, tree) = unified(&["system.slice/docker-abcdef.scope", "user.slice/x"]);
        assert_eq!(tree.around("abc").as_deref(), Some("system.slice"));
        let (_folder, tree) = unified(&["outer/own.slice/docker-abcdef.scope"]);
        assert_eq!(tree.around("abc").as_deref(), Some("outer/own.slice"));
        let (_folder, tree) = unified(&["abcdef"]);
        assert_eq!(tree.around("abc").as_deref(), Some(""));
        assert_eq!(tree.around("fed"), None);
    }

    #[test]
    fn a_tree_without_the_controllers_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for controller in ["memory", "cpu"] {
            fs::create_dir(folder.path().join(controller)).unwrap();
            fs::write(folder.path().join(controller).join("cgroup.procs"), "").unwrap();
        }
        assert!(Tree::at(folder.path()).unwrap_err().0.contains("`pids`"));
    }

    #[test]
    fn numbers_are_read_with_and_without_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.events.local");
        fs::write(&file, "low 0\noom 3\noom_kill 5\n").unwrap();
        assert_eq!(number(&file, Some("oom")).unwrap(), 3);
        assert_eq!(number(&file, Some("oom_kill")).unwrap(), 5);
        fs::write(&file, "100000 50000\n").unwrap();
        assert_eq!(number(&file, None).unwrap(), 100_000);
    }
}

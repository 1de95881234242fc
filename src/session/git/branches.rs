//! Whether branches are merged or gone. Asks git alone, never a server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::command::answer;
use crate::spec::GitBranch;

/// The state of a branch in its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BranchState {
    /// It has work that is not in the default branch, or none at all so far; or it is the default branch.
    Open,
    /// Its work is in the default branch.
    Merged,
    /// It was deleted, or its upstream was (`git fetch --prune` notices that).
    Gone,
}

/// The states of branches. Those of a repository that is not there, or that git cannot read, are left out. Blocks.
pub fn states(branches: &[GitBranch]) -> BTreeMap<(String, String), BranchState> {
    let mut repositories: BTreeMap<&Path, BTreeSet<&str>> = BTreeMap::new();
    for branch in branches {
        repositories.entry(&branch.repository).or_default().insert(&branch.name);
    }
    let mut states = BTreeMap::new();
    for (folder, names) in repositories {
        let Some(repository) = Repository::look(folder) else { continue };
        for name in names {
            states.insert((folder.display().to_string(), name.to_owned()), repository.state(name));
        }
    }
    states
}

/// The key of a branch in the result of [`states`].
pub fn key(branch: &GitBranch) -> (String, String) {
    (branch.repository.display().to_string(), branch.name.clone())
}

struct Repository<'a> {
    folder: &'a Path,
    /// The branches by name: the commit, and what git says about the upstream.
    branches: BTreeMap<String, (String, String)>,
    /// The default branch here and at `origin`.
    defaults: Vec<String>,
}

const FORMAT: &str = "--format=%(refname:lstrip=2)%09%(objectname)%09%(upstream:track)";

/// Names of a default branch where `origin` has none.
const USUAL: [&str; 3] = ["main", "master", "trunk"];

impl<'a> Repository<'a> {
    fn look(folder: &'a Path) -> Option<Self> {
        if !folder.is_dir() {
            return None;
        }
        let listed = ask(folder, &["for-each-ref", FORMAT, "refs/heads"])?;
        let branches = listed.lines().filter_map(|line| {
            let mut fields = line.split('\t');
            let (name, commit) = (fields.next()?, fields.next()?);
            let upstream = fields.next().unwrap_or_default();
            Some((name.to_owned(), (commit.to_owned(), upstream.to_owned())))
        });
        let branches: BTreeMap<_, _> = branches.collect();
        let origin = ask(folder, &["symbolic-ref", "--quiet", "refs/remotes/origin/HEAD"]);
        let origin = origin.map(|name| name.trim().to_owned());
        let short = origin.as_deref().and_then(|name| name.strip_prefix("refs/remotes/origin/"));
        let local = short.into_iter().chain(USUAL).find(|name| branches.contains_key(*name));
        let local = local.map(|name| format!("refs/heads/{name}"));
        let defaults = origin.clone().into_iter().chain(local).collect();
        Some(Self { folder, branches, defaults })
    }

    fn state(&self, name: &str) -> BranchState {
        let Some((commit, upstream)) = self.branches.get(name) else { return BranchState::Gone };
        let reference = format!("refs/heads/{name}");
        if self.defaults.iter().any(|it| *it == reference || it.ends_with(&format!("/origin/{name}"))) {
            return BranchState::Open;
        }
        if upstream == "[gone]" {
            return BranchState::Gone;
        }
        let merged = self.defaults.iter().any(|default| self.is_merged(&reference, commit, default));
        if merged { BranchState::Merged } else { BranchState::Open }
    }

    /// Whether a branch's work is in the default branch. A branch without work of its own is in it, too, but is not
    /// merged: it was just made, or brought up to date.
    fn is_merged(&self, reference: &str, commit: &str, default: &str) -> bool {
        let is_in = ask(self.folder, &["merge-base", "--is-ancestor", commit, default]).is_some();
        is_in && (self.had_work(reference) || !self.is_on_the_line_of(commit, default))
    }

    /// Whether commits were made on the branch here, by its log.
    fn had_work(&self, reference: &str) -> bool {
        let log = ask(self.folder, &["log", "--walk-reflogs", "--format=%gs", reference, "--"]);
        let is_work = |line: &str| ["commit", "cherry-pick", "am:"].iter().any(|word| line.starts_with(word));
        log.is_some_and(|log| log.lines().any(is_work))
    }

    /// Whether a commit is one that the default branch itself was at, by first parents.
    fn is_on_the_line_of(&self, commit: &str, default: &str) -> bool {
        let since = format!("^{commit}");
        let arguments = ["rev-list", "--first-parent", "--parents", default, since.as_str()];
        let Some(line) = ask(self.folder, &arguments) else { return true };
        // Each line is a commit and its parents; without any, the default branch is at the commit.
        let last = line.lines().last().and_then(|line| line.split(' ').nth(1));
        last.is_none_or(|parent| parent == commit)
    }
}

fn ask(folder: &Path, arguments: &[&str]) -> Option<String> {
    let place = format!("--git-dir={}", folder.display());
    let arguments: Vec<&str> = std::iter::once(place.as_str()).chain(arguments.iter().copied()).collect();
    answer(folder, &arguments)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn git(folder: &Path, line: &str) {
        let mut command = Command::new("git");
        command.args(line.split(' ')).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "a").env(format!("GIT_{role}_EMAIL"), "a@example.org");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "git {line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), "init --quiet -b main");
        git(dir.path(), "commit --quiet --allow-empty -m one");
        dir
    }

    fn state(dir: &Path, name: &str) -> Option<BranchState> {
        let branch = GitBranch { name: name.to_owned(), repository: dir.join(".git") };
        states(std::slice::from_ref(&branch)).get(&key(&branch)).copied()
    }

    #[test]
    fn a_branch_is_merged_once_its_work_is_in_the_default_branch() {
        let dir = repository();
        for (name, merge) in [("forward", "merge --quiet --ff-only"), ("commit", "merge --quiet --no-ff")] {
            git(dir.path(), &format!("switch --quiet -c {name}"));
            assert_eq!(state(dir.path(), name), Some(BranchState::Open), "{name} is new");
            git(dir.path(), "commit --quiet --allow-empty -m work");
            assert_eq!(state(dir.path(), name), Some(BranchState::Open), "{name} has work");
            git(dir.path(), "switch --quiet main");
            git(dir.path(), &format!("{merge} {name}"));
            assert_eq!(state(dir.path(), name), Some(BranchState::Merged), "{name}");
        }
        assert_eq!(state(dir.path(), "main"), Some(BranchState::Open));
    }

    #[test]
    fn a_branch_that_was_only_brought_up_to_date_is_not_merged() {
        let dir = repository();
        git(dir.path(), "branch fresh");
        git(dir.path(), "commit --quiet --allow-empty -m two");
        assert_eq!(state(dir.path(), "fresh"), Some(BranchState::Open));
        git(dir.path(), "branch --quiet --force fresh main");
        assert_eq!(state(dir.path(), "fresh"), Some(BranchState::Open));
    }

    #[test]
    fn a_deleted_branch_is_gone_and_a_deleted_repository_says_nothing() {
        let dir = repository();
        assert_eq!(state(dir.path(), "no-such"), Some(BranchState::Gone));
        assert_eq!(state(&dir.path().join("no"), "main"), None);
    }

    #[test]
    fn a_branch_whose_upstream_was_deleted_is_gone() {
        let origin = repository();
        git(origin.path(), "branch feature");
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &format!("clone --quiet {} .", origin.path().display()));
        git(dir.path(), "switch --quiet feature");
        assert_eq!(state(dir.path(), "feature"), Some(BranchState::Open));
        git(origin.path(), "branch --quiet -D feature");
        git(dir.path(), "fetch --quiet --prune");
        assert_eq!(state(dir.path(), "feature"), Some(BranchState::Gone));
    }
}

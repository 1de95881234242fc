//! Finds the spec's files, the git root and the git branch of a folder.

use std::path::{Path, PathBuf};

/// File names of a spec in search order: ours first, then Compose's.
pub(super) const NAMES: [&str; 6] = [
    "sandbox.yaml",
    "sandbox.yml",
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];

/// The spec in a folder or its nearest ancestor, with the override file if there is one.
pub fn files(folder: &Path) -> Option<Vec<PathBuf>> {
    for folder in folder.ancestors() {
        let Some(file) = NAMES.iter().map(|name| folder.join(name)).find(|file| file.is_file()) else {
            continue;
        };
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let laid_on = ["yaml", "yml"]
            .iter()
            .map(|extension| folder.join(format!("{stem}.override.{extension}")))
            .find(|file| file.is_file());
        return Some(std::iter::once(file).chain(laid_on).collect());
    }
    None
}

/// The root of the git repository that contains the folder.
pub fn git_root(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find(|folder| folder.join(".git").exists()).map(Path::to_owned)
}

/// The checked-out git branch; `None` outside a repository or with a detached HEAD.
pub fn git_branch(folder: &Path) -> Option<String> {
    let head = std::fs::read_to_string(git_folder(folder)?.join("HEAD")).ok()?;
    head.trim().strip_prefix("ref: refs/heads/").map(str::to_owned)
}

/// The folder in which git keeps what all worktrees of a repository share, such as its branches.
pub fn git_common_folder(folder: &Path) -> Option<PathBuf> {
    let own = git_folder(folder)?;
    let shared = std::fs::read_to_string(own.join("commondir"));
    Some(shared.map_or_else(|_| own.clone(), |shared| super::canonical::clean(&own.join(shared.trim()))))
}

/// The folder in which git keeps what belongs to the checked-out files.
fn git_folder(folder: &Path) -> Option<PathBuf> {
    let git = git_root(folder)?.join(".git");
    if !git.is_file() {
        return Some(git);
    }
    // In a worktree or submodule `.git` is a file with the path of the real folder.
    let text = std::fs::read_to_string(&git).ok()?;
    let named = text.strip_prefix("gitdir:")?.trim();
    Some(git.parent()?.join(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_taken_before_compose_s_and_overrides_are_laid_on() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(dir.path().join("compose.yaml"), "").unwrap();
        std::fs::write(dir.path().join("compose.override.yml"), "").unwrap();
        let names = |files: Option<Vec<PathBuf>>| -> Vec<String> {
            files.unwrap().iter().map(|f| f.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(files(&inner)), ["compose.yaml", "compose.override.yml"]);
        std::fs::write(dir.path().join("sandbox.yml"), "").unwrap();
        assert_eq!(names(files(&inner)), ["sandbox.yml"]);
    }

    #[test]
    fn the_branch_is_read_in_a_repository_and_in_a_worktree() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("main");
        std::fs::create_dir_all(main.join(".git/worktrees/w")).unwrap();
        std::fs::write(main.join(".git/HEAD"), "ref: refs/heads/feature/x\n").unwrap();
        std::fs::write(main.join(".git/worktrees/w/HEAD"), "ref: refs/heads/other\n").unwrap();
        let work = dir.path().join("w");
        std::fs::create_dir_all(work.join("inner")).unwrap();
        std::fs::write(work.join(".git"), format!("gitdir: {}\n", main.join(".git/worktrees/w").display()))
            .unwrap();
        assert_eq!(git_branch(&main).as_deref(), Some("feature/x"));
        assert_eq!(git_branch(&work.join("inner")).as_deref(), Some("other"));
        std::fs::write(main.join(".git/worktrees/w/commondir"), "../..\n").unwrap();
        assert_eq!(git_common_folder(&work), Some(main.join(".git")));
        assert_eq!(git_common_folder(&main), Some(main.join(".git")));
        std::fs::write(main.join(".git/HEAD"), "0123456789abcdef\n").unwrap();
        assert_eq!(git_branch(&main), None);
    }
}

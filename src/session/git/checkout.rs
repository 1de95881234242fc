//! Temporary clones of other repositories, and temporary worktrees of the user's own.

use std::path::{Path, PathBuf};

use super::GitError;
use super::address::{Reference, RepositoryAddress};
use super::command::{Transports, git};
use super::remote::{Depth, Found, Remote};
use super::store::CheckoutFolder;
use crate::spec;

/// The files of one commit.
#[derive(Debug)]
pub struct Checkout {
    /// The folder that it lies in, with its lock.
    pub place: CheckoutFolder,
    /// The root of its files.
    pub root: PathBuf,
    /// The folder in it that the spec is searched in.
    pub folder: PathBuf,
    /// What a sandbox of it is named after, beside the project; `None` for the default branch of a clone, which names it.
    pub label: Option<String>,
    /// The branch of the user's repository, if it is one.
    pub branch: Option<String>,
    /// Who wrote the files.
    pub author: Author,
}

/// Who wrote the files of a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// The user, or people whom the user's repository trusts.
    User,
    /// Anybody.
    Stranger,
}

/// Clones a repository, without its history.
///
/// # Errors
/// Fails if git fails, or if the repository lacks the reference or the folder.
pub async fn clone(address: &RepositoryAddress, place: CheckoutFolder) -> Result<Checkout, GitError> {
    let root = place.path().join(address.name());
    let label = match &address.reference {
        None => {
            clone_default(address, place.path(), &root).await?;
            None
        }
        Some(reference) => clone_at(address, reference, place.path(), &root).await?,
    };
    let folder = inside(&root, address.folder.as_deref().unwrap_or_default())?;
    Ok(Checkout { place, root, folder, label, branch: None, author: Author::Stranger })
}

async fn clone_default(address: &RepositoryAddress, place: &Path, root: &Path) -> Result<(), GitError> {
    let what = format!("clone `{}`", address.url);
    let mut arguments =
        vec!["clone", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--template="];
    if !address.is_remote() {
        // A local clone would share files with the repository.
        arguments.push("--no-local");
    }
    let into = root.display().to_string();
    arguments.extend(["--", address.url.as_str(), into.as_str()]);
    git(place, Transports::Safe, &what, &arguments).await.map(drop)
}

/// Clones one reference, and returns what names the sandbox if it is no branch.
async fn clone_at(
    address: &RepositoryAddress,
    reference: &Reference,
    place: &Path,
    root: &Path,
) -> Result<Option<String>, GitError> {
    let remote = Remote { place: &address.url, transports: Transports::Safe };
    let found = remote.find(place, reference).await?;
    let what = format!("clone `{}`", address.url);
    let into = root.display().to_string();
    git(place, Transports::Safe, &what, &["init", "--quiet", "--template=", "--", &into]).await?;
    let commit = remote.fetch(root, &found, Depth::One).await?;
    match &found {
        Found::Branch(name) => {
            let branch = ["checkout", "--quiet", "-B", name.as_str(), commit.as_str(), "--"];
            git(root, Transports::Safe, &what, &branch).await?;
            Ok(None)
        }
        Found::Other(_) | Found::Commit(_) | Found::ShortCommit(_) => {
            git(root, Transports::Safe, &what, &["checkout", "--quiet", "--detach", commit.as_str(), "--"])
                .await?;
            Ok(Some(label(reference, &commit)))
        }
    }
}

/// Makes a worktree of the repository that `here` is in, for a branch, commit or request. Requests and unknown branches
/// are fetched from `origin`.
///
/// # Errors
/// Fails if `here` is in no repository, if git fails, or if there is no such reference.
pub async fn worktree(
    here: &Path,
    reference: &Reference,
    place: CheckoutFolder,
) -> Result<Checkout, GitError> {
    let none = || GitError::NoRepository(here.to_owned());
    let repository = spec::git_root(here).ok_or_else(none)?;
    let common = spec::git_common_folder(here).ok_or_else(none)?;
    let (commit, branch) = commit_of(&repository, reference).await?;
    let name = repository.file_name().map_or_else(|| "repository".into(), std::ffi::OsStr::to_os_string);
    let root = place.path().join(name);
    // The name of the folder of all checkouts is unique, so git's name for the worktree is.
    let unique = place.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let linked = place.path().join(&unique);
    place.record_worktree(&common.join("worktrees").join(&unique))?;
    let what = format!("check out {reference}");
    let into = linked.display().to_string();
    let arguments = ["worktree", "add", "--quiet", "--detach", "--", &into, &commit];
    git(&repository, Transports::Own, &what, &arguments).await?;
    rename_worktree(&common.join("worktrees").join(&unique), &linked, &root)?;
    let inner = here.strip_prefix(&repository).unwrap_or(Path::new(""));
    let folder = inside(&root, &inner.display().to_string()).unwrap_or_else(|_| root.clone());
    let author = match reference {
        Reference::Request(_) => Author::Stranger,
        Reference::Named(_) => Author::User,
    };
    let label = branch.clone().unwrap_or_else(|| label(reference, &commit));
    Ok(Checkout { place, root, folder, label: Some(label), branch, author })
}

/// Gives a worktree the name of its repository, which its project may be named after.
fn rename_worktree(administration: &Path, from: &Path, to: &Path) -> Result<(), GitError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| GitError::File { what: "rename", path, source }
    };
    std::fs::rename(from, to).map_err(failed(from))?;
    let back = administration.join("gitdir");
    std::fs::write(&back, format!("{}\n", to.join(".git").display())).map_err(failed(&back))
}

/// The commit that a reference means in the user's repository, and the branch if it is one.
async fn commit_of(repository: &Path, reference: &Reference) -> Result<(String, Option<String>), GitError> {
    if let Reference::Named(name) = reference {
        let tried = [(format!("refs/heads/{name}"), true), (name.clone(), false)];
        let remote = (format!("refs/remotes/origin/{name}"), true);
        for (revision, is_branch) in tried.into_iter().chain([remote]) {
            if let Some(commit) = parsed(repository, &revision).await? {
                return Ok((commit, is_branch.then(|| name.clone())));
            }
        }
    }
    let origin = Remote { place: "origin", transports: Transports::Own };
    let found = origin.find(repository, reference).await?;
    let commit = origin.fetch(repository, &found, Depth::All).await?;
    let branch = match found {
        Found::Branch(name) => Some(name),
        _ => None,
    };
    Ok((commit, branch))
}

async fn parsed(repository: &Path, revision: &str) -> Result<Option<String>, GitError> {
    let revision = format!("{revision}^{{commit}}");
    let arguments = ["rev-parse", "--verify", "--quiet", "--end-of-options", revision.as_str()];
    match git(repository, Transports::Own, "look up a commit", &arguments).await {
        Ok(commit) => Ok(Some(commit.trim().to_owned())),
        Err(GitError::Failed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What names a sandbox of something that is no branch.
fn label(reference: &Reference, commit: &str) -> String {
    match reference {
        Reference::Request(number) => format!("pr-{number}"),
        Reference::Named(_) if reference.is_hash() => commit.chars().take(10).collect(),
        Reference::Named(name) => name.clone(),
    }
}

/// A folder of a checkout. A link must not lead out of it.
fn inside(root: &Path, folder: &str) -> Result<PathBuf, GitError> {
    let none = |_| GitError::NoFolder(folder.to_owned());
    let root = root.canonicalize().map_err(none)?;
    let found = root.join(folder).canonicalize().map_err(none)?;
    if found.is_dir() && found.starts_with(&root) {
        Ok(found)
    } else {
        Err(GitError::NoFolder(folder.to_owned()))
    }
}

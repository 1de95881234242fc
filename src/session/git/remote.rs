//! Finds out what a name means in a repository, and fetches it.

use std::path::Path;

use super::GitError;
use super::address::Reference;
use super::command::{Transports, git};

/// What a reference is in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A branch, by its short name.
    Branch(String),
    /// Another reference, in full.
    Other(String),
    /// A commit, by its whole hash.
    Commit(String),
    /// A commit whose hash is shortened: only the repository itself knows the rest.
    ShortCommit(String),
}

/// Where a repository is, and how it is spoken to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remote<'a> {
    /// The URL, or the name of a remote.
    pub place: &'a str,
    pub transports: Transports,
}

impl Remote<'_> {
    /// Asks the repository what a reference is. `folder` is any folder to run git in.
    pub async fn find(self, folder: &Path, reference: &Reference) -> Result<Found, GitError> {
        let wanted = candidates(reference);
        let mut arguments = vec!["ls-remote", "--quiet", "--", self.place];
        arguments.extend(wanted.iter().map(String::as_str));
        let what = format!("look into `{}`", self.place);
        let listed = git(folder, self.transports, &what, &arguments).await?;
        if let Some(found) = choose(&wanted, &listed) {
            return Ok(found);
        }
        match reference {
            Reference::Named(hash) if reference.is_hash() && matches!(hash.len(), 40 | 64) => {
                Ok(Found::Commit(hash.clone()))
            }
            Reference::Named(hash) if reference.is_hash() => Ok(Found::ShortCommit(hash.clone())),
            _ => Err(GitError::NotFound { place: format!("`{}`", self.place), what: reference.to_string() }),
        }
    }

    /// Fetches what was found into the repository of a folder, and returns its commit.
    pub async fn fetch(self, folder: &Path, found: &Found, depth: Depth) -> Result<String, GitError> {
        let (refspec, short) = match found {
            Found::Branch(name) => (format!("refs/heads/{name}"), None),
            Found::Other(name) => (name.clone(), None),
            Found::Commit(hash) => (hash.clone(), None),
            Found::ShortCommit(hash) => ("+refs/heads/*:refs/remotes/origin/*".to_owned(), Some(hash)),
        };
        let mut arguments = vec!["fetch", "--quiet", "--no-tags"];
        if depth == Depth::One && short.is_none() {
            arguments.push("--depth=1");
        }
        arguments.extend(["--", self.place, refspec.as_str()]);
        let what = format!("fetch from `{}`", self.place);
        git(folder, self.transports, &what, &arguments).await?;
        let revision = format!("{}^{{commit}}", short.map_or("FETCH_HEAD", String::as_str));
        let parsed = ["rev-parse", "--verify", "--quiet", "--end-of-options", &revision];
        let missing = |_| GitError::NotFound {
            place: format!("`{}`", self.place),
            what: format!("commit `{}`", short.map_or("FETCH_HEAD", String::as_str)),
        };
        let commit = git(folder, self.transports, &what, &parsed).await.map_err(missing)?;
        Ok(commit.trim().to_owned())
    }
}

/// How much of the history is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The commit alone.
    One,
    /// All of it, into a repository that has the rest.
    All,
}

/// The full names that a reference may have, the likeliest first.
fn candidates(reference: &Reference) -> Vec<String> {
    match reference {
        Reference::Request(number) => {
            vec![format!("refs/pull/{number}/head"), format!("refs/merge-requests/{number}/head")]
        }
        Reference::Named(name) if name.starts_with("refs/") => vec![name.clone()],
        Reference::Named(name) => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
    }
}

/// The likeliest candidate in the output of `git ls-remote`.
fn choose(wanted: &[String], listed: &str) -> Option<Found> {
    let names: Vec<&str> =
        listed.lines().filter_map(|line| line.split_once('\t')).map(|(_, name)| name).collect();
    let found = wanted.iter().find(|wanted| names.contains(&wanted.as_str()))?;
    Some(match found.strip_prefix("refs/heads/") {
        Some(branch) => Found::Branch(branch.to_owned()),
        None => Found::Other(found.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_comes_before_a_tag_of_the_same_name() {
        let wanted = candidates(&Reference::Named("v1".into()));
        let listed = "aa\trefs/tags/v1\nbb\trefs/heads/v1\ncc\trefs/heads/x/refs/heads/v1\n";
        assert_eq!(choose(&wanted, listed), Some(Found::Branch("v1".into())));
        assert_eq!(choose(&wanted, "aa\trefs/tags/v1\n"), Some(Found::Other("refs/tags/v1".into())));
        assert_eq!(choose(&wanted, "aa\trefs/heads/x/v1\n"), None);
    }

    #[test]
    fn a_request_is_github_s_or_gitlab_s() {
        let wanted = candidates(&Reference::Request(7));
        let gitlab = "aa\trefs/merge-requests/7/head\n";
        assert_eq!(choose(&wanted, gitlab), Some(Found::Other("refs/merge-requests/7/head".into())));
    }
}

//! Parses what names a repository (`URL[#REF][:FOLDER]`), and what names a branch, commit or pull request in it. What
//! comes from here is safe as an argument of git: it begins with no `-`, and names no transport that runs a program.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::GitError;

/// A repository, and what of it to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryAddress {
    /// The URL or path, as git takes it.
    pub url: String,
    /// The branch, commit or request; the default branch if none.
    pub reference: Option<Reference>,
    /// The folder in it that has the spec; its root if none.
    pub folder: Option<String>,
}

/// A branch, tag, commit, or pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A pull request (GitHub) or merge request (GitLab), by its number.
    Request(u32),
    /// A branch, tag or commit.
    Named(String),
}

/// Highest number of a request. A longer number is a commit.
const MOST_DIGITS: usize = 6;

impl RepositoryAddress {
    /// Whether an argument of `up` is a repository: no service has these characters in its name.
    pub fn is_one(text: &str) -> bool {
        text.contains(['/', ':', '@', '#'])
    }

    /// The name that a clone of it has: the last part of its path.
    pub fn name(&self) -> String {
        let path = self.url.trim_end_matches('/');
        let path = path.strip_suffix("/.git").unwrap_or(path);
        let last = path.rsplit(['/', ':']).next().unwrap_or_default();
        let name: String = last
            .trim_end_matches(".git")
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            .collect();
        let name = name.trim_start_matches(['-', '.']);
        if name.is_empty() { "repository".to_owned() } else { name.to_owned() }
    }

    /// Whether git would ask a server for it.
    pub fn is_remote(&self) -> bool {
        !Path::new(&self.url).is_absolute()
    }
}

impl FromStr for RepositoryAddress {
    type Err = GitError;

    fn from_str(text: &str) -> Result<Self, GitError> {
        let wrong = |reason| GitError::Address { text: text.to_owned(), reason };
        if text.starts_with('-') || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(wrong("it has white space, or begins with `-`"));
        }
        let (place, rest) = match text.split_once('#') {
            Some((url, rest)) => (url, Some(rest)),
            None => (text, None),
        };
        let (url, reference, folder) = if let Some(rest) = rest {
            let (reference, folder) = rest.split_once(':').unwrap_or((rest, ""));
            (place, reference, folder)
        } else {
            let (url, folder) = folder_after(place);
            (url, "", folder)
        };
        let is_path = !url.contains("://") && !is_scp_like(url);
        match url.split_once("://") {
            Some(("https" | "ssh" | "file", after)) if !after.is_empty() && !after.starts_with('-') => {}
            Some(("http" | "git", _)) => return Err(wrong("it is not encrypted; use https or ssh")),
            Some(_) => return Err(wrong("only https, ssh and file are allowed")),
            None if url.contains("::") => return Err(wrong("transport helpers are not allowed")),
            None if url.is_empty() => return Err(wrong("it has no address")),
            None => {}
        }
        let url = if is_path {
            std::path::absolute(url).map_err(|_| wrong("it has no absolute path"))?.display().to_string()
        } else {
            url.to_owned()
        };
        let folder = Some(folder.trim_matches('/')).filter(|folder| !folder.is_empty());
        if folder.is_some_and(|folder| folder.split('/').any(|part| part == "..")) {
            return Err(wrong("its folder leaves the repository"));
        }
        let reference = Some(reference).filter(|reference| !reference.is_empty());
        let reference = reference.map(Reference::from_str).transpose()?;
        Ok(Self { url, reference, folder: folder.map(str::to_owned) })
    }
}

/// Splits `:FOLDER` off a URL. Elsewhere a colon belongs to the address: `git@host:path`, `C:`.
fn folder_after(place: &str) -> (&str, &str) {
    let Some(authority) = place.find("://").map(|at| at + 3) else { return (place, "") };
    let Some(path) = place[authority..].find('/').map(|at| authority + at) else { return (place, "") };
    match place[path..].rfind(':') {
        Some(at) => (&place[..path + at], &place[path + at + 1..]),
        None => (place, ""),
    }
}

/// Whether it is `[USER@]HOST:PATH`.
fn is_scp_like(url: &str) -> bool {
    url.split_once(':').is_some_and(|(host, _)| !host.is_empty() && !host.contains('/'))
}

impl FromStr for Reference {
    type Err = GitError;

    fn from_str(text: &str) -> Result<Self, GitError> {
        let wrong = |reason| Err(GitError::Reference { text: text.to_owned(), reason });
        if text.is_empty() || text.starts_with(['-', '+', '/']) {
            return wrong("it is empty, or begins with `-`, `+` or `/`");
        }
        let odd = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
        if text.chars().any(odd) || text.contains("..") || text.contains("@{") || text.ends_with(".lock") {
            return wrong("git allows no such name");
        }
        let number = text.strip_prefix('#').unwrap_or(text);
        let is_number = number.len() <= MOST_DIGITS && number.bytes().all(|byte| byte.is_ascii_digit());
        match number.parse() {
            Ok(number) if is_number => Ok(Self::Request(number)),
            _ => Ok(Self::Named(text.to_owned())),
        }
    }
}

impl Reference {
    /// Whether it can be a commit's hash, possibly shortened.
    pub fn is_hash(&self) -> bool {
        let Self::Named(name) = self else { return false };
        (7..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(number) => write!(f, "pull request {number}"),
            Self::Named(name) => write!(f, "branch, tag or commit `{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, Option<Reference>, Option<String>) {
        let address: RepositoryAddress = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        (address.url, address.reference, address.folder)
    }

    fn named(name: &str) -> Option<Reference> {
        Some(Reference::Named(name.to_owned()))
    }

    #[test]
    fn an_address_has_a_reference_and_a_folder() {
        let https = "https://github.com/org/repo".to_owned();
        assert_eq!(parts("https://github.com/org/repo"), (https.clone(), None, None));
        assert_eq!(parts("https://github.com/org/repo#v1"), (https.clone(), named("v1"), None));
        assert_eq!(
            parts("https://github.com/org/repo#12:a/b"),
            (https.clone(), Some(Reference::Request(12)), Some("a/b".into()))
        );
        assert_eq!(parts("https://github.com/org/repo#:a"), (https.clone(), None, Some("a".into())));
        assert_eq!(parts("https://github.com/org/repo:a"), (https, None, Some("a".into())));
        let port = "https://h:8443/repo.git".to_owned();
        assert_eq!(parts("https://h:8443/repo.git"), (port, None, None));
        let scp = "git@github.com:org/repo.git".to_owned();
        assert_eq!(parts("git@github.com:org/repo.git#feat/x"), (scp, named("feat/x"), None));
        assert_eq!(
            parts("/srv/repo.git#main:web"),
            ("/srv/repo.git".into(), named("main"), Some("web".into()))
        );
    }

    #[test]
    fn a_clone_is_named_after_its_repository() {
        let name = |text: &str| text.parse::<RepositoryAddress>().unwrap().name();
        assert_eq!(name("https://github.com/org/shop.git"), "shop");
        assert_eq!(name("git@github.com:shop"), "shop");
        assert_eq!(name("file:///srv/My.Shop/.git"), "My.Shop");
        assert_eq!(name("https://host/"), "host");
    }

    #[test]
    fn what_git_could_take_for_something_else_is_refused() {
        for text in [
            "-u/x",
            "--upload-pack=/x",
            "ext::sh -c x",
            "ext::x/y",
            "fd::17/x",
            "http://h/x",
            "git://h/x",
            "ssh://-oProxyCommand=x/y",
            "https://",
            "https://h/x#-x",
            "https://h/x#a b",
            "https://h/x#a:../b",
            "https://h/x#+a",
            "https://h/x#a*",
        ] {
            assert!(text.parse::<RepositoryAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_short_number_is_a_request_and_a_long_one_a_commit() {
        let reference = |text: &str| text.parse::<Reference>().unwrap();
        assert_eq!(reference("42"), Reference::Request(42));
        assert_eq!(reference("#42"), Reference::Request(42));
        assert_eq!(reference("1234567"), Reference::Named("1234567".into()));
        assert!(reference("1234567").is_hash() && reference("deadbeef").is_hash());
        assert!(!reference("feat/x").is_hash());
    }

    #[test]
    fn no_service_is_taken_for_a_repository() {
        assert!(!RepositoryAddress::is_one("web") && !RepositoryAddress::is_one("my-db_2.a"));
        assert!(RepositoryAddress::is_one("./repo.git") && RepositoryAddress::is_one("git@h:x"));
    }
}

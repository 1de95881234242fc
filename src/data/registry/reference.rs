//! The name of a snapshot in a registry: `[oci://]HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]`.

use std::fmt;
use std::str::FromStr;

/// What such a name may begin with.
const SCHEME: &str = "oci://";
/// The tag without one.
const LATEST: &str = "latest";

/// The name of a snapshot in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The host, with the port if it is written.
    pub host: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The digest of the manifest, which then counts instead of the tag.
    pub digest: Option<String>,
}

impl Reference {
    /// The part of a text after `oci://`, if it begins so.
    pub fn after_scheme(text: &str) -> Option<&str> {
        text.strip_prefix(SCHEME)
    }

    /// What identifies the manifest: the digest or the tag.
    pub fn target(&self) -> &str {
        self.digest.as_deref().unwrap_or(&self.tag)
    }

    /// A short name: the tag, or the last part of the repository if the tag says nothing.
    pub fn label(&self) -> &str {
        if self.tag == LATEST {
            self.repository.rsplit('/').next().unwrap_or(&self.repository)
        } else {
            &self.tag
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.host, self.repository, self.tag)?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = Self::after_scheme(text).unwrap_or(text);
        let (host, rest) = name
            .split_once('/')
            .filter(|(host, _)| host.contains(['.', ':']) || *host == "localhost")
            .ok_or_else(|| format!("`{text}` names no registry: write HOST/REPOSITORY:TAG"))?;
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (rest, None),
        };
        let (repository, tag) = rest.rsplit_once(':').unwrap_or((rest, LATEST));
        let is_path = |part: &str| {
            let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
            let inner =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
            edge(part.as_bytes().first()) && edge(part.as_bytes().last()) && part.bytes().all(inner)
        };
        if repository.len() > 255 || !repository.split('/').all(is_path) {
            return Err(format!(
                "`{repository}` is no name of a repository: lower-case letters, digits, `.`, `_`, `-`"
            ));
        }
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if tag.is_empty() || tag.len() > 128 || tag.starts_with(['.', '-']) || !tag.bytes().all(is_word) {
            return Err(format!("`{tag}` is no tag: letters, digits, `.`, `_`, `-`"));
        }
        let is_digest = |digest: &String| {
            digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex::decode(hex).is_ok())
        };
        if let Some(digest) = digest.as_ref().filter(|digest| !is_digest(digest)) {
            return Err(format!("`{digest}` is no digest: `sha256:` and 64 hexadecimal digits"));
        }
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        if !host.bytes().all(is_host) {
            return Err(format!("`{host}` is no name of a host"));
        }
        let (repository, tag) = (repository.to_owned(), tag.to_owned());
        Ok(Self { host: host.to_owned(), repository, tag, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_split_into_its_parts() {
        let read: Reference = "oci://localhost:5000/team/shop:bug-1".parse().unwrap();
        assert_eq!((&*read.host, &*read.repository, &*read.tag), ("localhost:5000", "team/shop", "bug-1"));
        assert_eq!((read.label(), read.target()), ("bug-1", "bug-1"));
        let read: Reference = "ghcr.io/team/shop".parse().unwrap();
        assert_eq!((&*read.tag, read.label()), ("latest", "shop"));
        let digest = format!("sha256:{}", "ab".repeat(32));
        let read: Reference = format!("ghcr.io/team/shop:x@{digest}").parse().unwrap();
        assert_eq!((read.target(), read.to_string()), (&*digest, format!("ghcr.io/team/shop:x@{digest}")));
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        for name in [
            "shop",
            "team/shop",
            "r.example/",
            "r.example/Team",
            "r.example/a/../b",
            "r.example/a:",
            "r.example/a@x",
            "r.ex ample/a",
        ] {
            assert!(name.parse::<Reference>().is_err(), "{name}");
        }
    }
}

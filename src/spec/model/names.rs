//! Validated names, and the derivation of a sandbox's name.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The error for a name that violates the rule of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` cannot be {kind}: {rule}")]
pub struct InvalidName {
    /// The invalid name.
    pub name: String,
    /// The kind of object with its article: `a service`.
    pub kind: &'static str,
    /// The violated rule.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Validates a name.
            pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
                let name = name.into();
                let check: fn(&str) -> bool = $check;
                if check(&name) {
                    Ok(Self(name))
                } else {
                    Err(InvalidName { name, kind: $kind, rule: $rule })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

fn compose_key(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

name!(
    /// The name of a sandbox: a DNS label without a dot, at most 40 characters.
    SandboxName,
    "a sandbox's name",
    "it takes lower-case letters, digits and inner hyphens, at most 40 characters",
    |name| {
        !name.is_empty()
            && name.len() <= SandboxName::MAX
            && !name.starts_with('-')
            && !name.ends_with('-')
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    }
);
name!(
    /// The project name of a spec, from which a sandbox's name is derived.
    ProjectName,
    "a spec's name",
    "it takes lower-case letters, digits, hyphens and underscores, and begins with a letter or digit",
    |name| {
        name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    }
);
name!(
    /// The key of a service.
    ServiceName,
    "a service's name",
    "it takes letters, digits, `.`, `_` and `-`",
    compose_key
);
name!(
    /// The key of a volume.
    VolumeName,
    "a volume's name",
    "it takes letters, digits, `.`, `_` and `-`",
    compose_key
);
name!(
    /// The key of a network.
    NetworkName,
    "a network's name",
    "it takes letters, digits, `.`, `_` and `-`",
    compose_key
);
name!(
    /// The key of a secret.
    SecretName,
    "a secret's name",
    "it takes letters, digits, `.`, `_` and `-`",
    compose_key
);
name!(
    /// The key of a config.
    ConfigName,
    "a config's name",
    "it takes letters, digits, `.`, `_` and `-`",
    compose_key
);
name!(
    /// The key of a task.
    TaskName,
    "a task's name",
    "it takes letters, digits, `.`, `:`, `_` and `-`",
    |name| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':'))
    }
);

impl SandboxName {
    /// Maximum length in characters.
    pub const MAX: usize = 40;

    /// Derives the sandbox's name from the project name and, in a git repository, the branch.
    ///
    /// Characters that a DNS label cannot contain become hyphens, and a long result is truncated. If the name does not
    /// contain the whole branch it ends in a hash, so that `feat/one` and `feat-one` get different names.
    pub fn derive(project: &str, branch: Option<&str>) -> Self {
        let whole = match branch {
            Some(branch) => format!("{project}-{branch}"),
            None => project.to_owned(),
        };
        let mut label = String::with_capacity(whole.len());
        for c in whole.chars().flat_map(char::to_lowercase) {
            if c.is_ascii_alphanumeric() {
                label.push(c);
            } else if !label.ends_with('-') && !label.is_empty() {
                label.push('-');
            }
        }
        let label = label.trim_matches('-');
        let is_whole = branch.is_none_or(|branch| label.ends_with(&format!("-{branch}")));
        if !label.is_empty() && label.len() <= Self::MAX && is_whole {
            return Self(label.to_owned());
        }
        let hash = &hex::encode(Sha256::digest(whole.as_bytes()))[..6];
        let cut = label[..label.len().min(Self::MAX - 7)].trim_end_matches('-');
        Self(if cut.is_empty() { format!("sandbox-{hash}") } else { format!("{cut}-{hash}") })
    }
}

impl ProjectName {
    /// Derives a project name from a folder's name like Compose: lower case, invalid characters removed.
    pub fn from_folder(folder: &str) -> Self {
        Self::cleaned(folder).unwrap_or_else(|| Self("sandbox".to_owned()))
    }

    /// Converts a text to lower case and removes invalid characters; `None` if nothing is left.
    pub fn cleaned(text: &str) -> Option<Self> {
        let kept: String = text
            .chars()
            .flat_map(char::to_lowercase)
            .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
            .collect();
        let kept = kept.trim_start_matches(['-', '_']);
        (!kept.is_empty()).then(|| Self(kept.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_named_after_its_spec_and_branch() {
        assert_eq!(SandboxName::derive("shop", None).as_str(), "shop");
        assert_eq!(SandboxName::derive("shop", Some("feature-2")).as_str(), "shop-feature-2");
        assert_eq!(SandboxName::derive("my_shop", Some("main")).as_str(), "my-shop-main");
    }

    #[test]
    fn branches_that_a_name_cannot_hold_stay_apart() {
        let branches =
            ["feat-one", "feat/one", "feat_one", "Feat-one", "feat--one", "-feat-one", "日本", "中国", "x-"];
        let names: std::collections::BTreeSet<String> =
            branches.iter().map(|branch| SandboxName::derive("shop", Some(branch)).to_string()).collect();
        assert_eq!(names.len(), branches.len(), "{names:?}");
        assert!(names.iter().all(|name| SandboxName::new(name.as_str()).is_ok()), "{names:?}");
        assert!(SandboxName::derive("shop", Some("feat/one")).as_str().starts_with("shop-feat-one-"));
    }

    #[test]
    fn long_branches_are_cut_and_stay_apart() {
        let a = SandboxName::derive("shop", Some("a-very-long-branch-name-that-goes-on-and-on-1"));
        let b = SandboxName::derive("shop", Some("a-very-long-branch-name-that-goes-on-and-on-2"));
        assert_ne!(a, b);
        assert!(a.as_str().len() <= SandboxName::MAX);
        assert!(SandboxName::new(a.as_str()).is_ok());
    }

    #[test]
    fn a_name_without_a_single_usable_letter_still_gives_one() {
        assert!(SandboxName::new(SandboxName::derive("", Some("日本")).as_str()).is_ok());
        assert_eq!(ProjectName::from_folder("Ä").as_str(), "sandbox");
        assert_eq!(ProjectName::from_folder("My.Shop").as_str(), "myshop");
    }

    #[test]
    fn a_sandbox_s_name_has_no_dot() {
        assert!(SandboxName::new("shop.db").is_err());
        assert!(SandboxName::new("-shop").is_err());
        assert!(SandboxName::new("Shop").is_err());
        assert!(ServiceName::new("db.main").is_ok());
        assert!(ServiceName::new("db/main").is_err());
    }
}

//! Names and paths of stored sets and volumes. Every part is validated, so that a path cannot leave the root.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::StorageKind;

/// The four namespaces below the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// Volumes of sandboxes; a set's name is the instance id.
    Live,
    /// Baselines; a set's name is its key.
    Baseline,
    /// Snapshots, by name.
    Snapshot,
    /// Incomplete sets.
    Making,
}

impl Namespace {
    /// All namespaces.
    pub const ALL: [Self; 4] = [Self::Live, Self::Baseline, Self::Snapshot, Self::Making];

    /// The folder's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Baseline => "baseline",
            Self::Snapshot => "snapshot",
            Self::Making => "making",
        }
    }
}

/// A name that is not valid for a folder of the storage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` cannot be the name of {what}: 1 to 128 letters, digits, `.`, `_` and `-`, {rule}")]
pub struct BadName {
    name: String,
    what: &'static str,
    rule: &'static str,
}

fn is_plain(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !name.trim_matches('.').is_empty()
}

macro_rules! checked_name {
    ($type:ident, $what:literal, $rule:literal, $extra:expr) => {
        impl $type {
            /// Validates a name.
            pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
                let name = name.into();
                let extra: fn(&str) -> bool = $extra;
                if is_plain(&name) && extra(&name) {
                    Ok(Self(name))
                } else {
                    Err(BadName { name, what: $what, rule: $rule })
                }
            }

            /// The name's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;

            fn try_from(name: String) -> Result<Self, BadName> {
                Self::new(name)
            }
        }

        impl FromStr for $type {
            type Err = BadName;

            fn from_str(name: &str) -> Result<Self, BadName> {
                Self::new(name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }
    };
}

/// The name of a set: an instance id, a baseline's key or a snapshot's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SetName(String);
checked_name!(SetName, "a set", "beginning with a letter or digit", |name| name
    .starts_with(|c: char| c.is_ascii_alphanumeric()));

/// The name of a volume in its set: the spec's key, or a generated one for an anonymous volume (which begins with a
/// dot).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);
checked_name!(VolumeName, "a volume", "not `manifest.json`", |name| name != "manifest.json");

/// The location of a set: its namespace and its name. Written `baseline/KEY`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SetPath {
    /// The namespace.
    pub shelf: Namespace,
    /// The set's name in the namespace.
    pub name: SetName,
}

impl SetPath {
    /// The set of a sandbox, by its instance id.
    pub fn live(id: &str) -> Result<Self, BadName> {
        Ok(Self { shelf: Namespace::Live, name: SetName::new(id)? })
    }

    /// A baseline, by its key.
    pub fn baseline(key: &str) -> Result<Self, BadName> {
        Ok(Self { shelf: Namespace::Baseline, name: SetName::new(key)? })
    }

    /// A snapshot, by its name.
    pub fn snapshot(name: &str) -> Result<Self, BadName> {
        Ok(Self { shelf: Namespace::Snapshot, name: SetName::new(name)? })
    }

    /// A volume of this set.
    pub fn volume(&self, name: VolumeName) -> VolumePath {
        VolumePath { set: self.clone(), volume: name }
    }

    /// The path below the root.
    pub fn relative(&self) -> PathBuf {
        PathBuf::from(self.shelf.as_str()).join(self.name.as_str())
    }
}

impl fmt::Display for SetPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shelf.as_str(), self.name)
    }
}

impl FromStr for SetPath {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = || BadName { name: text.to_owned(), what: "a stored set", rule: "as `SHELF/NAME`" };
        let (shelf, name) = text.split_once('/').ok_or_else(bad)?;
        let shelf = Namespace::ALL.into_iter().find(|s| s.as_str() == shelf).ok_or_else(bad)?;
        Ok(Self { shelf, name: SetName::new(name)? })
    }
}

/// The location of a volume: its set and its name. Written `live/ID/VOLUME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumePath {
    /// The set.
    pub set: SetPath,
    /// The volume's name in it.
    pub volume: VolumeName,
}

impl VolumePath {
    /// The path below the root.
    pub fn relative(&self) -> PathBuf {
        self.set.relative().join(self.volume.as_str())
    }
}

impl fmt::Display for VolumePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.set, self.volume)
    }
}

/// The folder below the root that contains the namespaces of a kind of storage.
pub fn store_folder(root: &Path, kind: StorageKind) -> PathBuf {
    root.join(match kind {
        StorageKind::Pool => "pool",
        StorageKind::Reflink | StorageKind::Copy => "store",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_leave_its_folder_is_refused() {
        for bad in ["", ".", "..", "a/b", "a\0", "a,b", "a b", "é", &"x".repeat(129)] {
            assert!(SetName::new(bad).is_err(), "{bad:?}");
            assert!(VolumeName::new(bad).is_err(), "{bad:?}");
        }
        assert!(VolumeName::new("manifest.json").is_err());
        assert!(SetName::new(".hidden").is_err());
        assert!(VolumeName::new(".db.1f").is_ok());
    }

    #[test]
    fn a_path_survives_being_sent() {
        let path = SetPath::live("0a1b").unwrap().volume(VolumeName::new("pgdata").unwrap());
        let text = serde_json::to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<VolumePath>(&text).unwrap(), path);
        assert_eq!(path.to_string(), "live/0a1b/pgdata");
        assert_eq!("live/0a1b".parse::<SetPath>().unwrap(), path.set);
        assert!(serde_json::from_str::<VolumeName>("\"../x\"").is_err());
    }
}

//! The options of the keeper: where it runs and its arguments, mostly from the environment.

use std::path::PathBuf;
use std::time::Duration;

use super::KeeperError;
use crate::agent::keeper::state::LINGER;
use crate::engine::identity::Scope;
use crate::storage::StorageKind;

/// Where the keeper runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeeperPlacement {
    /// In a container of the engine.
    #[default]
    Container,
    /// As a detached process of this machine.
    Process,
}

/// How `limits` of a sandbox is enforced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Limiting {
    /// For all services together, if the engine allows it.
    #[default]
    Shared,
    /// Always divided among the services: the keeper gets no access to the engine's control groups.
    Divided,
}

impl Limiting {
    /// Reads `SANDBOX_LIMITS`.
    ///
    /// # Errors
    /// Fails if it is neither `shared` nor `divided`.
    pub fn from_env() -> Result<Self, KeeperError> {
        const VARIABLE: &str = "SANDBOX_LIMITS";
        match std::env::var(VARIABLE).as_deref() {
            Err(_) | Ok("" | "shared") => Ok(Self::Shared),
            Ok("divided") => Ok(Self::Divided),
            Ok(other) => Err(KeeperError::Setting {
                variable: VARIABLE,
                cause: format!("`{other}` is neither `shared` nor `divided`"),
            }),
        }
    }
}

/// The options that decide how to reach the keeper and, if there is none, how to start it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The scope.
    pub scope: Scope,
    /// Where the keeper runs (`SANDBOX_KEEPER`).
    pub place: KeeperPlacement,
    /// The kind of storage (`SANDBOX_STORAGE`); `None`: the best one that works.
    pub storage: Option<StorageKind>,
    /// Bytes that stored data may take (`SANDBOX_BUDGET`, such as `20G`); `None`: half of the free space. A keeper that
    /// is running keeps its own budget.
    pub budget: Option<u64>,
    /// The binary for our image; `None`: this program, or the one in [`crate::agent::image::VARIABLE`].
    pub binary: Option<PathBuf>,
    /// The engine's socket on the engine's own machine (`SANDBOX_ENGINE_SOCKET`); `None`: derived from how we reach it.
    pub socket: Option<String>,
    /// How `limits` is enforced (`SANDBOX_LIMITS`). A keeper that is running keeps the mode it was started with.
    pub limiting: Limiting,
    /// How long the keeper stays after the last sandbox (`SANDBOX_LINGER`, in seconds).
    pub linger: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            scope: Scope::default(),
            place: KeeperPlacement::default(),
            storage: None,
            budget: None,
            binary: None,
            socket: None,
            limiting: Limiting::default(),
            linger: LINGER,
        }
    }
}

impl Options {
    /// Returns the name of the container that has the storage's files.
    pub(super) fn storage_container(&self) -> String {
        match self.place {
            KeeperPlacement::Container => self.scope.keeper(),
            KeeperPlacement::Process => self.scope.storage_server(),
        }
    }

    /// Reads the options from the environment.
    pub fn from_env() -> Result<Self, KeeperError> {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let wrong = |variable, cause: String| KeeperError::Setting { variable, cause };
        let place = match read("SANDBOX_KEEPER").as_deref() {
            None | Some("container") => KeeperPlacement::Container,
            Some("process") => KeeperPlacement::Process,
            Some(other) => {
                return Err(wrong(
                    "SANDBOX_KEEPER",
                    format!("`{other}` is neither `container` nor `process`"),
                ));
            }
        };
        let storage = match read("SANDBOX_STORAGE").as_deref() {
            None | Some("auto") => None,
            Some(text) => Some(text.parse().map_err(|cause| wrong("SANDBOX_STORAGE", cause))?),
        };
        let budget = match read("SANDBOX_BUDGET") {
            None => None,
            Some(text) => Some(
                bytes(&text)
                    .ok_or_else(|| wrong("SANDBOX_BUDGET", format!("`{text}` is not a size such as 20G")))?,
            ),
        };
        let linger = match read("SANDBOX_LINGER") {
            None => LINGER,
            Some(text) => text
                .parse()
                .map(Duration::from_secs)
                .map_err(|_| wrong("SANDBOX_LINGER", format!("`{text}` is not a number of seconds")))?,
        };
        let scope = Scope::from_env().map_err(|error| wrong(Scope::VARIABLE, error.to_string()))?;
        Ok(Self {
            scope,
            place,
            storage,
            budget,
            binary: None,
            socket: read("SANDBOX_ENGINE_SOCKET"),
            limiting: Limiting::from_env()?,
            linger,
        })
    }
}

/// Parses `20G`, `500M`, or plain bytes; units are powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let upper = text.trim().to_ascii_uppercase();
    let digits = upper.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match upper[digits.len()..].trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(bytes("20G"), Some(20 << 30));
        assert_eq!(bytes("512mib"), Some(512 << 20));
        assert_eq!(bytes("100"), Some(100));
        assert!(["", "G", "2X", "-1", "99999999999T"].iter().all(|text| bytes(text).is_none()));
    }
}

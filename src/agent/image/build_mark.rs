//! A mark in the program by which a client recognises another build of it without running it: the client may be on
//! another kernel or architecture than the engine.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use regex::bytes::Regex;

/// The mark of this build.
macro_rules! mark {
    ($protocol:literal) => {
        concat!("sandbox-build:", env!("CARGO_PKG_VERSION"), ":protocol:", $protocol, ";")
    };
}

const MARK: &str = mark!("2");

/// What a file says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    version: String,
    protocol: u32,
}

impl Mark {
    /// Reads the mark of a program; `None` if it has none.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        Ok(Self::find(&fs::read(path)?))
    }

    fn find(bytes: &[u8]) -> Option<Self> {
        static PATTERN: OnceLock<Option<Regex>> = OnceLock::new();
        let pattern = PATTERN.get_or_init(|| {
            Regex::new(r"sandbox-build:([0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]{0,40}):protocol:([0-9]{1,6});")
                .ok()
        });
        let found = pattern.as_ref()?.captures(bytes)?;
        let text = |index| {
            String::from_utf8_lossy(found.get(index).map_or(b"", |part| part.as_bytes())).into_owned()
        };
        Some(Self { version: text(1), protocol: text(2).parse().ok()? })
    }

    /// Returns why this build cannot serve this client, if it cannot.
    pub(super) fn refusal(&self) -> Option<String> {
        // Reading our own mark also keeps it in the program.
        let own = Self::find(MARK.as_bytes())?;
        if self.version != own.version {
            return Some(format!("sandbox {}, but this is sandbox {}", self.version, own.version));
        }
        (self.protocol != own.protocol)
            .then(|| format!("protocol {}, but this sandbox speaks {}", self.protocol, own.protocol))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::protocol;

    #[test]
    fn this_build_is_recognised_and_can_serve_itself() {
        let own = Mark::find(MARK.as_bytes()).unwrap();
        assert_eq!(own.refusal(), None);
        assert_eq!(own.protocol, protocol::VERSION);
        assert_eq!(Mark::read(&std::env::current_exe().unwrap()).unwrap(), Some(own));
    }

    #[test]
    fn another_version_or_protocol_is_refused_by_name() {
        // The test's own program must not hold these marks in one piece.
        let refusal =
            |rest: &str| Mark::find(["sandbox", rest].concat().as_bytes()).unwrap().refusal().unwrap();
        assert!(refusal("-build:9.9.9:protocol:2;").contains("sandbox 9.9.9"));
        let own = ["-build:", env!("CARGO_PKG_VERSION"), ":protocol:999;"].concat();
        assert!(refusal(&own).contains("protocol 999"));
        assert_eq!(Mark::find(b"sandbox-build: nothing"), None);
    }
}

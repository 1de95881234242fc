//! The healthcheck and the restart policy of a container.

use std::time::Duration;

use serde::Serialize;

/// A healthcheck; unset fields use the engine's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Healthcheck {
    /// The command of the probe.
    pub test: HealthTest,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Maximum time of a probe.
    pub timeout: Option<Duration>,
    /// Consecutive failures after which the container is unhealthy.
    pub retries: Option<u32>,
    /// Time after the start during which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between probes during `start_period`; API 1.44 and later.
    pub start_interval: Option<Duration>,
}

/// The command of a health probe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub enum HealthTest {
    /// The image's healthcheck.
    #[default]
    Inherit,
    /// No healthcheck, not even the image's.
    Disabled,
    /// A command as arguments.
    Exec(Vec<String>),
    /// A command line for the container's shell.
    Shell(String),
}

impl HealthTest {
    /// Parses the engine's (and Compose's) list form: `["CMD", …]`, `["CMD-SHELL", LINE]`, `["NONE"]`, `[]`.
    pub fn from_list(list: &[String]) -> Self {
        match list {
            [] => Self::Inherit,
            [none] if none == "NONE" => Self::Disabled,
            [shell, line @ ..] if shell == "CMD-SHELL" => Self::Shell(line.join(" ")),
            [cmd, args @ ..] if cmd == "CMD" => Self::Exec(args.to_vec()),
            other => Self::Exec(other.to_vec()),
        }
    }

    /// Returns the engine's list form.
    pub fn to_list(&self) -> Vec<String> {
        match self {
            Self::Inherit => Vec::new(),
            Self::Disabled => vec!["NONE".into()],
            Self::Exec(args) => std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect(),
            Self::Shell(line) => vec!["CMD-SHELL".into(), line.clone()],
        }
    }
}

/// Whether the engine restarts a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum RestartPolicy {
    /// The engine never restarts it.
    #[default]
    No,
    /// Restart it after every exit and when the engine restarts.
    Always,
    /// Like `Always`, unless it was stopped explicitly.
    UnlessStopped,
    /// Restart it when it fails, at most this often.
    OnFailure(Option<u32>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_tests_keep_their_form() {
        for test in [
            HealthTest::Inherit,
            HealthTest::Disabled,
            HealthTest::Exec(vec!["pg_isready".into()]),
            HealthTest::Shell("true || false".into()),
        ] {
            assert_eq!(HealthTest::from_list(&test.to_list()), test);
        }
    }
}

//! How a container is seen to be healthy, and what happens when it ends.

use std::time::Duration;

use serde::Serialize;

/// How a container's health is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Healthcheck {
    /// The probe.
    pub test: HealthTest,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Time a probe may take.
    pub timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
    /// Time at the start in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between probes in that time; engines from API 1.44 on.
    pub start_interval: Option<Duration>,
}

/// A probe of health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub enum HealthTest {
    /// The image's.
    #[default]
    Inherit,
    /// None, not even the image's.
    Disabled,
    /// A program with arguments.
    Exec(Vec<String>),
    /// A line for the container's shell.
    Shell(String),
}

impl HealthTest {
    /// From the engine's (and Compose's) list: `["CMD", …]`, `["CMD-SHELL", LINE]`, `["NONE"]`, `[]`.
    pub fn from_list(list: &[String]) -> Self {
        match list {
            [] => Self::Inherit,
            [none] if none == "NONE" => Self::Disabled,
            [shell, line @ ..] if shell == "CMD-SHELL" => Self::Shell(line.join(" ")),
            [cmd, args @ ..] if cmd == "CMD" => Self::Exec(args.to_vec()),
            other => Self::Exec(other.to_vec()),
        }
    }

    /// As the engine's list.
    pub fn to_list(&self) -> Vec<String> {
        match self {
            Self::Inherit => Vec::new(),
            Self::Disabled => vec!["NONE".into()],
            Self::Exec(args) => std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect(),
            Self::Shell(line) => vec!["CMD-SHELL".into(), line.clone()],
        }
    }
}

/// Whether the engine starts a container again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Whenever it ends, and after the engine's own restart.
    Always,
    /// The same, unless it was stopped on purpose.
    UnlessStopped,
    /// When it fails, at most that often.
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

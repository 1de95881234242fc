//! Restart policy, logging and hooks of a service.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The action when a service's container exits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Never restart.
    #[default]
    No,
    /// Always restart.
    Always,
    /// Restart after a failure.
    OnFailure {
        /// Maximum number of restarts.
        max: Option<u32>,
    },
    /// Restart unless the container was stopped explicitly.
    UnlessStopped,
}

impl RestartPolicy {
    /// Whether to restart a container that exited with this code, after this many restarts.
    pub fn wants(self, code: i64, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => true,
            Self::OnFailure { max } => code != 0 && max.is_none_or(|max| restarts < max),
        }
    }
}

/// Formats the policy as in a spec.
impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Always => f.write_str("always"),
            Self::OnFailure { max: None } => f.write_str("on-failure"),
            Self::OnFailure { max: Some(max) } => write!(f, "on-failure:{max}"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

/// The error for text that is not a restart policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a restart policy")]
pub struct NotARestartPolicy(pub String);

impl FromStr for RestartPolicy {
    type Err = NotARestartPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotARestartPolicy(text.to_owned());
        match text.split_once(':') {
            None => match text {
                "no" => Ok(Self::No),
                "always" => Ok(Self::Always),
                "on-failure" => Ok(Self::OnFailure { max: None }),
                "unless-stopped" => Ok(Self::UnlessStopped),
                _ => Err(wrong()),
            },
            Some(("on-failure", max)) => Ok(Self::OnFailure { max: Some(max.parse().map_err(|_| wrong())?) }),
            Some(_) => Err(wrong()),
        }
    }
}

/// The log driver (`logging`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// The driver.
    pub driver: Option<String>,
    /// Driver options; an option without a value is omitted.
    pub options: BTreeMap<String, Option<String>>,
}

/// A hook: a command that runs in a service's container, or before its start in a container of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// The command as arguments.
    pub command: Vec<String>,
    /// The user, if not the service's.
    pub user: Option<String>,
    /// Whether it runs privileged (host access).
    pub privileged: bool,
    /// The working directory.
    pub working_dir: Option<String>,
    /// Additional environment variables.
    pub environment: BTreeMap<String, Option<String>>,
    /// The image of a `pre_start` command, if not the service's.
    pub image: Option<String>,
    /// Whether a `pre_start` command runs for each replica instead of once.
    pub per_replica: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_policy_is_read_as_it_is_written() {
        for text in ["no", "always", "on-failure", "on-failure:3", "unless-stopped"] {
            assert_eq!(text.parse::<RestartPolicy>().map(|policy| policy.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "sometimes", "on-failure:", "on-failure:many", "always:3"] {
            assert!(text.parse::<RestartPolicy>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_failure_is_no_success_and_only_so_many_are_forgiven() {
        let twice = RestartPolicy::OnFailure { max: Some(2) };
        assert_eq!([0, 1, 2].map(|restarts| twice.wants(1, restarts)), [true, true, false]);
        assert!(!twice.wants(0, 0));
        assert!(RestartPolicy::OnFailure { max: None }.wants(1, 1000));
        assert!(RestartPolicy::Always.wants(0, 1000));
        assert!(!RestartPolicy::No.wants(1, 0));
    }
}

//! What happens at the turns of a container's life.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What happens when a service's container exits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It is started again.
    Always,
    /// It is started again if it failed.
    OnFailure {
        /// So often at most.
        max: Option<u32>,
    },
    /// It is started again unless it was stopped on purpose.
    UnlessStopped,
}

impl RestartPolicy {
    /// Whether a container is started again that ended by itself with this code, after so many restarts.
    pub fn wants(self, code: i64, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => true,
            Self::OnFailure { max } => code != 0 && max.is_none_or(|max| restarts < max),
        }
    }
}

/// As it is written.
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

/// Words that are no restart policy.
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

/// `logging`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// The driver.
    pub driver: Option<String>,
    /// Its options; one without a value is left out.
    pub options: BTreeMap<String, Option<String>>,
}

/// A command that runs at a turn of a service's life: in its container, or before its start in one of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// The command.
    pub command: Vec<String>,
    /// The user, if not the service's.
    pub user: Option<String>,
    /// Whether it runs privileged (host access).
    pub privileged: bool,
    /// The folder it runs in.
    pub working_dir: Option<String>,
    /// More environment.
    pub environment: BTreeMap<String, Option<String>>,
    /// Of `pre_start`: the image, if not the service's.
    pub image: Option<String>,
    /// Of `pre_start`: whether it runs before each replica's start, not once for all.
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

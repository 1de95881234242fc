//! When a service that ended by itself is started again: the spec's `restart` is ours to honour, never the engine's,
//! so that nothing comes back to life after its sandbox is destroyed.
//!
//! The waits are the engine's own: a tenth of a second at first, doubled each time up to a minute, forgotten once a
//! container has run for ten seconds.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_mins(1);
const HEALTHY: Duration = Duration::from_secs(10);

/// The spec's `restart` of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Never.
    No,
    /// After a failure; at most so often, if a number is given.
    OnFailure(Option<u32>),
    /// Always, unless somebody stopped it.
    Always,
}

impl FromStr for Policy {
    type Err = std::convert::Infallible;

    /// Reads Compose's words; whatever is not one of them counts as `no`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once(':').unwrap_or((text, "")) {
            ("always" | "unless-stopped", _) => Self::Always,
            ("on-failure", "") => Self::OnFailure(None),
            ("on-failure", most) => Self::OnFailure(most.parse().ok()),
            _ => Self::No,
        })
    }
}

/// A container that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Its name or id.
    pub container: String,
    /// Its exit code.
    pub code: i64,
    /// What the spec wants done.
    pub policy: Policy,
    /// Whether somebody asked the engine to stop it.
    pub stopped: bool,
}

/// How often each container was started again, and when.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: BTreeMap<String, Try>,
}

#[derive(Debug, Clone, Copy)]
struct Try {
    count: u32,
    wait: Duration,
    starts: Duration,
}

impl Backoff {
    /// How long to wait before the container is started again; none if it stays down.
    pub fn died(&mut self, now: Duration, death: Death) -> Option<Duration> {
        let again = match death.policy {
            _ if death.stopped => false,
            Policy::No => false,
            Policy::OnFailure(_) => death.code != 0,
            Policy::Always => true,
        };
        if !again {
            self.tries.remove(&death.container);
            return None;
        }
        let last = self.tries.get(&death.container).filter(|it| now.saturating_sub(it.starts) < HEALTHY);
        let (count, wait) = last.map_or((0, FIRST), |it| (it.count, (it.wait * 2).min(LONGEST)));
        if matches!(death.policy, Policy::OnFailure(Some(most)) if count >= most) {
            return None;
        }
        self.tries.insert(death.container, Try { count: count + 1, wait, starts: now + wait });
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(policy: Policy, code: i64) -> Death {
        Death { container: "sbx-a.web".to_owned(), code, policy, stopped: false }
    }

    #[test]
    fn a_service_that_fails_at_once_waits_longer_each_time() {
        let mut backoff = Backoff::default();
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..4 {
            let wait = backoff.died(now, death(Policy::Always, 1)).unwrap();
            waits.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(waits, [100, 200, 400, 800]);
    }

    #[test]
    fn a_service_that_ran_for_a_while_starts_again_at_once() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.died(Duration::ZERO, death(Policy::Always, 1)), Some(FIRST));
        assert_eq!(backoff.died(Duration::from_mins(1), death(Policy::Always, 1)), Some(FIRST));
    }

    #[test]
    fn on_failure_leaves_a_success_alone_and_counts() {
        let mut backoff = Backoff::default();
        let policy: Policy = "on-failure:2".parse().unwrap();
        assert_eq!(backoff.died(Duration::ZERO, death(policy, 0)), None);
        assert!(backoff.died(Duration::ZERO, death(policy, 1)).is_some());
        assert!(backoff.died(Duration::ZERO, death(policy, 1)).is_some());
        assert!(backoff.died(Duration::ZERO, death(policy, 1)).is_none());
    }

    #[test]
    fn what_somebody_stopped_stays_down() {
        let mut backoff = Backoff::default();
        let stopped = Death { stopped: true, ..death(Policy::Always, 137) };
        assert_eq!(backoff.died(Duration::ZERO, stopped), None);
    }
}

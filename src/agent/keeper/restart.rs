//! Decides when to restart a service whose process exited.
//!
//! The keeper, not the engine, implements the spec's `restart` policy, so that no container restarts after its sandbox
//! is destroyed. Sessions never restart services, so that no exit is missed when a session begins or ends.
//!
//! The backoff is the engine's: it starts at a tenth of a second, doubles each time up to a minute, and starts over
//! once a container has run for ten seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::protocol::ExitAction;
use crate::engine::identity::SandboxId;
use crate::spec::RestartPolicy;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_mins(1);
const HEALTHY: Duration = Duration::from_secs(10);
/// How long a stop that a disconnected client requested may still be pending in the engine.
const LATE: Duration = Duration::from_mins(10);

/// A container that exited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    pub sandbox: SandboxId,
    pub service: String,
    /// The container's name.
    pub container: String,
    /// Its exit code.
    pub code: i64,
    /// The restart policy of the spec.
    pub policy: RestartPolicy,
    /// Whether a user or client asked the engine to stop it.
    pub stopped: bool,
}

/// The restart state of all containers: which are to be restarted, and when.
#[derive(Debug, Default)]
pub struct Restarts {
    tries: BTreeMap<String, Tries>,
    /// Containers whose restart is suppressed until a user starts them.
    resting: BTreeSet<String>,
    /// Containers that are restarted if they stop before this time: the stop comes from a disconnected client.
    woken: BTreeMap<String, Duration>,
    /// Containers that exited and are not restarted, by their policy.
    ended: BTreeSet<String>,
}

/// The restarts of one container.
#[derive(Debug)]
struct Tries {
    sandbox: SandboxId,
    count: u32,
    wait: Duration,
    /// When it was last started by the keeper.
    began: Duration,
    /// The pending restart: when it is due, and the exit that caused it.
    waiting: Option<(Duration, Death)>,
    /// Whether the next start event is caused by the keeper.
    starting: bool,
}

/// The part of the state that a restart of the keeper preserves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Containers whose restart is suppressed.
    resting: BTreeSet<String>,
    /// The pending restarts, each with the number of restarts so far.
    waiting: Vec<(u32, Death)>,
}

impl Restarts {
    /// Restores the state of the previous keeper.
    pub fn restore(&mut self, now: Duration, record: Record) {
        self.resting.extend(record.resting);
        for (count, death) in record.waiting {
            let (container, sandbox) = (death.container.clone(), death.sandbox.clone());
            let (began, waiting) = (now + FIRST, Some((now + FIRST, death)));
            let tries = Tries { sandbox, count, wait: FIRST, began, waiting, starting: false };
            self.tries.insert(container, tries);
        }
    }

    /// Returns the state for the next keeper.
    pub fn record(&self) -> Record {
        let waiting = self.tries.values().filter_map(|it| Some((it.count, it.waiting.as_ref()?.1.clone())));
        Record { resting: self.resting.clone(), waiting: waiting.collect() }
    }

    /// Handles the exit of a container and returns what happens to it.
    pub fn died(&mut self, now: Duration, death: Death) -> ExitAction {
        let container = death.container.clone();
        let woken = death.stopped && self.woken.remove(&container).is_some_and(|until| now < until);
        if self.resting.contains(&container) || (death.stopped && !woken) {
            self.tries.remove(&container);
            return ExitAction::Stopped;
        }
        let before = self.tries.get_mut(&container).map(|it| {
            it.starting = false;
            &*it
        });
        let count = before.map_or(0, |it| it.count);
        if !woken && !death.policy.wants(death.code, count) {
            self.ended.insert(container);
            return ExitAction::Stays;
        }
        let hasty = before.filter(|it| now.saturating_sub(it.began) < HEALTHY);
        let wait = hasty.map_or(FIRST, |it| (it.wait * 2).min(LONGEST));
        let until = if woken { now } else { now + wait };
        let (sandbox, waiting) = (death.sandbox.clone(), Some((until, death)));
        let tries = Tries { sandbox, count: count + 1, wait, began: until, waiting, starting: false };
        self.tries.insert(container, tries);
        ExitAction::Restarts
    }

    /// Handles the start of a container. A start that the keeper did not cause resets its state. Returns whether the
    /// container has to be stopped again, because its restart was suppressed while our start was in progress.
    pub fn started(&mut self, container: &str) -> bool {
        self.woken.remove(container);
        self.ended.remove(container);
        match self.tries.get_mut(container) {
            Some(tries) if tries.starting => {
                tries.starting = false;
                self.resting.contains(container)
            }
            _ => {
                self.tries.remove(container);
                self.resting.remove(container);
                false
            }
        }
    }

    /// Handles a stop of a container, by whatever signal, which cancels a pending restart; or a failure to start it.
    pub fn stopped(&mut self, container: &str) {
        if let Some(tries) = self.tries.get_mut(container) {
            tries.waiting.take_if(|(_, death)| !death.stopped);
            tries.starting = false;
        }
    }

    /// Handles the removal of a container.
    pub fn removed(&mut self, container: &str) {
        self.resting.remove(container);
        self.woken.remove(container);
        self.ended.remove(container);
        self.tries.remove(container);
    }

    /// Suppresses the restart of containers until a user starts them. Returns those whose restart was pending.
    pub fn rest(&mut self, containers: &[String]) -> Vec<String> {
        let mut waiting = Vec::new();
        for container in containers {
            self.woken.remove(container);
            let tries = self.tries.get_mut(container);
            waiting.extend(tries.and_then(|it| it.waiting.take()).map(|(_, death)| death.container));
            self.resting.insert(container.clone());
        }
        waiting
    }

    /// No longer suppresses the restart of containers that still run: the client that wanted to stop them has not done
    /// so.
    pub fn awake(&mut self, containers: &[String]) {
        self.resting.retain(|container| !containers.contains(container));
    }

    /// Resumes containers that a disconnected client had quiesced, even if their stop is still in progress. Returns
    /// those that did not exit on their own: the caller has to start them if they do not run.
    pub fn wake(&mut self, now: Duration, containers: Vec<String>) -> Vec<String> {
        let containers = containers.into_iter().filter(|container| !self.ended.contains(container));
        let containers: Vec<String> = containers.collect();
        for container in &containers {
            self.resting.remove(container);
            self.woken.insert(container.clone(), now + LATE);
        }
        containers
    }

    /// Cancels all restarts of a sandbox.
    pub fn forget(&mut self, sandbox: &SandboxId) {
        self.tries.retain(|_, it| it.sandbox != *sandbox);
    }

    /// Counts the containers of a sandbox whose restart is pending or in progress.
    pub fn count(&self, sandbox: &SandboxId) -> usize {
        let tries = self.tries.values().filter(|it| it.sandbox == *sandbox);
        tries.filter(|it| it.starting || it.waiting.is_some()).count()
    }

    /// Returns when the next restart is due.
    pub fn next(&self) -> Option<Duration> {
        self.tries.values().filter_map(|it| it.waiting.as_ref()).map(|(until, _)| *until).min()
    }

    /// Returns the restarts that are due now, each as the exit that caused it.
    pub fn due(&mut self, now: Duration) -> Vec<Death> {
        let mut due = Vec::new();
        for tries in self.tries.values_mut() {
            if let Some((_, death)) = tries.waiting.take_if(|(until, _)| *until <= now) {
                tries.starting = true;
                due.push(death);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "sbx-a.web";

    /// A harness with a fake clock; a restart that is due happens at once.
    struct Harness {
        restarts: Restarts,
        now: Duration,
    }

    fn death(policy: RestartPolicy, code: i64) -> Death {
        let sandbox = "0123456789ab".parse().unwrap();
        let (service, container) = ("web".to_owned(), WEB.to_owned());
        Death { sandbox, service, container, code, policy, stopped: false }
    }

    fn web() -> Vec<String> {
        vec![WEB.to_owned()]
    }

    impl Harness {
        fn new() -> Self {
            Self { restarts: Restarts::default(), now: Duration::from_mins(1) }
        }

        fn ends(&mut self, policy: RestartPolicy, code: i64) -> Option<Duration> {
            self.dies(death(policy, code))
        }

        fn is_stopped(&mut self, policy: RestartPolicy) -> Option<Duration> {
            self.dies(Death { stopped: true, ..death(policy, 143) })
        }

        /// Returns how long the container waits for its restart, if it is restarted.
        fn dies(&mut self, death: Death) -> Option<Duration> {
            let fate = self.restarts.died(self.now, death);
            let wait = self.restarts.next().map(|until| until - self.now);
            assert_eq!(fate == ExitAction::Restarts, wait.is_some());
            wait
        }

        /// Starts the container when it is due, and lets it run for a while.
        fn lives(&mut self, wait: Option<Duration>, time: Duration) {
            self.now += wait.unwrap();
            assert_eq!(self.restarts.due(self.now).len(), 1);
            assert!(!self.restarts.started(WEB));
            self.now += time;
        }
    }

    #[test]
    fn a_service_that_fails_at_once_waits_longer_each_time() {
        let mut bench = Harness::new();
        let mut waits = Vec::new();
        for _ in 0..4 {
            let wait = bench.ends(RestartPolicy::Always, 1);
            waits.push(wait.unwrap().as_millis());
            bench.lives(wait, Duration::ZERO);
        }
        assert_eq!(waits, [100, 200, 400, 800]);
    }

    #[test]
    fn a_service_that_ran_for_a_while_starts_again_at_once_but_its_restarts_are_counted() {
        let mut bench = Harness::new();
        let once = RestartPolicy::OnFailure { max: Some(1) };
        let wait = bench.ends(once, 1);
        bench.lives(wait, HEALTHY);
        assert_eq!(bench.ends(once, 1), None);
        // A user starts it, which resets the backoff.
        bench.restarts.started(WEB);
        let wait = bench.ends(once, 1);
        bench.lives(wait, HEALTHY);
        assert_eq!(bench.ends(RestartPolicy::Always, 1), Some(FIRST));
    }

    #[test]
    fn containers_that_a_user_stopped_or_started_meanwhile_are_ignored() {
        let mut bench = Harness::new();
        assert_eq!(bench.is_stopped(RestartPolicy::Always), None);
        let rest: fn(&mut Restarts) = |restarts| assert_eq!(restarts.rest(&web()), web());
        let forget: fn(&mut Restarts) = |restarts| restarts.forget(&"0123456789ab".parse().unwrap());
        let start: fn(&mut Restarts) = |restarts| assert!(!restarts.started(WEB));
        // With the container's own stop signal.
        let stop: fn(&mut Restarts) = |restarts| restarts.stopped(WEB);
        for act in [rest, forget, start, stop, |restarts| restarts.removed(WEB)] {
            bench.restarts.started(WEB);
            assert!(bench.ends(RestartPolicy::Always, 1).is_some());
            act(&mut bench.restarts);
            assert_eq!(bench.restarts.next(), None);
        }
    }

    #[test]
    fn a_suppressed_container_is_not_restarted_until_a_user_starts_it() {
        let mut bench = Harness::new();
        assert_eq!(bench.restarts.rest(&web()), [""; 0]);
        assert_eq!(bench.ends(RestartPolicy::Always, 1), None);
        bench.restarts.started(WEB);
        assert_eq!(bench.ends(RestartPolicy::Always, 1), Some(FIRST));
    }

    #[test]
    fn what_was_put_to_rest_and_runs_all_the_same_is_started_again() {
        let mut bench = Harness::new();
        bench.restarts.rest(&web());
        bench.restarts.awake(&web());
        assert_eq!(bench.ends(RestartPolicy::Always, 1), Some(FIRST));
    }

    #[test]
    fn a_start_of_ours_that_comes_after_the_rest_is_taken_back() {
        let mut bench = Harness::new();
        let wait = bench.ends(RestartPolicy::Always, 1);
        bench.now += wait.unwrap();
        assert_eq!(bench.restarts.due(bench.now).len(), 1);
        bench.restarts.rest(&web());
        assert!(bench.restarts.started(WEB));
        assert_eq!(bench.ends(RestartPolicy::Always, 1), None);
    }

    #[test]
    fn a_stop_that_a_lost_client_wanted_is_undone_whatever_the_policy() {
        let mut bench = Harness::new();
        bench.restarts.rest(&web());
        assert_eq!(bench.restarts.wake(bench.now, web()), web());
        let wait = bench.is_stopped(RestartPolicy::No);
        assert_eq!(wait, Some(Duration::ZERO));
        bench.lives(wait, Duration::ZERO);
        assert_eq!(bench.is_stopped(RestartPolicy::No), None);
    }

    #[test]
    fn what_ended_by_itself_is_not_woken_nor_run_twice() {
        let mut bench = Harness::new();
        assert_eq!(bench.restarts.wake(bench.now, web()), web());
        assert_eq!(bench.ends(RestartPolicy::No, 0), None);
        assert_eq!(bench.restarts.wake(bench.now, web()), [""; 0]);
    }

    #[test]
    fn a_next_keeper_goes_on_where_this_one_ended() {
        let mut bench = Harness::new();
        let once = RestartPolicy::OnFailure { max: Some(1) };
        bench.ends(once, 1);
        bench.restarts.rest(&["sbx-a.db".to_owned()]);
        let record: Record =
            serde_json::from_str(&serde_json::to_string(&bench.restarts.record()).unwrap()).unwrap();

        bench.restarts = Restarts::default();
        bench.restarts.restore(bench.now, record);

        let db = Death { container: "sbx-a.db".to_owned(), ..death(RestartPolicy::Always, 1) };
        assert_eq!(bench.restarts.died(bench.now, db), ExitAction::Stopped);
        bench.lives(Some(FIRST), Duration::ZERO);
        assert_eq!(bench.ends(once, 1), None);
    }
}

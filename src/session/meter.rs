//! What a command that is tried in a container really computes, by the engine's own count of what the container does.
//!
//! Only a try that takes long is measured: one that waits and one that computes look the same from outside.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, timeout};

use super::pace::Cost;
use crate::engine::{Engine, Stats, StatsStream};

/// A try that is over by then is not worth measuring: it counts as if it had computed all the time.
const LONG: Duration = Duration::from_millis(500);
/// How long the engine may take to tell what there is to tell of a try: its samples are a second apart, and two are
/// needed.
const PATIENCE: Duration = Duration::from_secs(4);

/// Measures the tries of a command in a container.
pub(super) struct Meter<'a> {
    engine: &'a dyn Engine,
    container: &'a str,
    /// From the first long try on.
    samples: Option<StatsStream>,
    account: Account,
}

impl<'a> Meter<'a> {
    pub(super) fn new(engine: &'a dyn Engine, container: &'a str) -> Self {
        Self { engine, container, samples: None, account: Account::default() }
    }

    /// What a try gives, however long it takes.
    pub(super) async fn during<T>(&mut self, trying: impl Future<Output = T>) -> T {
        let mut trying = pin!(trying);
        let began = Instant::now();
        if self.samples.is_none() {
            if let Ok(outcome) = timeout(LONG, &mut trying).await {
                return outcome;
            }
            self.samples = self.engine.stats(self.container).await.ok();
        }
        self.account.begin(began);
        loop {
            tokio::select! {
                biased;
                outcome = &mut trying => {
                    self.account.end(Instant::now());
                    return outcome;
                }
                () = self.sample() => {}
            }
        }
    }

    /// What a try has cost that is just over, and took so long: known once the engine has seen the container without it.
    pub(super) async fn cost(&mut self, took: Duration) -> Cost {
        let computed = if took > LONG { self.computed().await } else { None };
        computed.map_or(Cost::Took(took), Cost::Computed)
    }

    async fn computed(&mut self) -> Option<Duration> {
        let settled = async {
            while self.samples.is_some() {
                if let Some(computed) = self.account.settle() {
                    return Some(computed);
                }
                self.sample().await;
            }
            None
        };
        let settled = timeout(PATIENCE, settled).await.unwrap_or_default();
        if settled.is_none() {
            self.samples = None;
        }
        settled
    }

    /// Lets the time pass.
    pub(super) async fn rest(&mut self, pause: Duration) {
        let over = async {
            loop {
                self.sample().await;
            }
        };
        // It never ends by itself.
        let _ = timeout(pause, over).await;
    }

    /// Takes the next sample; there is none if nothing is measured.
    async fn sample(&mut self) {
        let Some(samples) = &mut self.samples else { return std::future::pending().await };
        match samples.next().await {
            Some(Ok(Stats { computed, .. })) => self.account.sample(Instant::now(), computed),
            Some(Err(_)) | None => self.samples = None,
        }
    }
}

/// What a container computed in some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stretch {
    computed: Duration,
    over: Duration,
}

impl Stretch {
    fn add(&mut self, other: Self) {
        self.computed += other.computed;
        self.over += other.over;
    }

    /// What would have been computed in another time, at this rate.
    fn at_this_rate(&self, over: Duration) -> Duration {
        if self.over.is_zero() {
            return Duration::ZERO;
        }
        over.mul_f64(self.computed.as_secs_f64() / self.over.as_secs_f64())
    }
}

/// Tells apart what a command computes and what its container does anyway. Pure.
#[derive(Debug, Default)]
struct Account {
    /// When the container was last looked at, and all that it had computed by then.
    last: Option<(Instant, Duration)>,
    /// When the try began that is under way, or is not settled yet.
    began: Option<Instant>,
    /// When it was over.
    ended: Option<Instant>,
    /// The stretches that had to do with it.
    tried: Stretch,
    /// The first stretch after it.
    alone: Option<Stretch>,
}

impl Account {
    fn begin(&mut self, now: Instant) {
        *self = Self { last: self.last, began: Some(now), ..Self::default() };
    }

    fn end(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    fn sample(&mut self, now: Instant, total: Duration) {
        let before = self.last.replace((now, total));
        let (Some(began), None) = (self.began, self.alone) else { return };
        let Some((at, before)) = before else {
            // What was computed before anybody looked is no more than that, and no more than the container's all.
            let unseen = now.saturating_duration_since(began).min(total);
            return self.tried.computed += unseen;
        };
        // A container that was started again counts from nothing.
        let computed = total.saturating_sub(before);
        let stretch = Stretch { computed, over: now.saturating_duration_since(at) };
        if self.ended.is_some_and(|ended| ended <= at) {
            self.alone = Some(stretch);
        } else {
            self.tried.add(stretch);
        }
    }

    /// What the try has computed beside what the container does without it, once that is known.
    fn settle(&self) -> Option<Duration> {
        let alone = self.alone?;
        Some(self.tried.computed.saturating_sub(alone.at_this_rate(self.tried.over)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::CreateContainer;
    use crate::engine::recording::Recording;

    /// A container that is looked at each second: what it had computed by then, in milliseconds.
    struct Watched {
        begin: Instant,
        account: Account,
    }

    impl Watched {
        fn new() -> Self {
            Self { begin: Instant::now(), account: Account::default() }
        }

        fn at(&self, millis: u64) -> Instant {
            self.begin + Duration::from_millis(millis)
        }

        fn seen(mut self, millis: u64, computed: u64) -> Self {
            let at = self.at(millis);
            self.account.sample(at, Duration::from_millis(computed));
            self
        }

        fn tried(mut self, from: u64) -> Self {
            let from = self.at(from);
            self.account.begin(from);
            self
        }

        fn ended(mut self, at: u64) -> Self {
            let at = self.at(at);
            self.account.end(at);
            self
        }

        fn settled(&self) -> Option<u128> {
            self.account.settle().map(|computed| computed.as_millis())
        }
    }

    #[test]
    fn a_command_that_computes_is_charged_for_all_of_it() {
        let watched = Watched::new().seen(0, 20).tried(500).seen(1000, 520).seen(2000, 1520).ended(2500);
        let watched = watched.seen(3000, 2020);
        assert_eq!(watched.settled(), None, "nobody knows yet what the container does alone");
        assert_eq!(watched.seen(4000, 2020).settled(), Some(2000));
    }

    #[test]
    fn a_command_on_several_processors_is_charged_for_all_of_them() {
        let watched = Watched::new().seen(0, 0).tried(0).ended(1000).seen(1000, 4000).seen(2000, 4000);
        assert_eq!(watched.settled(), Some(4000));
    }

    #[test]
    fn a_command_that_waits_beside_a_busy_service_is_charged_nothing() {
        let watched = Watched::new().seen(0, 0).tried(100).seen(1000, 900).ended(1500).seen(2000, 1800);
        assert_eq!(watched.seen(3000, 2700).settled(), Some(0));
    }

    #[test]
    fn what_nobody_saw_is_no_more_than_all_that_the_container_computed() {
        let waits = Watched::new().tried(0).seen(1000, 30).ended(1500).seen(2000, 30).seen(3000, 30);
        assert_eq!(waits.settled(), Some(30));
        let computes = Watched::new().tried(0).seen(1000, 5000).ended(1500).seen(2000, 5500).seen(3000, 5500);
        assert_eq!(computes.settled(), Some(1500));
    }

    #[test]
    fn a_container_that_was_started_again_counts_from_nothing() {
        let watched = Watched::new().seen(0, 9000).tried(0).seen(1000, 10).ended(1200).seen(2000, 20);
        assert_eq!(watched.seen(3000, 20).settled(), Some(10));
    }

    #[test]
    fn each_try_is_charged_alone() {
        let first = Watched::new().seen(0, 0).tried(0).ended(900).seen(1000, 900).seen(2000, 900);
        let second = first.tried(5000).ended(5900).seen(6000, 910).seen(7000, 910);
        assert_eq!(second.settled(), Some(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_waits_for_long_is_found_to_compute_nothing() {
        let engine = Recording::with_images(&["image"]);
        engine.create_container(&CreateContainer::new("app", "image")).await.unwrap();
        let mut meter = Meter::new(&*engine, "app");
        let (long, short) = (Duration::from_secs(20), Duration::from_millis(40));

        meter.during(tokio::time::sleep(short)).await;
        assert_eq!(meter.cost(short).await, Cost::Took(short));
        assert!(meter.samples.is_none(), "a short try is measured");
        meter.during(tokio::time::sleep(long)).await;
        assert_eq!(meter.cost(long).await, Cost::Computed(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_tells_nothing_is_not_waited_for() {
        let engine = Recording::new();
        let mut meter = Meter::new(&*engine, "nobody");
        let long = Duration::from_secs(20);

        meter.during(tokio::time::sleep(long)).await;
        assert_eq!(meter.cost(long).await, Cost::Took(long));
    }
}

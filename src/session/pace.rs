//! How often a command may be tried, so that trying takes no more than a tenth of a core. Pure.

use std::time::Duration;

/// The time between two tries at first: nine times what the start of a command costs.
const SHORTEST: Duration = Duration::from_millis(400);
/// What a command takes that does next to nothing.
const CHEAP: Duration = Duration::from_millis(45);
/// The time between two tries of a cheap command, after a while.
const LONGEST: Duration = Duration::from_secs(2);
/// The longest time between two tries of a costly one: one that only waits, and so takes long, is not left alone for
/// minutes.
const LONGEST_OF_ALL: Duration = Duration::from_secs(5);

/// What tries have taken so far.
#[derive(Debug)]
pub(super) struct Pace {
    pause: Duration,
    spent: Duration,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { pause: SHORTEST, spent: Duration::ZERO }
    }

    /// How long to leave the command alone after a try that took so long, `elapsed` after the wait began: longer each
    /// time, and until all tries together are a tenth of the wait; a little less for a costly command, for which we
    /// compute as well. (How long a command took is the most that it can have computed, if it is one thread.)
    pub(super) fn pause_after(&mut self, took: Duration, elapsed: Duration) -> Duration {
        self.spent += took;
        let times = if took > CHEAP { 11 } else { 10 };
        let owed = (self.spent * times).saturating_sub(elapsed).min(LONGEST_OF_ALL);
        let pause = self.pause.max(owed);
        self.pause = (self.pause * 5 / 4).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share that tries of a command take of a wait of a minute, if each takes so long.
    fn share(took: Duration) -> f64 {
        let (mut pace, mut elapsed, mut spent) = (Pace::new(), Duration::ZERO, Duration::ZERO);
        while elapsed < Duration::from_mins(1) {
            elapsed += took;
            spent += took;
            elapsed += pace.pause_after(took, elapsed);
        }
        spent.as_secs_f64() / elapsed.as_secs_f64()
    }

    #[test]
    fn tries_take_a_tenth_of_a_core_at_most() {
        for took in [1, 20, 45, 100, 200, 400, 500] {
            let share = share(Duration::from_millis(took));
            assert!(share <= 0.1, "{took} ms each: {share:.3}");
        }
    }

    #[test]
    fn a_cheap_command_is_tried_again_soon() {
        let cheap = Duration::from_millis(40);
        let mut pace = Pace::new();
        assert_eq!(pace.pause_after(cheap, cheap), SHORTEST);
    }

    #[test]
    fn a_command_that_waits_is_not_left_alone_for_long() {
        let mut pace = Pace::new();
        let long = Duration::from_mins(1);
        assert_eq!(pace.pause_after(long, long), LONGEST_OF_ALL);
    }
}

//! How often a command may be tried, so that trying takes no more than a tenth of a core. Pure.

use std::time::Duration;

/// The time between two tries at first: nine times what the start of a command costs.
const SHORTEST: Duration = Duration::from_millis(400);
/// What a command takes that does next to nothing.
const CHEAP: Duration = Duration::from_millis(45);
/// The time between two tries of a cheap command, after a while.
const LONGEST: Duration = Duration::from_secs(2);
/// The longest time after a try that took long when nobody knows what it computed: one that only waited is not left alone
/// for minutes.
const LONGEST_UNKNOWN: Duration = Duration::from_secs(5);

/// What a try has cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// It took so long, which is the most that it can have computed, if it is one thread.
    Took(Duration),
    /// The container computed so much for it; starting it comes on top.
    Computed(Duration),
}

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

    /// How long to leave the command alone after a try of that cost, which ended `elapsed` after the wait began: longer
    /// each time, and until all tries together are a tenth of the wait; a little less for a costly command, for which
    /// we compute as well.
    pub(super) fn pause_after(&mut self, cost: Cost, elapsed: Duration) -> Duration {
        let (spent, longest) = match cost {
            Cost::Took(took) => (took, LONGEST_UNKNOWN),
            Cost::Computed(computed) => (computed + CHEAP, Duration::MAX),
        };
        self.spent += spent;
        let times = if spent > CHEAP { 11 } else { 10 };
        let owed = (self.spent * times).saturating_sub(elapsed).min(longest);
        let pause = self.pause.max(owed);
        self.pause = (self.pause * 5 / 4).min(LONGEST);
        // What nobody knows to have been computed is not owed for ever.
        self.spent = self.spent.min((elapsed + pause) / times);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share that tries of a command take in some time, if each takes so long and computes all the while.
    fn share(took: Duration, within: Duration, cost: fn(Duration) -> Cost) -> f64 {
        let (mut pace, mut elapsed, mut spent) = (Pace::new(), Duration::ZERO, Duration::ZERO);
        while elapsed < within {
            elapsed += took;
            spent += took;
            elapsed += pace.pause_after(cost(took), elapsed);
        }
        spent.as_secs_f64() / elapsed.as_secs_f64()
    }

    #[test]
    fn tries_take_a_tenth_of_a_core_at_most() {
        for took in [1, 20, 45, 100, 200, 400, 500] {
            let share = share(Duration::from_millis(took), Duration::from_mins(1), Cost::Took);
            assert!(share <= 0.1, "{took} ms each: {share:.3}");
        }
    }

    #[test]
    fn so_they_do_however_long_each_computes() {
        for took in [500, 1500, 2000, 20_000, 120_000] {
            let share = share(Duration::from_millis(took), Duration::from_secs(1), Cost::Computed);
            assert!(share <= 0.1, "the first, of {took} ms: {share:.3}");
            let share = self::share(Duration::from_millis(took), Duration::from_hours(1), Cost::Computed);
            assert!(share <= 0.1, "{took} ms each: {share:.3}");
        }
    }

    #[test]
    fn a_cheap_command_is_tried_again_soon() {
        let cheap = Duration::from_millis(40);
        let mut pace = Pace::new();
        assert_eq!(pace.pause_after(Cost::Took(cheap), cheap), SHORTEST);
    }

    #[test]
    fn a_command_that_only_waits_is_tried_again_as_soon() {
        let mut pace = Pace::new();
        assert_eq!(pace.pause_after(Cost::Computed(Duration::ZERO), Duration::from_mins(1)), SHORTEST);
    }

    #[test]
    fn a_command_of_unknown_cost_is_not_left_alone_for_long() {
        let (mut pace, long) = (Pace::new(), Duration::from_mins(1));
        assert_eq!(pace.pause_after(Cost::Took(long), long), LONGEST_UNKNOWN);
        // Nor does it owe anything once its cost is known.
        let next = long + LONGEST_UNKNOWN + long;
        assert!(pace.pause_after(Cost::Computed(Duration::ZERO), next) < Duration::from_secs(1));
    }
}

//! Sets the pauses between readiness attempts.

use std::time::Duration;

/// First pause between two attempts of a command.
const SHORTEST: Duration = Duration::from_millis(200);
/// Longest pause after a quick command.
const LONGEST: Duration = Duration::from_secs(2);
/// Longest pause after a slow command.
const LONGEST_AFTER_SLOW: Duration = Duration::from_secs(5);

/// Pauses between attempts: they grow, and are longer than an attempt takes.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(SHORTEST)
    }

    /// The pause after an attempt of this duration.
    pub(crate) fn pause_after(&mut self, took: Duration) -> Duration {
        let pause = self.0.max((took * 4).min(LONGEST_AFTER_SLOW));
        self.0 = (self.0 * 3 / 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_are_longer_after_a_slow_attempt() {
        let mut backoff = Backoff::new();
        let quick: Vec<u128> =
            (0..9).map(|_| backoff.pause_after(Duration::from_millis(40)).as_millis()).collect();
        assert_eq!(quick, [200, 300, 450, 675, 1012, 1518, 2000, 2000, 2000]);
        assert_eq!(Backoff::new().pause_after(Duration::from_millis(500)), Duration::from_secs(2));
        assert_eq!(Backoff::new().pause_after(Duration::from_secs(20)), LONGEST_AFTER_SLOW);
    }
}

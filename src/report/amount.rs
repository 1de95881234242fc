//! Formats byte counts, rates, durations and numbers in a few characters.

use std::time::Duration;

use jiff::Timestamp;

const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];

/// Bytes in decimal units (powers of 1000), as for image sizes: `512 B`, `1.5 MB`.
pub fn bytes(count: u64) -> String {
    let mut unit = 0;
    let mut scaled = Tenths::of(count);
    while scaled.rounded_whole() >= 1000 && unit + 1 < UNITS.len() {
        scaled = scaled.per_thousand();
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{} {}", scaled.text(), UNITS[unit]) }
}

/// Bytes per second: `4.2 MB/s`.
pub fn rate(bytes_a_second: u64) -> String {
    format!("{}/s", bytes(bytes_a_second))
}

/// A duration: `40 ms`, `3.2 s`, `4m 05s`, `7h 59m`, `2d 3h`.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0 => format!("{} ms", length.as_millis()),
        1..=59 => format!("{seconds}.{} s", length.subsec_millis() / 100),
        60..=3599 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A duration for a line that is redrawn: whole seconds, so that it changes only once a second.
pub fn ticking(length: Duration) -> String {
    match length.as_secs() {
        seconds @ 0..=59 => format!("{seconds}s"),
        _ => duration(length),
    }
}

/// The time from `now` until `moment`; `None` if it has passed.
pub fn until(moment: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(moment.duration_since(now)).ok().filter(|left| !left.is_zero())
}

/// The time since `moment`; zero if it is in the future (clocks differ).
pub fn since(moment: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(moment)).unwrap_or_default()
}

/// A count with its noun: `1 container`, `3 containers`.
pub fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A number in tenths, so that rounding needs no floating point.
#[derive(Clone, Copy)]
struct Tenths(u64);

impl Tenths {
    fn of(whole: u64) -> Self {
        Self(whole.saturating_mul(10))
    }

    fn per_thousand(self) -> Self {
        Self(self.0.saturating_add(500) / 1000)
    }

    fn rounded_whole(self) -> u64 {
        self.0 / 10
    }

    fn text(self) -> String {
        format!("{}.{}", self.0 / 10, self.0 % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_one_decimal_from_kilobytes_on() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500), "1.5 kB");
        assert_eq!(bytes(999_999), "1.0 MB");
        assert_eq!(bytes(40_123_456), "40.1 MB");
        assert_eq!(bytes(3_000_000_000_000_000), "3000.0 TB");
    }

    #[test]
    fn durations_grow_coarser_as_they_grow() {
        let of = |millis| duration(Duration::from_millis(millis));
        assert_eq!(of(40), "40 ms");
        assert_eq!(of(3_240), "3.2 s");
        assert_eq!(of(245_000), "4m 05s");
        assert_eq!(of(28_740_000), "7h 59m");
        assert_eq!(of(183_600_000), "2d 3h");
    }

    #[test]
    fn a_moment_that_has_passed_leaves_no_time() {
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(until(Timestamp::from_second(1_060).unwrap(), now), Some(Duration::from_mins(1)));
        assert_eq!(until(Timestamp::from_second(1_000).unwrap(), now), None);
        assert_eq!(until(Timestamp::from_second(900).unwrap(), now), None);
        assert_eq!(since(Timestamp::from_second(2_000).unwrap(), now), Duration::ZERO);
    }
}

//! When and why a sandbox ends: the one rule that the keeper applies and that every verb reports.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::millis;

/// How long a detached sandbox without a fixed deadline may be unused.
pub const UNUSED: Duration = Duration::from_hours(4);

/// What ends a sandbox while its lease is not lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// The wall-clock deadline. A detached sandbox without one ends four hours after its last use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// How long it may be idle.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "millis::optional")]
    pub idle: Option<Duration>,
    /// Idleness does not end the sandbox before this time: `sandbox extend` promised so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
}

/// Whether a session keeps a sandbox alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// A session holds a lease.
    Session,
    /// No session: the sandbox lives until its deadline.
    Detached,
}

/// When a sandbox ends if no user intervenes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The time.
    pub at: Timestamp,
    /// Whether each use defers it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unless_used: bool,
}

/// How to move a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extension {
    /// By this much from the current deadline.
    By(#[serde(with = "millis")] Duration),
    /// To this time.
    To(Timestamp),
}

impl Lifetime {
    /// Returns when a sandbox ends that was last used at `used`; `None` if only its session ends it.
    pub fn end(&self, used: Timestamp, attachment: Attachment) -> Option<End> {
        let idle = match (self.idle, self.until, attachment) {
            (Some(idle), ..) => Some(idle),
            (None, None, Attachment::Detached) => Some(UNUSED),
            _ => None,
        };
        let unused = idle.map(|idle| {
            let at = used.checked_add(idle).unwrap_or(Timestamp::MAX);
            End { at: self.not_before.map_or(at, |promised| at.max(promised)), unless_used: true }
        });
        let written = self.until.map(|at| End { at, unless_used: false });
        [written, unused].into_iter().flatten().min_by_key(|end| end.at)
    }

    /// This lifetime, with an end that is not before a time that was promised earlier.
    #[must_use]
    pub fn no_earlier_than(mut self, promised: Timestamp) -> Self {
        self.until = self.until.map(|until| until.max(promised));
        self.not_before = Some(self.not_before.map_or(promised, |before| before.max(promised)));
        self
    }

    /// Moves the deadline. Has no effect if only the end of the session ends the sandbox.
    pub fn extend(&mut self, used: Timestamp, now: Timestamp, attachment: Attachment, how: Extension) {
        match how {
            Extension::To(until) => {
                self.until = Some(until);
                self.not_before = Some(until);
            }
            Extension::By(length) => {
                let Some(end) = self.end(used, attachment) else { return };
                let at = end.at.max(now).checked_add(length).unwrap_or(Timestamp::MAX);
                self.until = self.until.map(|until| until.max(at));
                self.not_before = Some(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(hours * HOUR).unwrap()
    }

    fn end(lifetime: &Lifetime, attachment: Attachment) -> Option<(i64, bool)> {
        lifetime.end(at(0), attachment).map(|end| (end.at.as_second() / HOUR, end.unless_used))
    }

    fn extended(mut lifetime: Lifetime, attachment: Attachment, how: Extension) -> Option<(i64, bool)> {
        lifetime.extend(at(0), at(0), attachment, how);
        end(&lifetime, attachment)
    }

    fn hours(hours: u64) -> Duration {
        Duration::from_hours(hours)
    }

    #[test]
    fn a_promised_end_stands_and_a_later_one_counts() {
        let written = Lifetime { until: Some(at(8)), ..Lifetime::default() };
        let extended = |lifetime: Lifetime, promised| {
            end(&lifetime.no_earlier_than(at(promised)), Attachment::Detached).map(|(at, _)| at)
        };
        assert_eq!(extended(Lifetime::default(), 20), Some(20));
        assert_eq!(extended(Lifetime::default(), 3), Some(4));
        assert_eq!(extended(written.clone(), 20), Some(20));
        assert_eq!(extended(written, 3), Some(8));
        let both = Lifetime { until: Some(at(8)), idle: Some(hours(1)), not_before: None };
        assert_eq!(extended(both, 20), Some(20));
    }

    #[test]
    fn the_earlier_of_both_ends_counts_and_a_detached_sandbox_always_has_one() {
        let both = Lifetime { until: Some(at(8)), idle: Some(hours(1)), not_before: None };
        assert_eq!(end(&both, Attachment::Session), Some((1, true)));
        let written = Lifetime { until: Some(at(8)), ..Lifetime::default() };
        assert_eq!(end(&written, Attachment::Detached), Some((8, false)));
        assert_eq!(end(&Lifetime::default(), Attachment::Detached), Some((4, true)));
        assert_eq!(end(&Lifetime::default(), Attachment::Session), None);
    }

    #[test]
    fn an_extension_by_a_length_adds_to_what_is_left() {
        let by = Extension::By(hours(1));
        let written = Lifetime { until: Some(at(7)), ..Lifetime::default() };
        assert_eq!(extended(written, Attachment::Detached, by), Some((8, false)));
        assert_eq!(extended(Lifetime::default(), Attachment::Detached, by), Some((5, true)));
        let both = Lifetime { until: Some(at(8)), idle: Some(hours(1)), not_before: None };
        assert_eq!(extended(both, Attachment::Session, by), Some((2, true)));
        let near = Lifetime { until: Some(at(1)), idle: Some(hours(1)), not_before: None };
        assert_eq!(extended(near, Attachment::Session, by), Some((2, false)));
        assert_eq!(extended(Lifetime::default(), Attachment::Session, by), None);
    }

    #[test]
    fn an_extension_to_a_time_holds_for_an_unused_sandbox() {
        let both = Lifetime { until: Some(at(8)), idle: Some(hours(1)), not_before: None };
        assert_eq!(extended(both, Attachment::Session, Extension::To(at(5))), Some((5, false)));
    }
}

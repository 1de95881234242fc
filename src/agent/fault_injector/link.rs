//! Emulates a faulty link: computes when each packet is released, or that it is dropped. It does no I/O.

use std::time::{Duration, Instant};

use super::Fault;

/// How much a link of limited bandwidth queues before it drops: a quarter of a second, and at least this many bytes.
const BACKLOG: Duration = Duration::from_millis(250);
const BACKLOG_BYTES: u32 = 64 * 1024;

/// The direction of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the service.
    Inward,
    /// From the service.
    Outward,
}

/// The emulated link of one service.
#[derive(Debug)]
pub struct Line {
    fault: Fault,
    inward: Lane,
    outward: Lane,
}

/// One direction of the link.
#[derive(Debug, Clone, Copy)]
struct Lane {
    /// When all earlier packets have been sent.
    free: Instant,
    /// When the last packet was released: packets stay in order.
    last: Instant,
}

impl Line {
    /// Creates an idle link.
    pub fn new(fault: Fault, now: Instant) -> Self {
        let lane = Lane { free: now, last: now };
        Self { fault, inward: lane, outward: lane }
    }

    /// Returns when a packet of this many bytes is released; `None` drops it. `dice` is uniform between 0 and 1.
    ///
    /// Latency is added only on the way in, so that a round trip is longer by exactly this much. The sender has already
    /// sent the packet by then, so the delay does not block it.
    pub fn send(
        &mut self,
        now: Instant,
        way: Way,
        bytes: u32,
        mut dice: impl FnMut() -> f64,
    ) -> Option<Instant> {
        if self.fault.cut || self.fault.loss.is_some_and(|loss| dice() < loss) {
            return None;
        }
        let delay = match way {
            Way::Inward => delay(&self.fault, &mut dice),
            Way::Outward => Duration::ZERO,
        };
        let lane = match way {
            Way::Inward => &mut self.inward,
            Way::Outward => &mut self.outward,
        };
        let mut at = now;
        if let Some(rate) = self.fault.bandwidth {
            if lane.free.saturating_duration_since(now) > BACKLOG.max(time_to_send(BACKLOG_BYTES, rate)) {
                return None;
            }
            lane.free = lane.free.max(now) + time_to_send(bytes, rate);
            at = lane.free;
        }
        lane.last = lane.last.max(at + delay);
        Some(lane.last)
    }
}

fn delay(fault: &Fault, dice: &mut impl FnMut() -> f64) -> Duration {
    let Some(latency) = fault.latency else { return Duration::ZERO };
    let Some(jitter) = fault.jitter else { return latency };
    let early = latency.saturating_sub(jitter);
    early + (jitter * 2).mul_f64(dice())
}

fn time_to_send(bytes: u32, bits_a_second: u64) -> Duration {
    let nanoseconds = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(bits_a_second.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fault: Fault) -> (Line, Instant) {
        let now = Instant::now();
        (Line::new(fault, now), now)
    }

    #[test]
    fn latency_is_added_once_to_a_round_trip() {
        let latency = Duration::from_millis(200);
        let (mut line, now) = line(Fault { latency: Some(latency), ..Fault::default() });
        assert_eq!(line.send(now, Way::Inward, 100, || 0.5), Some(now + latency));
        assert_eq!(line.send(now, Way::Outward, 100, || 0.5), Some(now));
    }

    #[test]
    fn jitter_varies_the_latency_and_lets_none_overtake() {
        let fault = Fault {
            latency: Some(Duration::from_millis(200)),
            jitter: Some(Duration::from_millis(50)),
            ..Fault::default()
        };
        let (mut line, now) = line(fault);
        assert_eq!(line.send(now, Way::Inward, 1, || 0.0), Some(now + Duration::from_millis(150)));
        assert_eq!(line.send(now, Way::Inward, 1, || 1.0), Some(now + Duration::from_millis(250)));
        assert_eq!(line.send(now, Way::Inward, 1, || 0.0), Some(now + Duration::from_millis(250)));
    }

    #[test]
    fn a_share_of_packets_is_lost_either_way() {
        let (mut line, now) = line(Fault { loss: Some(0.05), ..Fault::default() });
        for way in [Way::Inward, Way::Outward] {
            assert_eq!(line.send(now, way, 1, || 0.04), None);
            assert!(line.send(now, way, 1, || 0.06).is_some());
        }
    }

    #[test]
    fn bandwidth_spreads_packets_and_drops_what_waits_too_long() {
        let (mut line, now) = line(Fault { bandwidth: Some(8_000_000), ..Fault::default() });
        let millisecond = Duration::from_millis(1);
        assert_eq!(line.send(now, Way::Outward, 1000, || 0.5), Some(now + millisecond));
        assert_eq!(line.send(now, Way::Outward, 1000, || 0.5), Some(now + millisecond * 2));
        assert_eq!(line.send(now, Way::Inward, 1000, || 0.5), Some(now + millisecond), "each way by itself");
        let passed = (0..1000).filter(|_| line.send(now, Way::Outward, 1000, || 0.5).is_some()).count();
        assert_eq!(passed, 249, "a quarter of a second is held back");
    }

    #[test]
    fn nothing_passes_a_line_that_is_cut() {
        let (mut line, now) = line(Fault { cut: true, ..Fault::default() });
        assert_eq!(line.send(now, Way::Inward, 1, || 0.5), None);
        assert_eq!(line.send(now, Way::Outward, 1, || 0.5), None);
    }
}

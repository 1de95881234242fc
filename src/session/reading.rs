//! Reads a log for a line that is waited for, no faster than at a tenth of a core: what we compute and what the engine
//! computes for us, who follows the log piece by piece.

use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use regex::bytes::Regex;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use crate::engine::{EngineError, LogStream};

/// A log is read at the pace at which all of the work takes a twelfth of a core.
const SHARE: u32 = 12;
/// The part of our work that is seen here is a fourth of it. The other part, the connection's and the switches between
/// the two, grows and shrinks with it.
const OURS: u32 = 4;
/// What a piece of a log (a line, mostly) takes the engine that is written, read again and sent on by itself. Many at
/// once take it less, and never more than the time that they come in.
const PIECE: Duration = Duration::from_micros(100);
/// So many pieces the engine sends before it waits for us to read them: a connection holds no more.
const AHEAD: u32 = 250;
/// What may be computed at once: a start that says a lot is read as it comes.
const BURST: Duration = Duration::from_millis(80);
/// A rest shorter than this is not worth it.
const SHORTEST_REST: Duration = Duration::from_millis(10);

/// What reading a log has taken so far.
#[derive(Debug)]
pub(super) struct Reading {
    began: Instant,
    /// What was computed here, as far as it is seen.
    spent: Duration,
    /// What the engine has computed at most.
    engine: Duration,
    /// Time in which it may have computed more.
    unaccounted: Duration,
    /// When it was last thought of.
    accounted: Instant,
}

impl Reading {
    /// Reading that began then.
    pub(super) fn since(began: Instant) -> Self {
        let none = Duration::ZERO;
        Self { began, spent: none, engine: none, unaccounted: none, accounted: Instant::now() }
    }

    /// What `work` gives, which reads a piece; what it computes is counted, and what the engine does.
    pub(super) async fn count<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let read = poll_fn(|context| {
            let before = computed();
            let polled = work.as_mut().poll(context);
            self.spent += computed().saturating_sub(before);
            polled
        })
        .await;
        let now = Instant::now();
        self.piece(now.duration_since(self.accounted));
        self.accounted = now;
        read
    }

    /// One more piece has come, so long after the one before.
    fn piece(&mut self, after: Duration) {
        self.unaccounted = (self.unaccounted + after).min(PIECE * AHEAD);
        let engine = self.unaccounted.min(PIECE);
        self.unaccounted -= engine;
        self.engine += engine;
    }

    /// Leaves a log alone that writes faster than it may be read: the engine waits with the rest.
    pub(super) async fn rest(&self) {
        let owed = self.owed(self.began.elapsed());
        if owed >= SHORTEST_REST {
            tokio::time::sleep(owed).await;
        }
    }

    fn owed(&self, elapsed: Duration) -> Duration {
        let all = self.spent * OURS + self.engine;
        (all.saturating_sub(BURST) * SHARE).saturating_sub(elapsed)
    }
}

/// What this thread has computed.
fn computed() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// What a part of a log has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Match,
    Nothing,
}

/// Reads the next part of a log, after what has been `seen` of its last line; none at its end.
pub(super) async fn read_on(
    logs: &mut LogStream,
    seen: &mut Vec<u8>,
    regex: &Regex,
    last: &watch::Sender<String>,
) -> Option<Result<Found, EngineError>> {
    match logs.next().await? {
        Ok(chunk) => seen.extend_from_slice(&chunk.bytes),
        Err(error) => return Some(Err(error)),
    }
    if regex.is_match(seen) {
        return Some(Ok(Found::Match));
    }
    let start = seen.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if let Some(line) = seen[..start].split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()) {
        last.send_replace(String::from_utf8_lossy(line).into_owned());
    }
    // A pattern may span the end of a chunk, but not more than a line.
    seen.drain(..start);
    Some(Ok(Found::Nothing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_reading_computes_is_counted_and_what_it_waits_for_is_not() {
        let mut reading = Reading::since(Instant::now());
        reading.count(tokio::time::sleep(Duration::from_millis(50))).await;
        assert!(reading.spent < Duration::from_millis(20), "{reading:?}");

        let busy = async {
            let before = computed();
            while computed() - before < Duration::from_millis(30) {}
        };
        reading.count(busy).await;
        assert!(reading.owed(Duration::from_millis(100)) >= Duration::from_millis(300), "{reading:?}");
    }

    /// What the engine is taken to have computed for pieces that come so far apart, in milliseconds.
    fn engine(pieces: u32, apart: Duration) -> u128 {
        let mut reading = Reading::since(Instant::now());
        (0..pieces).for_each(|_| reading.piece(apart));
        reading.engine.as_millis()
    }

    #[test]
    fn lines_by_themselves_cost_the_engine_more_than_many_at_once() {
        assert_eq!(engine(1000, Duration::from_millis(1)), 100);
        assert_eq!(engine(1000, Duration::from_micros(2)), 2);
    }

    #[test]
    fn what_the_engine_sends_ahead_while_nobody_reads_is_bounded() {
        let mut reading = Reading::since(Instant::now());
        reading.piece(Duration::from_secs(1));
        (0..5000).for_each(|_| reading.piece(Duration::from_micros(1)));
        let engine = reading.engine.as_millis();
        assert!((25..=30).contains(&engine), "{engine} ms");
    }

    #[test]
    fn a_line_now_and_then_owes_nothing() {
        let mut reading = Reading::since(Instant::now());
        (0..1000).for_each(|_| reading.piece(Duration::from_millis(10)));
        assert_eq!(reading.owed(Duration::from_secs(10)), Duration::ZERO);
    }
}

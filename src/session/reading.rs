//! Reads a log for a line that is waited for, no faster than at a tenth of a core.

use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use regex::bytes::Regex;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use crate::engine::{EngineError, LogStream};

/// A log is read at the pace at which the part of the work that is seen here takes a sixtieth of a core. The other part,
/// the connection's and the switches between the two, is three times as much and grows and shrinks with it.
const READING: u32 = 60;
/// What may be computed at once: a start that says a lot is read as it comes.
const BURST: Duration = Duration::from_millis(20);
/// A rest shorter than this is not worth it.
const SHORTEST_REST: Duration = Duration::from_millis(10);

/// What reading a log has taken so far.
#[derive(Debug)]
pub(super) struct Reading {
    began: Instant,
    spent: Duration,
}

impl Reading {
    /// Reading that began then.
    pub(super) fn since(began: Instant) -> Self {
        Self { began, spent: Duration::ZERO }
    }

    /// What `work` gives; what it computes is counted.
    pub(super) async fn count<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            let before = computed();
            let polled = work.as_mut().poll(context);
            self.spent += computed().saturating_sub(before);
            polled
        })
        .await
    }

    /// Leaves a log alone that writes faster than it may be read: the engine waits with the rest.
    pub(super) async fn rest(&self) {
        let owed = self.owed(self.began.elapsed());
        if owed >= SHORTEST_REST {
            tokio::time::sleep(owed).await;
        }
    }

    fn owed(&self, elapsed: Duration) -> Duration {
        (self.spent.saturating_sub(BURST) * READING).saturating_sub(elapsed)
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
        assert!(reading.owed(Duration::from_millis(100)) >= Duration::from_millis(500), "{reading:?}");
    }
}

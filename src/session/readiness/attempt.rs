//! Makes single readiness attempts.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use regex::bytes::Regex;
use tokio::sync::watch;

use crate::engine::{Engine, EngineError, Exec, LogStream};

/// Number of bytes of a command's output to keep.
const TAIL: usize = 4 << 10;
/// Number of log chunks to read without a pause.
const BURST: u32 = 4000;
/// Rate limit for the chunks after that, per second.
const PIECES_PER_SECOND: u32 = 1000;

/// Runs a command in a container. Returns its exit code and the end of its output.
pub(crate) async fn command(
    engine: &dyn Engine,
    container: &str,
    command: &[String],
) -> Result<(i64, String), EngineError> {
    let exec = Exec::new(command.iter().cloned());
    let mut session = engine.exec(container, &exec).await?;
    let mut output = Vec::new();
    while let Some(chunk) = session.output.next().await {
        output.extend_from_slice(&chunk?.bytes);
        output.drain(..output.len().saturating_sub(TAIL));
    }
    let code = engine.exec_exit_code(&session.id).await?.unwrap_or(-1);
    Ok((code, String::from_utf8_lossy(&output).into_owned()))
}

/// Searches a log for lines that match, at a limited rate.
pub(crate) struct LogReader<'a> {
    logs: LogStream,
    regex: &'a Regex,
    /// The last line as far as it has arrived: a match may span two chunks, but not two lines.
    line: Vec<u8>,
    began: Instant,
    pieces: u32,
}

impl<'a> LogReader<'a> {
    pub(crate) fn new(logs: LogStream, regex: &'a Regex) -> Self {
        Self { logs, regex, line: Vec::new(), began: Instant::now(), pieces: 0 }
    }

    /// Returns true at the next match, false at the end of the log. Reports each line on the way.
    pub(crate) async fn next_match(&mut self, last: &watch::Sender<String>) -> Result<bool, EngineError> {
        while let Some(chunk) = self.logs.next().await {
            self.line.extend_from_slice(&chunk?.bytes);
            self.pieces = self.pieces.saturating_add(1);
            let found = self.regex.is_match(&self.line);
            let end = self.line.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            if let Some(line) = self.line[..end].split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()) {
                last.send_replace(String::from_utf8_lossy(line).into_owned());
            }
            self.line.drain(..end);
            if found {
                self.line.clear();
                return Ok(true);
            }
            let owed = owed(self.pieces, self.began.elapsed());
            if owed > Duration::ZERO {
                tokio::time::sleep(owed).await;
            }
        }
        Ok(false)
    }
}

/// How long to pause after this many chunks in that time.
fn owed(pieces: u32, elapsed: Duration) -> Duration {
    let due = Duration::from_secs(1) * pieces.saturating_sub(BURST) / PIECES_PER_SECOND;
    due.saturating_sub(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_at_a_bounded_rate_once_its_beginning_was_read() {
        assert_eq!(owed(BURST, Duration::ZERO), Duration::ZERO);
        assert_eq!(owed(BURST + 3 * PIECES_PER_SECOND, Duration::from_secs(1)), Duration::from_secs(2));
        assert_eq!(owed(BURST + PIECES_PER_SECOND, Duration::from_secs(5)), Duration::ZERO);
    }
}

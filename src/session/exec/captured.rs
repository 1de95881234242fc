//! Runs a command in a service with its output kept in memory, up to a limit.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use super::{MARK, NOT_EXECUTABLE, NOT_FOUND, Refusal, SIGNAL_PATIENCE, exit_code, pass_on};
use crate::engine::{Engine, EngineError, Exec, ExecSession};

/// The bounds of a command.
pub struct Bounds {
    /// How many bytes of output are kept; the rest is discarded.
    pub bytes: usize,
    /// How long the command may take before it is killed.
    pub time: Duration,
    /// Kills the command when cancelled.
    pub stop: CancellationToken,
}

/// How a captured command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Exited(i64),
    /// It did not start: 126 if it may not be executed, 127 if it was not found.
    NotBegun(i64),
    /// It took too long and was killed.
    TimedOut,
    /// It was cancelled and killed.
    Stopped,
}

/// What a command wrote, and how it ended.
#[derive(Debug)]
pub struct Captured {
    /// How it ended.
    pub end: End,
    /// The first bytes of its standard output and standard error, as they came.
    pub output: Vec<u8>,
    /// How many more bytes it wrote.
    pub discarded: u64,
}

/// Runs `exec` in `container`, with `input` as its standard input.
///
/// # Errors
/// Fails if the engine fails.
pub async fn run(
    engine: &Arc<dyn Engine>,
    container: &str,
    mut exec: Exec,
    input: Option<&[u8]>,
    bounds: &Bounds,
) -> Result<Captured, EngineError> {
    let mark = hex::encode(rand::random::<[u8; 8]>());
    exec.env.insert(MARK.to_owned(), mark.clone());
    exec.stdin = input.is_some();
    let session = engine.exec(container, &exec).await?;
    let mut captured = Captured { end: End::Stopped, output: Vec::new(), discarded: 0 };
    let ended = tokio::select! {
        ended = read(engine, session, input.unwrap_or_default(), bounds.bytes, &mut captured) => return ended.map(|end| Captured { end, ..captured }),
        () = tokio::time::sleep(bounds.time) => End::TimedOut,
        () = bounds.stop.cancelled() => End::Stopped,
    };
    let kill = pass_on(engine.as_ref(), container, &mark, "KILL");
    // The engine may be slow; the command ends with its sandbox at the latest.
    let _ = tokio::time::timeout(SIGNAL_PATIENCE, kill).await;
    Ok(Captured { end: ended, ..captured })
}

async fn read(
    engine: &Arc<dyn Engine>,
    session: ExecSession,
    input: &[u8],
    most: usize,
    captured: &mut Captured,
) -> Result<End, EngineError> {
    let ExecSession { id, input: mut stdin, mut output } = session;
    let mut refusal = Refusal::default();
    let feed = async {
        // A command that does not read its input is not an error.
        let _ = stdin.write_all(input).await;
        let _ = stdin.shutdown().await;
        std::future::pending::<()>().await;
    };
    let drain = async {
        while let Some(piece) = output.next().await {
            let bytes = piece?.bytes;
            if !refusal.takes(&bytes) {
                keep(captured, &bytes, most);
            }
        }
        Ok::<_, EngineError>(())
    };
    tokio::select! {
        drained = drain => drained?,
        () = feed => {}
    }
    let code = exit_code(engine.as_ref(), &id).await?;
    if refusal.words.is_empty() || ![NOT_EXECUTABLE, NOT_FOUND].contains(&code) {
        keep(captured, &refusal.words, most);
        return Ok(End::Exited(code));
    }
    Ok(End::NotBegun(if refusal.says_not_found() { NOT_FOUND } else { code }))
}

fn keep(captured: &mut Captured, bytes: &[u8], most: usize) {
    let room = most.saturating_sub(captured.output.len()).min(bytes.len());
    captured.output.extend_from_slice(&bytes[..room]);
    captured.discarded += (bytes.len() - room) as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_beyond_the_limit_is_counted_and_not_kept() {
        let mut captured = Captured { end: End::Stopped, output: Vec::new(), discarded: 0 };
        for piece in ["abc", "def", "ghi"] {
            keep(&mut captured, piece.as_bytes(), 5);
        }
        assert_eq!(captured.output, b"abcde");
        assert_eq!(captured.discarded, 4);
    }
}

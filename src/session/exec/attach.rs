//! Attaches this terminal to a service's main process.

use std::sync::Arc;

use futures_util::StreamExt;

use super::terminal::{self, Raw};
use super::{ExecError, Outcome, Reader, Signals, copy_stdin, write};
use crate::engine::{Attached, Engine, EngineError};

/// What to pass on to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attaching {
    /// Whether to pass on our stdin.
    pub stdin: bool,
    /// Whether to pass on the signals that we receive.
    pub pass_signals: bool,
}

/// Shows the output of the main process of `container` until it ends or the user detaches (Ctrl-P Ctrl-Q).
pub async fn run(
    engine: &Arc<dyn Engine>,
    container: &str,
    attaching: Attaching,
) -> Result<Outcome, ExecError> {
    let Some(found) = engine.container(container).await? else { return Ok(Outcome::Exited(1)) };
    let mut signals = Signals::listen().map_err(ExecError::Terminal)?;
    let Attached { input, mut output } = engine.attach(container).await?;
    let has_stdin = attaching.stdin && found.stdin_open;
    let raw = if found.tty && has_stdin { Raw::stdin().map_err(ExecError::Terminal)? } else { None };
    if found.tty {
        resize(engine.as_ref(), container).await;
    }
    // Without our stdin the input stays open: closing it would close the process's stdin.
    let (feed, held) =
        if has_stdin { (Some(tokio::spawn(copy_stdin(input))), None) } else { (None, Some(input)) };
    loop {
        tokio::select! {
            piece = output.next() => match piece {
                Some(Ok(chunk)) if write(chunk.stream, &chunk.bytes) == Reader::Left => {
                    return Ok(Outcome::ReaderLeft);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => break,
            },
            name = signals.next() => match name {
                "WINCH" if found.tty => resize(engine.as_ref(), container).await,
                "WINCH" => {}
                name if attaching.pass_signals => engine.kill_container(container, &format!("SIG{name}")).await?,
                _ => return Ok(Outcome::Abandoned),
            },
        }
    }
    if let Some(feed) = feed {
        feed.abort();
    }
    drop((raw, held));
    Ok(end(engine.as_ref(), container).await?)
}

async fn resize(engine: &dyn Engine, container: &str) {
    if let Some((rows, columns)) = terminal::size() {
        // Ignored: the process may just have ended.
        let _ = engine.resize_container(container, rows, columns).await;
    }
}

/// How the process ended. It is still running if the user has detached.
async fn end(engine: &dyn Engine, container: &str) -> Result<Outcome, EngineError> {
    let found = engine.container(container).await?;
    Ok(match found {
        Some(found) if found.state.is_alive() => Outcome::Abandoned,
        Some(found) => Outcome::Exited(found.exit_code.unwrap_or(0)),
        None => Outcome::Exited(1),
    })
}

//! This terminal as the terminal of a service's own process.

use std::sync::Arc;

use futures_util::StreamExt;

use super::terminal::{self, Raw};
use super::{ExecError, Outcome, Reader, Signals, copy_stdin, write};
use crate::engine::{Attached, Engine, EngineError};

/// What is passed on to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attaching {
    /// Our stdin, if the process has one.
    pub stdin: bool,
    /// Signals that this process gets.
    pub pass_signals: bool,
}

/// Shows what the process of `container` writes, until it ends or the user detaches (Ctrl-P Ctrl-Q).
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
    // Without a stdin the input stays open: closing it would end that of the process.
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
        // The process may just have ended.
        let _ = engine.resize_container(container, rows, columns).await;
    }
}

/// How the process ended; it runs on if the user has detached.
async fn end(engine: &dyn Engine, container: &str) -> Result<Outcome, EngineError> {
    let found = engine.container(container).await?;
    Ok(match found {
        Some(found) if found.state.is_alive() => Outcome::Abandoned,
        Some(found) => Outcome::Exited(found.exit_code.unwrap_or(0)),
        None => Outcome::Exited(1),
    })
}

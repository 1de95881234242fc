//! Runs a command in a service with the user's terminal, pipes, signals and exit code.

pub mod attach;
pub mod captured;
pub mod copy;
pub mod terminal;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::engine::{Engine, EngineError, Exec, ExecSession, StdStream};
use terminal::Raw;

/// Why a command could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The engine returned an error.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An operation on our own terminal or pipes failed.
    #[error("cannot use this terminal")]
    Terminal(#[source] std::io::Error),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with this code.
    Exited(i64),
    /// It did not start: 126 if it may not be executed, 127 if it was not found.
    NotBegun(i64),
    /// It was interrupted a second time and left running.
    Abandoned,
    /// The reader of our output has closed it, as `head` does. The command was sent `SIGPIPE`.
    ReaderLeft,
}

/// The environment variable that marks the processes of one call, so that signals find them.
const MARK: &str = "SANDBOX_EXEC";

/// The prefix of the engine's own error messages.
const REFUSED: &[u8] = b"OCI runtime exec failed";
/// Exit code of shells for a command that may not be executed.
const NOT_EXECUTABLE: i64 = 126;
/// Exit code of shells for a command that was not found.
const NOT_FOUND: i64 = 127;

/// How long to wait for a signal to be delivered once our output has no reader.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait for the exit code after the end of the output.
const CODE_PATIENCE: Duration = Duration::from_secs(5);

/// Also gets each chunk of a command's output.
pub type OutputTap = Box<dyn FnMut(StdStream, &[u8]) + Send>;

/// Runs `exec` in `container` with our stdin, output, signals and window size.
pub async fn run(engine: &Arc<dyn Engine>, container: &str, exec: Exec) -> Result<Outcome, ExecError> {
    run_tapped(engine, container, exec, StdStream::Stdout, Box::new(|_, _| {})).await
}

/// Same as [`run`], with a tap of the command's output. `stdout` is our stream for its standard output.
pub async fn run_tapped(
    engine: &Arc<dyn Engine>,
    container: &str,
    mut exec: Exec,
    stdout: StdStream,
    mut tap: OutputTap,
) -> Result<Outcome, ExecError> {
    let mark = hex::encode(rand::random::<[u8; 8]>());
    exec.env.insert(MARK.to_owned(), mark.clone());
    if exec.tty {
        exec.size = terminal::size();
    }
    let tty = exec.tty;
    let stdin = exec.stdin;
    let mut signals = Signals::listen().map_err(ExecError::Terminal)?;
    let session = engine.exec(container, &exec).await?;
    if let Some((rows, columns)) = exec.size.filter(|_| tty) {
        set_size(engine.as_ref(), &session.id, rows, columns).await;
    }
    let raw = if tty && stdin { Raw::stdin().map_err(ExecError::Terminal)? } else { None };
    let ExecSession { id, input, mut output } = session;
    let mut feed = stdin.then(|| tokio::spawn(copy_stdin(input)));
    let (mut interrupts, mut refusal) = (0, Refusal::default());
    let ours = |stream| if stream == StdStream::Stdout { stdout } else { stream };
    loop {
        tokio::select! {
            piece = output.next() => match piece {
                Some(Ok(chunk)) => {
                    let held_back = refusal.takes(&chunk.bytes);
                    if !held_back {
                        tap(chunk.stream, &chunk.bytes);
                    }
                    if !held_back && write(ours(chunk.stream), &chunk.bytes) == Reader::Left {
                        drop(raw);
                        let end = pass_on(engine.as_ref(), container, &mark, "PIPE");
                        // The command may ignore the signal, or the engine may be slow.
                        let _ = tokio::time::timeout(SIGNAL_PATIENCE, end).await;
                        return Ok(Outcome::ReaderLeft);
                    }
                }
                Some(Err(error)) => return Err(error.into()),
                None => break,
            },
            name = signals.next() => match name {
                "WINCH" => {
                    if let Some((rows, columns)) = terminal::size().filter(|_| tty) {
                        // Ignored: the command may just have ended.
                        let _ = engine.exec_resize(&id, rows, columns).await;
                    }
                }
                "INT" if interrupts > 0 => {
                    drop(raw);
                    return Ok(Outcome::Abandoned);
                }
                name => {
                    interrupts += usize::from(name == "INT");
                    let engine = Arc::clone(engine);
                    let (container, mark) = (container.to_owned(), mark.clone());
                    tokio::spawn(async move { pass_on(engine.as_ref(), &container, &mark, name).await });
                }
            },
        }
    }
    if let Some(feed) = feed.take() {
        feed.abort();
    }
    drop(raw);
    let code = exit_code(engine.as_ref(), &id).await?;
    if refusal.words.is_empty() || ![NOT_EXECUTABLE, NOT_FOUND].contains(&code) {
        write(stdout, &refusal.words);
        return Ok(Outcome::Exited(code));
    }
    Ok(Outcome::NotBegun(if refusal.says_not_found() { NOT_FOUND } else { code }))
}

/// The engine's own error message in a command's output. It is the only output of a command that did not start.
#[derive(Default)]
struct Refusal {
    words: Vec<u8>,
    command_spoke: bool,
}

impl Refusal {
    /// Whether a chunk of the output is the engine's message and must be held back.
    fn takes(&mut self, piece: &[u8]) -> bool {
        let is = !self.command_spoke && (!self.words.is_empty() || piece.starts_with(REFUSED));
        if is {
            self.words.extend_from_slice(piece);
        }
        self.command_spoke |= !is;
        is
    }

    /// Engines up to 20.10 report a missing command as one that could not be executed.
    fn says_not_found(&self) -> bool {
        let said = String::from_utf8_lossy(&self.words);
        ["executable file not found", "no such file or directory"].iter().any(|words| said.contains(words))
    }
}

/// Sets the size of a command's terminal. Engines before API 1.42 do not accept the size with the command, and reject
/// it until the command has its terminal.
async fn set_size(engine: &dyn Engine, id: &str, rows: u16, columns: u16) {
    for _ in 0..10 {
        if engine.exec_resize(id, rows, columns).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn exit_code(engine: &dyn Engine, id: &str) -> Result<i64, EngineError> {
    let asked = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(code) = engine.exec_exit_code(id).await? {
            return Ok(code);
        }
        // The output may end before the process does: the process may have closed its ends and continue.
        if asked.elapsed() > CODE_PATIENCE {
            pause = Duration::from_millis(250);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// Copies our stdin until it ends. The reader has its own thread: a read from a terminal cannot be cancelled, and must
/// not keep this process from exiting.
pub(super) async fn copy_stdin(mut input: crate::engine::stream::Input) {
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(4);
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        loop {
            match std::io::stdin().lock().read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    });
    while let Some(piece) = pieces.recv().await {
        // A command that no longer reads is not an error.
        if input.write_all(&piece).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
    let _ = input.shutdown().await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Reads,
    Left,
}

pub(super) fn write(stream: StdStream, bytes: &[u8]) -> Reader {
    let written = match stream {
        StdStream::Stdout => std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()),
        StdStream::Stderr => std::io::stderr().write_all(bytes),
    };
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Reader::Left,
        // If the output cannot be written for another reason (a full disk), there is no better place to report it.
        _ => Reader::Reads,
    }
}

/// Sends a signal to the marked processes. Engines have no API call for that, so a second command finds them.
async fn pass_on(engine: &dyn Engine, container: &str, mark: &str, name: &'static str) {
    let script = format!(
        "for p in /proc/[0-9]*; do if tr '\\0' '\\n' < \"$p/environ\" | grep -qx '{MARK}={mark}'; then kill -{name} \"${{p#/proc/}}\"; fi; done 2>/dev/null"
    );
    let mut exec = Exec::new(["sh", "-c", &script]);
    exec.user = Some("0".to_owned());
    match engine.exec(container, &exec).await {
        Ok(mut session) => while session.output.next().await.is_some() {},
        Err(error) => tracing::warn!(%error, "the signal was not delivered"),
    }
}

/// The signals that are passed on, and changes of the window size.
pub(super) struct Signals {
    kinds: [(&'static str, Signal); 6],
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            kinds: [
                ("INT", signal(SignalKind::interrupt())?),
                ("TERM", signal(SignalKind::terminate())?),
                ("HUP", signal(SignalKind::hangup())?),
                ("QUIT", signal(SignalKind::quit())?),
                ("USR1", signal(SignalKind::user_defined1())?),
                ("WINCH", signal(SignalKind::window_change())?),
            ],
        })
    }

    pub(super) async fn next(&mut self) -> &'static str {
        std::future::poll_fn(|context| {
            for (name, signal) in &mut self.kinds {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*name);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

//! Runs the scripts of commands in containers, concurrently with the caller.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::mpsc;

use super::Recording;
use super::script::Script;
use crate::engine::{LogChunk, LogStream, Result, StdStream};

/// Buffer size of the model's pipes in bytes.
pub(super) const PIPE: usize = 64 * 1024;
impl Recording {
    /// Runs a command's script in a task.
    pub(super) fn perform(
        &self,
        id: String,
        script: Script,
        has_stdin: bool,
        stdin: DuplexStream,
    ) -> LogStream {
        let (sender, receiver) = mpsc::unbounded_channel::<Result<LogChunk>>();
        let changed = Arc::clone(&self.changed);
        let done = self.exec_done(id);
        tokio::spawn(async move {
            let code = play(script, has_stdin, stdin, &sender).await;
            done(code);
            changed.notify_waiters();
        });
        Box::pin(stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) }))
    }

    /// Stores an exit code for [`Engine::exec_exit_code`]. The map is shared, because the script outlives the borrow
    /// of the engine.
    fn exec_done(&self, id: String) -> impl FnOnce(i64) + Send + 'static {
        let codes = self.lock().execs_shared();
        move |code| {
            codes.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Some(code));
        }
    }
}

async fn play(
    script: Script,
    has_stdin: bool,
    mut stdin: DuplexStream,
    output: &mpsc::UnboundedSender<Result<LogChunk>>,
) -> i64 {
    let write = |stream, bytes: Bytes| {
        if !bytes.is_empty() {
            // Ignored if the reader was dropped.
            let _ = output.send(Ok(LogChunk { stream, bytes, starts_message: false }));
        }
    };
    match script {
        Script::Answer { stdout, stderr, code } => {
            if has_stdin {
                let mut read = Vec::new();
                // A pipe in memory does not fail.
                let _ = stdin.read_to_end(&mut read).await;
            }
            write(StdStream::Stdout, stdout.into());
            write(StdStream::Stderr, stderr.into());
            code
        }
        Script::Serve(serve) => {
            let (ours, theirs) = tokio::io::duplex(PIPE);
            serve(stdin, theirs);
            let mut pieces = tokio_util::io::ReaderStream::new(ours);
            while let Some(Ok(bytes)) = pieces.next().await {
                write(StdStream::Stdout, bytes);
            }
            0
        }
    }
}

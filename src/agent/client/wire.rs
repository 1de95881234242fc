//! One connection to the keeper: sends requests and receives replies as JSON lines.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::agent::protocol::{LONGEST_ANSWER, LONGEST_LINE, Line, Request};
use crate::engine::{ByteStream, ExecSession, LogChunk, StdStream};

/// A connection, over any transport.
pub struct Wire {
    output: Box<dyn AsyncWrite + Send + Unpin>,
    input: ByteStream,
    read: BytesMut,
}

impl Wire {
    /// Connects through an exec of `sandbox agent connect`. What that prints on stderr ends the connection and is
    /// reported as the cause.
    pub fn of_exec(session: ExecSession) -> Self {
        let input = session.output.map(|item| match item {
            Ok(LogChunk { stream: StdStream::Stdout, bytes, .. }) => Ok(bytes),
            Ok(chunk) => Err(io::Error::other(String::from_utf8_lossy(&chunk.bytes).trim().to_owned())),
            Err(error) => Err(io::Error::other(error)),
        });
        Self { output: session.input, input: input.boxed(), read: BytesMut::new() }
    }

    /// Connects through a Unix socket of this machine.
    #[cfg(unix)]
    pub fn of_socket(socket: tokio::net::UnixStream) -> Self {
        let (input, output) = socket.into_split();
        let input = tokio_util::io::ReaderStream::new(input).boxed();
        Self { output: Box::new(output), input, read: BytesMut::new() }
    }

    /// Connects through a pipe inside this process.
    #[cfg(test)]
    pub fn of_pipe(pipe: tokio::io::DuplexStream) -> Self {
        let (input, output) = tokio::io::split(pipe);
        let input = tokio_util::io::ReaderStream::new(input).boxed();
        Self { output: Box::new(output), input, read: BytesMut::new() }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Returns [`io::ErrorKind::FileTooLarge`], and sends nothing, if the request is longer than the keeper accepts.
    pub async fn send(&mut self, request: &Request) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        if line.len() >= LONGEST_LINE {
            let error = format!("a request of {} bytes is more than the keeper takes", line.len());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
        }
        line.push(b'\n');
        self.output.write_all(&line).await?;
        self.output.flush().await
    }

    /// Receives the next line; `None` once the connection has ended. Cancel-safe.
    pub async fn receive(&mut self) -> io::Result<Option<Line>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.read[searched..].iter().position(|byte| *byte == b'\n') {
                let line: Bytes = self.read.split_to(searched + end + 1).freeze();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            searched = self.read.len();
            if searched > LONGEST_ANSWER {
                return Err(io::Error::other("a line without an end"));
            }
            match self.input.next().await {
                Some(chunk) => self.read.extend_from_slice(&chunk?),
                None => return Ok(None),
            }
        }
    }
}

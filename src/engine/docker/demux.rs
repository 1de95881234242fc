//! Demultiplexes process output: raw with a terminal, otherwise in frames with a header of eight bytes.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::io::{AsyncWrite, WriteHalf};
use tokio_util::io::ReaderStream;

use super::failure::Call;
use super::wire::Duplex;
use crate::engine::stream::Input;
use crate::engine::{ByteStream, ErrorKind, LogChunk, LogStream, StdStream};

/// The wire format of process output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Unframed bytes.
    Raw,
    /// A header before each chunk: stream, three zero bytes, length.
    Frames,
}

struct Demux<S> {
    source: S,
    framing: Framing,
    buffer: BytesMut,
    /// The frame that is being decoded.
    frame: Option<Frame>,
}

#[derive(Clone, Copy)]
struct Frame {
    stream: StdStream,
    /// Remaining bytes of the frame.
    left: usize,
    /// Whether no byte of it was emitted yet.
    fresh: bool,
}

impl<S> Demux<S> {
    /// Decodes the next chunk of the received bytes, even if its frame is incomplete.
    fn decode(&mut self) -> Option<LogChunk> {
        if self.framing == Framing::Raw {
            let bytes = self.buffer.split().freeze();
            return (!bytes.is_empty()).then_some(LogChunk {
                stream: StdStream::Stdout,
                bytes,
                starts_message: false,
            });
        }
        loop {
            match self.frame.take() {
                Some(Frame { left: 0, .. }) => {}
                Some(frame) if self.buffer.is_empty() => {
                    self.frame = Some(frame);
                    return None;
                }
                Some(Frame { stream, left, fresh }) => {
                    let bytes = self.buffer.split_to(left.min(self.buffer.len())).freeze();
                    self.frame = Some(Frame { stream, left: left - bytes.len(), fresh: false });
                    return Some(LogChunk { stream, bytes, starts_message: fresh });
                }
                None if self.buffer.len() < 8 => return None,
                None => {
                    let stream = if self.buffer[0] == 2 { StdStream::Stderr } else { StdStream::Stdout };
                    self.buffer.advance(4);
                    // A frame is at most a few megabytes, and a u32 fits into the usize of our targets.
                    let left = self.buffer.get_u32() as usize;
                    self.frame = Some(Frame { stream, left, fresh: true });
                }
            }
        }
    }
}

/// Decodes a byte stream to output chunks.
pub(super) fn output<S>(source: S, framing: Framing, call: Call) -> LogStream
where
    S: Stream<Item = std::io::Result<bytes::Bytes>> + Send + Unpin + 'static,
{
    let demux = Demux { source, framing, buffer: BytesMut::new(), frame: None };
    Box::pin(stream::unfold(Some(demux), move |state| {
        let call = call.clone();
        async move {
            let mut demux = state?;
            loop {
                if let Some(chunk) = demux.decode() {
                    return Some((Ok(chunk), Some(demux)));
                }
                match demux.source.next().await? {
                    Ok(bytes) => demux.buffer.extend_from_slice(&bytes),
                    Err(error) => {
                        return Some((Err(call.of(ErrorKind::Unreachable, error.to_string())), None));
                    }
                }
            }
        }
    }))
}

/// Splits an upgraded connection into stdin and output.
pub(super) fn session(duplex: Duplex, framing: Framing, call: Call) -> (Input, LogStream) {
    let (read, write) = tokio::io::split(duplex);
    let source: ByteStream = Box::pin(ReaderStream::new(read));
    (Box::new(Stdin(write)), output(source, framing, call))
}

/// A process's stdin; dropping it sends end-of-file.
struct Stdin(WriteHalf<Duplex>);

impl Drop for Stdin {
    fn drop(&mut self) {
        // On a socket this call does not block; if it did, closing the connection would have the same effect later.
        let _ = Pin::new(&mut self.0).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }
}

impl AsyncWrite for Stdin {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ObjectKind;
    use bytes::Bytes;

    async fn read(framing: Framing, pieces: &[&'static [u8]]) -> Vec<(StdStream, String)> {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect();
        let call = super::super::failure::call("read", ObjectKind::Container, "c");
        output(stream::iter(pieces), framing, call)
            .map(|chunk| chunk.map(|c| (c.stream, String::from_utf8_lossy(&c.bytes).into_owned())).unwrap())
            .collect()
            .await
    }

    #[tokio::test]
    async fn frames_may_be_cut_anywhere_and_a_part_is_told_at_once() {
        let chunks =
            read(Framing::Frames, &[b"\x01\0\0", b"\0\0\0\0\x05he", b"llo\x02\0\0\0\0\0\0\x02no"]).await;
        assert_eq!(
            chunks,
            [
                (StdStream::Stdout, "he".into()),
                (StdStream::Stdout, "llo".into()),
                (StdStream::Stderr, "no".into())
            ]
        );
    }

    #[tokio::test]
    async fn a_terminals_bytes_are_passed_as_they_are() {
        assert_eq!(read(Framing::Raw, &[b"\x01$ "]).await, [(StdStream::Stdout, "\u{1}$ ".into())]);
    }
}

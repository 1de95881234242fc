//! Splits the log chunks that engines send into lines.
//!
//! An engine stores a line of more than 16 KiB as several messages, each with a timestamp; they are joined again here.
//! Without a terminal each message has its own frame, which shows where it starts. With a terminal there are no frames,
//! and a part ends after exactly 16 KiB.

use std::collections::VecDeque;

use futures_util::StreamExt;
use jiff::Timestamp;

use super::log_line::{Line, Source};
use crate::engine::{EngineError, LogChunk, LogStream, StdStream};
use crate::session::event::Stream;

/// Size of a message that is not the last one of its line (moby: `defaultBufSize` of the log copier).
const PART: usize = 16 * 1024;

/// Maximum length of a timestamp with nanoseconds and an offset, and the space after it.
const LONGEST_STAMP: usize = 40;

/// Longer lines are passed on in pieces, to limit memory.
const LONGEST_LINE: usize = 16 << 20;

/// Reads the lines of a log stream.
pub(crate) struct Lines {
    source: Source,
    stream: Option<LogStream>,
    out: Assembly,
    err: Assembly,
    ready: VecDeque<Line>,
}

impl Lines {
    pub(crate) fn new(source: Source, stream: LogStream) -> Self {
        let (out, err) = (Assembly::default(), Assembly::default());
        Self { source, stream: Some(stream), out, err, ready: VecDeque::new() }
    }

    /// The next line; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Line>, EngineError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            let Some(stream) = &mut self.stream else { return Ok(None) };
            if let Some(chunk) = stream.next().await.transpose()? {
                self.take(&chunk);
            } else {
                self.stream = None;
                for stream in [StdStream::Stdout, StdStream::Stderr] {
                    let rest = self.assembly(stream).rest();
                    self.ready.extend(rest.map(|line| line_of(&self.source, stream, line)));
                }
            }
        }
    }

    fn take(&mut self, chunk: &LogChunk) {
        let (assembly, source) = match chunk.stream {
            StdStream::Stdout => (&mut self.out, &self.source),
            StdStream::Stderr => (&mut self.err, &self.source),
        };
        assembly.push(chunk, &mut |line| self.ready.push_back(line_of(source, chunk.stream, line)));
    }

    fn assembly(&mut self, stream: StdStream) -> &mut Assembly {
        match stream {
            StdStream::Stdout => &mut self.out,
            StdStream::Stderr => &mut self.err,
        }
    }
}

type Stamped = (Option<Timestamp>, Vec<u8>);

fn line_of(source: &Source, stream: StdStream, (time, bytes): Stamped) -> Line {
    Line {
        service: source.service.clone(),
        replica: source.replica,
        stream: match stream {
            StdStream::Stdout => Stream::Stdout,
            StdStream::Stderr => Stream::Stderr,
        },
        time,
        text: bytes.into(),
    }
}

/// Which part of a message the next byte belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Stamp,
    Content,
}

/// An incomplete line of one output stream.
#[derive(Default)]
struct Assembly {
    framed: bool,
    place: Place,
    /// The part of a timestamp that has arrived.
    stamp: Vec<u8>,
    /// Whether the line has begun; it may still be empty.
    begun: bool,
    time: Option<Timestamp>,
    line: Vec<u8>,
    /// How many content bytes of the current message have arrived.
    message: usize,
}

impl Assembly {
    fn push(&mut self, chunk: &LogChunk, emit: &mut impl FnMut(Stamped)) {
        if chunk.starts_message {
            self.framed = true;
            if self.begun && self.message < PART {
                // The last line of a process that wrote no newline: what follows is from another process.
                emit(self.take_line());
            }
            self.place = Place::Stamp;
            self.message = 0;
        }
        let mut bytes = &chunk.bytes[..];
        while !bytes.is_empty() {
            bytes = match self.place {
                Place::Stamp => self.read_stamp(bytes, emit),
                Place::Content => self.read_content(bytes, emit),
            };
        }
    }

    /// Reads a message's timestamp. Anything that is not a timestamp is content.
    fn read_stamp<'a>(&mut self, bytes: &'a [u8], emit: &mut impl FnMut(Stamped)) -> &'a [u8] {
        let room = LONGEST_STAMP - self.stamp.len();
        let window = &bytes[..bytes.len().min(room)];
        let end = window.iter().position(|byte| matches!(byte, b' ' | b'\n'));
        let (piece, rest) = bytes.split_at(end.map_or(window.len(), |end| end + 1));
        self.stamp.extend_from_slice(piece);
        if end.is_none() && self.stamp.len() < LONGEST_STAMP {
            return rest;
        }
        let stamp = std::mem::take(&mut self.stamp);
        self.place = Place::Content;
        if let Some(time) = time_of(&stamp) {
            self.begun = true;
            self.time = self.time.or(Some(time));
        } else {
            let mut content = &stamp[..];
            while !content.is_empty() {
                content = self.read_content(content, emit);
            }
        }
        rest
    }

    fn read_content<'a>(&mut self, bytes: &'a [u8], emit: &mut impl FnMut(Stamped)) -> &'a [u8] {
        let room = if self.framed { usize::MAX } else { PART - self.message };
        let window = &bytes[..bytes.len().min(room)];
        self.begun = true;
        if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&window[..end]);
            emit(self.take_line());
            self.place = Place::Stamp;
            return &bytes[end + 1..];
        }
        self.line.extend_from_slice(window);
        self.message += window.len();
        if !self.framed && self.message == PART {
            self.place = Place::Stamp;
            self.message = 0;
        }
        if self.line.len() >= LONGEST_LINE {
            let time = self.time;
            emit(self.take_line());
            self.time = time;
        }
        &bytes[window.len()..]
    }

    fn take_line(&mut self) -> Stamped {
        let mut line = std::mem::take(&mut self.line);
        // A terminal ends lines with CR LF.
        if !self.framed && line.last() == Some(&b'\r') {
            line.pop();
        }
        self.begun = false;
        self.message = 0;
        (self.time.take(), line)
    }

    /// The incomplete line at the end of the stream.
    fn rest(&mut self) -> Option<Stamped> {
        self.line.append(&mut self.stamp);
        (self.begun || !self.line.is_empty()).then(|| self.take_line())
    }
}

fn time_of(stamp: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(stamp.strip_suffix(b" ")?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;

    const TIME: &str = "2026-11-01T10:00:00.123456789Z ";

    fn lines(pieces: Vec<(bool, Vec<u8>)>) -> Lines {
        let chunk = |(starts_message, bytes)| {
            Ok(LogChunk { stream: StdStream::Stdout, bytes: Bytes::from(bytes), starts_message })
        };
        let source = Source { container: "sbx-shop.db".into(), service: "db".into(), replica: 1 };
        Lines::new(source, Box::pin(stream::iter(pieces.into_iter().map(chunk))))
    }

    async fn bytes(mut lines: Lines) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line.text.as_bytes().to_vec());
        }
        all
    }

    async fn texts(pieces: &[(bool, &str)]) -> Vec<String> {
        let pieces = pieces.iter().map(|(starts, text)| (*starts, text.as_bytes().to_vec())).collect();
        bytes(lines(pieces)).await.into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_terminals_lines_are_joined_from_pieces_cut_anywhere() {
        let pieces = [
            (false, "2026-11-01T10:00:00.5Z one\r\n2026-11-01T10:0"),
            (false, "0:01Z two\n2026-11-01T10:00:02Z thr"),
            (false, "ee"),
        ];
        assert_eq!(texts(&pieces).await, ["one", "two", "three"]);
    }

    #[tokio::test]
    async fn an_empty_line_is_a_line() {
        let pieces = [(false, "2026-11-01T10:00:00Z \n2026-11-01T10:00:01Z x\n2026-11-01T10:00:01Z ")];
        assert_eq!(texts(&pieces).await, ["", "x", ""]);
    }

    /// A line as an engine sends it, in parts of 16 KiB.
    fn parts(line: &[u8]) -> Vec<Vec<u8>> {
        let mut parts: Vec<Vec<u8>> =
            line.chunks(PART).map(|part| [TIME.as_bytes(), part].concat()).collect();
        parts.last_mut().unwrap().push(b'\n');
        parts
    }

    #[tokio::test]
    async fn a_long_line_is_one_line_whatever_its_pieces() {
        let line: Vec<u8> = (0..40_000_u32).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect();
        for cut in [7, 4_096, 16_384, 100_000] {
            let framed = parts(&line).into_iter().flat_map(|part| {
                let pieces = part.chunks(cut).map(<[u8]>::to_vec).enumerate();
                pieces.map(|(index, piece)| (index == 0, piece)).collect::<Vec<_>>()
            });
            assert_eq!(bytes(lines(framed.collect())).await, std::slice::from_ref(&line), "framed, {cut}");
            let raw = parts(&line).concat();
            let raw = raw.chunks(cut).map(|piece| (false, piece.to_vec())).collect();
            assert_eq!(bytes(lines(raw)).await, std::slice::from_ref(&line), "raw, {cut}");
        }
    }

    #[tokio::test]
    async fn a_line_that_begins_with_a_time_of_its_own_keeps_it() {
        let own = format!("{TIME}{TIME}message\n");
        assert_eq!(texts(&[(true, &own)]).await, [format!("{TIME}message")]);
    }

    #[tokio::test]
    async fn a_carriage_return_and_other_bytes_of_a_program_without_a_terminal_stay() {
        let line = [TIME.as_bytes(), b"50 %\r\xff\x00\r\n"].concat();
        assert_eq!(bytes(lines(vec![(true, line)])).await, [b"50 %\r\xff\x00\r".to_vec()]);
    }

    #[tokio::test]
    async fn the_last_line_of_a_process_without_a_newline_is_not_joined_to_the_next_process() {
        let (first, second) = (format!("{TIME}bye"), format!("{TIME}hello\n"));
        assert_eq!(texts(&[(true, &first), (true, &second)]).await, ["bye", "hello"]);
    }
}

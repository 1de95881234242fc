//! Keeps the end of a command's output for its report, while the output is also shown.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::StdStream;

/// Bytes of each stream that are kept. A report is to stay readable, and JUnit readers limit its size.
const KEPT: usize = 256 << 10;

/// The end of a command's output. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Capture(Arc<Mutex<[Tail; 2]>>);

/// The end of one stream.
#[derive(Debug, Default)]
struct Tail {
    bytes: VecDeque<u8>,
    dropped: u64,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let surplus = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..surplus);
        self.dropped += surplus as u64;
    }

    fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        if self.dropped == 0 {
            return text.into_owned();
        }
        // The first line is incomplete.
        let whole = text.split_once('\n').map_or("", |(_, rest)| rest);
        let kib = self.dropped.div_ceil(1024);
        format!("[{kib} KiB of earlier output are not in this report]\n{whole}")
    }
}

fn index(stream: StdStream) -> usize {
    match stream {
        StdStream::Stdout => 0,
        StdStream::Stderr => 1,
    }
}

impl Capture {
    /// Adds output of the command.
    pub fn push(&self, stream: StdStream, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[index(stream)].push(bytes);
    }

    /// The kept end of a stream.
    pub fn text(&self, stream: StdStream) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[index(stream)].text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_output_is_kept_in_whole_lines() {
        let capture = Capture::default();
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..(KEPT / line.len()) {
            capture.push(StdStream::Stdout, line.as_bytes());
        }
        assert_eq!(capture.text(StdStream::Stdout).len(), KEPT);

        capture.push(StdStream::Stdout, b"the last line\n");

        let text = capture.text(StdStream::Stdout);
        assert!(text.starts_with("[1 KiB of earlier output are not in this report]\nxxx"), "{}", &text[..80]);
        assert!(text.ends_with("x\nthe last line\n"));
        assert_eq!(capture.text(StdStream::Stderr), "");
    }
}

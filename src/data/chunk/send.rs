//! Sends the chunks of a set that the registry does not have, in the keeper's container.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use super::cutter::{ChunkSink, Place};
use super::frame::ChunkFrame;
use super::{ChunkId, MAX_INDEX};

/// Zstd's level, as for snapshot files.
const LEVEL: i32 = 2;
/// Frames are collected up to this size.
const BUFFER: usize = 256 << 10;

/// Writes a frame for each chunk.
pub struct ChunkSender<W> {
    out: W,
    buffer: Vec<u8>,
    known: HashSet<ChunkId>,
    packer: zstd::bulk::Compressor<'static>,
}

impl<W: Write> ChunkSender<W> {
    /// Creates a sender; chunks in `known` are not sent.
    ///
    /// # Errors
    /// Fails if the compressor cannot be set up.
    pub fn new(out: W, known: HashSet<ChunkId>) -> io::Result<Self> {
        Ok(Self { out, buffer: Vec::new(), known, packer: zstd::bulk::Compressor::new(LEVEL)? })
    }

    /// Writes the end of the stream.
    ///
    /// # Errors
    /// Fails if nobody reads it.
    pub fn end(mut self) -> io::Result<()> {
        ChunkFrame::End.write(&mut self.buffer);
        self.write_out()?;
        self.out.flush()
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl<W: Write> ChunkSink for ChunkSender<W> {
    fn chunk(&mut self, bytes: &[u8], _: Option<&Place>) -> io::Result<()> {
        let id = *blake3::hash(bytes).as_bytes();
        let frame = if self.known.insert(id) {
            let packed = self.packer.compress(bytes)?;
            let packed = if packed.len() < bytes.len() { packed } else { bytes.to_vec() };
            ChunkFrame::New { id, length: u32::try_from(bytes.len()).unwrap_or(u32::MAX), packed }
        } else {
            ChunkFrame::Known(id)
        };
        frame.write(&mut self.buffer);
        if self.buffer.len() >= BUFFER { self.write_out() } else { Ok(()) }
    }
}

/// Reads the ids of the chunks that the registry has.
///
/// # Errors
/// Fails if the message is cut short or too long.
pub fn read_known(mut input: impl Read) -> io::Result<HashSet<ChunkId>> {
    let mut count = [0; 8];
    input.read_exact(&mut count)?;
    let count = u64::from_le_bytes(count);
    if count > MAX_INDEX / 32 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many chunks"));
    }
    let mut known = HashSet::new();
    for _ in 0..count {
        let mut id = [0; 32];
        input.read_exact(&mut id)?;
        known.insert(id);
    }
    Ok(known)
}

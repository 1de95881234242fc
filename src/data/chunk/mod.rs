//! Snapshots in chunks, so that a registry and a storage exchange only what differs.
//!
//! The stream of a snapshot file, uncompressed, is cut into chunks ([`Cutter`]). Chunks are collected in packs, and an
//! [`Index`] says in which order they make the stream and where each lies. Who has the index and the chunks has the
//! stream, which [`crate::data::archive::Import`] reads with all of its checks.

mod cutter;
mod frame;
mod index;
mod receive;
mod send;

use std::io;

pub use cutter::Cutter;
pub use frame::{ChunkFrame, ChunkFrames, MissingList, chunk_header, index_header, known_ids};
pub use index::{Chunk, Index, IndexError, Pack};
pub use receive::{pull_set, read_index};
pub use send::{ChunkSender, read_known};

/// The BLAKE3 hash of a chunk's bytes.
pub type ChunkId = [u8; 32];

/// The largest chunk, in bytes.
pub const MAX_CHUNK: usize = 256 << 10;

/// The size at which a pack is complete, in bytes.
pub const PACK_SIZE: usize = 16 << 20;

/// The largest pack that is read, in bytes.
pub const MAX_PACK: u64 = 64 << 20;

/// The largest packed index that is read, in bytes.
pub const MAX_INDEX: u64 = 256 << 20;

/// Unpacks a chunk and checks it. A chunk that compression does not shrink is stored as it is.
///
/// # Errors
/// Fails unless the bytes are those of the chunk.
pub fn unpacked(chunk: &Chunk, packed: &[u8]) -> io::Result<Vec<u8>> {
    let length = chunk.length as usize;
    let bytes =
        if packed.len() == length { packed.to_vec() } else { zstd::bulk::decompress(packed, length)? };
    if bytes.len() == length && *blake3::hash(&bytes).as_bytes() == chunk.id {
        Ok(bytes)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "a chunk is not what its digest says"))
    }
}

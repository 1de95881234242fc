//! Collects new chunks in packs and writes the index of a snapshot.

use std::collections::HashMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::data::chunk::{Chunk, ChunkFrame, ChunkId, Index, PACK_SIZE, Pack};

/// Makes packs and the index. Chunks of an earlier snapshot stay where they are.
pub(super) struct Packer {
    earlier: Index,
    /// The chunks of the earlier snapshot, by id.
    known: HashMap<ChunkId, usize>,
    /// The packs of the earlier snapshot that are used, with their numbers in the new index.
    packs: HashMap<u32, u32>,
    index: Index,
    numbers: HashMap<ChunkId, u32>,
    /// The pack that is being filled. Its number is reserved.
    filling: Option<(u32, Vec<u8>)>,
}

/// A chunk that was never sent, or does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownChunk;

/// A complete pack.
pub(super) struct PackBlob {
    /// Its digest, as registries write it.
    pub digest: String,
    /// Its content.
    pub bytes: Bytes,
}

impl Packer {
    /// Starts with the chunks of an earlier snapshot.
    pub fn new(earlier: Index) -> Self {
        let known = earlier.chunks.iter().enumerate().map(|(number, chunk)| (chunk.id, number)).collect();
        Self {
            earlier,
            known,
            packs: HashMap::new(),
            index: Index::default(),
            numbers: HashMap::new(),
            filling: None,
        }
    }

    /// The ids of the chunks that need not be sent.
    pub fn known(&self) -> impl ExactSizeIterator<Item = &ChunkId> {
        self.known.keys()
    }

    /// Adds a chunk to the stream; returns a pack that it completes.
    ///
    /// # Errors
    /// Fails if the chunk is not known.
    pub fn add(&mut self, frame: ChunkFrame) -> Result<Option<PackBlob>, UnknownChunk> {
        match frame {
            ChunkFrame::End => Ok(None),
            ChunkFrame::Known(id) => {
                let number = match self.numbers.get(&id) {
                    Some(number) => *number,
                    None => self.take_over(id).ok_or(UnknownChunk)?,
                };
                self.index.stream.push(number);
                Ok(None)
            }
            ChunkFrame::New { id, length, packed } => {
                let number = self.store(id, length, &packed).ok_or(UnknownChunk)?;
                self.index.stream.push(number);
                let is_full = self.filling.as_ref().is_some_and(|(_, bytes)| bytes.len() >= PACK_SIZE);
                Ok(if is_full { self.complete() } else { None })
            }
        }
    }

    fn take_over(&mut self, id: ChunkId) -> Option<u32> {
        let chunk = self.earlier.chunks.get(*self.known.get(&id)?)?.clone();
        let next = u32::try_from(self.index.packs.len()).ok()?;
        let pack = *self.packs.entry(chunk.pack).or_insert(next);
        if pack == next {
            self.index.packs.push(self.earlier.packs.get(chunk.pack as usize)?.clone());
        }
        self.number(Chunk { pack, ..chunk })
    }

    fn store(&mut self, id: ChunkId, length: u32, packed: &[u8]) -> Option<u32> {
        if self.filling.is_none() {
            let number = u32::try_from(self.index.packs.len()).ok()?;
            self.index.packs.push(Pack { digest: [0; 32], size: 0 });
            self.filling = Some((number, Vec::with_capacity(PACK_SIZE)));
        }
        let (pack, bytes) = self.filling.as_mut()?;
        let (pack, offset) = (*pack, u32::try_from(bytes.len()).ok()?);
        bytes.extend_from_slice(packed);
        let packed = u32::try_from(packed.len()).ok()?;
        self.number(Chunk { id, length, pack, offset, packed })
    }

    fn number(&mut self, chunk: Chunk) -> Option<u32> {
        let number = u32::try_from(self.index.chunks.len()).ok()?;
        self.numbers.insert(chunk.id, number);
        self.index.chunks.push(chunk);
        Some(number)
    }

    /// Completes the pack that is being filled.
    pub fn complete(&mut self) -> Option<PackBlob> {
        let (number, bytes) = self.filling.take()?;
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        self.index.packs[number as usize] = Pack { digest, size: bytes.len() as u64 };
        Some(PackBlob { digest: format!("sha256:{}", hex::encode(digest)), bytes: bytes.into() })
    }

    /// The index, once the last pack is complete.
    pub fn into_index(self) -> Index {
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(byte: u8, length: usize) -> ChunkFrame {
        ChunkFrame::New { id: [byte; 32], length: 200_000, packed: vec![byte; length] }
    }

    #[test]
    fn chunks_fill_packs_and_a_second_snapshot_uses_them() {
        let mut packer = Packer::new(Index::default());
        let mut packs = Vec::new();
        for byte in 0..100 {
            packs.extend(packer.add(new(byte, 190_000)).unwrap());
        }
        packer.add(ChunkFrame::Known([3; 32])).unwrap();
        packs.extend(packer.complete());
        let first = packer.into_index();
        assert_eq!((packs.len(), first.packs.len(), first.stream.len()), (2, 2, 101));
        assert_eq!(first.stream[100], 3);
        assert_eq!(first.packs[1].size, packs[1].bytes.len() as u64);
        let first = Index::decode(&first.encode().unwrap()).unwrap();

        let mut packer = Packer::new(first.clone());
        assert_eq!(packer.known().len(), 100);
        for frame in [ChunkFrame::Known([99; 32]), new(200, 10), ChunkFrame::Known([99; 32])] {
            assert!(packer.add(frame).unwrap().is_none());
        }
        assert!(packer.add(ChunkFrame::Known([222; 32])).is_err());
        assert_eq!(packer.complete().unwrap().bytes.len(), 10);
        let second = packer.into_index();
        assert_eq!(second.packs[0], first.packs[1]);
        assert_eq!((second.chunks.len(), second.stream), (2, vec![0, 1, 0]));
        Index::decode(&packer_index(&second.packs, &second.chunks)).unwrap();
    }

    fn packer_index(packs: &[Pack], chunks: &[Chunk]) -> Vec<u8> {
        Index { packs: packs.to_vec(), chunks: chunks.to_vec(), stream: vec![0] }.encode().unwrap()
    }
}

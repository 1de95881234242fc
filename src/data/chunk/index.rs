//! The index of a snapshot in chunks: which chunks make the stream, and where each lies.

use std::io::{Read, Write};

use super::{ChunkId, MAX_CHUNK, MAX_INDEX, MAX_PACK};

const MAGIC: &[u8; 16] = b"sandbox-chunks-1";
/// Largest index after decompression, in bytes; enough for 160 GiB of a database.
const MAX_RAW: u64 = 512 << 20;
/// How often more bytes the stream may have than its chunks, and how many bytes may have any ratio: see
/// [`crate::data::archive::Limits`].
const RATIO: u64 = 1000;
const FREE: u64 = 1 << 30;

/// A blob that holds chunks one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Its SHA-256 digest.
    pub digest: [u8; 32],
    /// Its length in bytes.
    pub size: u64,
}

/// A chunk and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The hash of its bytes.
    pub id: ChunkId,
    /// Its length.
    pub length: u32,
    /// The number of its pack.
    pub pack: u32,
    /// Where it begins in the pack.
    pub offset: u32,
    /// Its length in the pack.
    pub packed: u32,
}

/// The index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// The packs.
    pub packs: Vec<Pack>,
    /// The chunks, each once.
    pub chunks: Vec<Chunk>,
    /// The chunks of the stream in order, as numbers of `chunks`.
    pub stream: Vec<u32>,
}

/// An index that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the index of the chunks is not valid: {0}")]
pub struct IndexError(pub(super) String);

fn bad(reason: impl Into<String>) -> IndexError {
    IndexError(reason.into())
}

impl Index {
    /// Length of the stream in bytes.
    pub fn length(&self) -> u64 {
        self.stream.iter().map(|number| u64::from(self.chunks[*number as usize].length)).sum()
    }

    /// The index in the form in which it is stored. Values of one kind lie together, because that compresses well.
    ///
    /// # Errors
    /// Fails if it is too large.
    pub fn encode(&self) -> Result<Vec<u8>, IndexError> {
        let mut raw = MAGIC.to_vec();
        for count in [self.packs.len(), self.chunks.len(), self.stream.len()] {
            let count = u32::try_from(count).map_err(|_| bad("it has too many chunks"))?;
            raw.extend_from_slice(&count.to_le_bytes());
        }
        self.packs.iter().for_each(|pack| raw.extend_from_slice(&pack.digest));
        self.packs.iter().for_each(|pack| raw.extend_from_slice(&pack.size.to_le_bytes()));
        self.chunks.iter().for_each(|chunk| raw.extend_from_slice(&chunk.id));
        let columns: [fn(&Chunk) -> u32; 4] = [|it| it.length, |it| it.pack, |it| it.offset, |it| it.packed];
        for column in columns {
            self.chunks.iter().for_each(|chunk| raw.extend_from_slice(&column(chunk).to_le_bytes()));
        }
        let mut expected = 0u32;
        for number in &self.stream {
            // Chunks mostly follow each other, so that most differences are zero.
            raw.extend_from_slice(&number.wrapping_sub(expected).to_le_bytes());
            expected = number.wrapping_add(1);
        }
        if raw.len() as u64 > MAX_RAW {
            return Err(bad(format!("it has {} bytes, and at most {MAX_RAW} are read", raw.len())));
        }
        let fail = |error: std::io::Error| bad(error.to_string());
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).map_err(fail)?;
        encoder.write_all(&raw).and_then(|()| encoder.finish()).map_err(fail)
    }

    /// Reads an untrusted index.
    ///
    /// # Errors
    /// Fails unless every chunk lies in a pack and the sizes are within the limits.
    pub fn decode(packed: &[u8]) -> Result<Self, IndexError> {
        if packed.len() as u64 > MAX_INDEX {
            return Err(bad("it is too long"));
        }
        let fail = |error: std::io::Error| bad(error.to_string());
        let mut decoder = zstd::Decoder::new(packed).map_err(fail)?;
        decoder.window_log_max(27).map_err(fail)?;
        let mut raw = Vec::new();
        decoder.take(MAX_RAW + 1).read_to_end(&mut raw).map_err(fail)?;
        if raw.len() as u64 > MAX_RAW {
            return Err(bad("it is too long"));
        }
        let index = Columns(&raw).index().ok_or_else(|| bad("it is cut short"))?;
        index.check()?;
        Ok(index)
    }

    fn check(&self) -> Result<(), IndexError> {
        if self.packs.iter().any(|pack| pack.size > MAX_PACK) {
            return Err(bad(format!("a pack has more than {MAX_PACK} bytes")));
        }
        let lies_in_pack = |chunk: &Chunk| {
            let pack = self.packs.get(chunk.pack as usize);
            pack.is_some_and(|pack| u64::from(chunk.offset) + u64::from(chunk.packed) <= pack.size)
        };
        let has_length = |chunk: &Chunk| (1..=MAX_CHUNK).contains(&(chunk.length as usize));
        let is_packed = |chunk: &Chunk| (1..=chunk.length).contains(&chunk.packed);
        if !self.chunks.iter().all(|chunk| has_length(chunk) && is_packed(chunk) && lies_in_pack(chunk)) {
            return Err(bad("a chunk lies outside of its pack or has a wrong length"));
        }
        if self.stream.iter().any(|number| *number as usize >= self.chunks.len()) {
            return Err(bad("its stream has a chunk that is not there"));
        }
        let stored: u64 = self.chunks.iter().map(|chunk| u64::from(chunk.packed)).sum();
        if self.length() > FREE.saturating_add(stored.saturating_mul(RATIO)) {
            return Err(bad(format!("{stored} bytes would become {}", self.length())));
        }
        Ok(())
    }
}

/// Reads columns of numbers.
struct Columns<'a>(&'a [u8]);

impl<'a> Columns<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn column<const N: usize>(&mut self, count: usize) -> Option<impl Iterator<Item = [u8; N]> + use<'a, N>> {
        let bytes = self.take(count.checked_mul(N)?)?;
        Some(bytes.as_chunks::<N>().0.iter().copied())
    }

    fn numbers(&mut self, count: usize) -> Option<impl Iterator<Item = u32> + use<'a>> {
        Some(self.column::<4>(count)?.map(u32::from_le_bytes))
    }

    fn index(mut self) -> Option<Index> {
        if self.take(MAGIC.len())? != MAGIC {
            return None;
        }
        let mut counts = self.numbers(3)?.map(|count| count as usize);
        let (packs, chunks, stream) = (counts.next()?, counts.next()?, counts.next()?);
        let digests = self.column::<32>(packs)?;
        let sizes = self.column::<8>(packs)?.map(u64::from_le_bytes);
        let packs = digests.zip(sizes).map(|(digest, size)| Pack { digest, size }).collect();
        let ids = self.column::<32>(chunks)?;
        let (lengths, numbers) = (self.numbers(chunks)?, self.numbers(chunks)?);
        let (offsets, packed) = (self.numbers(chunks)?, self.numbers(chunks)?);
        let places = lengths.zip(numbers).zip(offsets.zip(packed));
        let chunks = ids.zip(places).map(|(id, ((length, pack), (offset, packed)))| Chunk {
            id,
            length,
            pack,
            offset,
            packed,
        });
        let chunks = chunks.collect();
        let mut expected = 0u32;
        let stream = self.numbers(stream)?.map(|difference| {
            let number = expected.wrapping_add(difference);
            expected = number.wrapping_add(1);
            number
        });
        let stream = stream.collect();
        self.0.is_empty().then_some(Index { packs, chunks, stream })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let chunk = |id: u8, offset: u32| Chunk { id: [id; 32], length: 100, pack: 0, offset, packed: 50 };
        Index {
            packs: vec![Pack { digest: [9; 32], size: 100 }],
            chunks: vec![chunk(1, 0), chunk(2, 50)],
            stream: vec![0, 1, 0, 0, 1],
        }
    }

    #[test]
    fn an_index_reads_back() {
        let read = Index::decode(&index().encode().unwrap()).unwrap();
        assert_eq!(read, index());
        assert_eq!(read.length(), 500);
    }

    #[test]
    fn an_index_that_lies_is_refused() {
        let spoilt = |spoil: fn(&mut Index)| {
            let mut index = index();
            spoil(&mut index);
            Index::decode(&index.encode().unwrap()).map(drop).unwrap_err().to_string()
        };
        assert!(spoilt(|index| index.chunks[1].offset = 60).contains("outside of its pack"));
        assert!(spoilt(|index| index.chunks[1].pack = 1).contains("outside of its pack"));
        assert!(spoilt(|index| index.chunks[1].length = u32::MAX).contains("wrong length"));
        assert!(spoilt(|index| index.packs[0].size = u64::MAX).contains("a pack has more"));
        assert!(spoilt(|index| index.stream[1] = 2).contains("not there"));
        assert!(spoilt(|index| index.stream = vec![0; 20_000_000]).contains("would become"));
        let whole = index().encode().unwrap();
        assert!(Index::decode(&whole[..whole.len() - 3]).is_err());
        assert!(Index::decode(b"nothing").is_err());
    }

    #[test]
    fn zeros_that_unpack_to_gigabytes_are_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        std::io::copy(&mut std::io::repeat(0).take(MAX_RAW + 10), &mut encoder).unwrap();
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 1 << 20);
        assert!(Index::decode(&bomb).unwrap_err().to_string().contains("too long"));
    }
}

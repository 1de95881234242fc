//! The messages between a client, which reaches the registry, and its process beside the storage, which has the data.
//!
//! To send a set: the client writes the ids of the chunks that the registry has; the process writes one [`ChunkFrame`]
//! for each chunk of the stream. To receive one: the client writes the index; the process writes which chunks it lacks
//! ([`MissingList`]); the client writes those, each after a [`chunk_header`].

use super::{Chunk, ChunkId, IndexError, MAX_CHUNK};

const KNOWN: u8 = 0;
const NEW: u8 = 1;
const END: u8 = 2;

/// One chunk of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkFrame {
    /// A chunk that the registry has, or that came before.
    Known(ChunkId),
    /// A new one.
    New {
        /// The hash of its bytes.
        id: ChunkId,
        /// Its length.
        length: u32,
        /// Its bytes, packed if that makes them shorter.
        packed: Vec<u8>,
    },
    /// The stream is complete.
    End,
}

impl ChunkFrame {
    /// Writes the frame to a buffer.
    pub fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Known(id) => {
                to.push(KNOWN);
                to.extend_from_slice(id);
            }
            Self::New { id, length, packed } => {
                to.push(NEW);
                to.extend_from_slice(id);
                to.extend_from_slice(&length.to_le_bytes());
                to.extend_from_slice(&u32::try_from(packed.len()).unwrap_or(u32::MAX).to_le_bytes());
                to.extend_from_slice(packed);
            }
            Self::End => to.push(END),
        }
    }
}

/// Parses frames that arrive in pieces.
#[derive(Debug, Default)]
pub struct ChunkFrames {
    arrived: Vec<u8>,
    at: usize,
}

impl ChunkFrames {
    /// Adds bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > MAX_CHUNK {
            self.arrived.drain(..self.at);
            self.at = 0;
        }
        self.arrived.extend_from_slice(bytes);
    }

    /// The next complete frame.
    ///
    /// # Errors
    /// Fails if the bytes are no frame.
    pub fn next(&mut self) -> Result<Option<ChunkFrame>, IndexError> {
        let bytes = &self.arrived[self.at..];
        let (frame, length) = match bytes.first() {
            None => return Ok(None),
            Some(&END) => (ChunkFrame::End, 1),
            Some(&KNOWN) => match id_at(bytes, 1) {
                Some(id) => (ChunkFrame::Known(id), 33),
                None => return Ok(None),
            },
            Some(&NEW) => {
                let Some(((id, length), packed)) =
                    id_at(bytes, 1).zip(number_at(bytes, 33)).zip(number_at(bytes, 37))
                else {
                    return Ok(None);
                };
                let packed = packed as usize;
                if packed > MAX_CHUNK || length as usize > MAX_CHUNK {
                    return Err(IndexError("a chunk is too long".to_owned()));
                }
                let Some(data) = bytes.get(41..41 + packed) else { return Ok(None) };
                (ChunkFrame::New { id, length, packed: data.to_vec() }, 41 + packed)
            }
            Some(_) => return Err(IndexError("the keeper's end sends what is no chunk".to_owned())),
        };
        self.at += length;
        Ok(Some(frame))
    }
}

fn id_at(bytes: &[u8], at: usize) -> Option<ChunkId> {
    bytes.get(at..at + 32)?.try_into().ok()
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The message with the ids of the chunks that the registry has.
pub fn known_ids<'a>(ids: impl ExactSizeIterator<Item = &'a ChunkId>) -> Vec<u8> {
    let mut message = Vec::with_capacity(8 + 32 * ids.len());
    message.extend_from_slice(&(ids.len() as u64).to_le_bytes());
    ids.for_each(|id| message.extend_from_slice(id));
    message
}

/// What precedes an index.
pub fn index_header(index: &[u8]) -> [u8; 8] {
    (index.len() as u64).to_le_bytes()
}

/// What precedes the packed bytes of a chunk: its number in the index.
pub fn chunk_header(number: u32, chunk: &Chunk) -> [u8; 8] {
    let mut header = [0; 8];
    header[..4].copy_from_slice(&number.to_le_bytes());
    header[4..].copy_from_slice(&chunk.packed.to_le_bytes());
    header
}

/// Parses the list of the chunks that a storage lacks.
#[derive(Debug, Default)]
pub struct MissingList(Vec<u8>);

impl MissingList {
    /// The list as a message.
    pub fn message(numbers: &[u32]) -> Vec<u8> {
        let mut message = (numbers.len() as u64).to_le_bytes().to_vec();
        numbers.iter().for_each(|number| message.extend_from_slice(&number.to_le_bytes()));
        message
    }

    /// Adds bytes that have arrived; returns the list once it is complete.
    ///
    /// # Errors
    /// Fails if it names more than `most` chunks.
    pub fn push(&mut self, bytes: &[u8], most: usize) -> Result<Option<Vec<u32>>, IndexError> {
        self.0.extend_from_slice(bytes);
        let Some((count, numbers)) = self.0.split_first_chunk::<8>() else { return Ok(None) };
        let count = usize::try_from(u64::from_le_bytes(*count)).unwrap_or(usize::MAX);
        if count > most {
            return Err(IndexError("the keeper's end lacks more chunks than there are".to_owned()));
        }
        let Some(numbers) = numbers.get(..count * 4) else { return Ok(None) };
        Ok(Some(numbers.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_however_they_arrive() {
        let frames = [
            ChunkFrame::New { id: [1; 32], length: 9, packed: vec![5; 7] },
            ChunkFrame::Known([2; 32]),
            ChunkFrame::End,
        ];
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.write(&mut bytes));
        for piece in [1, 5, 1000] {
            let (mut parser, mut read) = (ChunkFrames::default(), Vec::new());
            for bytes in bytes.chunks(piece) {
                parser.push(bytes);
                while let Some(frame) = parser.next().unwrap() {
                    read.push(frame);
                }
            }
            assert_eq!(read, frames);
        }
        let mut parser = ChunkFrames::default();
        parser.push(b"?");
        assert!(parser.next().is_err());
    }

    #[test]
    fn a_list_of_missing_chunks_reads_back() {
        let message = MissingList::message(&[3, 1]);
        let mut list = MissingList::default();
        assert_eq!(list.push(&message[..9], 4).unwrap(), None);
        assert_eq!(list.push(&message[9..], 4).unwrap(), Some(vec![3, 1]));
        assert!(MissingList::default().push(&message, 1).is_err());
    }
}

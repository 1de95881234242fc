//! Cuts the tar of a snapshot into chunks, at places that stay the same when other parts of it change.
//!
//! Large files of databases are cut at fixed offsets, since databases overwrite pages in place. Other large files, and
//! everything between large files (headers and small files), are cut by content.

use std::io::{self, Write};
use std::sync::Arc;

use fastcdc::v2020::FastCDC;

use super::MAX_CHUNK;
use crate::data::archive::{Extent, TarSink};

/// Length of a chunk of a database's file: a page of MariaDB, two of PostgreSQL. Shorter chunks make a longer index.
const BLOCK: usize = 16 << 10;
/// Files whose length is a multiple of this are taken for those of a database.
const PAGE: u64 = 4096;
/// A shorter extent is cut together with its neighbours.
const LARGE: u64 = 128 << 10;
/// Shortest and usual length of a chunk that is cut by content.
const SHORTEST: usize = 16 << 10;
const USUAL: usize = 64 << 10;
/// How much is gathered before it is cut.
const GATHERED: usize = 1 << 20;

/// Where the bytes of a chunk lie in a file.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file's path in the tar.
    pub path: Arc<[u8]>,
    /// The offset in the file.
    pub at: u64,
}

/// Receives chunks in the order of the stream.
pub trait ChunkSink {
    /// Takes a chunk. Its place is known if it lies in one large file.
    fn chunk(&mut self, bytes: &[u8], place: Option<&Place>) -> io::Result<()>;
}

/// How the gathered bytes are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// At fixed offsets of a file.
    Blocks,
    /// By content.
    Content,
}

/// A writer of a tar that passes it on in chunks.
pub struct Cutter<S> {
    sink: S,
    cut: Cut,
    /// Bytes that are not cut yet.
    gathered: Vec<u8>,
    /// Where they begin, if they are data of a large file.
    place: Option<Place>,
    /// How many more bytes of the large file follow.
    left: u64,
}

impl<S: ChunkSink> Cutter<S> {
    /// Creates a cutter.
    pub fn new(sink: S) -> Self {
        Self { sink, cut: Cut::Content, gathered: Vec::new(), place: None, left: 0 }
    }

    /// The sink. The cutter must have been flushed.
    pub fn into_inner(self) -> S {
        self.sink
    }

    /// Passes on the chunks that are certain; with `all`, all.
    fn pass_on(&mut self, all: bool) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        let mut done = 0;
        while let Some(length) = self.next_cut(&gathered[done..], all) {
            self.sink.chunk(&gathered[done..done + length], self.place.as_ref())?;
            done += length;
            if let Some(place) = &mut self.place {
                place.at += length as u64;
            }
        }
        self.gathered = gathered;
        self.gathered.drain(..done);
        Ok(())
    }

    /// The length of the next chunk, if it does not depend on bytes that are still to come.
    fn next_cut(&self, bytes: &[u8], all: bool) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        let length = match self.cut {
            Cut::Blocks => {
                let at = self.place.as_ref().map_or(0, |place| place.at);
                let over = usize::try_from(at % BLOCK as u64).unwrap_or(0);
                BLOCK - over
            }
            Cut::Content if bytes.len() < MAX_CHUNK && !all => return None,
            Cut::Content => {
                let window = &bytes[..bytes.len().min(MAX_CHUNK)];
                FastCDC::new(window, SHORTEST, USUAL, MAX_CHUNK).next().map_or(window.len(), |cut| cut.length)
            }
        };
        if length <= bytes.len() { Some(length) } else { all.then_some(bytes.len()) }
    }

    fn end_of_extent(&mut self) -> io::Result<()> {
        self.pass_on(true)?;
        (self.cut, self.place) = (Cut::Content, None);
        Ok(())
    }
}

impl<S: ChunkSink> Write for Cutter<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let in_file = self.left > 0;
        let most = if in_file { usize::try_from(self.left).unwrap_or(usize::MAX) } else { usize::MAX };
        let taken = bytes.len().min(most);
        self.gathered.extend_from_slice(&bytes[..taken]);
        if in_file {
            self.left -= taken as u64;
            if self.left == 0 {
                self.end_of_extent()?;
                return Ok(taken);
            }
        }
        if self.gathered.len() >= GATHERED {
            self.pass_on(false)?;
        }
        Ok(taken)
    }

    /// Passes on everything. Only the end of the stream may be flushed, since a flush makes a cut.
    fn flush(&mut self) -> io::Result<()> {
        self.pass_on(true)
    }
}

impl<S: ChunkSink> TarSink for Cutter<S> {
    fn extent(&mut self, extent: Extent<'_>) -> io::Result<()> {
        if extent.length < LARGE {
            return Ok(());
        }
        self.pass_on(true)?;
        self.cut = if extent.file_length.is_multiple_of(PAGE) { Cut::Blocks } else { Cut::Content };
        self.place = Some(Place { path: extent.path.into(), at: extent.at });
        self.left = extent.length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[derive(Default)]
    struct Kept(Vec<(Vec<u8>, Option<u64>)>);

    impl ChunkSink for Kept {
        fn chunk(&mut self, bytes: &[u8], place: Option<&Place>) -> io::Result<()> {
            self.0.push((bytes.to_vec(), place.map(|place| place.at)));
            Ok(())
        }
    }

    fn noise(length: usize, mut seed: u64) -> Vec<u8> {
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    /// Cuts headers, a file's data and what follows, written in pieces of the given size.
    fn cut(before: &[u8], file: &[u8], after: &[u8], piece: usize) -> Vec<(Vec<u8>, Option<u64>)> {
        let mut cutter = Cutter::new(Kept::default());
        cutter.write_all(before).unwrap();
        let length = file.len() as u64;
        cutter.extent(Extent { path: b"volumes/v/f", file_length: length, at: 0, length }).unwrap();
        file.chunks(piece).for_each(|bytes| cutter.write_all(bytes).unwrap());
        after.chunks(piece).for_each(|bytes| cutter.write_all(bytes).unwrap());
        cutter.flush().unwrap();
        cutter.into_inner().0
    }

    fn new_bytes(old: &[(Vec<u8>, Option<u64>)], new: &[(Vec<u8>, Option<u64>)]) -> usize {
        let known: BTreeSet<&[u8]> = old.iter().map(|(bytes, _)| bytes.as_slice()).collect();
        new.iter().filter(|(bytes, _)| !known.contains(bytes.as_slice())).map(|(bytes, _)| bytes.len()).sum()
    }

    #[test]
    fn the_chunks_are_the_stream_and_do_not_depend_on_how_it_is_written() {
        let (before, file, after) = (noise(3000, 1), noise(1_000_003, 2), noise(2_000_000, 3));
        let whole = [before.as_slice(), &file, &after].concat();
        let chunks = cut(&before, &file, &after, 4096);
        assert_eq!(chunks.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<u8>>(), whole);
        assert!(chunks.iter().all(|(bytes, _)| bytes.len() <= MAX_CHUNK));
        assert_eq!(cut(&before, &file, &after, 777), chunks);
    }

    #[test]
    fn a_page_that_is_overwritten_changes_one_block() {
        let mut file = noise(1 << 20, 2);
        let old = cut(b"header", &file, b"", 1 << 18);
        assert!(old[1..].iter().all(|(bytes, _)| bytes.len() == BLOCK));
        assert_eq!(old[2].1, Some(BLOCK as u64));
        file[300_000..308_192].fill(7);
        assert_eq!(new_bytes(&old, &cut(b"header", &file, b"", 1 << 18)), BLOCK);
    }

    #[test]
    fn bytes_that_are_inserted_change_the_chunks_around_them() {
        let file = noise(2_000_001, 2);
        let old = cut(b"header", &file, b"", 1 << 18);
        let longer = [&file[..1_000_000], b"inserted", &file[1_000_000..]].concat();
        let new = cut(b"header", &longer, b"", 1 << 18);
        assert!(new_bytes(&old, &new) <= 2 * MAX_CHUNK, "{}", new_bytes(&old, &new));
    }
}

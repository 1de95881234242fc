//! Reads tar entries strictly; fails on anything that the writer does not produce.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::header::{number, text};
use super::records::Records;
use super::{BLOCK, Kind, Member};
use crate::data::archive::buffer_pool::{BufferPool, PooledBuffer};
use crate::data::archive::checksum::Checksum;
use crate::data::archive::{ArchiveError, Limits};

/// Maximum length of one entry's PAX records.
const MAX_RECORDS: u64 = 1 << 20;

/// A strict tar reader: fails on anything that the writer does not produce.
pub struct TarReader<R> {
    input: R,
    hash: Option<Checksum>,
    /// The last header; it becomes part of the checksum only when the caller accepts the entry.
    pending: Vec<u8>,
    /// Bytes read of the tar.
    read: u64,
    packed: PackedCount,
    limits: Limits,
    /// The current entry, for messages.
    entry: Vec<u8>,
    portions: BufferPool,
}

/// Number of bytes read of the compressed file, updated by its reader.
pub type PackedCount = Arc<AtomicU64>;

impl<R: Read> TarReader<R> {
    /// Creates a reader.
    pub fn new(input: R, packed: PackedCount, limits: Limits) -> Self {
        Self {
            input,
            hash: None,
            pending: Vec::new(),
            read: 0,
            packed,
            limits,
            entry: Vec::new(),
            portions: BufferPool::default(),
        }
    }

    /// Starts a checksum before the entry that [`TarReader::next`] returned last.
    pub fn begin(&mut self) {
        self.hash = Some(Checksum::begin());
    }

    /// Includes the entry that [`TarReader::next`] returned last in the checksum.
    pub fn accept(&mut self) {
        if let Some(hash) = &mut self.hash {
            hash.update(&self.pending);
        }
    }

    /// Ends the checksum before the entry that [`TarReader::next`] returned last.
    pub fn end(&mut self) -> String {
        self.hash.take().map_or_else(String::new, Checksum::end)
    }

    /// Fills a buffer with data of the entry.
    pub fn data(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.fill(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&*buffer);
        }
        Ok(())
    }

    /// Reads exactly `length` bytes of an entry's data into a pooled buffer.
    pub fn portion(&mut self, length: usize) -> Result<PooledBuffer, ArchiveError> {
        let mut portions = std::mem::take(&mut self.portions);
        let portion = portions.fill(length, |buffer| self.fill(buffer).map(|()| length));
        self.portions = portions;
        let portion = portion?;
        if let Some(hash) = &mut self.hash {
            hash.share(&portion);
        }
        Ok(portion)
    }

    /// Fills a buffer with header data.
    fn words(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.fill(buffer)?;
        self.pending.extend_from_slice(buffer);
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.input.read_exact(buffer).map_err(|e| self.failed(e))?;
        self.read += buffer.len() as u64;
        let packed = self.packed.load(Ordering::Relaxed).max(1);
        if self.read > self.limits.free && self.read / packed > self.limits.ratio {
            let what = format!("{} bytes for each byte of the file", self.read / packed);
            return Err(ArchiveError::TooMuch { what, limit: self.limits.ratio.to_string() });
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> ArchiveError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::damaged(&self.entry, "it ends here"),
            // Zstd reports invalid input with these kinds.
            io::ErrorKind::Other | io::ErrorKind::InvalidData => {
                ArchiveError::damaged(&self.entry, error.to_string())
            }
            _ => ArchiveError::Stream { operation: "read", source: error },
        }
    }

    /// Skips the padding after `size` bytes of data; it must be zeros.
    pub fn skip_padding(&mut self, size: u64) -> Result<(), ArchiveError> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over == 0 {
            return Ok(());
        }
        let mut padding = [0u8; BLOCK];
        self.data(&mut padding[over..])?;
        if padding == [0; BLOCK] {
            Ok(())
        } else {
            Err(ArchiveError::damaged(&self.entry, "its filling is not empty"))
        }
    }

    /// Reads a whole entry of at most `limit` bytes.
    pub fn document(&mut self, member: &Member, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        if member.kind != Kind::File || member.sparse.is_some() {
            return Err(ArchiveError::hostile(&member.path, "it is not a plain file"));
        }
        if member.size > limit {
            return Err(ArchiveError::hostile(&member.path, format!("it is longer than {limit} bytes")));
        }
        let mut text = vec![0; usize::try_from(member.size).unwrap_or(0)];
        self.data(&mut text)?;
        self.skip_padding(member.size)?;
        Ok(text)
    }

    /// Returns the next entry's metadata, `None` at the end. The data of the current entry must have been read.
    pub fn next(&mut self) -> Result<Option<Member>, ArchiveError> {
        self.pending.clear();
        let Some(first) = self.header()? else { return Ok(None) };
        if first[156] != b'x' {
            let member = self.member(&first, Records::default())?;
            return Ok(Some(member));
        }
        let size = number(&first[124..136]).unwrap_or(u64::MAX);
        if size > MAX_RECORDS {
            return Err(ArchiveError::hostile(&self.entry, "the next entry's attributes are too long"));
        }
        let mut text = vec![0; usize::try_from(size).unwrap_or(0)];
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        self.words(&mut text)?;
        text.truncate(usize::try_from(size).unwrap_or(0));
        let records = Records::parse(&text).ok_or_else(|| {
            ArchiveError::damaged(&self.entry, "the next entry's attributes cannot be read")
        })?;
        let Some(second) = self.header()? else {
            return Err(ArchiveError::damaged(&self.entry, "attributes without an entry follow it"));
        };
        self.member(&second, records).map(Some)
    }

    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        let mut block = [0u8; BLOCK];
        self.words(&mut block)?;
        if block == [0; BLOCK] {
            self.words(&mut block)?;
            if block != [0; BLOCK] {
                return Err(ArchiveError::damaged(&self.entry, "its end is followed by more"));
            }
            return Ok(None);
        }
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u64::from(*b) })
            .sum();
        if &block[257..262] != b"ustar" || number(&block[148..156]) != Some(sum) {
            return Err(ArchiveError::damaged(&self.entry, "what follows it is not an entry"));
        }
        Ok(Some(block))
    }

    fn member(&mut self, block: &[u8; BLOCK], records: Records) -> Result<Member, ArchiveError> {
        let sparse = records.sparse()?;
        let name = text(&block[0..100]);
        let path = match (&sparse, records.path) {
            (Some((name, _)), None) => name.clone(),
            (None, Some(path)) => path,
            (None, None) => name.to_vec(),
            (Some(_), Some(path)) => return Err(ArchiveError::hostile(&path, "it has two names")),
        };
        self.entry.clone_from(&path);
        let bad = |what: &str| ArchiveError::damaged(&path, format!("its {what} cannot be read"));
        if block[345] != 0 {
            return Err(bad("name"));
        }
        let kind = match block[156] {
            b'0' | 0 => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'5' => Kind::Folder,
            b'6' => Kind::Fifo,
            b'3' | b'4' => return Err(ArchiveError::hostile(&path, "it is a device")),
            other => {
                let letter = char::from(other).escape_debug();
                return Err(ArchiveError::hostile(
                    &path,
                    format!("no volume has an entry of type `{letter}`"),
                ));
            }
        };
        let size = records.size.or_else(|| number(&block[124..136])).ok_or_else(|| bad("size"))?;
        if kind != Kind::File && (size != 0 || sparse.is_some()) {
            return Err(ArchiveError::hostile(&path, "it has data, and is not a file"));
        }
        let id = |record: Option<u64>, field: &[u8]| {
            let id = record.or_else(|| number(field)).and_then(|id| u32::try_from(id).ok());
            id.filter(|id| *id != u32::MAX).ok_or_else(|| bad("owner"))
        };
        let seconds = number(&block[136..148]).and_then(|s| i64::try_from(s).ok());
        Ok(Member {
            kind,
            link: records.link.unwrap_or_else(|| text(&block[157..257]).to_vec()),
            mode: number(&block[100..108]).and_then(|m| u32::try_from(m).ok()).ok_or_else(|| bad("mode"))?
                & 0o7777,
            uid: id(records.uid, &block[108..116])?,
            gid: id(records.gid, &block[116..124])?,
            mtime: records.mtime.or(seconds.map(|s| (s, 0))).ok_or_else(|| bad("time"))?,
            xattrs: records.xattrs,
            size,
            sparse: sparse.map(|(_, length)| length),
            path,
        })
    }

    /// Reads the rest of the file after the archive's end, which may contain only zeros. This lets the decompressor
    /// verify its own checksum.
    pub fn drain(&mut self) -> Result<(), ArchiveError> {
        let mut buffer = [0u8; 4096];
        let mut left = 1 << 20;
        loop {
            let got = self.input.read(&mut buffer).map_err(|e| self.failed(e))?;
            if got == 0 {
                return Ok(());
            }
            left -= got.min(left);
            if left == 0 || buffer[..got].iter().any(|b| *b != 0) {
                return Err(ArchiveError::damaged(&self.entry, "its end is followed by more"));
            }
        }
    }
}

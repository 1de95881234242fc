//! Writes tar entries.

use std::io::{self, Write};

use super::header::header;
use super::records::records;
use super::{BLOCK, Member};
use crate::data::archive::buffer_pool::PooledBuffer;
use crate::data::archive::checksum::Checksum;
use crate::data::archive::sink::{Extent, TarSink};

/// A tar writer that can take a checksum of its output.
pub struct TarWriter<W> {
    out: W,
    hash: Option<Checksum>,
    written: u64,
}

impl<W: Write> TarWriter<W> {
    /// Creates a writer.
    pub fn new(out: W) -> Self {
        Self { out, hash: None, written: 0 }
    }

    /// Starts a checksum.
    pub fn begin(&mut self) {
        self.hash = Some(Checksum::begin());
    }

    /// Ends the checksum and returns it.
    pub fn end(&mut self) -> String {
        self.hash.take().map_or_else(String::new, Checksum::end)
    }

    /// Writes an entry's header; the caller then calls [`TarWriter::data`] and [`TarWriter::pad`].
    pub fn member(&mut self, member: &Member) -> io::Result<()> {
        let records = records(member);
        if !records.is_empty() {
            let header = header(b"PaxHeaders/entry", b'x', 0o644, (0, 0), records.len() as u64, 0, b"");
            self.data(&header)?;
            self.data(&records)?;
            self.pad()?;
        }
        let name = if member.sparse.is_some() { sparse_name(&member.path) } else { member.path.clone() };
        let mtime = u64::try_from(member.mtime.0).unwrap_or(0);
        let owner = (u64::from(member.uid), u64::from(member.gid));
        let header =
            header(&name, member.kind.letter(), member.mode, owner, member.size, mtime, &member.link);
        self.data(&header)
    }

    /// Announces data of a file to the underlying writer.
    pub fn extent(&mut self, extent: Extent<'_>) -> io::Result<()>
    where
        W: TarSink,
    {
        self.out.extent(extent)
    }

    /// Writes data of an entry.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Writes a pooled buffer of an entry's data without copying it for the checksum.
    pub fn portion(&mut self, portion: &PooledBuffer) -> io::Result<()> {
        if let Some(hash) = &mut self.hash {
            hash.share(portion);
        }
        self.written += portion.len() as u64;
        self.out.write_all(portion)
    }

    /// Pads the data to the next block.
    pub fn pad(&mut self) -> io::Result<()> {
        let over = usize::try_from(self.written % BLOCK as u64).unwrap_or(0);
        if over > 0 { self.data(&[0; BLOCK][over..]) } else { Ok(()) }
    }

    /// Writes a complete entry with a document, such as the manifest.
    pub fn document(&mut self, path: &[u8], text: &[u8]) -> io::Result<()> {
        self.member(&Member::document(path, text.len() as u64))?;
        self.data(text)?;
        self.pad()
    }

    /// Ends the archive and returns the underlying writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.data(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }
}

fn sparse_name(path: &[u8]) -> Vec<u8> {
    let at = path.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    [&path[..at], b"GNUSparseFile.0/", &path[at..]].concat()
}

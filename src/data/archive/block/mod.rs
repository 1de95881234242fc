//! The tar format itself: 512-byte headers and PAX records, written and read.
//!
//! The format is POSIX.1-2017's pax interchange format, with `SCHILY.xattr.` for extended attributes and GNU's sparse
//! format 1.0, as GNU tar and libarchive read them. The reader knows what the writer writes and refuses all else.

mod header;
mod read;
mod records;
mod write;

use crate::storage::tree::Xattr;

pub use read::{PackedCount, TarReader};
pub use write::TarWriter;

const BLOCK: usize = 512;

/// What an entry is, by tar's letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    Folder,
    Fifo,
}

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::Folder => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// One entry's metadata.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its path in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Where it links to.
    pub link: Vec<u8>,
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was changed: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
    /// Bytes that follow.
    pub size: u64,
    /// Of a file with holes, its whole length; what follows begins with a map of its data.
    pub sparse: Option<u64>,
}

impl Member {
    /// A file that carries our own words.
    pub fn document(path: &[u8], size: u64) -> Self {
        Self {
            path: path.to_vec(),
            kind: Kind::File,
            link: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: Vec::new(),
            size,
            sparse: None,
        }
    }
}

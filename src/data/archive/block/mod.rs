//! The tar format itself: 512-byte headers and PAX records, written and read.
//!
//! The format is POSIX.1-2017's pax interchange format, with `SCHILY.xattr.` for extended attributes and GNU's sparse
//! format 1.0, as GNU tar and libarchive read them. The reader accepts only what the writer produces.

mod header;
mod read;
mod records;
mod write;

use crate::storage::tree::Xattr;

pub use read::{PackedCount, TarReader};
pub use write::TarWriter;

const BLOCK: usize = 512;

/// The type of an entry, as tar's type flag.
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
    /// Its type.
    pub kind: Kind,
    /// The target of a link.
    pub link: Vec<u8>,
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    /// Numeric user id of the owner.
    pub uid: u32,
    /// Numeric group id of the owner.
    pub gid: u32,
    /// Modification time: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
    /// Number of data bytes that follow.
    pub size: u64,
    /// The full length of a sparse file; its data then begins with a map of its extents.
    pub sparse: Option<u64>,
}

impl Member {
    /// Metadata of a document that we write, such as the manifest.
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

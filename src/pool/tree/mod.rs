//! One way of walking a volume's files, shared by copies, archives and sizes.
//!
//! Volumes are written by containers, possibly while they are read, so nothing is ever reached by a path of more than
//! one name: every step is relative to an open folder and follows no link.

mod attributes;
mod clone;
mod size;

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

pub use attributes::{Xattr, is_refusable, list_xattrs, set_xattr};
pub use clone::{Cloning, Counter, clone_tree};
pub use size::{apparent_size, size_of_tree};

/// Folders deeper than this are not walked.
pub const MAX_DEPTH: usize = 2000;

/// A step of a walk that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} `{}`", path.display())]
pub struct TreeError {
    /// What was being done, as a verb.
    pub operation: &'static str,
    /// To what, relative to the volume.
    pub path: PathBuf,
    /// The system's answer.
    #[source]
    pub source: io::Error,
}

impl TreeError {
    /// An error at a path.
    pub fn new(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self { operation, path: path.to_owned(), source: source.into() }
    }
}

impl From<TreeError> for super::StorageError {
    fn from(error: TreeError) -> Self {
        Self::io(error.operation, &error.path, error.source)
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kinds of files that the kernel knows")]
pub enum EntryKind {
    Folder,
    File,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl EntryKind {
    fn of(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Self::Folder,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::RegularFile | FileType::Unknown => Self::File,
        }
    }
}

/// One entry, as the walk meets it.
pub struct Entry<'a> {
    /// Its path relative to the root of the walk; empty for the root.
    pub path: &'a Path,
    /// The folder that holds it (the root itself, for the root).
    pub folder: BorrowedFd<'a>,
    /// Its name in that folder (`.` for the root).
    pub name: &'a CStr,
    /// Its metadata, of itself and not of what it may link to.
    pub stat: &'a Stat,
    /// What it is.
    pub kind: EntryKind,
}

impl Entry<'_> {
    /// Opens a file or folder for reading, without following a link or waiting for a fifo.
    pub fn open(&self) -> Result<OwnedFd, TreeError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(self.folder, self.name, flags, Mode::empty())
            .map_err(|e| TreeError::new("open", self.path, e))
    }

    /// What a symbolic link says.
    pub fn link_target(&self) -> Result<CString, TreeError> {
        rustix::fs::readlinkat(self.folder, self.name, Vec::new())
            .map_err(|e| TreeError::new("read the link", self.path, e))
    }

    /// The entry's extended attributes.
    pub fn xattrs(&self) -> Result<Vec<Xattr>, TreeError> {
        list_xattrs(self.folder, self.name)
            .map_err(|e| TreeError::new("read the attributes of", self.path, e))
    }
}

/// Who is told of what a walk meets: folders before and after what is in them, everything else once.
pub trait Visitor {
    /// The visitor's own errors.
    type Error: From<TreeError>;

    /// A folder is about to be walked; the first is the root.
    fn enter(&mut self, folder: &Entry<'_>) -> Result<(), Self::Error>;

    /// Anything but a folder.
    fn visit(&mut self, entry: &Entry<'_>) -> Result<(), Self::Error>;

    /// A folder has been walked.
    fn leave(&mut self, folder: &Entry<'_>) -> Result<(), Self::Error>;
}

/// Walks everything below a folder, names sorted.
pub fn walk<V: Visitor>(root: &Path, visitor: &mut V) -> Result<(), V::Error> {
    let fd = open_folder(rustix::fs::CWD, root.as_os_str().as_bytes())
        .map_err(|e| TreeError::new("open", root, e))?;
    let mut path = PathBuf::new();
    folder(fd.as_fd(), c".", &mut path, 0, visitor)
}

fn open_folder(at: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

fn folder<V: Visitor>(
    parent: BorrowedFd<'_>,
    name: &CStr,
    path: &mut PathBuf,
    depth: usize,
    visitor: &mut V,
) -> Result<(), V::Error> {
    if depth > MAX_DEPTH {
        let error = io::Error::other(format!("folders are nested more than {MAX_DEPTH} deep"));
        return Err(TreeError::new("walk", path, error).into());
    }
    let fd = open_folder(parent, name.to_bytes()).map_err(|e| TreeError::new("open", path, e))?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| TreeError::new("read", path, e))?;
    let names = names(&fd).map_err(|e| TreeError::new("list", path, e))?;
    let here = Entry { path, folder: parent, name, stat: &stat, kind: EntryKind::Folder };
    visitor.enter(&here)?;
    for child in &names {
        path.push(OsStr::from_bytes(child.to_bytes()));
        let outcome = entry(fd.as_fd(), child, path, depth, visitor);
        path.pop();
        outcome?;
    }
    visitor.leave(&Entry { path, folder: parent, name, stat: &stat, kind: EntryKind::Folder })
}

fn entry<V: Visitor>(
    parent: BorrowedFd<'_>,
    name: &CStr,
    path: &mut PathBuf,
    depth: usize,
    visitor: &mut V,
) -> Result<(), V::Error> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        // Removed since the folder was listed.
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(e) => return Err(TreeError::new("read", path, e).into()),
    };
    match EntryKind::of(&stat) {
        EntryKind::Folder => folder(parent, name, path, depth + 1, visitor),
        kind => visitor.visit(&Entry { path, folder: parent, name, stat: &stat, kind }),
    }
}

fn names(fd: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

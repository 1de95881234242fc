//! Walks the files of a volume; copies, archives and sizes share this code.
//!
//! Containers may modify volumes while they are read, so no path of more than one name is ever resolved: every step is
//! relative to an open folder and follows no link.

mod attributes;
mod clone;
mod pack;
mod remove;
mod size;

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

pub use attributes::{Xattr, is_refusable, list_xattrs, set_xattr};
pub use clone::{Cloning, Counter, clone_tree};
pub use pack::{pack_file, pack_folder, pack_tree};
pub use remove::remove_tree;
pub use size::{apparent_size, size_of_tree};

/// Maximum depth of folders that are walked.
pub const MAX_DEPTH: usize = 2000;

/// A failed step of a walk.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} `{}`", path.display())]
pub struct TreeError {
    /// The operation that failed, as a verb.
    pub operation: &'static str,
    /// The path that it failed on, relative to the volume.
    pub path: PathBuf,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

impl TreeError {
    /// Creates an error for a path.
    pub fn new(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self { operation, path: path.to_owned(), source: source.into() }
    }
}

impl From<TreeError> for super::StorageError {
    fn from(error: TreeError) -> Self {
        Self::io(error.operation, &error.path, error.source)
    }
}

/// The type of an entry.
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

/// One entry of a walk.
pub struct Entry<'a> {
    /// Its path relative to the root of the walk; empty for the root.
    pub path: &'a Path,
    /// The folder that holds it (the root itself, for the root).
    pub folder: BorrowedFd<'a>,
    /// Its name in that folder (`.` for the root).
    pub name: &'a CStr,
    /// Its metadata; for a symbolic link, that of the link.
    pub stat: &'a Stat,
    /// Its type.
    pub kind: EntryKind,
}

impl Entry<'_> {
    /// Opens a file or folder for reading, without following a link or waiting for a fifo.
    pub fn open(&self) -> Result<OwnedFd, TreeError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(self.folder, self.name, flags, Mode::empty())
            .map_err(|e| TreeError::new("open", self.path, e))
    }

    /// The target of a symbolic link.
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

/// Receives the entries of a walk: folders before and after their contents, everything else once.
pub trait Visitor {
    /// The visitor's own errors.
    type Error: From<TreeError>;

    /// Called before a folder is walked; the first is the root.
    fn enter(&mut self, folder: &Entry<'_>) -> Result<(), Self::Error>;

    /// Called for every entry that is not a folder.
    fn visit(&mut self, entry: &Entry<'_>) -> Result<(), Self::Error>;

    /// Called after a folder has been walked.
    fn leave(&mut self, folder: &Entry<'_>) -> Result<(), Self::Error>;

    /// Called for a listed entry that cannot be reached, because it was removed in the meantime or lies too deep. A
    /// copy would be incomplete then, so the walk fails by default.
    fn missed(&mut self, error: TreeError) -> Result<(), Self::Error> {
        Err(error.into())
    }
}

/// Walks everything below a folder, names sorted.
pub fn walk<V: Visitor>(root: &Path, visitor: &mut V) -> Result<(), V::Error> {
    let fd = open_folder(rustix::fs::CWD, root.as_os_str().as_bytes())
        .map_err(|e| TreeError::new("open", root, e))?;
    walk_open(fd.as_fd(), visitor)
}

/// As [`walk`], for a folder that is open: it stays the same folder even if its path is replaced.
fn walk_open<V: Visitor>(root: BorrowedFd<'_>, visitor: &mut V) -> Result<(), V::Error> {
    folder(root, c".", &mut PathBuf::new(), 0, visitor)
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
        return visitor.missed(TreeError::new("walk", path, error));
    }
    let opened = match open_folder(parent, name.to_bytes()) {
        Ok(fd) => listed(fd, path),
        Err(e) => Err(TreeError::new("open", path, e)),
    };
    let (fd, stat, names) = match opened {
        Ok(opened) => opened,
        Err(error) => return visitor.missed(error),
    };
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
        Err(e) => return visitor.missed(TreeError::new("read", path, e)),
    };
    match EntryKind::of(&stat) {
        EntryKind::Folder => folder(parent, name, path, depth + 1, visitor),
        kind => visitor.visit(&Entry { path, folder: parent, name, stat: &stat, kind }),
    }
}

fn listed(fd: OwnedFd, path: &Path) -> Result<(OwnedFd, Stat, Vec<CString>), TreeError> {
    let stat = rustix::fs::fstat(&fd).map_err(|e| TreeError::new("read", path, e))?;
    let names = names(&fd).map_err(|e| TreeError::new("list", path, e))?;
    Ok((fd, stat, names))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Removes everything after it has been listed.
    struct Thief<'a> {
        root: &'a Path,
        forgives: bool,
        met: Vec<PathBuf>,
    }

    impl Visitor for Thief<'_> {
        type Error = TreeError;

        fn enter(&mut self, _: &Entry<'_>) -> Result<(), TreeError> {
            std::fs::remove_file(self.root.join("b")).unwrap();
            std::fs::remove_dir(self.root.join("c")).unwrap();
            Ok(())
        }

        fn visit(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
            self.met.push(entry.path.to_owned());
            Ok(())
        }

        fn leave(&mut self, _: &Entry<'_>) -> Result<(), TreeError> {
            Ok(())
        }

        fn missed(&mut self, error: TreeError) -> Result<(), TreeError> {
            if self.forgives { Ok(()) } else { Err(error) }
        }
    }

    #[test]
    fn what_goes_during_a_walk_ends_it_unless_the_visitor_does_without() {
        for forgives in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path();
            for file in ["a", "b", "d"] {
                std::fs::write(root.join(file), file).unwrap();
            }
            std::fs::create_dir(root.join("c")).unwrap();
            let mut thief = Thief { root, forgives, met: Vec::new() };
            let outcome = walk(root, &mut thief);
            if forgives {
                outcome.unwrap();
                assert_eq!(thief.met, [Path::new("a"), Path::new("d")]);
            } else {
                assert_eq!(outcome.unwrap_err().path, Path::new("b"));
            }
        }
    }
}

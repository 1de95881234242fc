//! Copies a tree with its owners, modes, times, attributes, hard links, symbolic links and holes.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::{Entry, EntryKind, TreeError, Visitor, set_xattr, walk};

/// How a file's data is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloning {
    /// Blocks are shared; a file that cannot be cloned is copied.
    Reflink,
    /// Bytes are copied; holes stay holes.
    Copy,
}

/// Progress counter of a clone.
#[derive(Debug, Default)]
pub struct Counter {
    /// Bytes copied so far.
    pub done: AtomicU64,
    /// Bytes in total; 0 while unknown.
    pub total: AtomicU64,
}

/// Copies the contents of `from`, and its own owner, mode and times, to the existing folder `to`. Sockets are left
/// out, because nothing listens on a copy.
pub fn clone_tree(from: &Path, to: &Path, cloning: Cloning, counter: &Counter) -> Result<(), TreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(to, flags, Mode::empty()).map_err(|e| TreeError::new("open", to, e))?;
    walk(from, &mut Cloner { cloning, counter, folders: Vec::new(), root, links: HashMap::new() })
}

struct Cloner<'a> {
    cloning: Cloning,
    counter: &'a Counter,
    /// The folders being filled, the root first.
    folders: Vec<OwnedFd>,
    root: OwnedFd,
    /// Path of the first copied name of each file that has several names.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Visitor for Cloner<'_> {
    type Error = TreeError;

    fn enter(&mut self, folder: &Entry<'_>) -> Result<(), TreeError> {
        let made = match self.folders.last() {
            None => self.root.try_clone().map_err(|e| TreeError::new("open", folder.path, e))?,
            Some(parent) => {
                make_folder(parent, folder).map_err(|e| TreeError::new("make", folder.path, e))?
            }
        };
        self.folders.push(made);
        Ok(())
    }

    fn visit(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
        let Some(parent) = self.folders.last() else { return Ok(()) };
        let several = entry.stat.st_nlink > 1;
        let identity = (entry.stat.st_dev, entry.stat.st_ino);
        if several && let Some(first) = self.links.get(&identity) {
            return rustix::fs::linkat(&self.root, first, parent, entry.name, AtFlags::empty())
                .map_err(|e| TreeError::new("link", entry.path, e));
        }
        match entry.kind {
            EntryKind::Folder | EntryKind::Socket => return Ok(()),
            EntryKind::File => self.file(parent.as_fd(), entry)?,
            EntryKind::Symlink => rustix::fs::symlinkat(entry.link_target()?, parent, entry.name)
                .map_err(|e| TreeError::new("make", entry.path, e))?,
            EntryKind::Fifo => node(parent.as_fd(), entry, FileType::Fifo)?,
            EntryKind::CharDevice => node(parent.as_fd(), entry, FileType::CharacterDevice)?,
            EntryKind::BlockDevice => node(parent.as_fd(), entry, FileType::BlockDevice)?,
        }
        dress(parent.as_fd(), entry.name, entry)?;
        if several {
            self.links.insert(identity, entry.path.to_owned());
        }
        Ok(())
    }

    fn leave(&mut self, folder: &Entry<'_>) -> Result<(), TreeError> {
        self.folders.pop();
        match self.folders.last() {
            Some(parent) => dress(parent.as_fd(), folder.name, folder),
            None => dress(self.root.as_fd(), c".", folder),
        }
    }
}

impl Cloner<'_> {
    fn file(&self, parent: BorrowedFd<'_>, entry: &Entry<'_>) -> Result<(), TreeError> {
        let source = entry.open()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(parent, entry.name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| TreeError::new("make", entry.path, e))?;
        let shared = self.cloning == Cloning::Reflink && rustix::fs::ioctl_ficlone(&made, &source).is_ok();
        if shared {
            let size = u64::try_from(entry.stat.st_size).unwrap_or_default();
            self.counter.done.fetch_add(size, Ordering::Relaxed);
            return Ok(());
        }
        copy_data(&source, &made, self.counter).map_err(|e| TreeError::new("copy", entry.path, e))
    }
}

fn make_folder(parent: &OwnedFd, folder: &Entry<'_>) -> io::Result<OwnedFd> {
    rustix::fs::mkdirat(parent, folder.name, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, folder.name, flags, Mode::empty())?)
}

fn node(parent: BorrowedFd<'_>, entry: &Entry<'_>, kind: FileType) -> Result<(), TreeError> {
    rustix::fs::mknodat(parent, entry.name, kind, Mode::RUSR | Mode::WUSR, entry.stat.st_rdev)
        .map_err(|e| TreeError::new("make", entry.path, e))
}

/// Sets owner, attributes, mode and times in the order in which none undoes another: changing the owner clears set-id
/// bits and file capabilities, and every change modifies the times.
fn dress(parent: BorrowedFd<'_>, name: &CStr, entry: &Entry<'_>) -> Result<(), TreeError> {
    let fail = |operation| move |e: io::Error| TreeError::new(operation, entry.path, e);
    let stat = entry.stat;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| fail("change the owner of")(e.into()))?;
    for (key, value) in entry.xattrs()? {
        set_xattr(parent, name, &key, &value).map_err(fail("set an attribute of"))?;
    }
    if entry.kind != EntryKind::Symlink {
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())
            .map_err(|e| fail("change the mode of")(e.into()))?;
    }
    rustix::fs::utimensat(parent, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| fail("set the times of")(e.into()))
}

fn times(stat: &Stat) -> Timestamps {
    let spec = |sec: i64, nsec: u64| Timespec { tv_sec: sec, tv_nsec: nsec.cast_signed() };
    Timestamps {
        last_access: spec(stat.st_atime, stat.st_atime_nsec),
        last_modification: spec(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Copies the data of a file and keeps its holes.
fn copy_data(source: &OwnedFd, made: &OwnedFd, counter: &Counter) -> io::Result<()> {
    let size = u64::try_from(rustix::fs::fstat(source)?.st_size).unwrap_or_default();
    rustix::fs::ftruncate(made, size)?;
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let hole = rustix::fs::seek(source, SeekFrom::Hole(data))?.min(size);
        counter.done.fetch_add(data.saturating_sub(at), Ordering::Relaxed);
        copy_range(source, made, data, hole, counter)?;
        at = hole.max(data + 1);
    }
    counter.done.fetch_add(size.saturating_sub(at), Ordering::Relaxed);
    Ok(())
}

fn copy_range(source: &OwnedFd, made: &OwnedFd, from: u64, to: u64, counter: &Counter) -> io::Result<()> {
    const STEP: u64 = 16 << 20;
    let (mut read_at, mut write_at) = (from, from);
    while read_at < to {
        let step = usize::try_from((to - read_at).min(STEP)).unwrap_or(1 << 20);
        match rustix::fs::copy_file_range(source, Some(&mut read_at), made, Some(&mut write_at), step) {
            // The file was truncated during the copy.
            Ok(0) => return Ok(()),
            Ok(copied) => {
                counter.done.fetch_add(copied as u64, Ordering::Relaxed);
            }
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_bytes(source, made, read_at, to, counter);
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn copy_bytes(source: &OwnedFd, made: &OwnedFd, from: u64, to: u64, counter: &Counter) -> io::Result<()> {
    let (mut reader, mut writer) =
        (std::fs::File::from(source.try_clone()?), std::fs::File::from(made.try_clone()?));
    rustix::fs::seek(&reader, SeekFrom::Start(from))?;
    rustix::fs::seek(&writer, SeekFrom::Start(from))?;
    let mut buffer = vec![0u8; 1 << 20];
    let mut left = to - from;
    while left > 0 {
        let want = buffer.len().min(usize::try_from(left).unwrap_or(buffer.len()));
        let got = reader.read(&mut buffer[..want])?;
        if got == 0 {
            break;
        }
        writer.write_all(&buffer[..got])?;
        left -= got as u64;
        counter.done.fetch_add(got as u64, Ordering::Relaxed);
    }
    Ok(())
}

//! Writes a tree as a tar for the engine.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::Stat;

use super::{Entry, EntryKind, TreeError, Visitor, walk, walk_open};
use crate::host_files::{Folder, Owner, header};

/// Writes everything below a folder, under a name that may be empty. Files keep their owners unless one is given.
/// Sockets, pipes and devices have no contents and are left out.
///
/// # Errors
/// Returns the path that cannot be read. A closed writer is reported as [`io::ErrorKind::BrokenPipe`].
pub fn pack_tree<W: Write>(
    root: &Path,
    name: &Path,
    owner: Option<Owner>,
    out: &mut tar::Builder<W>,
) -> Result<(), TreeError> {
    walk(root, &mut Packer { name, owner, out })
}

/// As [`pack_tree`], for a folder that is open, with all files of one owner.
///
/// # Errors
/// As [`pack_tree`].
pub fn pack_folder<W: Write>(
    root: &Folder,
    owner: Owner,
    out: &mut tar::Builder<W>,
) -> Result<(), TreeError> {
    walk_open(root.as_fd(), &mut Packer { name: Path::new(""), owner: Some(owner), out })
}

/// Writes one open file under a name. If the file grows or shrinks meanwhile, the entry keeps its announced size.
///
/// # Errors
/// Fails if the file cannot be read or written.
pub fn pack_file<W: Write>(
    file: File,
    name: &Path,
    owner: Option<Owner>,
    out: &mut tar::Builder<W>,
) -> io::Result<()> {
    let stat = rustix::fs::fstat(&file)?;
    let mut header = header_of(&stat, tar::EntryType::Regular, owner);
    let size = header.size()?;
    out.append_data(&mut header, name, file.take(size).chain(io::repeat(0)).take(size))
}

struct Packer<'a, W: Write> {
    name: &'a Path,
    owner: Option<Owner>,
    out: &'a mut tar::Builder<W>,
}

impl<W: Write> Visitor for Packer<'_, W> {
    type Error = TreeError;

    fn enter(&mut self, folder: &Entry<'_>) -> Result<(), TreeError> {
        let name = self.name.join(folder.path);
        if name.as_os_str().is_empty() {
            return Ok(());
        }
        let mut header = header_of(folder.stat, tar::EntryType::Directory, self.owner);
        let appended = self.out.append_data(&mut header, name, io::empty());
        appended.map_err(|e| TreeError::new("pack", folder.path, e))
    }

    fn visit(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
        let name = self.name.join(entry.path);
        let appended = match entry.kind {
            EntryKind::File => pack_file(File::from(entry.open()?), &name, self.owner, self.out),
            EntryKind::Symlink => {
                let target = entry.link_target()?;
                let mut header = header_of(entry.stat, tar::EntryType::Symlink, self.owner);
                self.out.append_link(&mut header, name, OsStr::from_bytes(target.to_bytes()))
            }
            _ => return Ok(()),
        };
        appended.map_err(|e| TreeError::new("read", entry.path, e))
    }

    fn leave(&mut self, _: &Entry<'_>) -> Result<(), TreeError> {
        Ok(())
    }
}

fn header_of(stat: &Stat, kind: tar::EntryType, owner: Option<Owner>) -> tar::Header {
    let owner = owner.unwrap_or(Owner { uid: stat.st_uid.into(), gid: stat.st_gid.into() });
    let size =
        if kind == tar::EntryType::Regular { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 };
    let mut header = header(kind, size, stat.st_mode & 0o7777, owner);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header
}

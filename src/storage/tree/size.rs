//! Measures how many bytes a tree uses, and how many of them it shares with other trees.

use std::collections::HashSet;
use std::path::Path;

use rustix::ioctl::{self, Updater, opcode};

use super::{Entry, EntryKind, TreeError, Visitor, walk};
use crate::storage::SetSize;

/// Sum of the apparent sizes of the files in a tree, ignoring those that cannot be reached.
pub fn apparent_size(root: &Path) -> Result<u64, TreeError> {
    let mut sizer = Sizer::default();
    walk(root, &mut sizer)?;
    Ok(sizer.apparent)
}

/// Own and shared bytes of a tree. Entries that cannot be reached are ignored, because the tree may be in use.
/// `sharing` reads every file's extents.
pub fn size_of_tree(root: &Path, sharing: bool) -> Result<SetSize, TreeError> {
    let mut sizer = Sizer { sharing, ..Sizer::default() };
    walk(root, &mut sizer)?;
    Ok(sizer.size)
}

#[derive(Default)]
struct Sizer {
    sharing: bool,
    apparent: u64,
    size: SetSize,
    seen: HashSet<(u64, u64)>,
}

impl Visitor for Sizer {
    type Error = TreeError;

    fn enter(&mut self, _: &Entry<'_>) -> Result<(), TreeError> {
        Ok(())
    }

    fn visit(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
        if entry.kind != EntryKind::File
            || (entry.stat.st_nlink > 1 && !self.seen.insert((entry.stat.st_dev, entry.stat.st_ino)))
        {
            return Ok(());
        }
        self.apparent += u64::try_from(entry.stat.st_size).unwrap_or_default();
        let blocks = u64::try_from(entry.stat.st_blocks).unwrap_or_default() * 512;
        let shared = if self.sharing && blocks > 0 { shared_bytes(entry).min(blocks) } else { 0 };
        self.size.shared += shared;
        self.size.own += blocks - shared;
        Ok(())
    }

    fn leave(&mut self, _: &Entry<'_>) -> Result<(), TreeError> {
        Ok(())
    }

    /// Files that disappear while services run are not an error.
    fn missed(&mut self, _: TreeError) -> Result<(), TreeError> {
        Ok(())
    }
}

const EXTENTS: usize = 128;
const LAST: u32 = 0x1;
const SHARED: u32 = 0x2000;

/// `struct fiemap_extent` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// `struct fiemap` of the kernel, without the extents that follow it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Header {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
}

#[repr(C)]
struct Fiemap {
    header: Header,
    extents: [Extent; EXTENTS],
}

const FS_IOC_FIEMAP: ioctl::Opcode = opcode::read_write::<Header>(b'f', 11);

/// Bytes of a file that other files share; 0 if the file cannot be opened or the file system does not report sharing.
fn shared_bytes(entry: &Entry<'_>) -> u64 {
    let Ok(fd) = entry.open() else { return 0 };
    let mut shared = 0;
    let mut start = 0;
    loop {
        let count = u32::try_from(EXTENTS).unwrap_or_default();
        let header = Header { start, length: u64::MAX - start, count, ..Header::default() };
        let mut map = Box::new(Fiemap { header, extents: [Extent::default(); EXTENTS] });
        // SAFETY: the kernel writes at most `count` extents behind the header, and there is room for as many.
        let asked = unsafe { ioctl::ioctl(&fd, Updater::<FS_IOC_FIEMAP, Fiemap>::new(&mut map)) };
        if asked.is_err() {
            return shared;
        }
        let extents = &map.extents[..(map.header.mapped as usize).min(EXTENTS)];
        shared += extents.iter().filter(|e| e.flags & SHARED != 0).map(|e| e.length).sum::<u64>();
        match extents.last() {
            Some(last) if last.flags & LAST == 0 => start = last.logical + last.length,
            _ => return shared,
        }
    }
}

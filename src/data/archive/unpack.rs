//! Unpacks one volume of a snapshot file.
//!
//! No path is ever resolved: entries come folder by folder, and each is created by a single name in an open folder
//! that was created here. So neither `..` nor a link can lead out of the volume.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::block::{Kind, Member, TarReader};
use super::buffer_pool::PORTION;
use super::sparse_map::read_map;
use super::{Announced, ArchiveError, VOLUMES, leaves, printable};
use crate::storage::VolumeName;
use crate::storage::tree::{Counter, MAX_DEPTH, TreeError, is_refusable, set_xattr};

const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4095;

/// A folder that is being filled; its own metadata is set at the end.
struct Open {
    fd: OwnedFd,
    member: Member,
    name: CString,
}

/// Amounts that were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Entries of all volumes.
    pub entries: u64,
    /// Bytes of their data.
    pub bytes: u64,
}

/// A volume that is being unpacked.
pub struct Unpacking<'a> {
    /// Its name.
    pub name: VolumeName,
    prefix: Vec<u8>,
    announced: &'a Announced,
    place: &'a Path,
    /// The open folders, the volume's root first.
    folders: Vec<Open>,
    counts: Imported,
}

impl<'a> Unpacking<'a> {
    /// Starts to unpack a volume with these announced contents into `place`.
    pub fn new(name: &VolumeName, announced: &'a Announced, place: &'a Path) -> Self {
        let prefix = format!("{VOLUMES}{name}/").into_bytes();
        let counts = Imported::default();
        Self { name: name.clone(), prefix, announced, place, folders: Vec::new(), counts }
    }

    /// Whether an entry with this path belongs to the volume.
    pub fn holds(&self, path: &[u8]) -> bool {
        path.starts_with(&self.prefix)
    }

    /// Splits a path below the volume into validated names.
    fn parts<'p>(&self, path: &'p [u8], kind: Kind) -> Result<Vec<&'p [u8]>, ArchiveError> {
        let bad = |reason: &str| Err(ArchiveError::hostile(path, reason));
        let mut inside = &path[self.prefix.len()..];
        if kind == Kind::Folder
            && let Some(stripped) = inside.strip_suffix(b"/")
        {
            inside = stripped;
        }
        if inside.is_empty() {
            return Ok(Vec::new());
        }
        if inside.len() > MAX_PATH {
            return bad("its path is too long");
        }
        let parts: Vec<&[u8]> = inside.split(|b| *b == b'/').collect();
        if parts.len() > MAX_DEPTH {
            return bad("it lies too deep");
        }
        for part in &parts {
            match *part {
                b"" | b"." => return bad("its path is not plain"),
                b".." => return bad("its path leads out of the volume"),
                part if part.contains(&0) => return bad("its path is not plain"),
                part if part.len() > MAX_NAME => return bad("its name is too long"),
                _ => {}
            }
        }
        Ok(parts)
    }

    /// Creates one entry.
    pub fn take<R: Read>(
        &mut self,
        tar: &mut TarReader<R>,
        member: &Member,
        counter: &Counter,
    ) -> Result<(), ArchiveError> {
        let parts = self.parts(&member.path, member.kind)?;
        self.counts.entries += 1;
        if self.counts.entries > self.announced.entries {
            let reason = format!("only {} entries were announced", self.announced.entries);
            return Err(ArchiveError::hostile(&member.path, reason));
        }
        let inside: PathBuf = parts.iter().map(|part| std::ffi::OsStr::from_bytes(part)).collect();
        self.judge(member, &inside)?;
        let Some((name, parents)) = parts.split_last() else { return self.root(member) };
        self.close_down_to(parents, &member.path)?;
        let name =
            CString::new(*name).map_err(|_| ArchiveError::hostile(&member.path, "its path is not plain"))?;
        let Some(parent) = self.folders.last() else {
            return Err(ArchiveError::hostile(&member.path, "its folder has not come yet"));
        };
        let parent = parent.fd.as_fd();
        let made = |e: Errno| match e {
            Errno::EXIST => ArchiveError::hostile(&member.path, "it is there twice"),
            e => TreeError::new("make", &inside, e).into(),
        };
        match member.kind {
            Kind::Folder => {
                rustix::fs::mkdirat(parent, &*name, Mode::RWXU).map_err(made)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(parent, &*name, flags, Mode::empty()).map_err(made)?;
                self.folders.push(Open { fd, member: member.clone(), name });
                return Ok(());
            }
            Kind::File => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file =
                    rustix::fs::openat(parent, &*name, flags, Mode::RUSR | Mode::WUSR).map_err(made)?;
                let bytes = self.data(tar, member, &file, &inside, counter)?;
                self.counts.bytes += bytes;
            }
            Kind::Symlink => rustix::fs::symlinkat(&*member.link, parent, &*name).map_err(made)?,
            Kind::Fifo => rustix::fs::mkfifoat(parent, &*name, Mode::RUSR | Mode::WUSR).map_err(made)?,
            Kind::HardLink => {
                let (folder, target) = self.link_target(member, &inside)?;
                return rustix::fs::linkat(&folder, &*target, parent, &*name, AtFlags::empty()).map_err(made);
            }
        }
        let parent = self.folders.last().map_or(rustix::fs::CWD, |open| open.fd.as_fd());
        dress(parent, &name, member).map_err(|e| TreeError::new("set the attributes of", &inside, e).into())
    }

    /// Fails if the volume did not announce the entry.
    fn judge(&self, member: &Member, inside: &Path) -> Result<(), ArchiveError> {
        let shown = inside.to_string_lossy();
        let capable = member.xattrs.iter().any(|(key, _)| key.as_c_str() == c"security.capability");
        if member.kind == Kind::File
            && (member.mode & 0o6000 != 0 || capable)
            && !self.announced.privileged.contains(&*shown)
        {
            return Err(ArchiveError::hostile(
                &member.path,
                "it would run with its owner's rights, unannounced",
            ));
        }
        if let Some((key, _)) = member.xattrs.iter().find(|(key, _)| is_refusable(key)) {
            let reason = format!("its attribute `{}` is the machine's to set", printable(key.to_bytes()));
            return Err(ArchiveError::hostile(&member.path, reason));
        }
        if matches!(member.kind, Kind::Symlink | Kind::HardLink)
            && (member.link.is_empty() || member.link.len() > MAX_PATH || member.link.contains(&0))
        {
            return Err(ArchiveError::hostile(&member.path, "what it links to cannot be a path"));
        }
        if member.kind == Kind::Symlink { self.judge_link(member, inside, &member.link) } else { Ok(()) }
    }

    /// Fails for a symbolic link out of the volume that was not announced.
    fn judge_link(&self, member: &Member, inside: &Path, target: &[u8]) -> Result<(), ArchiveError> {
        if leaves(inside, target) && !self.announced.leaving.contains(&*inside.to_string_lossy()) {
            return Err(ArchiveError::hostile(&member.path, "it links out of the volume, unannounced"));
        }
        Ok(())
    }

    fn root(&mut self, member: &Member) -> Result<(), ArchiveError> {
        if member.kind != Kind::Folder {
            return Err(ArchiveError::hostile(&member.path, "a volume is a folder"));
        }
        if !self.folders.is_empty() {
            return Err(ArchiveError::hostile(&member.path, "it is there twice"));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(self.place, flags, Mode::empty())
            .map_err(|e| TreeError::new("open", self.place, e))?;
        self.folders.push(Open { fd, member: member.clone(), name: c".".to_owned() });
        Ok(())
    }

    /// Closes folders until the innermost open one has this path.
    fn close_down_to(&mut self, parents: &[&[u8]], path: &[u8]) -> Result<(), ArchiveError> {
        let same = self
            .folders
            .iter()
            .skip(1)
            .zip(parents)
            .take_while(|(open, part)| open.name.to_bytes() == **part);
        let keep = same.count();
        while self.folders.len() > keep + 1 {
            self.close()?;
        }
        if keep == parents.len() {
            Ok(())
        } else {
            Err(ArchiveError::hostile(path, "its folder is not the open one"))
        }
    }

    fn close(&mut self) -> Result<(), ArchiveError> {
        let Some(open) = self.folders.pop() else { return Ok(()) };
        let at = self.folders.last().map_or(open.fd.as_fd(), |parent| parent.fd.as_fd());
        let path = PathBuf::from(printable(&open.member.path));
        dress(at, &open.name, &open.member)
            .map_err(|e| TreeError::new("set the attributes of", &path, e).into())
    }

    /// Resolves the target of a hard link to a folder of this volume, opened name by name, and a name in it.
    fn link_target(&self, member: &Member, inside: &Path) -> Result<(OwnedFd, CString), ArchiveError> {
        let bad = |reason: &str| ArchiveError::hostile(&member.path, reason);
        if !self.holds(&member.link) {
            return Err(bad("it links out of the volume"));
        }
        let parts = self.parts(&member.link, Kind::File).map_err(|_| bad("it links out of the volume"))?;
        let missing = || bad("it links to what has not come yet");
        let (name, parents) = parts.split_last().ok_or_else(missing)?;
        let root = self.folders.first().ok_or_else(missing)?;
        let mut folder = root.fd.try_clone().map_err(|_| missing())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for part in parents {
            folder = rustix::fs::openat(&folder, *part, flags, Mode::empty()).map_err(|_| missing())?;
        }
        let name = CString::new(*name).map_err(|_| missing())?;
        let stat = rustix::fs::statat(&folder, &*name, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| missing())?;
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        if kind.is_dir() {
            return Err(bad("it links to a folder"));
        }
        if kind.is_symlink() {
            // From the new location the same link may point elsewhere.
            let target = rustix::fs::readlinkat(&folder, &*name, Vec::new()).map_err(|_| missing())?;
            self.judge_link(member, inside, target.as_bytes())?;
        }
        Ok((folder, name))
    }

    /// Writes a file's data with its holes; returns the number of data bytes.
    fn data<R: Read>(
        &self,
        tar: &mut TarReader<R>,
        member: &Member,
        file: &OwnedFd,
        inside: &Path,
        counter: &Counter,
    ) -> Result<u64, ArchiveError> {
        let fail = |e: Errno| TreeError::new("write", inside, e);
        let (extents, mapped) = match member.sparse {
            None => (vec![(0, member.size)], 0),
            Some(length) => {
                let map = read_map(tar, member, length)?;
                rustix::fs::ftruncate(file, length).map_err(fail)?;
                map
            }
        };
        let bytes: u64 = extents.iter().map(|(_, length)| length).sum();
        if mapped.checked_add(bytes) != Some(member.size) {
            return Err(ArchiveError::hostile(&member.path, "its map of holes does not fit its size"));
        }
        if self.counts.bytes.saturating_add(bytes) > self.announced.bytes {
            let reason = format!("only {} bytes were announced", self.announced.bytes);
            return Err(ArchiveError::hostile(&member.path, reason));
        }
        for (at, length) in extents {
            let (mut at, end) = (at, at + length);
            while at < end {
                let want = PORTION.min(usize::try_from(end - at).unwrap_or(usize::MAX));
                let portion = tar.portion(want)?;
                write_at(file, &portion, at).map_err(fail)?;
                at += want as u64;
                counter.done.fetch_add(want as u64, Ordering::Relaxed);
            }
        }
        tar.skip_padding(member.size)?;
        Ok(bytes)
    }

    /// Closes all folders and compares the contents with the announcement. `next` is the entry that follows the
    /// volume.
    pub fn finish(mut self, next: &[u8]) -> Result<Imported, ArchiveError> {
        while !self.folders.is_empty() {
            self.close()?;
        }
        let Announced { entries, bytes, .. } = *self.announced;
        if (entries, bytes) != (self.counts.entries, self.counts.bytes) {
            let reason = format!(
                "volume `{}` announced {entries} entries and {bytes} bytes and has {} and {}",
                self.name, self.counts.entries, self.counts.bytes
            );
            return Err(ArchiveError::damaged(next, reason));
        }
        Ok(self.counts)
    }
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Sets owner, attributes, mode and times in the order in which none undoes another.
fn dress(folder: BorrowedFd<'_>, name: &CString, member: &Member) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
    rustix::fs::chownat(folder, &**name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    for (key, value) in &member.xattrs {
        set_xattr(folder, name, key, value)?;
    }
    if member.kind != Kind::Symlink {
        rustix::fs::chmodat(folder, &**name, Mode::from_raw_mode(member.mode), AtFlags::empty())?;
    }
    let time = Timespec { tv_sec: member.mtime.0, tv_nsec: i64::from(member.mtime.1) };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(folder, &**name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

//! Writes a snapshot file.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::block::{Kind, Member, TarWriter};
use super::buffer_pool::{BufferPool, PORTION};
use super::sink::{Extent, TarSink};
use super::sparse_map::map_of;
use super::{
    Announced, ArchiveError, CHECKSUMS, Checksums, Head, IMAGES, MANIFEST, MAX_MANIFEST, VOLUMES,
    VolumeSource, checksum_of, leaves,
};
use crate::data::manifest::{FORMAT, Manifest};
use crate::storage::tree::{Counter, Entry, EntryKind, TreeError, Visitor, Xattr, walk};

/// The images' archive is written in pieces, because its length is unknown until its end.
const PIECE: usize = 8 << 20;
/// Zstd's level. For files of databases it compresses as well as zstd's default (3) in two thirds of the time; for
/// programs and libraries the result is 5 % larger.
const LEVEL: i32 = 2;
/// Buffer size: small headers are collected, larger data bypasses the buffer.
const BUFFER: usize = 64 << 10;

/// Compression of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A plain tar.
    Raw,
    /// Zstd, on all cores.
    Zstd,
}

/// Amounts that were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Entries of all volumes.
    pub entries: u64,
    /// Bytes of their data.
    pub bytes: u64,
    /// Sockets that were left out, because nothing listens on a copy.
    pub sockets: u64,
    /// Devices that were left out, because no import accepts them.
    pub devices: u64,
}

fn write_failed(source: io::Error) -> ArchiveError {
    ArchiveError::Stream { operation: "write", source }
}

/// Exports volumes as a snapshot file. They must not change during the export.
pub fn export<W: Write>(
    out: W,
    packing: Packing,
    manifest: &Manifest,
    volumes: &[VolumeSource],
    images: Option<&mut dyn Read>,
    counter: &Counter,
) -> Result<Exported, ArchiveError> {
    match packing {
        Packing::Raw => {
            let mut out = io::BufWriter::with_capacity(BUFFER, out);
            let exported = write_tar(&mut out, manifest, volumes, images, counter)?;
            out.flush().map_err(write_failed)?;
            Ok(exported)
        }
        Packing::Zstd => {
            let mut encoder = zstd::Encoder::new(out, LEVEL).map_err(write_failed)?;
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            encoder.multithread(u32::try_from(cores).unwrap_or(1)).map_err(write_failed)?;
            encoder.include_checksum(true).map_err(write_failed)?;
            let mut packed = io::BufWriter::with_capacity(BUFFER, encoder);
            let exported = write_tar(&mut packed, manifest, volumes, images, counter)?;
            let encoder = packed.into_inner().map_err(|e| write_failed(e.into_error()))?;
            encoder.finish().and_then(|mut out| out.flush()).map_err(write_failed)?;
            Ok(exported)
        }
    }
}

/// Writes a plain tar.
pub fn write_tar<W: TarSink>(
    out: W,
    manifest: &Manifest,
    volumes: &[VolumeSource],
    images: Option<&mut dyn Read>,
    counter: &Counter,
) -> Result<Exported, ArchiveError> {
    let mut head = Head {
        format: FORMAT,
        manifest: manifest.clone(),
        volumes: std::collections::BTreeMap::new(),
        images: images.is_some(),
    };
    head.manifest.volumes = volumes.iter().map(|(name, _)| name.clone()).collect();
    for (name, folder) in volumes {
        let mut survey = Survey::default();
        walk(folder, &mut survey)?;
        counter.total.fetch_add(survey.announced.bytes, Ordering::Relaxed);
        head.volumes.insert(name.clone(), survey.announced);
    }
    let mut tar = TarWriter::new(out);
    let text = serde_json::to_vec_pretty(&head).map_err(|e| write_failed(e.into()))?;
    if text.len() as u64 > MAX_MANIFEST {
        let what = format!("links and programs whose names are {} bytes", text.len());
        return Err(ArchiveError::Unannounced { what, limit: MAX_MANIFEST });
    }
    tar.document(MANIFEST, &text).map_err(write_failed)?;
    let mut checksums = Checksums { manifest: checksum_of(&text), ..Checksums::default() };
    let mut exported = Exported::default();
    for (name, folder) in volumes {
        tar.begin();
        let mut writer = VolumeWriter {
            tar: &mut tar,
            prefix: format!("{VOLUMES}{name}/"),
            counter,
            links: HashMap::new(),
            exported: &mut exported,
            portions: BufferPool::default(),
        };
        walk(folder, &mut writer)?;
        checksums.volumes.insert(name.clone(), tar.end());
    }
    if let Some(images) = images {
        tar.begin();
        write_images(&mut tar, images).map_err(write_failed)?;
        checksums.images = Some(tar.end());
    }
    let text = serde_json::to_vec_pretty(&checksums).map_err(|e| write_failed(e.into()))?;
    tar.document(CHECKSUMS, &text).map_err(write_failed)?;
    tar.finish().map_err(write_failed)?;
    Ok(exported)
}

fn write_images<W: Write>(tar: &mut TarWriter<W>, mut images: &mut dyn Read) -> io::Result<()> {
    let mut piece = Vec::with_capacity(PIECE);
    for number in 0u32.. {
        piece.clear();
        Read::by_ref(&mut images).take(PIECE as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            break;
        }
        tar.document(format!("{IMAGES}{number:06}").as_bytes(), &piece)?;
    }
    Ok(())
}

/// The attributes that belong to the data. Others describe the machine, and no import accepts them.
fn portable(xattrs: Vec<Xattr>) -> Vec<Xattr> {
    xattrs.into_iter().filter(|(key, _)| !crate::storage::tree::is_refusable(key)).collect()
}

fn is_privileged(entry: &Entry<'_>, xattrs: &[Xattr]) -> bool {
    entry.kind == EntryKind::File
        && (entry.stat.st_mode & 0o6000 != 0
            || xattrs.iter().any(|(key, _)| key.as_c_str() == c"security.capability"))
}

/// Walks a volume before the export to collect what it must announce.
#[derive(Default)]
struct Survey {
    announced: Announced,
    links: std::collections::HashSet<(u64, u64)>,
}

impl Visitor for Survey {
    type Error = ArchiveError;

    fn enter(&mut self, _: &Entry<'_>) -> Result<(), ArchiveError> {
        self.announced.entries += 1;
        Ok(())
    }

    fn visit(&mut self, entry: &Entry<'_>) -> Result<(), ArchiveError> {
        if matches!(entry.kind, EntryKind::Socket | EntryKind::CharDevice | EntryKind::BlockDevice) {
            return Ok(());
        }
        self.announced.entries += 1;
        let name = || entry.path.to_string_lossy().into_owned();
        let first = entry.stat.st_nlink <= 1 || self.links.insert((entry.stat.st_dev, entry.stat.st_ino));
        match entry.kind {
            EntryKind::File if first => {
                self.announced.bytes += match whole(entry) {
                    Some(length) => length,
                    None => extents(&entry.open()?, entry)?.iter().map(|(_, length)| length).sum(),
                };
                if is_privileged(entry, &entry.xattrs()?) {
                    self.announced.privileged.insert(name());
                }
            }
            EntryKind::Symlink if leaves(entry.path, entry.link_target()?.as_bytes()) => {
                self.announced.leaving.insert(name());
            }
            _ => {}
        }
        Ok(())
    }

    fn leave(&mut self, _: &Entry<'_>) -> Result<(), ArchiveError> {
        Ok(())
    }
}

struct VolumeWriter<'a, W> {
    tar: &'a mut TarWriter<W>,
    prefix: String,
    counter: &'a Counter,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    exported: &'a mut Exported,
    portions: BufferPool,
}

impl<W: TarSink> Visitor for VolumeWriter<'_, W> {
    type Error = ArchiveError;

    fn enter(&mut self, folder: &Entry<'_>) -> Result<(), ArchiveError> {
        let mut member = self.member(folder, Kind::Folder)?;
        if !member.path.ends_with(b"/") {
            member.path.push(b'/');
        }
        self.put(&member)
    }

    fn visit(&mut self, entry: &Entry<'_>) -> Result<(), ArchiveError> {
        let kind = match entry.kind {
            EntryKind::File => Kind::File,
            EntryKind::Symlink => Kind::Symlink,
            EntryKind::Fifo => Kind::Fifo,
            EntryKind::Socket => {
                self.exported.sockets += 1;
                return Ok(());
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                self.exported.devices += 1;
                return Ok(());
            }
            EntryKind::Folder => return Ok(()),
        };
        let mut member = self.member(entry, kind)?;
        if entry.stat.st_nlink > 1 {
            let identity = (entry.stat.st_dev, entry.stat.st_ino);
            if let Some(first) = self.links.get(&identity) {
                (member.kind, member.link) = (Kind::HardLink, first.clone());
                member.xattrs.clear();
                return self.put(&member);
            }
            self.links.insert(identity, member.path.clone());
        }
        match kind {
            Kind::File => self.file(entry, member),
            Kind::Symlink => {
                member.link = entry.link_target()?.into_bytes();
                self.put(&member)
            }
            _ => self.put(&member),
        }
    }

    fn leave(&mut self, _: &Entry<'_>) -> Result<(), ArchiveError> {
        Ok(())
    }
}

impl<W: TarSink> VolumeWriter<'_, W> {
    fn member(&self, entry: &Entry<'_>, kind: Kind) -> Result<Member, ArchiveError> {
        let mut path = self.prefix.clone().into_bytes();
        path.extend_from_slice(entry.path.as_os_str().as_bytes());
        let stat = entry.stat;
        Ok(Member {
            path,
            kind,
            link: Vec::new(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            xattrs: portable(entry.xattrs()?),
            size: 0,
            sparse: None,
        })
    }

    fn put(&mut self, member: &Member) -> Result<(), ArchiveError> {
        self.exported.entries += 1;
        self.tar.member(member).map_err(write_failed)
    }

    fn file(&mut self, entry: &Entry<'_>, mut member: Member) -> Result<(), ArchiveError> {
        let file = entry.open()?;
        let file_length = u64::try_from(entry.stat.st_size).unwrap_or(0);
        let extents = extents(&file, entry)?;
        let bytes: u64 = extents.iter().map(|(_, length)| length).sum();
        let map = if bytes < file_length { map_of(&extents, file_length) } else { Vec::new() };
        member.sparse = (bytes < file_length).then_some(file_length);
        member.size = map.len() as u64 + bytes;
        self.put(&member)?;
        self.tar.data(&map).map_err(write_failed)?;
        for (at, length) in extents {
            let extent = Extent { path: &member.path, file_length, at, length };
            self.tar.extent(extent).map_err(write_failed)?;
            self.extent(&file, entry.path, at, length)?;
        }
        self.exported.bytes += bytes;
        self.tar.pad().map_err(write_failed)
    }

    fn extent(&mut self, file: &OwnedFd, path: &Path, at: u64, length: u64) -> Result<(), ArchiveError> {
        let (mut at, end) = (at, at + length);
        while at < end {
            let want = PORTION.min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let portion = self.portions.fill(want, |buffer| read_at(file, buffer, at));
            let portion = portion.map_err(|e| TreeError::new("read", path, e))?;
            if portion.is_empty() {
                let shorter = io::Error::other("the file became shorter while it was read");
                return Err(TreeError::new("read", path, shorter).into());
            }
            self.tar.portion(&portion).map_err(write_failed)?;
            self.counter.done.fetch_add(portion.len() as u64, Ordering::Relaxed);
            at += portion.len() as u64;
        }
        Ok(())
    }
}

fn read_at(file: &OwnedFd, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    loop {
        match rustix::io::pread(file, &mut *buffer, at) {
            Err(Errno::INTR) => {}
            read => return read,
        }
    }
}

/// The length of a file without holes: its allocated size is at least its length. It is stored as one extent, as `tar`
/// does, without searching for holes.
fn whole(entry: &Entry<'_>) -> Option<u64> {
    let length = u64::try_from(entry.stat.st_size).ok()?;
    // `st_blocks` counts units of 512 bytes, whatever the file system's block size is.
    let room = u64::try_from(entry.stat.st_blocks).ok()?.saturating_mul(512);
    (room >= length).then_some(length)
}

/// The extents of a file that have data, as offsets and lengths.
fn extents(file: &OwnedFd, entry: &Entry<'_>) -> Result<Vec<(u64, u64)>, TreeError> {
    if let Some(length) = whole(entry) {
        return Ok(if length == 0 { Vec::new() } else { vec![(0, length)] });
    }
    let fail = |e: Errno| TreeError::new("read", entry.path, e);
    let length = u64::try_from(entry.stat.st_size).unwrap_or(0);
    let mut extents = Vec::new();
    let mut at = 0;
    while at < length {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            Err(e) => return Err(fail(e)),
        };
        let hole = rustix::fs::seek(file, SeekFrom::Hole(data)).map_err(fail)?.min(length);
        if data >= hole {
            break;
        }
        extents.push((data, hole - data));
        at = hole;
    }
    Ok(extents)
}

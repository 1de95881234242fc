//! Reads an untrusted snapshot file. The import fails on any entry that is not announced, out of order, repeated or of
//! an unsupported type.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::block::{Member, PackedCount, TarReader};
use super::read_ahead::ReadAhead;
use super::unpack::{Imported, Unpacking};
use super::{
    Announced, ArchiveError, CHECKSUMS, Checksums, Head, IMAGES, Limits, MANIFEST, MAX_MANIFEST, VOLUMES,
    checksum_of, printable,
};
use crate::data::manifest::{Consistency, FORMAT, Manifest};
use crate::storage::VolumeName;
use crate::storage::tree::Counter;

/// Buffer size: headers are small, so many are read at once.
const BUFFER: usize = 64 * 1024;

/// A snapshot file whose manifest has been read.
pub struct Import<'a> {
    tar: TarReader<Box<dyn Read + Send + 'a>>,
    head: Head,
    /// The manifest's checksum.
    manifest: String,
    limits: Limits,
}

impl Import<'static> {
    /// Same as [`Import::open`], but decompresses in a separate thread while the data is written.
    pub fn open_ahead(input: impl Read + Send + 'static, limits: Limits) -> Result<Self, ArchiveError> {
        let packed = PackedCount::default();
        let unpacked = ReadAhead::of(Self::unpacked(input, &packed)?);
        Self::begin(Box::new(io::BufReader::with_capacity(BUFFER, unpacked)), packed, limits)
    }
}

impl<'a> Import<'a> {
    /// Reads the manifest, and fails if the file announces more than the limits allow. Detects the compression from
    /// the first bytes.
    pub fn open(input: impl Read + Send + 'a, limits: Limits) -> Result<Self, ArchiveError> {
        let packed = PackedCount::default();
        let unpacked = Self::unpacked(input, &packed)?;
        Self::begin(Box::new(io::BufReader::with_capacity(BUFFER, unpacked)), packed, limits)
    }

    fn begin(
        unpacked: Box<dyn Read + Send + 'a>,
        packed: PackedCount,
        limits: Limits,
    ) -> Result<Self, ArchiveError> {
        let mut tar = TarReader::new(unpacked, packed, limits);
        let (head, manifest) = read_head(&mut tar, limits)?;
        let announced = head.volumes.values().map(|volume| volume.bytes).fold(0, u64::saturating_add);
        Ok(Self { tar, head, manifest, limits: limits.beside(announced) })
    }

    /// A reader of the decompressed file.
    fn unpacked(
        input: impl Read + Send + 'a,
        packed: &PackedCount,
    ) -> Result<Box<dyn Read + Send + 'a>, ArchiveError> {
        let mut input = Counting { input, count: packed.clone() };
        let mut magic = [0u8; 4];
        let mut got = 0;
        while got < magic.len() {
            let read = input.read(&mut magic[got..]);
            match read.map_err(|source| ArchiveError::Stream { operation: "read", source })? {
                0 => break,
                more => got += more,
            }
        }
        let whole = io::Cursor::new(magic).take(got as u64).chain(input);
        if magic == [0x28, 0xb5, 0x2f, 0xfd] {
            let fail = |source| ArchiveError::Stream { operation: "read", source };
            let mut decoder = zstd::Decoder::new(whole).map_err(fail)?;
            decoder.window_log_max(27).map_err(fail)?;
            Ok(Box::new(decoder))
        } else if magic == *b"mani" {
            Ok(Box::new(whole))
        } else {
            Err(ArchiveError::Foreign { reason: "it does not begin like one".to_owned() })
        }
    }

    /// The content of `manifest.json`.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Moves the snapshot's manifest out of the head.
    pub fn take_manifest(&mut self) -> Manifest {
        std::mem::replace(&mut self.head.manifest, nothing().manifest)
    }

    /// Reads the volumes into these folders, which must be empty, and the images' archive into `images`. If it fails,
    /// the caller must discard what has been written.
    pub fn unpack(
        mut self,
        places: &BTreeMap<VolumeName, PathBuf>,
        mut images: Option<&mut dyn Write>,
        counter: &Counter,
    ) -> Result<Imported, ArchiveError> {
        let total = self.head.volumes.values().map(|volume| volume.bytes).sum();
        counter.total.store(total, Ordering::Relaxed);
        let mut found = Checksums { manifest: self.manifest.clone(), ..Checksums::default() };
        let mut imported = Imported::default();
        let mut volume: Option<Unpacking<'_>> = None;
        let head = std::mem::replace(&mut self.head, nothing());
        let mut expected = head.volumes.iter();
        let mut pieces: Option<Pieces> = None;
        let declared = loop {
            let Some(member) = self.tar.next()? else {
                return Err(ArchiveError::damaged(CHECKSUMS, "it is missing"));
            };
            let ours = volume.as_ref().is_some_and(|volume| volume.holds(&member.path));
            if !ours && let Some(done) = volume.take() {
                let name = done.name.clone();
                let counts = done.finish(&member.path)?;
                imported.entries += counts.entries;
                imported.bytes += counts.bytes;
                found.volumes.insert(name, self.tar.end());
            }
            if let Some(open) = &mut volume {
                self.tar.accept();
                open.take(&mut self.tar, &member, counter)?;
            } else if member.path.starts_with(VOLUMES.as_bytes()) && pieces.is_none() {
                let (name, announced) = expected
                    .next()
                    .ok_or_else(|| ArchiveError::hostile(&member.path, "no such volume was announced"))?;
                let place = places
                    .get(name)
                    .ok_or_else(|| ArchiveError::hostile(&member.path, "no such volume was announced"))?;
                let mut open = Unpacking::new(name, announced, place);
                if !open.holds(&member.path) {
                    let reason = format!("volume `{name}` was announced in its place");
                    return Err(ArchiveError::hostile(&member.path, reason));
                }
                self.tar.begin();
                self.tar.accept();
                open.take(&mut self.tar, &member, counter)?;
                volume = Some(open);
            } else if member.path.starts_with(IMAGES.as_bytes()) && head.images {
                if pieces.is_none() {
                    self.tar.begin();
                }
                self.tar.accept();
                let pieces = pieces.get_or_insert_default();
                pieces.take(&mut self.tar, &member, self.limits, &mut images)?;
            } else if member.path == CHECKSUMS {
                if pieces.is_some() {
                    found.images = Some(self.tar.end());
                }
                break self.tar.document(&member, MAX_MANIFEST)?;
            } else {
                return Err(ArchiveError::hostile(
                    &member.path,
                    "nothing of the kind belongs in a snapshot file",
                ));
            }
        };
        if let Some((name, _)) = expected.next() {
            return Err(ArchiveError::damaged(
                CHECKSUMS,
                format!("volume `{name}` was announced and is not there"),
            ));
        }
        self.verify(&declared, &found)?;
        if let Some(images) = images {
            images.flush().map_err(|source| ArchiveError::Stream { operation: "read", source })?;
        }
        Ok(imported)
    }

    fn verify(&mut self, declared: &[u8], found: &Checksums) -> Result<(), ArchiveError> {
        let declared: Checksums =
            serde_json::from_slice(declared).map_err(|e| ArchiveError::damaged(CHECKSUMS, e.to_string()))?;
        if let Some(name) = found.volumes.iter().find(|(name, sum)| declared.volumes.get(name) != Some(sum)) {
            let place = format!("{VOLUMES}{}", name.0);
            return Err(ArchiveError::damaged(place.as_bytes(), "its checksum is another"));
        }
        if declared != *found {
            return Err(ArchiveError::damaged(CHECKSUMS, "it does not fit what the file holds"));
        }
        if let Some(member) = self.tar.next()? {
            return Err(ArchiveError::hostile(&member.path, "it comes after the end"));
        }
        self.tar.drain()
    }
}

/// An empty head.
fn nothing() -> Head {
    let manifest = Manifest::new("", Consistency::Crash);
    Head { format: FORMAT, manifest, volumes: BTreeMap::new(), images: false }
}

/// The part of a manifest that says whether this version can read the rest.
#[derive(serde::Deserialize)]
struct Version {
    format: Option<u32>,
}

fn read_head<R: Read>(tar: &mut TarReader<R>, limits: Limits) -> Result<(Head, String), ArchiveError> {
    let foreign = |reason: String| ArchiveError::Foreign { reason };
    let member = tar.next()?.ok_or_else(|| foreign("it is empty".to_owned()))?;
    if member.path != MANIFEST {
        return Err(foreign(format!("it begins with `{}`", printable(&member.path))));
    }
    let text = tar.document(&member, MAX_MANIFEST)?;
    let unreadable = |e: serde_json::Error| ArchiveError::damaged(MANIFEST, e.to_string());
    let version: Version = serde_json::from_slice(&text).map_err(unreadable)?;
    match version.format {
        Some(format) if format > FORMAT => return Err(ArchiveError::Newer { format }),
        Some(format) if format < FORMAT => {
            return Err(foreign(format!("it has format {format}, from before the first release")));
        }
        Some(_) => {}
        None => return Err(foreign("its manifest names no format".to_owned())),
    }
    let head: Head = serde_json::from_slice(&text).map_err(unreadable)?;
    if !head.volumes.keys().eq(head.manifest.volumes.iter()) {
        return Err(ArchiveError::damaged(MANIFEST, "its two lists of volumes differ"));
    }
    let sum = |of: fn(&Announced) -> u64| head.volumes.values().map(of).fold(0u64, u64::saturating_add);
    let bounds = [("bytes", sum(|v| v.bytes), limits.bytes), ("entries", sum(|v| v.entries), limits.entries)];
    for (what, amount, limit) in bounds {
        if amount > limit {
            return Err(ArchiveError::TooMuch { what: format!("{amount} {what}"), limit: limit.to_string() });
        }
    }
    Ok((head, checksum_of(&text)))
}

/// The pieces of the images' archive.
#[derive(Default)]
struct Pieces {
    next: u32,
    bytes: u64,
}

impl Pieces {
    fn take<R: Read>(
        &mut self,
        tar: &mut TarReader<R>,
        member: &Member,
        limits: Limits,
        images: &mut Option<&mut dyn Write>,
    ) -> Result<(), ArchiveError> {
        if member.path != format!("{IMAGES}{:06}", self.next).as_bytes() {
            return Err(ArchiveError::hostile(&member.path, "the images' pieces are not in order"));
        }
        let piece = tar.document(member, 16 << 20)?;
        self.next += 1;
        self.bytes += piece.len() as u64;
        if self.bytes > limits.images {
            let what = format!("images of more than {} bytes", limits.images);
            return Err(ArchiveError::TooMuch { what, limit: limits.images.to_string() });
        }
        match images {
            Some(out) => out
                .write_all(&piece)
                .map_err(|source| ArchiveError::Stream { operation: "read the images of", source }),
            None => Ok(()),
        }
    }
}

/// Counts the bytes read of the compressed file.
struct Counting<R> {
    input: R,
    count: PackedCount,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.input.read(buffer)?;
        self.count.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

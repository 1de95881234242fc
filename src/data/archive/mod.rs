//! Snapshot files: `NAME.sandbox.tar.zst`, written and read as a stream.
//!
//! A PAX tar, packed with zstd or not at all, whose entries are, in this order:
//!
//! - `manifest.json`: [`Head`], the snapshot's manifest and what each volume announces
//! - `volumes/NAME/…`: each volume, folders before what is in them
//! - `images/000000` and so on: the images' archive in pieces, if they were asked for
//! - `checksums.json`: [`Checksums`], a BLAKE3 hash over each volume's part of the tar
//!
//! GNU tar and bsdtar can unpack one. The reader trusts nothing in it: see [`Import`].

mod block;
mod buffer_pool;
mod checksum;
mod images;
mod read;
mod read_ahead;
mod sparse_map;
mod store;
#[cfg(test)]
mod tests;
mod unpack;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use crate::storage::VolumeName;
use crate::storage::tree::TreeError;

pub use images::Archived;
pub use read::{Import, Imported};
pub use store::{
    ArchiveStore, ImportSummary, UserValues, export_set, import_set, manifest_of, user_variables,
};
pub use write::{Exported, Packing, export};

/// The ending of a snapshot file's name.
pub const EXTENSION: &str = "sandbox.tar.zst";

const MANIFEST: &[u8] = b"manifest.json";
/// The largest manifest, bytes: a spec, digests, and the names of links and programs that a volume announces. It is
/// held in memory several times over, in a keeper that is to stay small.
const MAX_MANIFEST: u64 = 4 << 20;
const CHECKSUMS: &[u8] = b"checksums.json";
const VOLUMES: &str = "volumes/";
const IMAGES: &str = "images/";

/// A snapshot file that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream itself failed.
    #[error("cannot {operation} the snapshot file")]
    Stream {
        /// `read` or `write`.
        operation: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It is no snapshot file.
    #[error("this is not a snapshot file: {reason}")]
    Foreign {
        /// How that shows.
        reason: String,
    },
    /// It was written by a newer version.
    #[error(
        "the snapshot file has format {format}, and this version reads up to {}",
        super::manifest::FORMAT
    )]
    Newer {
        /// Its format.
        format: u32,
    },
    /// It is cut off, or not what was written.
    #[error("the snapshot file is damaged at `{entry}`: {reason}")]
    Damaged {
        /// The entry being read, or the last one.
        entry: String,
        /// How that shows.
        reason: String,
    },
    /// It has an entry that a volume must not have, or that it did not announce.
    #[error("the snapshot file is refused at `{entry}`: {reason}")]
    Hostile {
        /// The entry.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It holds more than there is room for, or than anything may hold.
    #[error("the snapshot file is refused: it holds {what}, and at most {limit} are allowed")]
    TooMuch {
        /// What, with its amount.
        what: String,
        /// The most that is allowed.
        limit: String,
    },
    /// What has to be announced is more than is read.
    #[error("no snapshot file can hold this: it would announce {what}, and {limit} are read")]
    Unannounced {
        /// What, with its amount.
        what: String,
        /// The most that is read, bytes.
        limit: u64,
    },
    /// A volume could not be read or written.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The storage refused.
    #[error(transparent)]
    Storage(#[from] crate::storage::StorageError),
}

impl ArchiveError {
    fn hostile(entry: &[u8], reason: impl Into<String>) -> Self {
        Self::Hostile { entry: printable(entry), reason: reason.into() }
    }

    fn damaged(entry: &[u8], reason: impl Into<String>) -> Self {
        Self::Damaged { entry: printable(entry), reason: reason.into() }
    }

    /// The way out, where one is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Damaged { .. } => Some("copy the file again, or ask for a new export; nothing was stored"),
            Self::Hostile { .. } => {
                Some("do not use this file unless you know where it comes from; nothing was stored")
            }
            Self::Newer { .. } => Some("update sandbox"),
            Self::TooMuch { .. } => Some("make room on the engine's disk; nothing was stored"),
            Self::Storage(error) => error.hint(),
            Self::Foreign { .. } => Some("`sandbox snapshot export NAME FILE` writes such a file"),
            Self::Stream { .. } | Self::Tree(_) | Self::Unannounced { .. } => None,
        }
    }
}

/// A name from a file that is not trusted, fit to be shown: no control characters, not endless.
fn printable(name: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(name).chars().flat_map(char::escape_debug).take(200).collect();
    if text.is_empty() { "its beginning".to_owned() } else { text }
}

/// The first entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// See [`super::manifest::FORMAT`].
    pub format: u32,
    /// What is kept beside the snapshot.
    pub manifest: Manifest,
    /// What each volume holds.
    pub volumes: BTreeMap<VolumeName, Announced>,
    /// Whether the images come along.
    #[serde(default)]
    pub images: bool,
}

/// What a volume announces. What is not announced is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// Entries, the volume's own folder included.
    pub entries: u64,
    /// Bytes of files' data, holes left out.
    pub bytes: u64,
    /// Programs that run with their owner's rights: set-user-id, set-group-id or file capabilities.
    #[serde(default)]
    pub privileged: BTreeSet<String>,
    /// Symbolic links that lead out of the volume.
    #[serde(default)]
    pub leaving: BTreeSet<String>,
}

/// The last entry: of the manifest and of each volume's part of the tar, the BLAKE3 hash in hexadecimal
/// digits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Checksums {
    manifest: String,
    volumes: BTreeMap<VolumeName, String>,
    #[serde(default)]
    images: Option<String>,
}

/// Bounds on what is read.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of data in all volumes: what there is room for.
    pub bytes: u64,
    /// Entries in all volumes.
    pub entries: u64,
    /// Bytes that one byte of the packed file may become, once `free` have been read. Zstd makes about 14,000 of
    /// nothing but zeros, and 32,768 at the very most: what it writes least for is a block of 128 KiB of one byte, in
    /// four. What databases hold becomes a tenth or a hundredth.
    pub ratio: u64,
    /// Bytes that are read whatever they were packed into. Holes are not in the file, but zeros that were written are:
    /// a log that was set aside ahead is some hundred MiB of them, and may come first.
    pub free: u64,
    /// Bytes of the images' archive. It lies on the same disk as the volumes: see [`Limits::within`].
    pub images: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 1 << 44, entries: 20_000_000, ratio: 1_000, free: 1 << 30, images: 1 << 40 }
    }
}

impl Limits {
    /// What a disk of so many bytes, with so many free, has room for, so that there is room for new work and for what
    /// runs meanwhile: twice a fiftieth of it is left, from 128 MiB to 4 GiB.
    pub fn within(total: u64, free: u64) -> Self {
        let left = (total / 25).clamp(128 << 20, 4 << 30);
        let room = free.saturating_sub(left);
        Self { bytes: room, images: room, ..Self::default() }
    }

    /// These, with so many bytes of volumes taken from what the images may be.
    fn beside(self, bytes: u64) -> Self {
        Self { images: self.images.min(self.bytes.saturating_sub(bytes)), ..self }
    }
}

/// A volume to be exported, and where its files are.
pub type VolumeSource = (VolumeName, PathBuf);

/// Whether a symbolic link at `path` in a volume may lead out of it. An absolute one does: what it means depends on
/// where the volume is mounted. So may one that goes up again: what it went down through may be a link itself.
fn leaves(path: &Path, target: &[u8]) -> bool {
    if target.first() == Some(&b'/') {
        return true;
    }
    let mut depth = path.components().count().saturating_sub(1);
    let mut is_down = false;
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 || is_down => return true,
            b".." => depth -= 1,
            _ => is_down = true,
        }
    }
    false
}

fn checksum_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_string()
}

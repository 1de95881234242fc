//! Snapshot files: `NAME.sandbox.tar.zst`, written and read as a stream.
//!
//! A PAX tar, plain or compressed with zstd, with these entries in order:
//!
//! - `manifest.json`: [`Head`], the snapshot's manifest and the announced contents of each volume
//! - `volumes/NAME/…`: each volume, folders before their contents
//! - `images/000000` and so on: the images' archive in pieces, if it was requested
//! - `checksums.json`: [`Checksums`], a BLAKE3 hash over each volume's part of the tar
//!
//! GNU tar and bsdtar can unpack it. The reader trusts nothing in the file: see [`Import`].

mod block;
mod buffer_pool;
mod checksum;
mod images;
mod read;
mod read_ahead;
mod sink;
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
pub use read::Import;
pub use sink::{Extent, TarSink};
pub use store::{
    ArchiveStore, ImportSummary, UserValues, export_set, export_to, import_set, manifest_of, user_variables,
};
pub use unpack::Imported;
pub use write::{Exported, Packing, export};

/// File name extension of a snapshot file.
pub const EXTENSION: &str = "sandbox.tar.zst";

const MANIFEST: &[u8] = b"manifest.json";
/// Maximum size of the manifest, bytes. It holds a spec, digests, and the names of links and programs that volumes
/// announce. It is held in memory several times, in a keeper whose memory is limited.
const MAX_MANIFEST: u64 = 4 << 20;
const CHECKSUMS: &[u8] = b"checksums.json";
const VOLUMES: &str = "volumes/";
const IMAGES: &str = "images/";

/// An error while a snapshot file is written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Reading or writing the stream failed.
    #[error("cannot {operation} the snapshot file")]
    Stream {
        /// `read` or `write`.
        operation: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file is not a snapshot file.
    #[error("this is not a snapshot file: {reason}")]
    Foreign {
        /// How this was detected.
        reason: String,
    },
    /// The file was written by a newer version.
    #[error(
        "the snapshot file has format {format}, and this version reads up to {}",
        super::manifest::FORMAT
    )]
    Newer {
        /// The format version in the file.
        format: u32,
    },
    /// The file is truncated or corrupt.
    #[error("the snapshot file is damaged at `{entry}`: {reason}")]
    Damaged {
        /// The entry being read, or the last one.
        entry: String,
        /// How this was detected.
        reason: String,
    },
    /// An entry that no volume may have, or that its volume did not announce.
    #[error("the snapshot file is refused at `{entry}`: {reason}")]
    Hostile {
        /// The entry.
        entry: String,
        /// Why the entry is refused.
        reason: String,
    },
    /// The file holds more than the limits or the free space allow.
    #[error("the snapshot file is refused: it holds {what}, and at most {limit} are allowed")]
    TooMuch {
        /// The exceeded quantity, with its amount.
        what: String,
        /// The limit.
        limit: String,
    },
    /// The announced contents exceed what the reader accepts.
    #[error("no snapshot file can hold this: it would announce {what}, and {limit} are read")]
    Unannounced {
        /// The exceeded quantity, with its amount.
        what: String,
        /// The limit, bytes.
        limit: u64,
    },
    /// The spec holds values of the user's own variables in places from which they cannot be left out.
    #[error("the spec holds values of your own variables in {}", listed(paths))]
    UserValues {
        /// The paths of the values, such as `services.a.command`.
        paths: Vec<String>,
    },
    /// A volume could not be read or written.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The storage returned an error.
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

    /// The hint for the user, if there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Damaged { .. } => Some("copy the file again, or ask for a new export; nothing was stored"),
            Self::Hostile { .. } => {
                Some("do not use this file unless you know where it comes from; nothing was stored")
            }
            Self::Newer { .. } => Some("update sandbox"),
            Self::TooMuch { .. } => Some("make room on the engine's disk; nothing was stored"),
            Self::UserValues { .. } => Some(
                "`--with-env` exports them, too; or put each value into `environment` or a secret, and take a new snapshot",
            ),
            Self::Storage(error) => error.hint(),
            Self::Foreign { .. } => Some("`sandbox snapshot export NAME FILE` writes such a file"),
            Self::Stream { .. } | Self::Tree(_) | Self::Unannounced { .. } => None,
        }
    }
}

/// At most this many paths are named.
const NAMED: usize = 12;

fn listed(paths: &[String]) -> String {
    let named: Vec<String> = paths.iter().take(NAMED).map(|path| format!("`{path}`")).collect();
    let more = paths.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", named.join(", "))
}

/// An untrusted name, shortened and without control characters, for messages.
fn printable(name: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(name).chars().flat_map(char::escape_debug).take(200).collect();
    if text.is_empty() { "its beginning".to_owned() } else { text }
}

/// The content of the first entry, `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Format version, see [`super::manifest::FORMAT`].
    pub format: u32,
    /// The snapshot's manifest.
    pub manifest: Manifest,
    /// The announced contents of each volume.
    pub volumes: BTreeMap<VolumeName, Announced>,
    /// Whether the file contains the images.
    #[serde(default)]
    pub images: bool,
}

/// The announced contents of a volume. Other contents are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// Number of entries, including the volume's own folder.
    pub entries: u64,
    /// Bytes of file data, without holes.
    pub bytes: u64,
    /// Programs that run with elevated rights: set-user-id, set-group-id or file capabilities.
    #[serde(default)]
    pub privileged: BTreeSet<String>,
    /// Symbolic links whose target may be outside the volume.
    #[serde(default)]
    pub leaving: BTreeSet<String>,
}

/// The content of the last entry: BLAKE3 hashes, in hexadecimal, of the manifest and of each volume's part of the tar.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Checksums {
    manifest: String,
    volumes: BTreeMap<VolumeName, String>,
    #[serde(default)]
    images: Option<String>,
}

/// Limits of an import.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum bytes of data in all volumes.
    pub bytes: u64,
    /// Maximum number of entries in all volumes.
    pub entries: u64,
    /// Maximum expansion ratio, applied after the first `free` bytes. Zstd reaches about 14,000 for zeros, and 32,768
    /// in the extreme case: a run-length block of 128 KiB takes four bytes. Data of databases shrinks to a tenth or a
    /// hundredth.
    pub ratio: u64,
    /// Bytes that are accepted whatever their ratio. Holes are not in the file, but written zeros are: a preallocated
    /// log can be several hundred MiB of them, and may come first.
    pub free: u64,
    /// Maximum bytes of the images' archive. It uses the same disk as the volumes: see [`Limits::within`].
    pub images: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 1 << 44, entries: 20_000_000, ratio: 1_000, free: 1 << 30, images: 1 << 40 }
    }
}

impl Limits {
    /// Limits for a disk with the given size and free space. They leave 4 % of the disk free, from 128 MiB to 4 GiB,
    /// so that there is room for new work and for services that run meanwhile.
    pub fn within(total: u64, free: u64) -> Self {
        let left = (total / 25).clamp(128 << 20, 4 << 30);
        let room = free.saturating_sub(left);
        Self { bytes: room, images: room, ..Self::default() }
    }

    /// Reduces the limit of the images by the given bytes of volumes.
    fn beside(self, bytes: u64) -> Self {
        Self { images: self.images.min(self.bytes.saturating_sub(bytes)), ..self }
    }
}

/// A volume to export, and the folder of its files.
pub type VolumeSource = (VolumeName, PathBuf);

/// Whether a symbolic link at `path` in a volume may point outside the volume. An absolute link does, since its target
/// depends on where the volume is mounted. A link with `..` after a name may too, because that name may itself be a
/// link.
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

//! Receives a set in chunks, in the keeper's container: takes what other stored sets have, asks for the rest, and
//! imports the stream.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cutter::{ChunkSink, Cutter, Place};
use super::frame::MissingList;
use super::index::{Chunk, Index};
use super::{ChunkId, MAX_INDEX, unpacked};
use crate::data::archive::{
    ArchiveError, ArchiveStore, ImportSummary, Limits, UserValues, export_to, import_set,
};
use crate::data::manifest::Manifest;
use crate::storage::tree::Counter;
use crate::storage::{Detail, Namespace, SetPath, Storage};

/// How many stored sets are searched for chunks. Each is read completely.
const SEARCHED: usize = 3;
/// What paths in a tar of a snapshot begin with.
const VOLUMES: &[u8] = b"volumes/";

/// Where the bytes of a chunk are.
#[derive(Debug, Clone)]
enum Source {
    /// In a file of a stored set.
    File { path: Arc<PathBuf>, at: u64 },
    /// In the spool, packed or not.
    Spool { at: u64, packed: u32 },
}

/// Reads the index that the client sends.
///
/// # Errors
/// Fails if it is cut short or not valid.
pub fn read_index(mut input: impl Read) -> Result<Index, ArchiveError> {
    let mut length = [0; 8];
    input.read_exact(&mut length).map_err(read_failed)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_INDEX {
        return Err(ArchiveError::Foreign { reason: "its index is too long".to_owned() });
    }
    let mut packed = Vec::new();
    input.take(length).read_to_end(&mut packed).map_err(read_failed)?;
    Index::decode(&packed).map_err(|error| ArchiveError::Foreign { reason: error.to_string() })
}

/// Imports the stream of an index. Chunks that no stored set has are asked for on `out` and read from `input`. Sets of
/// `project` are searched first.
///
/// # Errors
/// Fails if a chunk is missing or not valid, and as [`import_set`] does.
pub async fn pull_set(
    place: &ArchiveStore,
    to: &SetPath,
    index: Index,
    project: Option<&str>,
    mut input: impl Read + Send + 'static,
    mut out: impl Write + Send + 'static,
    counter: Arc<Counter>,
) -> Result<ImportSummary, ArchiveError> {
    let mut chunks = Chunks::new(index, &place.folder)?;
    for set in similar(&*place.storage, project).await? {
        if chunks.missing().is_empty() {
            break;
        }
        // A set that is deleted meanwhile is only not used.
        if let Ok(found) = search(place, &set, &chunks).await {
            chunks.add(found)?;
        }
    }
    let missing = chunks.missing();
    let room = place.storage.usage(Detail::Totals).await?;
    let limit = Limits::within(room.host_total, room.host_free).bytes;
    let needed: u64 =
        missing.iter().map(|number| u64::from(chunks.index.chunks[*number as usize].packed)).sum();
    if needed > limit {
        return Err(ArchiveError::TooMuch { what: format!("{needed} bytes"), limit: limit.to_string() });
    }
    let message = MissingList::message(&missing);
    let joined = tokio::task::spawn_blocking(move || {
        out.write_all(&message).and_then(|()| out.flush()).map_err(read_failed)?;
        chunks.receive(&mut BufReader::with_capacity(1 << 20, &mut input), missing.len())?;
        Ok::<_, ArchiveError>(chunks)
    });
    let chunks = joined.await.map_err(|error| read_failed(io::Error::other(error)))??;
    import_set(place, to, Stream::of(chunks), counter).await
}

fn read_failed(source: io::Error) -> ArchiveError {
    ArchiveError::Stream { operation: "read the chunks of", source }
}

/// The stored sets that are likely to have chunks of the stream: of the same project, newest first.
async fn similar(storage: &dyn Storage, project: Option<&str>) -> Result<Vec<SetPath>, ArchiveError> {
    let mut found = Vec::new();
    for shelf in [Namespace::Snapshot, Namespace::Baseline] {
        for info in storage.list(shelf).await? {
            let Some(manifest) = Manifest::of(&info) else { continue };
            let name = manifest.spec.as_ref().and_then(|spec| spec.get("name")?.as_str());
            let is_other = name.is_some() && name != project;
            found.push(((is_other, std::cmp::Reverse(manifest.created)), info.path));
        }
    }
    found.sort_by_key(|(rank, _)| *rank);
    Ok(found.into_iter().take(SEARCHED).map(|(_, set)| set).collect())
}

/// Searches a stored set for chunks that are still missing.
async fn search(place: &ArchiveStore, set: &SetPath, chunks: &Chunks) -> Result<Found, ArchiveError> {
    let wanted = chunks.wanted();
    let spool = tempfile::tempfile_in(&place.folder).map_err(read_failed)?;
    let finder = Finder {
        set: place.folder.join(set.relative()),
        wanted,
        found: Found { sources: Vec::new(), spool, spooled: 0 },
        last: None,
    };
    let counter = Arc::new(Counter::default());
    let (_, cutter) = export_to(place, set, Cutter::new(finder), None, UserValues::Included, counter).await?;
    Ok(cutter.into_inner().found)
}

/// What was found in one set.
struct Found {
    sources: Vec<(u32, Source)>,
    /// Holds the chunks that do not lie in one file.
    spool: File,
    spooled: u64,
}

/// Looks for wanted chunks in a stream.
struct Finder {
    set: PathBuf,
    wanted: HashMap<ChunkId, u32>,
    found: Found,
    /// The file of the last chunk.
    last: Option<(Arc<[u8]>, Arc<PathBuf>)>,
}

impl ChunkSink for Finder {
    fn chunk(&mut self, bytes: &[u8], place: Option<&Place>) -> io::Result<()> {
        let Some(number) = self.wanted.remove(blake3::hash(bytes).as_bytes()) else { return Ok(()) };
        let source = if let Some(place) = place {
            Source::File { path: self.path(&place.path), at: place.at }
        } else {
            let (at, packed) = (self.found.spooled, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            self.found.spool.write_all_at(bytes, at)?;
            self.found.spooled += u64::from(packed);
            Source::Spool { at, packed }
        };
        self.found.sources.push((number, source));
        Ok(())
    }
}

impl Finder {
    fn path(&mut self, in_tar: &Arc<[u8]>) -> Arc<PathBuf> {
        if let Some((known, path)) = &self.last
            && Arc::ptr_eq(known, in_tar)
        {
            return Arc::clone(path);
        }
        let below = in_tar.strip_prefix(VOLUMES).unwrap_or(in_tar);
        let path = Arc::new(self.set.join(Path::new(std::ffi::OsStr::from_bytes(below))));
        self.last = Some((Arc::clone(in_tar), Arc::clone(&path)));
        path
    }
}

/// The chunks of a stream and where they are.
struct Chunks {
    index: Index,
    sources: Vec<Option<Source>>,
    /// Chunks that do not lie in a file of a stored set. It has no name, and disappears with this process.
    spool: File,
    spooled: u64,
}

impl Chunks {
    fn new(index: Index, folder: &Path) -> Result<Self, ArchiveError> {
        let spool = tempfile::tempfile_in(folder).map_err(read_failed)?;
        let sources = vec![None; index.chunks.len()];
        Ok(Self { index, sources, spool, spooled: 0 })
    }

    fn missing(&self) -> Vec<u32> {
        let numbers = (0..).zip(&self.sources);
        numbers.filter(|(_, source)| source.is_none()).map(|(number, _)| number).collect()
    }

    fn wanted(&self) -> HashMap<ChunkId, u32> {
        self.missing().into_iter().map(|number| (self.index.chunks[number as usize].id, number)).collect()
    }

    /// Adds what was found in a set.
    fn add(&mut self, found: Found) -> Result<(), ArchiveError> {
        for (number, source) in found.sources {
            let source = match source {
                Source::Spool { at, packed } => {
                    let mut bytes = vec![0; packed as usize];
                    found.spool.read_exact_at(&mut bytes, at).map_err(read_failed)?;
                    self.keep(&bytes)?
                }
                file @ Source::File { .. } => file,
            };
            self.sources[number as usize] = Some(source);
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<Source, ArchiveError> {
        let (at, packed) = (self.spooled, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.spool.write_all_at(bytes, at).map_err(read_failed)?;
        self.spooled += u64::from(packed);
        Ok(Source::Spool { at, packed })
    }

    /// Reads as many chunks as were asked for, and checks each.
    fn receive(&mut self, input: &mut impl Read, count: usize) -> Result<(), ArchiveError> {
        let unexpected =
            || ArchiveError::Foreign { reason: "a chunk came that was not asked for".to_owned() };
        for _ in 0..count {
            let mut header = [0; 8];
            input.read_exact(&mut header).map_err(read_failed)?;
            let [a, b, c, d, ..] = header;
            let number = u32::from_le_bytes([a, b, c, d]) as usize;
            let chunk = self.index.chunks.get(number).ok_or_else(unexpected)?.clone();
            if self.sources[number].is_some() || header[4..] != chunk.packed.to_le_bytes() {
                return Err(unexpected());
            }
            let mut packed = vec![0; chunk.packed as usize];
            input.read_exact(&mut packed).map_err(read_failed)?;
            unpacked(&chunk, &packed).map_err(|error| ArchiveError::Damaged {
                entry: format!("chunk {number}"),
                reason: error.to_string(),
            })?;
            self.sources[number] = Some(self.keep(&packed)?);
        }
        Ok(())
    }
}

/// The stream, read chunk by chunk.
struct Stream {
    chunks: Chunks,
    next: usize,
    current: Vec<u8>,
    at: usize,
    /// The file that was read last.
    open: Option<(Arc<PathBuf>, File)>,
}

impl Stream {
    fn of(chunks: Chunks) -> Self {
        Self { chunks, next: 0, current: Vec::new(), at: 0, open: None }
    }

    fn load(&mut self, number: usize) -> io::Result<Vec<u8>> {
        let chunk: Chunk = self.chunks.index.chunks[number].clone();
        match self.chunks.sources[number].clone() {
            Some(Source::Spool { at, packed }) => {
                let mut bytes = vec![0; packed as usize];
                self.chunks.spool.read_exact_at(&mut bytes, at)?;
                unpacked(&chunk, &bytes)
            }
            Some(Source::File { path, at }) => {
                let mut bytes = vec![0; chunk.length as usize];
                self.file(&path)?.read_exact_at(&mut bytes, at)?;
                unpacked(&chunk, &bytes)
            }
            None => Err(io::Error::other("a chunk is missing")),
        }
    }

    fn file(&mut self, path: &Arc<PathBuf>) -> io::Result<&File> {
        let is_open = self.open.as_ref().is_some_and(|(open, _)| Arc::ptr_eq(open, path));
        if !is_open {
            let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path.as_path())?;
            self.open = Some((Arc::clone(path), file));
        }
        self.open.as_ref().map(|(_, file)| file).ok_or_else(|| io::Error::other("no file is open"))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            let Some(number) = self.chunks.index.stream.get(self.next) else { return Ok(0) };
            self.current = self.load(*number as usize)?;
            self.at = 0;
            self.next += 1;
        }
        let got = (&self.current[self.at..]).read(buffer)?;
        self.at += got;
        Ok(got)
    }
}

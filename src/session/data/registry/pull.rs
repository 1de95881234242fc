//! Pulls a set from a registry: what the storage lacks, in a few parallel requests for parts of packs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::push::PROJECT;
use super::{PARALLEL, RegistrySummary, fetch_index, open, refused};
use crate::data::chunk::{Index, MAX_PACK, MissingList, chunk_header, index_header};
use crate::data::registry::{
    Access, Descriptor, Manifest, PACK_TYPE, Ranged, Reference, Registry, RegistryError,
};
use crate::engine::{Exec, ExecSession, StdStream};
use crate::session::data::snapshot_transfer::{Images, Listener, RemoteEnd, command};
use crate::session::error::SessionError;
use crate::session::event::{Event, Progress};
use crate::session::lifecycle::signals::asked_to_end;
use crate::storage::{SetPath, Storage};

/// Chunks that are no further apart are fetched in one request.
const GAP: u64 = 64 << 10;
/// The most that is fetched in one request.
const MOST: u64 = 8 << 20;

/// A snapshot in a registry.
pub struct RemoteSnapshot {
    registry: Registry,
    reference: Reference,
    digest: String,
    manifest: Manifest,
}

impl RemoteSnapshot {
    /// Looks a reference up.
    ///
    /// # Errors
    /// Fails if the registry has no such snapshot.
    pub async fn find(reference: &Reference) -> Result<Self, SessionError> {
        let registry = open(reference, Access::Pull).await?;
        let found = registry.manifest().await?;
        let (digest, manifest) =
            found.ok_or_else(|| RegistryError::NotFound { what: reference.to_string() })?;
        Ok(Self { registry, reference: reference.clone(), digest, manifest })
    }

    /// The set for its content, named after the digest of its manifest.
    fn set(&self) -> Result<SetPath, SessionError> {
        let hex = self.digest.rsplit(':').next().unwrap_or_default();
        Ok(SetPath::baseline(&format!("oci-{}", &hex[..hex.len().min(40)]))?)
    }
}

/// The set that holds a reference's content. It is pulled if it is missing, and may be evicted like any baseline.
///
/// # Errors
/// Fails as [`pull`] does.
pub async fn pulled(
    far: &RemoteEnd,
    storage: &dyn Storage,
    reference: &Reference,
) -> Result<SetPath, SessionError> {
    let remote = RemoteSnapshot::find(reference).await?;
    let set = remote.set()?;
    if storage.inspect(&set).await?.is_none() {
        match pull(far, &remote, &set, Images::Left).await {
            // Another client may have pulled it first.
            Err(_) if storage.inspect(&set).await?.is_some() => {}
            pulled => drop(pulled?),
        }
    }
    Ok(set)
}

/// Pulls a snapshot into a set. Nothing is published unless all of it is valid.
///
/// # Errors
/// Fails if the name is taken, if the registry does not send what its digests say, or if this process is asked to end.
pub async fn pull(
    far: &RemoteEnd,
    remote: &RemoteSnapshot,
    to: &SetPath,
    images: Images,
) -> Result<RegistrySummary, SessionError> {
    tokio::select! {
        pulled = pull_all(far, remote, to, images) => pulled,
        () = asked_to_end() => Err(SessionError::Cancelled),
    }
}

async fn pull_all(
    far: &RemoteEnd,
    remote: &RemoteSnapshot,
    to: &SetPath,
    images: Images,
) -> Result<RegistrySummary, SessionError> {
    let began = Instant::now();
    let (stored, index) = fetch_index(&remote.registry, &remote.reference, &remote.manifest).await?;
    let mut exec = Exec { stdin: true, ..command("unpack", to, images) };
    if let Some(project) = remote.manifest.annotations.get(PROJECT) {
        exec.cmd.extend(["--project".to_owned(), project.clone()]);
    }
    let ExecSession { mut input, mut output, .. } = far.engine.exec(&far.container, &exec).await?;
    let mut listener = Listener::new(far, format!("unpacking `{}`", remote.reference));
    // If the other side has ended, its message says why.
    let _ = input.write_all(&index_header(&stored)).await;
    let _ = input.write_all(&stored).await;
    let _ = input.flush().await;
    let mut missing = MissingList::default();
    let wanted = loop {
        let Some(chunk) = output.next().await else { break None };
        let chunk = chunk?;
        if chunk.stream == StdStream::Stderr {
            listener.hear(&chunk.bytes);
        } else if let Some(wanted) = missing
            .push(&chunk.bytes, index.chunks.len())
            .map_err(|error| refused(&remote.reference, error.to_string()))?
        {
            break Some(wanted);
        }
    };
    let fetch = Fetch { far, remote, index: &index, fetched: AtomicU64::new(0), began };
    let feed = async {
        let fed = match wanted {
            Some(wanted) => fetch.send(&wanted, &mut input).await,
            None => Ok(()),
        };
        // In any case: tells the other side that no more follows.
        let _ = input.shutdown().await;
        fed
    };
    let listen = async {
        while let Some(Ok(chunk)) = output.next().await {
            listener.hear(&chunk.bytes);
        }
    };
    let (fed, ()) = tokio::join!(feed, listen);
    fed?;
    let moved = stored.len() as u64 + fetch.fetched.load(Ordering::Relaxed);
    let done = listener.outcome(0)?;
    Ok(RegistrySummary {
        digest: remote.digest.clone(),
        entries: done.entries,
        bytes: done.bytes,
        moved,
        left_out: 0,
        elapsed: began.elapsed(),
    })
}

/// A part of a pack, and the chunks in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    from: u64,
    length: u64,
    chunks: Vec<u32>,
}

/// The parts to fetch, by pack: what lies close together is fetched in one request.
fn parts(index: &Index, wanted: &[u32]) -> BTreeMap<u32, Vec<Part>> {
    let mut packs: BTreeMap<u32, Vec<(u64, u64, u32)>> = BTreeMap::new();
    for number in wanted {
        let Some(chunk) = index.chunks.get(*number as usize) else { continue };
        let place = (u64::from(chunk.offset), u64::from(chunk.packed), *number);
        packs.entry(chunk.pack).or_default().push(place);
    }
    let joined = |mut chunks: Vec<(u64, u64, u32)>| {
        chunks.sort_unstable();
        let mut parts: Vec<Part> = Vec::new();
        for (at, length, number) in chunks {
            match parts.last_mut() {
                Some(part) if at <= part.from + part.length + GAP && at + length - part.from <= MOST => {
                    part.length = part.length.max(at + length - part.from);
                    part.chunks.push(number);
                }
                _ => parts.push(Part { from: at, length, chunks: vec![number] }),
            }
        }
        parts
    };
    packs.into_iter().map(|(pack, chunks)| (pack, joined(chunks))).collect()
}

/// Bytes of a pack that were fetched, and the chunks in them.
struct Piece {
    from: u64,
    bytes: Vec<u8>,
    chunks: Vec<u32>,
}

/// Fetches chunks and passes them on.
struct Fetch<'a> {
    far: &'a RemoteEnd,
    remote: &'a RemoteSnapshot,
    index: &'a Index,
    fetched: AtomicU64,
    began: Instant,
}

impl Fetch<'_> {
    async fn send(&self, wanted: &[u32], to: &mut (impl AsyncWrite + Unpin)) -> Result<(), SessionError> {
        let packs = parts(self.index, wanted);
        let total: u64 = packs.values().flatten().map(|part| part.length).sum();
        self.tell(total, false);
        let (sender, mut pieces) = mpsc::channel::<Piece>(PARALLEL);
        let fetching = async {
            let work = stream::iter(packs).map(Ok::<_, SessionError>);
            let fetched = work.try_for_each_concurrent(PARALLEL, |(pack, parts)| {
                let sender = sender.clone();
                async move { self.pack(pack, parts, total, &sender).await }
            });
            let fetched = fetched.await;
            drop(sender);
            fetched
        };
        let writing = async {
            while let Some(piece) = pieces.recv().await {
                // If the other side has ended, its message says why.
                if self.write(&piece, to).await.is_err() {
                    break;
                }
            }
            let _ = to.flush().await;
            pieces.close();
        };
        let (fetched, ()) = tokio::join!(fetching, writing);
        self.tell(total, true);
        fetched
    }

    /// Fetches the parts of one pack one after the other.
    async fn pack(
        &self,
        number: u32,
        parts: Vec<Part>,
        total: u64,
        to: &mpsc::Sender<Piece>,
    ) -> Result<(), SessionError> {
        let Some(pack) = self.index.packs.get(number as usize) else { return Ok(()) };
        let digest = format!("sha256:{}", hex::encode(pack.digest));
        let blob = Descriptor { media_type: PACK_TYPE.to_owned(), digest, size: pack.size.min(MAX_PACK) };
        let mut whole: Option<Vec<u8>> = None;
        for part in parts {
            let bytes = match &whole {
                Some(whole) => slice(whole, &part),
                None => match self.remote.registry.range(&blob, part.from, part.length).await? {
                    Ranged::Part(bytes) => {
                        self.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                        bytes
                    }
                    Ranged::Whole(bytes) => {
                        self.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                        let bytes = whole.insert(bytes);
                        slice(bytes, &part)
                    }
                },
            };
            self.tell(total, false);
            let piece = Piece { from: part.from, bytes, chunks: part.chunks };
            if to.send(piece).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn write(&self, piece: &Piece, to: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        for number in &piece.chunks {
            let Some(chunk) = self.index.chunks.get(*number as usize) else { continue };
            let at = usize::try_from(u64::from(chunk.offset) - piece.from).unwrap_or(usize::MAX);
            let bytes = at.checked_add(chunk.packed as usize).and_then(|end| piece.bytes.get(at..end));
            let bytes = bytes.ok_or(std::io::ErrorKind::UnexpectedEof)?;
            to.write_all(&chunk_header(*number, chunk)).await?;
            to.write_all(bytes).await?;
        }
        Ok(())
    }

    fn tell(&self, total: u64, done: bool) {
        let fetched = self.fetched.load(Ordering::Relaxed);
        let rate = u128::from(fetched) * 1000 / self.began.elapsed().as_millis().max(1);
        self.far.events.emit(Event::Transfer {
            what: format!("pulling `{}`", self.remote.reference),
            bytes: Progress { done: fetched.min(total), total },
            rate: u64::try_from(rate).unwrap_or(u64::MAX),
            done,
        });
    }
}

fn slice(whole: &[u8], part: &Part) -> Vec<u8> {
    let from = usize::try_from(part.from).unwrap_or(usize::MAX);
    let length = usize::try_from(part.length).unwrap_or(usize::MAX);
    whole.get(from..).map(|rest| rest[..length.min(rest.len())].to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::chunk::{Chunk, Pack};

    #[test]
    fn chunks_that_lie_close_together_are_one_request() {
        let chunk = |pack, offset| Chunk { id: [0; 32], length: 20_000, pack, offset, packed: 10_000 };
        let mebi = 1 << 20;
        let chunks = vec![
            chunk(0, 0),
            chunk(0, 10_000),
            chunk(0, 50_000),
            chunk(0, mebi),
            chunk(1, 0),
            chunk(0, 12 * mebi),
        ];
        let packs = vec![Pack { digest: [0; 32], size: MAX_PACK }; 2];
        let index = Index { packs, chunks, stream: Vec::new() };
        let found = parts(&index, &[5, 4, 3, 2, 0]);
        let shown = |pack: u32| {
            found[&pack].iter().map(|part| (part.from, part.length, part.chunks.clone())).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(0),
            [
                (0, 60_000, vec![0, 2]),
                (u64::from(mebi), 10_000, vec![3]),
                (u64::from(12 * mebi), 10_000, vec![5])
            ]
        );
        assert_eq!(shown(1), [(0, 10_000, vec![4])]);
    }
}

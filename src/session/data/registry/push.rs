//! Pushes a stored set to a registry. The manifest, which makes it visible, is sent last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::packer::{PackBlob, Packer};
use super::{PARALLEL, RegistrySummary, fetch_index, open, refused};
use crate::data::archive::UserValues;
use crate::data::chunk::{ChunkFrame, ChunkFrames, Index, known_ids};
use crate::data::registry::{
    Access, Descriptor, EMPTY_CONFIG, INDEX_TYPE, Manifest, PACK_TYPE, Reference, Registry, RegistryError,
    sha256,
};
use crate::engine::{Exec, ExecSession, StdStream};
use crate::session::data::snapshot_transfer::{Images, Listener, RemoteEnd, TransferSummary, command};
use crate::session::error::SessionError;
use crate::session::lifecycle::signals::asked_to_end;
use crate::storage::SetPath;

/// The annotation with the name of the spec.
pub(super) const PROJECT: &str = "dev.sandbox.project";
/// The usual annotations.
const CREATED: &str = "org.opencontainers.image.created";
const TITLE: &str = "org.opencontainers.image.title";

/// What to push.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// The stored set.
    pub set: SetPath,
    /// Where to.
    pub reference: Reference,
    /// Whether to include images.
    pub images: Images,
    /// Whether to include values of the user's own variables.
    pub values: UserValues,
    /// The name of the spec.
    pub project: Option<String>,
}

/// Pushes a stored set. Chunks of the snapshot that the tag names so far, or another tag of the repository, are not sent
/// again.
///
/// # Errors
/// Fails if there is no such set, if the registry refuses it, or if this process is asked to end.
pub async fn push(far: &RemoteEnd, request: &PushRequest) -> Result<RegistrySummary, SessionError> {
    tokio::select! {
        pushed = push_all(far, request) => pushed,
        () = asked_to_end() => Err(SessionError::Cancelled),
    }
}

async fn push_all(far: &RemoteEnd, request: &PushRequest) -> Result<RegistrySummary, SessionError> {
    let (began, reference) = (Instant::now(), &request.reference);
    let registry = Arc::new(open(reference, Access::Push).await?);
    let earlier = match registry.manifest().await? {
        Some((_, manifest)) => Some(manifest),
        None => registry.related().await,
    };
    let earlier = match earlier {
        Some(manifest) => fetch_index(&registry, reference, &manifest).await?.1,
        None => Index::default(),
    };
    let mut uploads = Uploads { registry: Arc::clone(&registry), running: JoinSet::new(), sent: 0 };
    let (packed, index) = pack(far, request, Packer::new(earlier), &mut uploads).await?;
    let stored = index.encode().map_err(|error| refused(reference, error.to_string()))?;
    let mut layers = vec![Descriptor::of(INDEX_TYPE, &stored)];
    layers.extend(index.packs.iter().map(|pack| Descriptor {
        media_type: PACK_TYPE.to_owned(),
        digest: format!("sha256:{}", hex::encode(pack.digest)),
        size: pack.size,
    }));
    uploads.add(PackBlob { digest: layers[0].digest.clone(), bytes: stored.into() }).await?;
    let config = Bytes::from_static(EMPTY_CONFIG);
    uploads.add(PackBlob { digest: sha256(EMPTY_CONFIG), bytes: config }).await?;
    let moved = uploads.finish().await?;
    let manifest = Manifest::of_snapshot(layers, annotations(request));
    let digest = registry.put_manifest(&manifest).await?;
    let TransferSummary { entries, bytes, left_out, .. } = packed;
    Ok(RegistrySummary { digest, entries, bytes, moved, left_out, elapsed: began.elapsed() })
}

fn annotations(request: &PushRequest) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([
        (CREATED.to_owned(), jiff::Timestamp::now().to_string()),
        (TITLE.to_owned(), request.set.name.to_string()),
    ]);
    annotations.extend(request.project.iter().map(|project| (PROJECT.to_owned(), project.clone())));
    annotations
}

/// Reads the chunks of the set and uploads packs as they are completed.
async fn pack(
    far: &RemoteEnd,
    request: &PushRequest,
    mut packer: Packer,
    uploads: &mut Uploads,
) -> Result<(TransferSummary, Index), SessionError> {
    let mut exec = Exec { stdin: true, ..command("pack", &request.set, request.images) };
    if request.values == UserValues::Included {
        exec.cmd.push("--with-env".to_owned());
    }
    let ExecSession { mut input, mut output, .. } = far.engine.exec(&far.container, &exec).await?;
    let known = known_ids(packer.known());
    // If the other side has ended, its message says why.
    let _ = input.write_all(&known).await;
    let _ = input.shutdown().await;
    let mut listener = Listener::new(far, format!("pushing `{}`", request.reference));
    let (mut frames, mut received, mut is_complete) = (ChunkFrames::default(), 0, false);
    // The engine reports the end of the process with a delay, and its output out of order.
    while !(is_complete && listener.is_through(received))
        && let Some(chunk) = output.next().await
    {
        let chunk = chunk?;
        if chunk.stream == StdStream::Stderr {
            listener.hear(&chunk.bytes);
            continue;
        }
        received += chunk.bytes.len() as u64;
        frames.push(&chunk.bytes);
        while let Some(frame) = frames.next().map_err(|error| cut_short(&error.to_string()))? {
            is_complete |= frame == ChunkFrame::End;
            let complete = packer.add(frame).map_err(|_| cut_short("a chunk is not known"))?;
            if let Some(pack) = complete {
                uploads.add(pack).await?;
            }
        }
    }
    let summary = listener.outcome(received)?;
    if !is_complete {
        return Err(cut_short("the stream has no end"));
    }
    if let Some(pack) = packer.complete() {
        uploads.add(pack).await?;
    }
    Ok((summary, packer.into_index()))
}

fn cut_short(why: &str) -> SessionError {
    SessionError::Transfer { what: format!("the keeper's end was cut short: {why}"), hint: None }
}

/// Uploads that run in the background, a few at a time. They end when this is dropped.
struct Uploads {
    registry: Arc<Registry>,
    running: JoinSet<Result<u64, RegistryError>>,
    sent: u64,
}

impl Uploads {
    async fn add(&mut self, pack: PackBlob) -> Result<(), SessionError> {
        while self.running.len() >= PARALLEL {
            self.one().await?;
        }
        let registry = Arc::clone(&self.registry);
        self.running.spawn(async move { registry.put_blob(&pack.digest, &pack.bytes).await });
        Ok(())
    }

    /// Waits for one upload.
    async fn one(&mut self) -> Result<(), SessionError> {
        match self.running.join_next().await {
            Some(Ok(sent)) => self.sent += sent?,
            Some(Err(error)) => return Err(cut_short(&error.to_string())),
            None => {}
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<u64, SessionError> {
        while !self.running.is_empty() {
            self.one().await?;
        }
        Ok(self.sent)
    }
}

//! `sandbox agent export` and `sandbox agent import`: copy snapshot files out of and into the storage.
//!
//! Each transfer is its own process in the keeper's container, so that the keeper stays small and a transfer ends with
//! its client. The file goes through standard output or input; progress and results go to standard error, as lines of
//! [`TransferLine`].

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};

use super::client::{ENGINE_SOCKET, storage_inside};
use super::protocol::TransferLine;
use crate::data::archive::{
    ArchiveError, ArchiveStore, Archived, ImportSummary, Packing, UserValues, export_set, export_to,
    import_set, manifest_of, user_variables,
};
use crate::data::chunk;
use crate::data::manifest::{ImageIdentity, Manifest};
use crate::engine::docker::Docker;
use crate::engine::{Engine, EngineError};
use crate::storage::SetPath;
use crate::storage::tree::Counter;

/// The requested size of the engine's pipe, in bytes: the most that an unprivileged process may request. A smaller pipe
/// only costs time.
#[cfg(target_os = "linux")]
const BURST: usize = 1 << 20;
/// How often progress is reported.
const TELL: Duration = Duration::from_millis(250);

#[derive(Debug, thiserror::Error)]
enum CarryError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Keeper(#[from] super::client::KeeperError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(
        "images cannot come along: the keeper is a process, and the container that has the data has no engine"
    )]
    OutOfReach,
    #[error("image `{reference}` of service `{service}` is not on this engine any more")]
    NoImage { service: String, reference: String },
}

impl CarryError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Archive(error) => error.hint().map(str::to_owned),
            Self::Engine(error) => error.hint(),
            Self::Keeper(error) => error.hint(),
            Self::NoImage { .. } => Some("leave `--with-images` out".to_owned()),
            Self::OutOfReach => Some(
                "leave `--with-images` out, and bring images with `docker save` and `docker load`".to_owned(),
            ),
            Self::Usage(_) => None,
        }
    }
}

fn user_values(args: &[String]) -> UserValues {
    if args.iter().any(|arg| arg == "--with-env") { UserValues::Included } else { UserValues::LeftOut }
}

/// `export NAMESPACE/NAME [--with-images] [--with-env]`: writes the snapshot to standard output.
pub fn export(args: &[String]) -> ExitCode {
    let values = user_values(args);
    carry(args, async |place, set, counter, images| {
        let manifest = manifest_of(&*place.storage, &set).await?;
        tell_left_out(&manifest, values);
        let images = saved_images(&manifest, images).await?;
        let packed = Arc::new(AtomicU64::new(0));
        let out = Counted { out: raw_stdout()?, written: Arc::clone(&packed) };
        let written = export_set(&place, &set, out, Packing::Zstd, images, values, counter).await?;
        Ok(TransferLine::Done {
            entries: written.entries,
            bytes: written.bytes,
            left_out: written.sockets + written.devices,
            packed: packed.load(Ordering::Relaxed),
        })
    })
}

/// `import NAMESPACE/NAME [--with-images]`: publishes the snapshot that arrives on standard input. Images in the file
/// are loaded unless they would replace others; with the option they are loaded in any case.
pub fn import(args: &[String]) -> ExitCode {
    carry(args, async |place, set, counter, images| {
        let brought = import_set(&place, &set, io::stdin(), counter).await?;
        finish(brought, images).await
    })
}

/// Loads the images that came along.
async fn finish(brought: ImportSummary, images: Images) -> Result<TransferLine, CarryError> {
    let ImportSummary { imported, images: archive } = brought;
    if let Some((file, archived)) = archive
        && let Err(error) = load(file, &archived, images).await
    {
        let text = format!("the images that came along are not loaded: {}", super::client::in_full(&error));
        tell(&TransferLine::Warning { text });
    }
    Ok(TransferLine::Done { entries: imported.entries, bytes: imported.bytes, left_out: 0, packed: 0 })
}

/// Names the variables whose values are left out.
fn tell_left_out(manifest: &Manifest, values: UserValues) {
    let left_out = user_variables(manifest);
    if values == UserValues::LeftOut && !left_out.is_empty() {
        let text = format!(
            "left out, as the values came from your own variables: {} (`--with-env` puts them in)",
            left_out.join(", ")
        );
        tell(&TransferLine::Note { text });
    }
}

/// The images' archive, if it is included.
async fn saved_images(
    manifest: &Manifest,
    images: Images,
) -> Result<Option<Box<dyn io::Read + Send>>, CarryError> {
    if images == Images::Left {
        return Ok(None);
    }
    let engine = engine().await?;
    let named = names(&*engine, &manifest.images).await?;
    let stream = engine.save_images(&named).await?;
    Ok(Some(Box::new(SyncIoBridge::new(StreamReader::new(stream)))))
}

/// Standard output without Rust's own buffer, which is flushed at each line.
fn raw_stdout() -> Result<std::fs::File, CarryError> {
    let out = io::stdout().as_fd().try_clone_to_owned();
    let out = std::fs::File::from(out.map_err(|error| CarryError::Usage(error.to_string()))?);
    // Packing produces bursts; a larger pipe lets it continue while the engine reads.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&out, BURST);
    Ok(out)
}

/// `pack NAMESPACE/NAME [--with-images] [--with-env]`: writes the snapshot's chunks to standard output, without those
/// that are named on standard input.
pub fn pack(args: &[String]) -> ExitCode {
    let values = user_values(args);
    carry(args, async |place, set, counter, images| {
        let manifest = manifest_of(&*place.storage, &set).await?;
        tell_left_out(&manifest, values);
        let images = saved_images(&manifest, images).await?;
        let known = tokio::task::spawn_blocking(|| chunk::read_known(io::BufReader::new(io::stdin())));
        let known = known.await.map_err(io::Error::other).and_then(std::convert::identity);
        let packed = Arc::new(AtomicU64::new(0));
        let out = Counted { out: raw_stdout()?, written: Arc::clone(&packed) };
        let sender = chunk::ChunkSender::new(out, known.map_err(read_failed)?).map_err(read_failed)?;
        let (written, cutter) =
            export_to(&place, &set, chunk::Cutter::new(sender), images, values, counter).await?;
        cutter.into_inner().end().map_err(read_failed)?;
        Ok(TransferLine::Done {
            entries: written.entries,
            bytes: written.bytes,
            left_out: written.sockets + written.devices,
            packed: packed.load(Ordering::Relaxed),
        })
    })
}

/// `unpack NAMESPACE/NAME [--with-images] [--project NAME]`: publishes the snapshot whose index arrives on standard input.
/// Asks for chunks on standard output.
pub fn unpack(args: &[String]) -> ExitCode {
    let project = args.iter().position(|arg| arg == "--project").and_then(|at| args.get(at + 1)).cloned();
    carry(args, async |place, set, counter, images| {
        let index = tokio::task::spawn_blocking(|| chunk::read_index(io::stdin()));
        let index = index.await.map_err(|error| read_failed(io::Error::other(error)))??;
        let out = raw_stdout()?;
        let brought =
            chunk::pull_set(&place, &set, index, project.as_deref(), io::stdin(), out, counter).await?;
        finish(brought, images).await
    })
}

fn read_failed(source: io::Error) -> ArchiveError {
    ArchiveError::Stream { operation: "read the chunks of", source }
}

/// A writer that counts bytes.
struct Counted<W> {
    out: W,
    written: Arc<AtomicU64>,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.written.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Whether images are included (export), or may replace others of the same name (import).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Images {
    Left,
    Taken,
}

/// Returns the name of each image of the spec, or its id if the name refers to another image by now.
async fn names(
    engine: &dyn Engine,
    images: &std::collections::BTreeMap<String, ImageIdentity>,
) -> Result<Vec<String>, CarryError> {
    let mut named = Vec::new();
    for (service, image) in images {
        let now = engine.image(&image.reference).await?;
        let name = if now.is_some_and(|now| image.is(&now)) {
            image.reference.clone()
        } else if engine.image(&image.id).await?.is_some() {
            image.id.clone()
        } else {
            let (service, reference) = (service.clone(), image.reference.clone());
            return Err(CarryError::NoImage { service, reference });
        };
        if !named.contains(&name) {
            named.push(name);
        }
    }
    Ok(named)
}

/// Connects to the engine. Only the keeper's own container has its socket.
async fn engine() -> Result<Arc<dyn Engine>, CarryError> {
    if std::path::Path::new(ENGINE_SOCKET).exists() {
        Ok(Docker::connect_from_env().await?)
    } else {
        Err(CarryError::OutOfReach)
    }
}

async fn load(file: std::fs::File, archived: &[Archived], images: Images) -> Result<(), CarryError> {
    let engine = engine().await?;
    let mut missing = false;
    for image in archived {
        if image.tags.is_empty() {
            missing |= engine.image(&image.id).await?.is_none();
        }
        for tag in &image.tags {
            let Some(here) = engine.image(tag).await? else {
                missing = true;
                continue;
            };
            let is_same = here.id == image.id || (image.content.is_some() && here.content() == image.content);
            if !is_same && images == Images::Left {
                let text = format!(
                    "the images that came along are not loaded: `{tag}` is another one here (`--with-images` replaces it)"
                );
                tell(&TransferLine::Warning { text });
                return Ok(());
            }
            missing |= !is_same;
        }
    }
    if missing {
        let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 1 << 20);
        let loaded = engine.load_images(Box::pin(stream)).await?;
        tell(&TransferLine::Note { text: format!("loaded {}", loaded.join(", ")) });
    }
    Ok(())
}

fn carry(
    args: &[String],
    work: impl AsyncFnOnce(ArchiveStore, SetPath, Arc<Counter>, Images) -> Result<TransferLine, CarryError>,
) -> ExitCode {
    let counter = Arc::new(Counter::default());
    let teller = Arc::clone(&counter);
    // This thread ends with the process.
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(TELL);
            let (done, total) = (teller.done.load(Ordering::Relaxed), teller.total.load(Ordering::Relaxed));
            tell(&TransferLine::Progress { done, total });
        }
    });
    let last = run(args, counter, work).unwrap_or_else(|error| TransferLine::Failed {
        message: super::client::in_full(&error),
        hint: error.hint(),
    });
    tell(&last);
    if matches!(last, TransferLine::Failed { .. }) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(
    args: &[String],
    counter: Arc<Counter>,
    work: impl AsyncFnOnce(ArchiveStore, SetPath, Arc<Counter>, Images) -> Result<TransferLine, CarryError>,
) -> Result<TransferLine, CarryError> {
    let usage = |error: &dyn std::fmt::Display| CarryError::Usage(error.to_string());
    let name = args.first().ok_or_else(|| usage(&"no set is named"))?;
    let set: SetPath = name.parse().map_err(|error| usage(&error))?;
    let images = if args.iter().any(|arg| arg == "--with-images") { Images::Taken } else { Images::Left };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| usage(&error))?.block_on(async {
        let (storage, folder) = storage_inside().await?;
        work(ArchiveStore { storage, folder }, set, counter, images).await
    })
}

fn tell(what: &TransferLine) {
    let mut line = serde_json::to_vec(what).unwrap_or_default();
    line.push(b'\n');
    // If the client no longer reads, there is nowhere to report to.
    let _ = io::stderr().write_all(&line);
}

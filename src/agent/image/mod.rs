//! Builds an image from our own binary and loads it into the engine: nothing is pulled, and keeper and gateway are
//! always of the same build as the client.
//!
//! The image is loaded as a reproducible archive, so that clients that race to load it all load the same one. Its tag
//! is a digest of the build: of the linker's build id and the file's size if the binary has a build id (reading the
//! whole file in each call would take longer than the call), and of the whole content otherwise.

mod build_mark;
mod libraries;
mod payload;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;

use super::protocol::Build;
use crate::engine::identity::{self, Role};
use crate::engine::{CreateContainer, Engine, EngineError, ErrorKind, Filter, Image, ObjectKind};

pub use payload::Payload;
pub(crate) use source::named_image;
pub use source::payload;

/// Environment variable with the path of the binary that goes into the image.
pub const VARIABLE: &str = "SANDBOX_AGENT_BINARY";
/// Environment variable with an image that carries the binary, for a client on another kernel or architecture.
pub const IMAGE_VARIABLE: &str = "SANDBOX_AGENT_IMAGE";
/// The binary's path in the image.
pub const PATH: &str = "/sandbox";
/// How often to load the image again if another client removes it before it is used.
const LOADS: usize = 3;
/// Label of the image: when the binary was built, in seconds since 1970.
const MADE: &str = "dev.sandbox.made";

/// Why our image cannot be provided.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no binary for the engine's architecture.
    #[error("no build of sandbox for the engine's machine (linux/{arch}): tried {}", tried.join(", "))]
    NoBinary {
        /// The engine's architecture.
        arch: String,
        /// The paths that were tried, each with what was wrong.
        tried: Vec<String>,
    },
    /// The binary could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The libraries that the binary needs could not be determined.
    #[error("cannot tell which libraries `{}` needs: {cause}", path.display())]
    Libraries {
        /// The binary.
        path: PathBuf,
        /// The cause.
        cause: String,
    },
    /// The engine returned an error.
    #[error("cannot load our own image")]
    Engine(#[from] EngineError),
    /// Another image has our image's name, even after we loaded ours.
    #[error("the image `{reference}` is not the one that was loaded: its content differs")]
    Altered {
        /// The image's name.
        reference: String,
    },
}

impl ImageError {
    /// Returns a hint for the user, if there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoBinary { arch, .. } => Some(format!(
                "take `sandbox` from the Linux archive for {arch} of the release {} and name the file in {VARIABLE}, put \
                 it beside this program as `sandbox-linux-{arch}`, or name an image that has it as `{PATH}` in \
                 {IMAGE_VARIABLE}",
                env!("CARGO_PKG_VERSION")
            )),
            Self::Engine(error) => error.hint(),
            Self::Altered { reference } => Some(format!(
                "find out who replaces it, then remove it with `docker image rm --force {reference}`"
            )),
            Self::Read { .. } | Self::Libraries { .. } => None,
        }
    }
}

/// Makes sure that the engine has our image, checked by content, and returns its reference.
pub async fn ensure(engine: &dyn Engine, payload: &Payload) -> Result<String, ImageError> {
    let reference = payload.reference();
    payloads().lock().unwrap_or_else(PoisonError::into_inner).insert(reference.clone(), payload.clone());
    for _ in 0..LOADS {
        if let Some(image) = engine.image(&reference).await?
            && is_ours(payload, &image).await?
        {
            return Ok(reference);
        }
        // This takes the name from any other image.
        load(engine, payload).await?;
    }
    Err(ImageError::Altered { reference })
}

async fn load(engine: &dyn Engine, payload: &Payload) -> Result<(), ImageError> {
    let making = payload.clone();
    let archive = in_a_thread(payload, move || making.archive()).await?;
    engine.load_images(futures_util::stream::iter(archive).map(Ok).boxed()).await?;
    Ok(())
}

async fn is_ours(payload: &Payload, image: &Image) -> Result<bool, ImageError> {
    let (payload_of, image) = (payload.clone(), image.clone());
    in_a_thread(payload, move || payload_of.is_content_of(&image)).await
}

/// Runs work that reads our own files in a blocking thread.
async fn in_a_thread<T: Send + 'static>(
    payload: &Payload,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)
        .and_then(|it| it)
        .map_err(|source| ImageError::Read { path: payload.binary().to_owned(), source })
}

/// Creates a container of our own image and returns its id. The engine resolves the image's name when it creates the
/// container, so the resolved image is checked then, before the container can start. If another scope on this engine
/// removed the image meanwhile (`gc --all`), it is loaded again.
///
/// # Errors
/// Fails if the engine refuses, or if another image keeps taking our image's name.
pub async fn create_container(
    engine: &dyn Engine,
    container: &CreateContainer,
) -> Result<String, EngineError> {
    let mut last = None;
    for _ in 0..=LOADS {
        match engine.create_container(container).await {
            Ok(id) if made_of_ours(engine, &id, container).await? => return Ok(id),
            Ok(id) => {
                engine.remove_container(&id, true, true).await?;
                let words = format!("the image `{}` is not the one that was loaded", container.image);
                last = Some(EngineError::new(
                    "create",
                    ObjectKind::Container,
                    &container.name,
                    ErrorKind::Other,
                    words,
                ));
            }
            Err(error) if error.is_not_found() => last = Some(error),
            Err(error) => return Err(error),
        }
        match own_payload(engine, &container.image).await {
            Some(payload) if ensure(engine, &payload).await.is_ok() => {}
            _ => break,
        }
    }
    Err(last.unwrap_or_else(|| {
        EngineError::new(
            "create",
            ObjectKind::Container,
            &container.name,
            ErrorKind::Other,
            "no image of ours",
        )
    }))
}

/// Whether a newly created container has our image. Only checked if the requested image is this program's.
async fn made_of_ours(
    engine: &dyn Engine,
    id: &str,
    container: &CreateContainer,
) -> Result<bool, EngineError> {
    let Some(payload) = own_payload(engine, &container.image).await else { return Ok(true) };
    let Some(made) = engine.container(id).await? else { return Ok(true) };
    // An image id is a digest of the content, so a verified id stays verified.
    let is_known = || verified().lock().unwrap_or_else(PoisonError::into_inner).contains(&made.image_id);
    if is_known() {
        return Ok(true);
    }
    let Some(image) = engine.image(&made.image_id).await? else { return Ok(false) };
    let ours = is_ours(&payload, &image).await.unwrap_or(false);
    if ours {
        verified().lock().unwrap_or_else(PoisonError::into_inner).insert(made.image_id);
    }
    Ok(ours)
}

/// Returns what this program would load, if the reference is that of its image.
async fn own_payload(engine: &dyn Engine, reference: &str) -> Option<Payload> {
    let known = payloads().lock().unwrap_or_else(PoisonError::into_inner).get(reference).cloned();
    if known.is_some() || !reference.starts_with(identity::AGENT_IMAGE) {
        return known;
    }
    let info = engine.info().await.ok()?;
    let found = source::payload(engine, &info.arch, None).await.ok()?;
    payloads().lock().unwrap_or_else(PoisonError::into_inner).insert(found.reference(), found.clone());
    Some(found).filter(|payload| payload.reference() == reference)
}

/// The payloads that this process found, by the image's name.
fn payloads() -> &'static Mutex<BTreeMap<String, Payload>> {
    static PAYLOADS: Mutex<BTreeMap<String, Payload>> = Mutex::new(BTreeMap::new());
    &PAYLOADS
}

/// The ids of images that were verified to be ours.
fn verified() -> &'static Mutex<BTreeSet<String>> {
    static VERIFIED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    &VERIFIED
}

/// Removes our images that are older than this build and that no container uses. Failures are ignored.
pub async fn remove_older(engine: &Arc<dyn Engine>, build: &Build) -> Result<(), EngineError> {
    remove_if(engine, |made| made < build.made).await
}

/// Removes all our images that no container uses, and reports those that could not be removed.
pub async fn remove_all(engine: &Arc<dyn Engine>) -> Result<(), EngineError> {
    remove_if(engine, |_| true).await
}

async fn remove_if(engine: &Arc<dyn Engine>, unwanted: impl Fn(u64) -> bool) -> Result<(), EngineError> {
    let used: Vec<_> = engine.containers(&Filter::all()).await?.into_iter().map(|it| it.image_id).collect();
    let labelled = Filter::all().label(identity::ROLE, Role::Image.as_str());
    // Any image can carry the label, so only our own names are removed from it.
    let is_ours = |tag: &String| tag.split(':').next() == Some(identity::AGENT_IMAGE);
    let images = engine.images(&labelled).await?;
    for left in engine.containers(&labelled).await?.iter().filter(|it| it.name.starts_with(source::CARRIER)) {
        let _ = engine.remove_container(&left.id, true, true).await;
    }
    for image in images.into_iter().filter(|image| !image.tags.is_empty() && image.tags.iter().all(is_ours)) {
        let made = image.config.labels.get(MADE).and_then(|it| it.parse().ok()).unwrap_or_default();
        if unwanted(made) && !used.contains(&image.id) {
            // If a container uses the image by now, the engine refuses, as it should.
            let _ = engine.remove_image(&image.id).await;
        }
    }
    Ok(())
}

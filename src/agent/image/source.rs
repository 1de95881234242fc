//! Where the program for our image comes from: this program if it runs on the engine's machine too, else a named file,
//! a file beside this program, or a named image. A named image is only the carrier: the program is taken out of it,
//! checked, and loaded like any other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::TryStreamExt;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{IMAGE_VARIABLE, ImageError, Payload, VARIABLE};
use crate::agent::digest_cache;
use crate::engine::identity::{self, Role};
use crate::engine::{CreateContainer, Engine, EngineError, ErrorKind, Image, NetworkMode, PullImage};

/// Where the program may be in the image.
const PLACES: [&str; 4] = ["/sandbox", "/usr/local/bin/sandbox", "/usr/bin/sandbox", "/bin/sandbox"];
/// The beginning of the name of the container that the program is copied from. It is never started.
pub(super) const CARRIER: &str = "sandbox-agent-source-";

/// The image that carries the program, from the environment.
pub(crate) fn named_image() -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    set(IMAGE_VARIABLE).filter(|_| set(VARIABLE).is_none())
}

/// Finds the program for an engine of this architecture.
///
/// # Errors
/// Fails if there is none of this version, with everything that was tried.
pub async fn payload(engine: &dyn Engine, arch: &str, named: Option<&Path>) -> Result<Payload, ImageError> {
    let carrier = named_image().filter(|_| named.is_none());
    let (arch, named) = (arch.to_owned(), named.map(Path::to_owned));
    let found = if let Some(reference) = carrier {
        let path = carried(engine, &reference, &arch).await?;
        tokio::task::spawn_blocking(move || {
            Payload::of_carrier(&path, &arch).map_err(|why| ImageError::NoBinary {
                arch,
                tried: vec![format!("the image `{reference}` ({why})")],
            })
        })
        .await
    } else {
        tokio::task::spawn_blocking(move || Payload::find(&arch, named.as_deref())).await
    };
    found.map_err(|error| ImageError::Read { path: PathBuf::new(), source: io::Error::other(error) })?
}

/// Returns a copy of the program in the image, from an earlier call or a new one.
async fn carried(engine: &dyn Engine, reference: &str, arch: &str) -> Result<PathBuf, ImageError> {
    let image = match engine.image(reference).await? {
        Some(image) => image,
        None => pulled(engine, reference, arch).await?,
    };
    let id = image.id.rsplit(':').next().unwrap_or_default().to_owned();
    let folder = digest_cache::folder().unwrap_or_else(std::env::temp_dir).join("agents");
    let copy = folder.join(&id);
    if fs::metadata(&copy).is_ok_and(|file| file.is_file()) {
        return Ok(copy);
    }
    let mut carrier = CreateContainer::new(format!("{CARRIER}{}", id.get(..12).unwrap_or(&id)), &image.id);
    carrier.cmd = Some(vec![PLACES[0].to_owned()]);
    carrier.network_mode = NetworkMode::None;
    carrier.labels = [(identity::ROLE.to_owned(), Role::Image.as_str().to_owned())].into();
    // One that a killed client has left.
    let _ = engine.remove_container(&carrier.name, true, true).await;
    engine.create_container(&carrier).await?;
    let copied = copy_out(engine, &carrier.name, reference, arch, &copy).await;
    match engine.remove_container(&carrier.name, true, true).await {
        // Another client that takes the program out of the same image has removed it, or is about to.
        Err(error) if !error.is_not_found() && error.kind != ErrorKind::InUse => return Err(error.into()),
        _ => {}
    }
    copied.map(|()| copy)
}

async fn pulled(engine: &dyn Engine, reference: &str, arch: &str) -> Result<Image, ImageError> {
    let pull = PullImage { reference: reference.to_owned(), platform: Some(format!("linux/{arch}")) };
    engine.pull_image(&pull, &mut |_| {}).await?;
    let missing = || {
        EngineError::classified(
            "use",
            crate::engine::ObjectKind::Image,
            reference,
            Some(404),
            "no such image",
        )
    };
    Ok(engine.image(reference).await?.ok_or_else(missing)?)
}

async fn copy_out(
    engine: &dyn Engine,
    carrier: &str,
    reference: &str,
    arch: &str,
    copy: &Path,
) -> Result<(), ImageError> {
    for place in PLACES {
        let archive = match engine.download(carrier, place).await {
            Ok(archive) => archive,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        let reader = SyncIoBridge::new(StreamReader::new(archive.map_err(io::Error::other)));
        let into = copy.to_owned();
        let written = tokio::task::spawn_blocking(move || unpack(reader, &into)).await;
        return written
            .map_err(io::Error::other)
            .and_then(|written| written)
            .map_err(|source| ImageError::Read { path: copy.to_owned(), source });
    }
    Err(ImageError::NoBinary {
        arch: arch.to_owned(),
        tried: vec![format!("the image `{reference}` (it has none of {})", PLACES.join(", "))],
    })
}

/// Writes the only file of an archive, all or nothing.
fn unpack(archive: impl io::Read, to: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(archive);
    let mut entry = archive.entries()?.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    if !entry.header().entry_type().is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let made = entry.header().mtime().unwrap_or_default();
    let folder = to.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::copy(&mut entry, &mut file)?;
    // Clients compare when builds were made.
    file.as_file().set_modified(UNIX_EPOCH + Duration::from_secs(made))?;
    file.persist(to).map(drop).map_err(|error| error.error)
}

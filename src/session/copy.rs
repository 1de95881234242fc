//! Files in and out of a service, as `cp` would copy them: into a folder that is there, else under the new name.

use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::engine::{ByteStream, Engine, EngineError, PathStat};

/// What kept files from being copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file of this machine.
    #[error("cannot {verb} `{}`", path.display())]
    Local {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Nothing at a path of a service.
    #[error("service `{service}` has nothing at `{path}`")]
    Missing {
        /// The service.
        service: String,
        /// The path.
        path: String,
    },
    /// A folder that would have to be a file, or the other way round.
    #[error("`{0}` is not a folder")]
    NotAFolder(String),
    /// An archive that is damaged or that leaves its folder.
    #[error("cannot unpack what the service sent")]
    Archive(#[source] io::Error),
}

/// Who owns what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Whoever copies: the user here, root in a service.
    Copier,
    /// As at the source (`-a`).
    Kept,
}

/// What happens to a symbolic link that is itself the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// It is copied as a link.
    Kept,
    /// What it points to is copied (`-L`).
    Followed,
}

fn local<'a>(verb: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CopyError + 'a {
    move |source| CopyError::Local { verb, path: path.to_owned(), source }
}

/// A file or folder of a service as a tar, as it is.
pub async fn archive(
    engine: &dyn Engine,
    service: &str,
    container: &str,
    path: &str,
) -> Result<ByteStream, CopyError> {
    match engine.download(container, path).await {
        Ok(stream) => Ok(stream),
        Err(error) if error.is_not_found() => {
            Err(CopyError::Missing { service: service.to_owned(), path: path.to_owned() })
        }
        Err(error) => Err(error.into()),
    }
}

/// Copies `path` of a container to `to` on this machine.
pub async fn out(
    engine: &dyn Engine,
    service: &str,
    container: &str,
    path: &str,
    to: &Path,
    links: Links,
    owners: Owners,
) -> Result<(), CopyError> {
    let path = &followed(engine, container, path, links).await?;
    let stat = engine.stat_path(container, path).await?;
    let stat = stat.ok_or_else(|| CopyError::Missing { service: service.to_owned(), path: path.clone() })?;
    let contents = path.ends_with("/.") || path == ".";
    let target = place(to, &stat, contents)?;
    let stream = archive(engine, service, container, path).await?;
    let reader = SyncIoBridge::new(StreamReader::new(stream));
    tokio::task::spawn_blocking(move || unpack(reader, &target, owners))
        .await
        .map_err(|error| CopyError::Archive(io::Error::other(error)))?
}

async fn followed(
    engine: &dyn Engine,
    container: &str,
    path: &str,
    links: Links,
) -> Result<String, CopyError> {
    let mut path = path.to_owned();
    if links == Links::Kept {
        return Ok(path);
    }
    for _ in 0..40 {
        let Some(target) = engine.stat_path(container, &path).await?.and_then(|stat| stat.link_target) else {
            break;
        };
        let folder = Path::new(&path).parent().unwrap_or(Path::new("/"));
        path = folder.join(target).to_string_lossy().into_owned();
    }
    Ok(path)
}

/// Where the first entry of the archive goes.
fn place(to: &Path, stat: &PathStat, contents: bool) -> Result<PathBuf, CopyError> {
    let asks_folder = to.as_os_str().to_string_lossy().ends_with('/');
    if to.is_dir() {
        return Ok(if contents { to.to_owned() } else { to.join(&stat.name) });
    }
    if asks_folder && !stat.is_dir {
        return Err(CopyError::NotAFolder(to.display().to_string()));
    }
    if to.exists() && stat.is_dir {
        return Err(CopyError::NotAFolder(to.display().to_string()));
    }
    match to.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) if !parent.is_dir() => {
            Err(local("write to", parent)(io::Error::from(io::ErrorKind::NotFound)))
        }
        _ => Ok(to.to_owned()),
    }
}

/// Unpacks an archive whose entries all start with one name, which becomes `target`. Nothing leaves `target`.
fn unpack(reader: impl Read, target: &Path, owners: Owners) -> Result<(), CopyError> {
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(owners == Owners::Kept);
    archive.set_overwrite(true);
    let mut folders = Vec::new();
    for entry in archive.entries().map_err(CopyError::Archive)? {
        let mut entry = entry.map_err(CopyError::Archive)?;
        let inner: PathBuf = entry.path().map_err(CopyError::Archive)?.components().skip(1).collect();
        if inner.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(CopyError::Archive(io::Error::other(format!("`{}` leads out", inner.display()))));
        }
        if inner.as_os_str().is_empty() {
            if entry.header().entry_type().is_dir() {
                std::fs::create_dir_all(target).map_err(local("create", target))?;
                folders.push((target.to_owned(), entry.header().mode().unwrap_or(0o755)));
            } else {
                entry.unpack(target).map_err(CopyError::Archive)?;
            }
            continue;
        }
        let mut header = entry.header().clone();
        if header.entry_type().is_dir() {
            // A folder without the right to write gets its mode when everything in it is there.
            folders.push((target.join(&inner), header.mode().unwrap_or(0o755)));
            header.set_mode(0o755);
            std::fs::create_dir_all(target.join(&inner)).map_err(local("create", &inner))?;
            continue;
        }
        if header.entry_type().is_hard_link() {
            let first = entry.link_name().map_err(CopyError::Archive)?.unwrap_or_default();
            let first: PathBuf = first.components().skip(1).collect();
            copy_linked(target, &first, &inner)?;
            continue;
        }
        unpack_below(&mut entry, target, &inner)?;
    }
    for (folder, mode) in folders.into_iter().rev() {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode & 0o7777))
            .map_err(local("set the mode of", &folder))?;
    }
    Ok(())
}

fn copy_linked(target: &Path, first: &Path, second: &Path) -> Result<(), CopyError> {
    if first.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(CopyError::Archive(io::Error::other(format!("`{}` leads out", first.display()))));
    }
    let (first, second) = (target.join(first), target.join(second));
    let _ = std::fs::remove_file(&second);
    std::fs::hard_link(&first, &second).map_err(local("link", &second))
}

/// An entry below `target`, whose folders must be real ones: a link among them could lead anywhere.
fn unpack_below<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    target: &Path,
    inner: &Path,
) -> Result<(), CopyError> {
    let mut folder = target.to_owned();
    for part in inner.parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        match std::fs::symlink_metadata(&folder) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(CopyError::NotAFolder(folder.display().to_string())),
            Err(_) => std::fs::create_dir(&folder).map_err(local("create", &folder))?,
        }
    }
    entry.unpack(target.join(inner)).map(drop).map_err(CopyError::Archive)
}

/// Copies `from` on this machine to `path` of a container.
pub async fn into(
    engine: &dyn Engine,
    container: &str,
    from: &Path,
    path: &str,
    links: Links,
    owners: Owners,
) -> Result<(), CopyError> {
    let read = if links == Links::Followed { std::fs::metadata } else { std::fs::symlink_metadata };
    let found = read(from).map_err(local("read", from))?;
    let contents = from.ends_with(".") || from.to_string_lossy().ends_with("/.");
    let own = from.canonicalize().map_err(local("read", from))?;
    let own = if links == Links::Kept && found.is_symlink() { from.to_owned() } else { own };
    let (folder, name) = destination(engine, container, path, &own, found.is_dir(), contents).await?;
    let source = if links == Links::Followed { own } else { from.to_owned() };
    upload(engine, container, &folder, move |to| pack(to, &source, &name, owners)).await
}

/// Unpacks a tar that the user has below a folder of a container.
pub async fn unpack_into(
    engine: &dyn Engine,
    container: &str,
    path: &str,
    archive: ByteStream,
) -> Result<(), CopyError> {
    Ok(engine.upload(container, path, archive).await?)
}

/// The folder to unpack below, and the name that the source gets there (empty: its contents go into the folder).
async fn destination(
    engine: &dyn Engine,
    container: &str,
    path: &str,
    from: &Path,
    is_dir: bool,
    contents: bool,
) -> Result<(String, PathBuf), CopyError> {
    let stat = engine.stat_path(container, path).await?;
    let is_folder = match &stat {
        Some(PathStat { link_target: Some(target), .. }) => {
            let at = Path::new(path).parent().unwrap_or(Path::new("/")).join(target);
            engine.stat_path(container, &at.to_string_lossy()).await?.is_some_and(|stat| stat.is_dir)
        }
        Some(stat) => stat.is_dir,
        None => false,
    };
    let name = from.file_name().map(PathBuf::from).unwrap_or_default();
    if is_folder {
        return Ok((path.to_owned(), if contents { PathBuf::new() } else { name }));
    }
    if stat.is_some() && is_dir || stat.is_none() && path.ends_with('/') && !is_dir {
        return Err(CopyError::NotAFolder(path.to_owned()));
    }
    let path = Path::new(path.trim_end_matches('/'));
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("/"));
    let last = path.file_name().map(PathBuf::from).unwrap_or(name);
    Ok((folder.to_string_lossy().into_owned(), last))
}

/// Sends what `write` writes as a tar, a piece at a time, and tells its error rather than the engine's.
async fn upload(
    engine: &dyn Engine,
    container: &str,
    folder: &str,
    write: impl FnOnce(Pieces) -> Result<(), CopyError> + Send + 'static,
) -> Result<(), CopyError> {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(8);
    let failed = sender.clone();
    let writer = tokio::task::spawn_blocking(move || {
        let done = write(Pieces(sender));
        if done.is_err() {
            // Without this the engine would unpack the first half and call it a success.
            let _ = failed.blocking_send(Err(io::Error::other("the source could not be read")));
        }
        done
    });
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let sent = engine.upload(container, folder, Box::pin(pieces)).await;
    match writer.await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) => Ok(sent?),
        Err(error) => Err(CopyError::Archive(io::Error::other(error))),
    }
}

/// A writer whose pieces are sent to a task.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack(to: impl Write, from: &Path, name: &Path, owners: Owners) -> Result<(), CopyError> {
    let mut builder = tar::Builder::new(io::BufWriter::with_capacity(1 << 16, to));
    builder.follow_symlinks(false);
    append(&mut builder, from, name, owners)?;
    let finish = || -> io::Result<()> {
        builder.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.flush()
    };
    match finish() {
        // The engine has hung up; what it says tells why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(local("read", from)),
    }
}

fn append<W: Write>(
    builder: &mut tar::Builder<W>,
    from: &Path,
    name: &Path,
    owners: Owners,
) -> Result<(), CopyError> {
    let found = std::fs::symlink_metadata(from).map_err(local("read", from))?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&found);
    if owners == Owners::Copier {
        header.set_uid(0);
        header.set_gid(0);
    }
    let kind = found.file_type();
    let appended = if kind.is_dir() {
        if name.as_os_str().is_empty() { Ok(()) } else { builder.append_data(&mut header, name, io::empty()) }
    } else if kind.is_symlink() {
        header.set_size(0);
        let target = std::fs::read_link(from).map_err(local("read", from))?;
        builder.append_link(&mut header, name, target)
    } else if kind.is_file() {
        let file = std::fs::File::open(from).map_err(local("read", from))?;
        // A file that grows or shrinks meanwhile must not shift what follows it.
        let size = found.len();
        header.set_size(size);
        builder.append_data(&mut header, name, file.take(size).chain(io::repeat(0)).take(size))
    } else {
        // Sockets, pipes and devices have no contents to copy.
        return Ok(());
    };
    match appended {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        other => other.map_err(local("read", from))?,
    }
    if kind.is_dir() {
        let mut entries: Vec<_> = std::fs::read_dir(from)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(local("read", from))?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            append(builder, &entry.path(), &name.join(entry.file_name()), owners)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(from: &Path, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(&mut bytes, from, Path::new(name), Owners::Copier).unwrap();
        bytes
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same_files_under_the_new_name() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("a");
        std::fs::create_dir_all(source.join("deep")).unwrap();
        std::fs::write(source.join("deep/file"), "text").unwrap();
        std::os::unix::fs::symlink("file", source.join("deep/link")).unwrap();
        let target = folder.path().join("b");
        unpack(packed(&source, "a").as_slice(), &target, Owners::Copier).unwrap();
        assert_eq!(std::fs::read_to_string(target.join("deep/file")).unwrap(), "text");
        assert_eq!(std::fs::read_link(target.join("deep/link")).unwrap(), Path::new("file"));
    }

    #[test]
    fn one_file_becomes_the_target() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("one"), "1").unwrap();
        let target = folder.path().join("two");
        unpack(packed(&folder.path().join("one"), "one").as_slice(), &target, Owners::Copier).unwrap();
        assert_eq!(std::fs::read_to_string(target).unwrap(), "1");
    }

    #[test]
    fn an_archive_cannot_write_through_a_link_it_brought() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        builder.append_link(&mut header, "a/door", &outside).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        builder.append_data(&mut header, "a/door/file", &b"x"[..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        std::fs::create_dir(folder.path().join("target")).unwrap();
        let error = unpack(bytes.as_slice(), &folder.path().join("target"), Owners::Copier).unwrap_err();
        assert!(matches!(error, CopyError::NotAFolder(_)), "{error}");
        assert!(!outside.join("file").exists());
    }
}

//! Copies files into and out of a service, as `cp` does: into an existing folder, otherwise under the new name.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::engine::{ByteStream, Engine, EngineError, PathStat};
use crate::host_files::{self, Owner, Unpack, WritableFolders};
use crate::storage::tree;

/// Why files could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The engine returned an error.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An operation on a file of this machine failed.
    #[error("cannot {verb} `{}`", path.display())]
    Local {
        /// The operation.
        verb: &'static str,
        /// The file's path.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A path in a service does not exist.
    #[error("service `{service}` has nothing at `{path}`")]
    Missing {
        /// The service's name.
        service: String,
        /// The missing path.
        path: String,
    },
    /// The folder to copy into does not exist.
    #[error("there is no folder `{0}`")]
    NoFolder(String),
    /// A folder where a file is needed, or the other way round.
    #[error("`{0}` is not a folder")]
    NotAFolder(String),
    /// A link that a service may have made is in the path on this machine.
    #[error("`{}` is a symbolic link in `{}`, which a service can write: it is not followed", link.display(), folder.display())]
    Planted {
        /// The link.
        link: PathBuf,
        /// The folder that the service can write to.
        folder: PathBuf,
    },
    /// An archive is damaged or leads out of its folder.
    #[error("cannot unpack what the service sent")]
    Archive(#[source] io::Error),
}

/// The owner of copied files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// The user on this machine, root in a service.
    Copier,
    /// The owner at the source (`-a`).
    Kept,
}

/// How to handle a symbolic link that is itself the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Copy the link.
    Kept,
    /// Copy its target (`-L`).
    Followed,
}

fn local<'a>(verb: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CopyError + 'a {
    move |source| CopyError::Local { verb, path: path.to_owned(), source }
}

/// Streams a file or folder of a service as a tar archive.
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

/// Copies `path` of a container to `to` on this machine. Follows no link below `to`, and none in the path to it that a
/// service may have made.
#[expect(clippy::too_many_arguments, reason = "both ends of a copy and how it is done")]
pub async fn out(
    engine: &dyn Engine,
    service: &str,
    container: &str,
    path: &str,
    to: &Path,
    writable: &WritableFolders,
    links: Links,
    owners: Owners,
) -> Result<(), CopyError> {
    if let Some(found) = writable.link_to(to) {
        return Err(CopyError::Planted { link: found.link, folder: found.folder });
    }
    let path = &followed(engine, container, path, links).await?;
    let stat = engine.stat_path(container, path).await?;
    let stat = stat.ok_or_else(|| CopyError::Missing { service: service.to_owned(), path: path.clone() })?;
    let contents = path.ends_with("/.") || path == ".";
    let (folder, name) = place(to, &stat, contents)?;
    let into = writable.folder(&folder).map_err(local("write to", &folder))?;
    let stream = archive(engine, service, container, path).await?;
    let reader = SyncIoBridge::new(StreamReader::new(stream));
    let owners = owners == Owners::Kept;
    let how = Unpack { strip: 1, prefix: name, links: host_files::Links::Kept, owners, modes: 0o7777 };
    tokio::task::spawn_blocking(move || host_files::unpack(reader, &into, &how).map_err(CopyError::Archive))
        .await
        .map_err(|error| CopyError::Archive(io::Error::other(error)))?
}

/// The path after its symbolic links, if they are to be followed.
pub(crate) async fn followed(
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

/// The folder to unpack into, and the name that the archive's first component gets there (none: the contents go into
/// the folder).
fn place(to: &Path, stat: &PathStat, contents: bool) -> Result<(PathBuf, Option<OsString>), CopyError> {
    let asks_folder = to.as_os_str().to_string_lossy().ends_with('/');
    if to.is_dir() {
        let name = Path::new(&stat.name).file_name().filter(|_| !contents);
        return Ok((to.to_owned(), name.map(OsString::from)));
    }
    if asks_folder && !stat.is_dir {
        return Err(CopyError::NotAFolder(to.display().to_string()));
    }
    if to.exists() && stat.is_dir {
        return Err(CopyError::NotAFolder(to.display().to_string()));
    }
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match to.file_name() {
        Some(name) if parent.is_dir() => Ok((parent.to_owned(), Some(name.to_owned()))),
        _ if parent.exists() => Err(CopyError::NotAFolder(parent.display().to_string())),
        _ => Err(CopyError::NoFolder(parent.display().to_string())),
    }
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

/// Unpacks the user's tar archive below a folder of a container.
pub async fn unpack_into(
    engine: &dyn Engine,
    container: &str,
    path: &str,
    archive: ByteStream,
) -> Result<(), CopyError> {
    check_folder(engine, container, path).await?;
    Ok(engine.upload(container, path, archive).await?)
}

/// Fails if a path in a container is not a folder. Where a link leads is left to the engine.
async fn check_folder(engine: &dyn Engine, container: &str, path: &str) -> Result<(), CopyError> {
    match engine.stat_path(container, path).await? {
        None => Err(CopyError::NoFolder(path.to_owned())),
        Some(stat) if !stat.is_dir && stat.link_target.is_none() => {
            Err(CopyError::NotAFolder(path.to_owned()))
        }
        Some(_) => Ok(()),
    }
}

/// The folder to unpack into, and the name that the source gets there (empty: the contents go into the folder).
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
    check_folder(engine, container, &folder.to_string_lossy()).await?;
    Ok((folder.to_string_lossy().into_owned(), last))
}

/// Uploads the output of `write` as a tar stream, and reports its error rather than the engine's.
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
            // Without this the engine would unpack the first half and report success.
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

/// A writer that sends its chunks to a task.
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
    match append(&mut builder, from, name, owners) {
        // The engine closed the connection; its own error says why.
        Err(CopyError::Local { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        other => other?,
    }
    let finish = || -> io::Result<()> {
        builder.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.flush()
    };
    match finish() {
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
    let owner = (owners == Owners::Copier).then_some(Owner::ROOT);
    let found = std::fs::symlink_metadata(from).map_err(local("read", from))?;
    let kind = found.file_type();
    if kind.is_dir() {
        return tree::pack_tree(from, name, owner, builder).map_err(|error| CopyError::Local {
            verb: error.operation,
            path: from.join(error.path),
            source: error.source,
        });
    }
    let appended = if kind.is_symlink() {
        let owner = owner.unwrap_or(Owner { uid: found.uid().into(), gid: found.gid().into() });
        let target = std::fs::read_link(from).map_err(local("read", from))?;
        builder.append_link(&mut host_files::header_of(&found, owner), name, target)
    } else if kind.is_file() {
        let file = std::fs::File::open(from).map_err(local("read", from))?;
        tree::pack_file(file, name, owner, builder)
    } else {
        // Sockets, pipes and devices have no contents to copy.
        return Ok(());
    };
    appended.map_err(local("read", from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(from: &Path, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(&mut bytes, from, Path::new(name), Owners::Copier).unwrap();
        bytes
    }

    fn unpack(archive: &[u8], target: &Path) {
        let stat = PathStat {
            name: "a".to_owned(),
            size: 0,
            mode: 0o755,
            is_dir: archive[156] == b'5',
            link_target: None,
        };
        let (folder, prefix) = place(target, &stat, false).unwrap();
        let into = host_files::Folder::open(&folder).unwrap();
        let how = Unpack { prefix, ..Unpack::plain(1, host_files::Links::Kept) };
        host_files::unpack(archive, &into, &how).unwrap();
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same_files_under_the_new_name() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("a");
        std::fs::create_dir_all(source.join("deep")).unwrap();
        std::fs::write(source.join("deep/file"), "text").unwrap();
        std::os::unix::fs::symlink("file", source.join("deep/link")).unwrap();
        let target = folder.path().join("b");
        unpack(&packed(&source, "a"), &target);
        assert_eq!(std::fs::read_to_string(target.join("deep/file")).unwrap(), "text");
        assert_eq!(std::fs::read_link(target.join("deep/link")).unwrap(), Path::new("file"));
    }

    #[test]
    fn one_file_becomes_the_target() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("one"), "1").unwrap();
        let target = folder.path().join("two");
        unpack(&packed(&folder.path().join("one"), "one"), &target);
        assert_eq!(std::fs::read_to_string(target).unwrap(), "1");
    }
}

//! Copies changed files into a service's containers: existing files are sent as one archive, deleted ones are removed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;

use crate::engine::{Engine, Exec};
use crate::host_files::{Owner, WritableFolders, header_of};
use crate::session::error::SessionError;
use crate::spec::Service;
use crate::storage::tree;

/// Maximum number of paths per command, since a command line's length is limited.
const AT_ONCE: usize = 500;

/// Syncs files of this machine to a container (`to` is absolute).
///
/// # Errors
/// Fails if a file cannot be read, sent or removed.
pub(super) async fn copy(
    engine: &dyn Engine,
    service: &Service,
    container: &str,
    files: &BTreeMap<PathBuf, String>,
    writable: &WritableFolders,
) -> Result<(), SessionError> {
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    let (there, gone): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| is_there(path));
    // A failed removal must not keep changed files from being sent.
    let removed =
        remove(engine, container, &gone.into_iter().map(|(_, to)| to.clone()).collect::<Vec<_>>()).await;
    if !there.is_empty() {
        let (owner, writable) = (owner(service), writable.clone());
        let there: Vec<(PathBuf, String)> =
            there.into_iter().map(|(path, to)| (path.clone(), to.clone())).collect();
        let packed = tokio::task::spawn_blocking(move || pack(&there, owner, &writable)).await;
        let archive = packed.map_err(io::Error::other).and_then(|packed| packed);
        let archive = archive
            .map_err(|cause| SessionError::Io { what: "cannot read what has changed".to_owned(), cause })?;
        let stream = futures_util::stream::once(async move { Ok(Bytes::from(archive)) });
        engine.upload(container, "/", Box::pin(stream)).await?;
    }
    removed
}

async fn remove(engine: &dyn Engine, container: &str, paths: &[String]) -> Result<(), SessionError> {
    for some in paths.chunks(AT_ONCE) {
        let words = ["rm", "-rf", "--"].into_iter().map(str::to_owned).chain(some.iter().cloned());
        let exec = Exec { user: Some("0".to_owned()), ..Exec::new(words) };
        let failed = |cause: String| SessionError::NotRemoved {
            paths: format!("`{}`{}", some[0], others(some.len() - 1)),
            cause,
        };
        let mut session =
            engine.exec(container, &exec).await.map_err(|error| failed(error.cause.to_string()))?;
        let mut said = Vec::new();
        while let Some(chunk) = session.output.next().await {
            said.extend_from_slice(&chunk?.bytes);
        }
        match engine.exec_exit_code(&session.id).await? {
            Some(0) => {}
            // Exit codes of a shell for a program that cannot be run.
            Some(126 | 127) => return Err(failed("the service's image has no `rm`".to_owned())),
            _ => return Err(failed(String::from_utf8_lossy(&said).trim().replace('\n', "; "))),
        }
    }
    Ok(())
}

fn others(number: usize) -> String {
    if number == 0 { String::new() } else { format!(" and {number} more") }
}

/// The owner of copied files: the service's user if the spec gives numeric ids, otherwise root.
fn owner(service: &Service) -> Owner {
    let written = service.settings.user.as_deref().unwrap_or_default();
    let (user, group) = written.split_once(':').unwrap_or((written, ""));
    Owner { uid: user.parse().unwrap_or(0), gid: group.parse().unwrap_or(0) }
}

fn pack(files: &[(PathBuf, String)], owner: Owner, writable: &WritableFolders) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, to) in files {
        // The file was removed in the meantime, which the next change reports.
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let to = to.trim_start_matches('/');
        if metadata.is_symlink() {
            tar.append_link(&mut header_of(&metadata, owner), to, std::fs::read_link(path)?)?;
        } else if metadata.is_dir() {
            tar.append_data(&mut header_of(&metadata, owner), to, io::empty())?;
        } else if metadata.is_file() {
            match open(path, writable) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => tree::pack_file(file?, Path::new(to), Some(owner), &mut tar)?,
            }
        }
    }
    tar.into_inner()
}

/// Opens a file that was not a link when it was checked, and follows no link that has replaced it since.
fn open(path: &Path, writable: &WritableFolders) -> io::Result<std::fs::File> {
    let (parent, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
    writable.folder(parent)?.read(Path::new(name))
}

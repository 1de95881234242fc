//! Changed files into a service's containers: what is there is sent as one archive, what is gone is removed.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;

use crate::engine::{Engine, Exec};
use crate::session::error::SessionError;
use crate::spec::Service;

/// Makes the files of a container (`to`, absolute) what those of this machine are.
///
/// # Errors
/// When a file cannot be read, or the engine refuses.
pub(super) async fn copy(
    engine: &dyn Engine,
    service: &Service,
    container: &str,
    files: &BTreeMap<PathBuf, String>,
) -> Result<(), SessionError> {
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    let (there, gone): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| is_there(path));
    if !gone.is_empty() {
        remove(engine, container, gone.into_iter().map(|(_, to)| to)).await?;
    }
    if there.is_empty() {
        return Ok(());
    }
    let owner = owner(service);
    let there: Vec<(PathBuf, String)> =
        there.into_iter().map(|(path, to)| (path.clone(), to.clone())).collect();
    let packed = tokio::task::spawn_blocking(move || pack(&there, owner)).await;
    let archive = packed.map_err(io::Error::other).and_then(|packed| packed);
    let archive = archive.map_err(|error| SessionError::Data {
        what: format!("cannot read what has changed: {error}"),
        hint: None,
    })?;
    let stream = futures_util::stream::once(async move { Ok(Bytes::from(archive)) });
    Ok(engine.upload(container, "/", Box::pin(stream)).await?)
}

async fn remove(
    engine: &dyn Engine,
    container: &str,
    paths: impl Iterator<Item = &String>,
) -> Result<(), SessionError> {
    let words = ["rm", "-rf", "--"].into_iter().map(str::to_owned).chain(paths.cloned());
    let exec = Exec { user: Some("0".to_owned()), ..Exec::new(words) };
    let mut session = engine.exec(container, &exec).await?;
    while session.output.next().await.is_some() {}
    Ok(())
}

/// Files belong to whom the service runs as, where the spec says so in numbers; else to root.
fn owner(service: &Service) -> (u64, u64) {
    let written = service.user.as_deref().unwrap_or_default();
    let (user, group) = written.split_once(':').unwrap_or((written, ""));
    (user.parse().unwrap_or(0), group.parse().unwrap_or(0))
}

fn pack(files: &[(PathBuf, String)], (user, group): (u64, u64)) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, to) in files {
        // One that has gone since is the next change.
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let mut header = tar::Header::new_gnu();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
        header.set_uid(user);
        header.set_gid(group);
        let to = to.trim_start_matches('/');
        if metadata.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, to, std::fs::read_link(path)?)?;
        } else if metadata.is_file() {
            let content = match std::fs::read(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                content => content?,
            };
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, to, content.as_slice())?;
        }
    }
    tar.into_inner()
}

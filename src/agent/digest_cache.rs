//! Caches the digest of our image's layer in the user's cache directory, because hashing the whole program in each call
//! would take longer than the call itself. The key changes whenever a file of the layer changes. A user who can write
//! to this directory can also replace the program, so the cache needs no protection of its own.

use std::fs;
use std::path::PathBuf;

/// Returns the cached digest for this key.
pub(super) fn read(key: &str) -> Option<String> {
    let text = fs::read_to_string(path()?).ok()?;
    let (of, digest) = text.trim().split_once(' ')?;
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    (of == key && is_digest).then(|| digest.to_owned())
}

/// Caches a digest. A failure only costs time.
pub(super) fn write(key: &str, digest: &str) {
    let Some(path) = path() else { return };
    let Some(folder) = path.parent() else { return };
    let written = fs::create_dir_all(folder)
        .and_then(|()| tempfile::NamedTempFile::new_in(folder))
        .and_then(|file| fs::write(file.path(), format!("{key} {digest}\n")).map(|()| file))
        .and_then(|file| file.persist(&path).map_err(|error| error.error));
    if let Err(error) = written {
        tracing::debug!(%error, path = %path.display(), "cannot keep the digest of our own image");
    }
}

fn path() -> Option<PathBuf> {
    Some(folder()?.join("agent-layer"))
}

/// Returns the folder of our caches, which belongs to the user.
pub(super) fn folder() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache =
        cache.or_else(|| Some(std::env::home_dir()?.join(".cache")).filter(|path| path.is_absolute()))?;
    Some(cache.join("sandbox"))
}

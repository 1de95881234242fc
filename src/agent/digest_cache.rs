//! The digest of our own image's layer, kept in the user's cache directory: reading the whole program at each call would cost
//! more than the call. The key changes whenever a file of the layer does. Who can write there can replace the program.

use std::fs;
use std::path::PathBuf;

/// The digest that was kept under this key.
pub(super) fn read(key: &str) -> Option<String> {
    let text = fs::read_to_string(path()?).ok()?;
    let (of, digest) = text.trim().split_once(' ')?;
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    (of == key && is_digest).then(|| digest.to_owned())
}

/// Keeps a digest. That it cannot be kept costs time only.
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
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache =
        cache.or_else(|| Some(std::env::home_dir()?.join(".cache")).filter(|path| path.is_absolute()))?;
    Some(cache.join("sandbox").join("agent-layer"))
}

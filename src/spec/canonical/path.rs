//! Makes paths absolute.

use std::path::{Component, Path, PathBuf};

use crate::spec::node::{Map, Node, Value};

/// The base folder of a document's paths, and the home folder for `~`.
pub(in crate::spec) struct Base<'a> {
    pub folder: &'a Path,
    pub home: Option<&'a str>,
}

/// Whether the reference is a snapshot file.
pub(in crate::spec) fn is_file_reference(text: &str) -> bool {
    text.contains('/') || text.ends_with(".sandbox.tar.zst")
}

/// Whether the builder fetches the context.
pub(in crate::spec) fn is_remote(context: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "github.com/", "git@", "docker-image://", "oci-layout://"]
        .iter()
        .any(|prefix| context.starts_with(prefix))
}

/// Makes the path at a key absolute.
pub(in crate::spec) fn path(map: &mut Map, key: &str, base: &Base<'_>) {
    if let Some(node) = map.get_mut(key) {
        absolute(node, base);
    }
}

/// Makes a path absolute: `~` is the home folder, other paths are relative to the base.
pub(in crate::spec) fn absolute(node: &mut Node, base: &Base<'_>) {
    let Some(text) = node.as_str().filter(|text| !text.is_empty()) else { return };
    let path = resolve(text, base);
    node.value = Value::Str(path.to_string_lossy().into_owned());
}

/// Returns an absolute path without `.` and `..`.
fn resolve(text: &str, base: &Base<'_>) -> PathBuf {
    let path = match (text.strip_prefix('~'), base.home) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            Path::new(home).join(rest.trim_start_matches('/'))
        }
        _ => base.folder.join(text),
    };
    clean(&path)
}

/// Removes `.` and `..` lexically.
pub(in crate::spec) fn clean(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                result.pop();
            }
            part => result.push(part),
        }
    }
    result
}

/// Resolves the links of the part of a path that exists.
pub(in crate::spec) fn real(path: &Path) -> PathBuf {
    let path = clean(path);
    for ancestor in path.ancestors() {
        if let Ok(real) = ancestor.canonicalize() {
            // Joining an empty path would add a slash.
            let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path
}

/// Whether a path, after its links, is outside of a folder.
pub(in crate::spec) fn leaves(folder: &Path, path: &Path) -> bool {
    !real(path).starts_with(folder)
}

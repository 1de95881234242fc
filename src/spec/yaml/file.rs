//! Reads the text of a YAML file.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::spec::boundary;
use crate::spec::diagnostics::Log;
use crate::spec::problem::{Problem, ProblemKind};

/// Maximum size of a file in bytes. Real specs have a thousandth of it.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The sentinel size of a folder.
const FOLDER: u64 = u64::MAX;

/// Reads a file; reports why it cannot be read.
pub(in crate::spec) fn read(log: &Log, path: &Path, shown: &Path) -> Option<Arc<str>> {
    log.note_read(path);
    let fail = |kind, message: String, hint: &str| {
        log.push(Problem::new(kind, message).hint(hint));
        None
    };
    let name = shown.display();
    let input = log.input(path);
    if let Some(boundary) = log.left_by(path).filter(|_| input.is_none()) {
        log.push(boundary::refused(&format!("the spec reads `{name}`"), boundary));
        return None;
    }
    let size = match input {
        Some(bytes) => Ok(bytes.len() as u64),
        None => std::fs::metadata(path).map(|meta| if meta.is_dir() { FOLDER } else { meta.len() }),
    };
    match size {
        Ok(FOLDER) => return fail(ProblemKind::File, format!("`{name}` is a folder"), "name a file in it"),
        Ok(size) if size > MAX_BYTES => {
            let size = size / (1024 * 1024);
            let message = format!("`{name}` is too large for a spec: {size} MiB, at most 4 are read");
            return fail(
                ProblemKind::Syntax,
                message,
                "keep data in files of its own and name them in the spec",
            );
        }
        Ok(_) => {}
        Err(error) => {
            return fail(
                ProblemKind::File,
                format!("cannot read `{name}`: {}", reason(&error)),
                "check the path",
            );
        }
    }
    match input.map_or_else(|| read_some(path), |bytes| Ok(bytes.to_vec())) {
        Ok(bytes) if bytes.len() as u64 > MAX_BYTES => fail(
            ProblemKind::Syntax,
            format!("`{name}` is too large for a spec: at most 4 MiB are read"),
            "keep data in files of its own and name them in the spec",
        ),
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Some(Arc::from(text)),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let bytes = error.as_bytes();
                let line = String::from_utf8_lossy(&bytes[..valid]).matches('\n').count() + 1;
                let byte = bytes.get(valid).copied().unwrap_or_default();
                let message = format!("`{name}` is not UTF-8: line {line} has the byte 0x{byte:02x}");
                fail(ProblemKind::Syntax, message, "save the file as UTF-8")
            }
        },
        Err(error) => {
            fail(ProblemKind::File, format!("cannot read `{name}`: {}", reason(&error)), "check the path")
        }
    }
}

/// Reads a file up to just above the limit: some files do not report their size.
fn read_some(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Formats an I/O error without its error number.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "access is denied".to_owned(),
        _ => error.to_string(),
    }
}

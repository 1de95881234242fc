//! `read_file` and `write_file`: files in a service, whether or not its image has a shell.

use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::cli::Failure;
use crate::cli::mcp::call::Call;
use crate::cli::mcp::pages::PAGE;
use crate::cli::mcp::reply::{ErrorReply, Reply, ToolResult};
use crate::cli::mcp::server::{Server, Target};
use crate::cli::mcp::untrusted;
use crate::engine::ByteStream;
use crate::host_files::{self, Owner};
use crate::session::exec::copy::{self, Links};

/// The largest file that is written.
const MOST_BYTES: usize = 8 << 20;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cli::mcp) struct ReadFile {
    /// Default: the only one
    #[serde(default)]
    sandbox: Option<String>,
    service: String,
    /// Absolute
    path: String,
    /// Byte to start at
    #[serde(default)]
    offset: u64,
}

/// What was read of a file.
struct Piece {
    bytes: Vec<u8>,
    size: u64,
}

/// Reads a page of a file.
pub(in crate::cli::mcp) async fn read_file(server: Server, args: ReadFile, _: Call) -> ToolResult {
    check_path(&args.path)?;
    let target = server.target(args.sandbox.as_deref()).await?;
    let container = target.observed.container(&args.service, 1).map_err(Failure::from)?.name.clone();
    let path = copy::followed(&*target.engine, &container, &args.path, Links::Followed).await?;
    let stream = copy::archive(&*target.engine, &args.service, &container, &path).await?;
    let (offset, shown) = (args.offset, args.path.clone());
    let piece = blocking(move || piece(stream, offset)).await?;
    let Some(Piece { mut bytes, size }) = piece else {
        let hint = "list it with `exec` and `ls`".to_owned();
        return Err(Failure::failed(format!("`{shown}` is not a file"), Some(hint)).into());
    };
    let is_last = args.offset + bytes.len() as u64 >= size;
    if !is_last {
        trim_to_line(&mut bytes);
    }
    let mut facts = json!({ "path": args.path, "size": size });
    if !is_last {
        facts["next_offset"] = (args.offset + bytes.len() as u64).into();
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => untrusted::exact(&text),
        binary => {
            facts["encoding"] = "base64".into();
            STANDARD.encode(binary.map_or_else(std::string::FromUtf8Error::into_bytes, String::into_bytes))
        }
    };
    Ok(Reply::new(facts).with_untrusted(&args.service, &text))
}

/// Reads a page of the first entry of an archive; `None` if it is not a file.
fn piece(stream: ByteStream, offset: u64) -> std::io::Result<Option<Piece>> {
    let mut archive = tar::Archive::new(SyncIoBridge::new(StreamReader::new(stream)));
    let Some(entry) = archive.entries()?.next() else { return Ok(None) };
    let mut entry = entry?;
    if !entry.header().entry_type().is_file() {
        return Ok(None);
    }
    let size = entry.size();
    std::io::copy(&mut (&mut entry).take(offset), &mut std::io::sink())?;
    let mut bytes = Vec::new();
    entry.take(PAGE as u64).read_to_end(&mut bytes)?;
    Ok(Some(Piece { bytes, size }))
}

/// Removes the beginning of a line at the end of a page of text; of a line that is longer than a page, the beginning of
/// a character.
fn trim_to_line(bytes: &mut Vec<u8>) {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text.len(),
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => return,
    };
    let line = bytes[..valid].iter().rposition(|byte| *byte == b'\n');
    bytes.truncate(line.map_or(valid, |line| line + 1));
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::cli::mcp) struct WriteFile {
    /// Default: the only one
    #[serde(default)]
    sandbox: Option<String>,
    service: String,
    /// Absolute
    path: String,
    content: String,
}

/// The owner and mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attributes {
    owner: Owner,
    mode: u32,
}

/// Writes a file. One that exists keeps its owner and mode; a new one gets the owner of its folder.
pub(in crate::cli::mcp) async fn write_file(server: Server, args: WriteFile, _: Call) -> ToolResult {
    check_path(&args.path)?;
    if args.content.len() > MOST_BYTES {
        let hint = "write it in parts with `exec`".to_owned();
        return Err(Failure::usage("the content is larger than 8 MiB", Some(hint)).into());
    }
    let target = server.target(args.sandbox.as_deref()).await?;
    let container = target.observed.container(&args.service, 1).map_err(Failure::from)?.name.clone();
    let path = copy::followed(&*target.engine, &container, &args.path, Links::Followed).await?;
    let path = Path::new(&path);
    let mut existing = path;
    while target.engine.stat_path(&container, &existing.to_string_lossy()).await?.is_none() {
        existing = existing.parent().unwrap_or(Path::new("/"));
    }
    let attributes = attributes(&target, &args.service, &container, existing).await?;
    let (folder, attributes) = if existing == path {
        (path.parent().unwrap_or(Path::new("/")), attributes)
    } else {
        (existing, Attributes { mode: 0o644, ..attributes })
    };
    let name = path.strip_prefix(folder).unwrap_or(path);
    let archive = pack(name, args.content.as_bytes(), attributes).map_err(Failure::from)?;
    let stream: ByteStream = Box::pin(futures_util::stream::iter([Ok(Bytes::from(archive))]));
    target.engine.upload(&container, &folder.to_string_lossy(), stream).await?;
    Ok(Reply::new(json!({ "path": args.path, "size": args.content.len() })))
}

/// The attributes of a file or folder, from the head of its archive.
async fn attributes(
    target: &Target,
    service: &str,
    container: &str,
    path: &Path,
) -> Result<Attributes, ErrorReply> {
    let shown = path.display().to_string();
    let stream = copy::archive(&*target.engine, service, container, &shown).await?;
    blocking(move || {
        let mut archive = tar::Archive::new(SyncIoBridge::new(StreamReader::new(stream)));
        let Some(entry) = archive.entries()?.next() else {
            return Ok(Attributes { owner: Owner::ROOT, mode: 0o644 });
        };
        let entry = entry?;
        let header = entry.header();
        let owner = Owner { uid: header.uid()?, gid: header.gid()? };
        Ok(Attributes { owner, mode: header.mode()? & 0o7777 })
    })
    .await
}

/// An archive of one file and the missing folders on the way to it.
fn pack(name: &Path, content: &[u8], attributes: Attributes) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut folders: Vec<&Path> =
        name.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
    folders.reverse();
    for folder in folders {
        let mut header = host_files::header(tar::EntryType::Directory, 0, 0o755, attributes.owner);
        builder.append_data(&mut header, folder, std::io::empty())?;
    }
    let size = content.len() as u64;
    let mut header = host_files::header(tar::EntryType::Regular, size, attributes.mode, attributes.owner);
    builder.append_data(&mut header, name, content)?;
    builder.into_inner()
}

fn check_path(path: &str) -> Result<(), ErrorReply> {
    let is_plain = Path::new(path).components().all(|part| !matches!(part, std::path::Component::ParentDir));
    if path.starts_with('/') && path.len() > 1 && is_plain {
        return Ok(());
    }
    Err(Failure::usage(format!("`{path}` is not an absolute path in the service"), None).into())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ErrorReply> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other).and_then(|done| done);
    Ok(done.map_err(|error| Failure::failed(format!("the engine's answer cannot be read: {error}"), None))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_text_ends_with_a_line_or_at_least_with_a_character() {
        let trimmed = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            trim_to_line(&mut bytes);
            bytes
        };
        assert_eq!(trimmed(b"one\ntwo\nthr"), b"one\ntwo\n");
        assert_eq!(trimmed(&"aü".as_bytes()[..2]), b"a");
        assert_eq!(trimmed(&[b'a', b'\n', 0xff, b'b']), [b'a', b'\n', 0xff, b'b']);
    }

    #[test]
    fn a_page_is_read_from_its_offset() {
        let attributes = Attributes { owner: Owner::ROOT, mode: 0o644 };
        let archive = pack(Path::new("f"), &[b'x'; 100], attributes).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let piece = runtime.block_on(async {
            let stream: ByteStream = Box::pin(futures_util::stream::iter([Ok(Bytes::from(archive))]));
            blocking(move || piece(stream, 60)).await.unwrap().unwrap()
        });
        assert_eq!((piece.bytes.len(), piece.size), (40, 100));
    }

    #[test]
    fn missing_folders_come_before_the_file() {
        let attributes = Attributes { owner: Owner { uid: 5, gid: 6 }, mode: 0o600 };
        let archive = pack(Path::new("a/b/f"), b"text", attributes).unwrap();
        let mut archive = tar::Archive::new(archive.as_slice());
        let entries = archive.entries().unwrap().map(Result::unwrap);
        let entries: Vec<_> = entries
            .map(|entry| (entry.path().unwrap().into_owned(), entry.header().uid().unwrap()))
            .collect();
        assert_eq!(entries, [("a".into(), 5), ("a/b".into(), 5), ("a/b/f".into(), 5)]);
    }

    #[test]
    fn only_absolute_paths_are_taken() {
        for wrong in ["", "/", "etc/passwd", "/a/../b"] {
            assert!(check_path(wrong).is_err(), "{wrong}");
        }
        assert!(check_path("/etc/passwd").is_ok());
    }
}

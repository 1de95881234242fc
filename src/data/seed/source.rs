//! Reads the files of seeds as streams: a folder, a file or an archive as a tar; a plain or compressed file as bytes.
//! Nothing is held in memory as a whole.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::SeedError;
use crate::engine::ByteStream;
use crate::host_files::{Folder, Owner, WritableFolders};
use crate::storage::tree;

/// Parses `UID` (the group id is the same number) or `UID:GID`.
pub(super) fn parse_owner(text: &str) -> Result<Owner, SeedError> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => Ok(Owner { uid, gid }),
        _ => Err(SeedError::BadOwner { owner: text.to_owned() }),
    }
}

/// The compression of a file, detected from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A reader of the file's decompressed content.
fn unpacked(path: &Path, writable: &WritableFolders) -> io::Result<Box<dyn Read + Send>> {
    let mut file = writable.open(path)?;
    let mut head = [0u8; 4];
    let mut got = 0;
    while got < head.len() {
        match file.read(&mut head[got..])? {
            0 => break,
            more => got += more,
        }
    }
    let packing = match head {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Packing::Zstd,
        _ => Packing::Plain,
    };
    let whole = io::Cursor::new(head).take(got as u64).chain(file);
    Ok(match packing {
        Packing::Plain => Box::new(whole),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(whole))),
        Packing::Zstd => Box::new(zstd::Decoder::new(whole)?),
    })
}

fn is_tar(path: &Path, writable: &WritableFolders) -> io::Result<bool> {
    let name = path.to_string_lossy().to_lowercase();
    let named = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"].iter().any(|end| name.ends_with(end));
    if !named {
        return Ok(false);
    }
    let mut block = [0u8; 512];
    Ok(match unpacked(path, writable)?.read_exact(&mut block) {
        // An empty archive contains only zeros.
        Ok(()) => &block[257..262] == b"ustar" || block == [0; 512] || block[0] != 0,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(e) => return Err(e),
    })
}

/// Opens a seed's file, decompressed, for the standard input of a command. No link that a service can have made is
/// followed.
pub fn open_input(path: &Path, writable: &WritableFolders) -> Result<ByteStream, SeedError> {
    let reader =
        unpacked(path, writable).map_err(|source| SeedError::Unreadable { path: path.to_owned(), source })?;
    Ok(stream(move |out| copy(reader, out)))
}

/// The files of a `copy` seed, as a tar for the engine.
///
/// The source is a folder's contents, a single file, or an archive (`tar`, plain or compressed with gzip or zstd).
/// Files of the host belong to root unless an owner is given, because the host's ids mean nothing in a container; an
/// archive's owners are kept. No link that a service can have made is followed on the way to the source.
pub(super) fn copy_tar(
    source: &Path,
    owner: Option<Owner>,
    writable: &WritableFolders,
) -> Result<ByteStream, SeedError> {
    let fail = |source_error| SeedError::Unreadable { path: source.to_owned(), source: source_error };
    let opened = writable.open(source).map_err(fail)?;
    if opened.metadata().map_err(fail)?.is_dir() {
        let folder = writable.folder(source).map_err(fail)?;
        return Ok(stream(move |out| tar_folder(&folder, owner, out)));
    }
    if !is_tar(source, writable).map_err(fail)? {
        let name = source.file_name().map(OsStr::to_owned).unwrap_or_default();
        return Ok(stream(move |out| tar_file(opened, &name, owner, out)));
    }
    let reader = unpacked(source, writable).map_err(fail)?;
    match owner {
        None => Ok(stream(move |out| copy(reader, out))),
        Some(owner) => Ok(stream(move |out| tar_again(reader, owner, out))),
    }
}

fn copy(mut reader: impl Read, out: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0u8; 256 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            got => out.write_all(&buffer[..got])?,
        }
    }
}

fn tar_file(file: File, name: &OsStr, owner: Option<Owner>, out: &mut dyn Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(out);
    tree::pack_file(file, Path::new(name), Some(owner.unwrap_or(Owner::ROOT)), &mut builder)?;
    builder.finish()
}

/// The folder itself may be a link of the user's own; links below it stay links.
fn tar_folder(root: &Folder, owner: Option<Owner>, out: &mut dyn Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(out);
    tree::pack_folder(root, owner.unwrap_or(Owner::ROOT), &mut builder)
        .map_err(|error| io::Error::new(error.source.kind(), format!("{error}: {}", error.source)))?;
    builder.finish()
}

fn tar_again(reader: impl Read, owner: Owner, out: &mut dyn Write) -> io::Result<()> {
    let mut archive = tar::Archive::new(reader);
    let mut builder = tar::Builder::new(out);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
        let mut header = entry.header().clone();
        header.set_uid(owner.uid);
        header.set_gid(owner.gid);
        match link {
            Some(link) => builder.append_link(&mut header, path, link)?,
            None => builder.append_data(&mut header, path, &mut entry)?,
        }
    }
    builder.finish()
}

/// Runs a writer in its own thread and streams its output; an error of the writer ends the stream.
fn stream(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> ByteStream {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(8);
    tokio::task::spawn_blocking(move || {
        let mut out = io::BufWriter::with_capacity(256 << 10, Chunks { sender: sender.clone() });
        let outcome = write(&mut out).and_then(|()| out.flush());
        if let Err(error) = outcome {
            // The send fails only if the receiver has been dropped; otherwise this is the last message.
            let _ = sender.blocking_send(Err(error));
        }
    });
    Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    }))
}

struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = Bytes::copy_from_slice(bytes);
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    async fn all(stream: ByteStream) -> Vec<u8> {
        stream
            .try_fold(Vec::new(), |mut all, chunk| async move {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
            .await
            .unwrap()
    }

    fn entries(tar: &[u8]) -> Vec<(String, u64, String)> {
        let mut archive = tar::Archive::new(tar);
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let uid = entry.header().uid().unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((path, uid, text));
        }
        found.sort();
        found
    }

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/a"), "A").unwrap();
        std::fs::write(folder.path().join("b"), "B").unwrap();
        std::os::unix::fs::symlink("b", folder.path().join("link")).unwrap();
        folder
    }

    #[tokio::test]
    async fn a_folder_becomes_a_tar_of_what_is_in_it_owned_by_root() {
        let folder = tree();
        let found = entries(&all(copy_tar(folder.path(), None, &WritableFolders::default()).unwrap()).await);
        let names: Vec<&str> = found.iter().map(|(path, ..)| path.trim_end_matches('/')).collect();
        assert_eq!(names, ["b", "link", "sub", "sub/a"]);
        assert!(found.iter().all(|(_, uid, _)| *uid == 0));
        assert_eq!(found[3].2, "A");
    }

    #[tokio::test]
    async fn an_archive_is_unpacked_however_it_is_packed_and_given_an_owner_on_request() {
        let folder = tree();
        let tar =
            all(copy_tar(folder.path(), Some(parse_owner("7:8").unwrap()), &WritableFolders::default())
                .unwrap())
            .await;
        let packed = tempfile::tempdir().unwrap();
        let gz = packed.path().join("x.tar.gz");
        let mut encoder =
            flate2::write::GzEncoder::new(File::create(&gz).unwrap(), flate2::Compression::fast());
        encoder.write_all(&tar).unwrap();
        encoder.finish().unwrap();
        let zst = packed.path().join("x.tar.zst");
        std::fs::write(&zst, zstd::encode_all(&*tar, 3).unwrap()).unwrap();
        for path in [&gz, &zst] {
            assert_eq!(all(copy_tar(path, None, &WritableFolders::default()).unwrap()).await, tar);
            let owned = entries(
                &all(copy_tar(path, Some(Owner { uid: 70, gid: 71 }), &WritableFolders::default()).unwrap())
                    .await,
            );
            assert_eq!(owned.len(), 4);
            assert!(owned.iter().all(|(_, uid, _)| *uid == 70));
        }
    }

    #[tokio::test]
    async fn a_file_is_put_in_under_its_name_and_input_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dump.sql.zst");
        std::fs::write(&file, zstd::encode_all(&b"select 1;"[..], 3).unwrap()).unwrap();
        assert_eq!(all(open_input(&file, &WritableFolders::default()).unwrap()).await, b"select 1;");
        let plain = folder.path().join("one.txt");
        std::fs::write(&plain, "x").unwrap();
        assert_eq!(
            entries(&all(copy_tar(&plain, None, &WritableFolders::default()).unwrap()).await),
            [("one.txt".to_owned(), 0, "x".to_owned())]
        );
    }

    #[test]
    fn an_owner_is_numbers() {
        assert_eq!(parse_owner("70").unwrap(), Owner { uid: 70, gid: 70 });
        assert!(parse_owner("postgres").is_err());
        assert!(matches!(
            copy_tar(Path::new("/nowhere"), None, &WritableFolders::default()),
            Err(SeedError::Unreadable { .. })
        ));
    }
}

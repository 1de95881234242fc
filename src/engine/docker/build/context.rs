//! Packs a build context as a tar archive: the files that `.dockerignore` does not exclude, and the Dockerfile.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::engine::ignore::Ignore;
use crate::engine::{ByteStream, Dockerfile};
use crate::host_files::WritableFolders;

/// Bytes per chunk of the archive.
const PIECE: usize = 128 * 1024;

/// A build context that is ready to be sent.
pub(super) struct Context {
    folder: PathBuf,
    /// Folders that services can write to. Links below them are not followed.
    writable: WritableFolders,
    ignore: Ignore,
    /// The Dockerfile's path in the archive.
    pub(super) dockerfile: String,
    /// The Dockerfile's original text.
    pub(super) text: String,
    /// Files that are added to the folder's or replace them.
    added: Vec<(String, Vec<u8>)>,
    patterns: String,
    buildkit: bool,
}

/// Whether headers of the archive contain metadata that builds do not depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Headers {
    AsTheyAre,
    /// Modification times are zero and modes reduced to the executable bit, because checkouts differ in them.
    Normal,
}

impl Context {
    /// Reads the folder and finds the Dockerfile; the error is a message.
    pub(super) fn open(
        folder: &Path,
        recipe: &Dockerfile,
        writable: &WritableFolders,
        buildkit: bool,
    ) -> Result<Self, String> {
        let folder =
            resolved(folder, writable).map_err(|error| format!("context `{}`: {error}", folder.display()))?;
        if !folder.is_dir() {
            return Err(format!("context `{}` is not a folder", folder.display()));
        }
        let (place, text) = find_recipe(&folder, recipe, writable)?;
        let patterns = patterns(&folder, place.as_deref().unwrap_or_default(), writable)?;
        // The builder needs these two files even if `.dockerignore` excludes them.
        let needed = place.as_deref().map_or_else(String::new, |place| format!("!{place}\n"));
        let ignore = Ignore::parse(&format!("{patterns}\n{needed}!.dockerignore\n"))?;
        let dockerfile = place.clone().unwrap_or_default();
        let mut context = Self {
            folder,
            writable: writable.clone(),
            ignore,
            dockerfile,
            text: text.clone(),
            added: Vec::new(),
            patterns,
            buildkit,
        };
        if place.is_none() {
            context.replace_recipe(&text);
        }
        Ok(context)
    }

    /// Replaces the folder's Dockerfile.
    pub(super) fn replace_recipe(&mut self, text: &str) {
        // The name is a hash of the text, so that a second build hits the cache.
        let digest = hex::encode(Sha256::digest(text));
        self.dockerfile = format!(".dockerfile.{}", &digest[..12]);
        self.added.clear();
        if !self.buildkit {
            // The classic builder removes what this file lists from the context, including the Dockerfile.
            let extended = format!("{}\n{}\n.dockerignore\n", self.patterns, self.dockerfile);
            self.added.push((".dockerignore".to_owned(), extended.into_bytes()));
        }
        self.added.push((self.dockerfile.clone(), text.as_bytes().to_vec()));
    }

    /// The digest of the files in the context; the same on every machine.
    pub(super) fn digest(&self) -> io::Result<String> {
        let mut hash = HashWriter(Sha256::new());
        let mut tar = tar::Builder::new(&mut hash);
        tar.follow_symlinks(false);
        self.add_folder(&mut tar, &self.folder, "", Headers::Normal)?;
        tar.into_inner()?;
        Ok(hex::encode(hash.0.finalize()))
    }

    /// The archive, generated while it is read.
    pub(super) fn archive(self) -> ByteStream {
        let (sender, receiver) = mpsc::channel(8);
        tokio::task::spawn_blocking(move || {
            let failed = sender.clone();
            let pipe = io::BufWriter::with_capacity(PIECE, Pipe(sender));
            if let Err(error) = self.write(pipe) {
                // Ignored if the reader was dropped.
                let _ = failed.blocking_send(Err(error));
            }
        });
        Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        }))
    }

    fn write(&self, to: impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(to);
        tar.follow_symlinks(false);
        self.add_folder(&mut tar, &self.folder, "", Headers::AsTheyAre)?;
        for (name, text) in &self.added {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_slice())?;
        }
        tar.into_inner()?.flush()
    }

    fn add_folder(
        &self,
        tar: &mut tar::Builder<impl Write>,
        folder: &Path,
        prefix: &str,
        headers: Headers,
    ) -> io::Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                let words = format!("`{}` is not UTF-8", entry.path().display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, words));
            };
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let is_dir = entry.file_type()?.is_dir();
            let excluded = self.ignore.excludes(&path);
            if !excluded && self.added.iter().all(|(added, _)| *added != path) {
                add_entry(tar, &entry, &path, headers, &self.writable)?;
            }
            if is_dir && (!excluded || self.ignore.takes_back()) {
                self.add_folder(tar, &entry.path(), &path, headers)?;
            }
        }
        Ok(())
    }
}

/// Adds an entry that root owns, as the Docker CLI does.
fn add_entry(
    tar: &mut tar::Builder<impl Write>,
    entry: &fs::DirEntry,
    path: &str,
    headers: Headers,
    writable: &WritableFolders,
) -> io::Result<()> {
    let metadata = entry.metadata()?;
    let kind = metadata.file_type();
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&metadata);
    header.set_uid(0);
    header.set_gid(0);
    if headers == Headers::Normal {
        header.set_mtime(0);
        header.set_mode(if metadata.mode() & 0o111 == 0 { 0o644 } else { 0o755 });
    }
    if kind.is_symlink() {
        header.set_size(0);
        tar.append_link(&mut header, path, fs::read_link(entry.path())?)
    } else if kind.is_dir() {
        header.set_size(0);
        tar.append_data(&mut header, path, io::empty())
    } else if kind.is_file() {
        let file = writable.open(&entry.path())?;
        // Reads at most the size in the header: a file that grows meanwhile must not corrupt the archive.
        tar.append_data(&mut header, path, io::Read::take(file, metadata.len()))
    } else {
        // Sockets and devices are skipped.
        Ok(())
    }
}

/// The path without links and `..`. A link that a service can have made is an error.
fn resolved(path: &Path, writable: &WritableFolders) -> io::Result<PathBuf> {
    let planted = |link: &Path| {
        let text = format!("`{}` is a symbolic link that a service can have made", link.display());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    if let Some(link) = writable.link_to(path) {
        return Err(planted(&link.link));
    }
    let real = path.canonicalize()?;
    // A link that was made since the check.
    if writable.holds(path) && !writable.holds(&real) {
        return Err(planted(path));
    }
    Ok(real)
}

/// The Dockerfile's path relative to the folder (if it is inside) and its text.
fn find_recipe(
    folder: &Path,
    recipe: &Dockerfile,
    writable: &WritableFolders,
) -> Result<(Option<String>, String), String> {
    let path = match recipe {
        Dockerfile::Inline(text) => return Ok((None, text.clone())),
        Dockerfile::Default => folder.join("Dockerfile"),
        Dockerfile::Path(path) => folder.join(path),
    };
    let failed = |error: io::Error| format!("Dockerfile `{}`: {error}", path.display());
    let found = resolved(&path, writable).map_err(failed)?;
    if !found.is_file() {
        return Err(format!("Dockerfile `{}` is not a file", path.display()));
    }
    let mut text = Vec::new();
    writable.open(&found).and_then(|mut file| file.read_to_end(&mut text)).map_err(failed)?;
    let inside = found.strip_prefix(folder).ok().and_then(Path::to_str).map(str::to_owned);
    Ok((inside, String::from_utf8_lossy(&text).into_owned()))
}

/// The patterns to ignore; `DOCKERFILE.dockerignore` takes precedence over `.dockerignore`.
fn patterns(folder: &Path, dockerfile: &str, writable: &WritableFolders) -> Result<String, String> {
    for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".into()] {
        let mut text = String::new();
        match writable.open(&folder.join(&name)).and_then(|mut file| file.read_to_string(&mut text)) {
            Ok(_) => return Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("`{name}`: {error}")),
        }
    }
    Ok(String::new())
}

/// A writer that hashes its input.
struct HashWriter(Sha256);

impl Write for &mut HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blocking writer whose chunks are received on the other side of a channel.
struct Pipe(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(context: &Context) -> Vec<String> {
        let mut bytes = Vec::new();
        context.write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let paths =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        paths.collect()
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn what_is_ignored_stays_but_for_what_the_builder_needs() {
        let folder = folder(&[
            ("Dockerfile", ""),
            (".dockerignore", "*\n!src/keep\n"),
            ("src/keep", ""),
            ("src/x", ""),
        ]);
        let context =
            Context::open(folder.path(), &Dockerfile::Default, &WritableFolders::default(), true).unwrap();
        assert_eq!(names(&context), [".dockerignore", "Dockerfile", "src/keep"]);
    }

    #[test]
    fn a_recipe_from_elsewhere_is_added_and_hidden_from_the_classic_builders_context() {
        let folder = folder(&[("a", "")]);
        let inline = Dockerfile::Inline("FROM scratch\n".into());
        let context = Context::open(folder.path(), &inline, &WritableFolders::default(), false).unwrap();
        assert_eq!(names(&context), ["a", ".dockerignore", context.dockerfile.as_str()]);
        let context = Context::open(folder.path(), &inline, &WritableFolders::default(), true).unwrap();
        assert_eq!(names(&context), ["a", context.dockerfile.as_str()]);
    }

    #[test]
    fn what_a_build_sees_has_the_same_digest_in_every_checkout() {
        let files =
            [("Dockerfile", "FROM scratch"), (".dockerignore", "log\n"), ("src/a", "a"), ("log", "1")];
        let digest = |folder: &tempfile::TempDir| {
            Context::open(folder.path(), &Dockerfile::Default, &WritableFolders::default(), true)
                .unwrap()
                .digest()
                .unwrap()
        };
        let (one, other) = (folder(&files), folder(&files));
        fs::write(other.path().join("log"), "2").unwrap();
        fs::set_permissions(other.path().join("src/a"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(digest(&one), digest(&other));
        fs::write(other.path().join("src/a"), "b").unwrap();
        assert_ne!(digest(&one), digest(&other));
    }

    #[test]
    fn a_missing_recipe_is_named() {
        let folder = folder(&[("a", "")]);
        let error = Context::open(folder.path(), &Dockerfile::Default, &WritableFolders::default(), true)
            .err()
            .unwrap();
        assert!(error.contains("Dockerfile"), "{error}");
    }

    #[test]
    fn a_link_that_a_service_can_have_made_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |inner: &str| folder.path().join(inner);
        fs::create_dir_all(path("project")).unwrap();
        fs::create_dir(path("elsewhere")).unwrap();
        fs::write(path("elsewhere/Dockerfile"), "FROM scratch").unwrap();
        fs::write(path("elsewhere/key"), "secret").unwrap();
        std::os::unix::fs::symlink("../elsewhere", path("project/app")).unwrap();
        std::os::unix::fs::symlink("../elsewhere/Dockerfile", path("project/Dockerfile")).unwrap();
        let writable = WritableFolders::new([path("project")]);
        let open = |inner: &str, writable: &WritableFolders| {
            Context::open(&path(inner), &Dockerfile::Default, writable, true).err().unwrap_or_default()
        };

        for inner in ["project/app", "project"] {
            let said = open(inner, &writable);
            assert!(said.contains("is a symbolic link that a service can have made"), "{inner}: {said}");
        }
        assert_eq!(open("project/app", &WritableFolders::default()), "");
    }
}

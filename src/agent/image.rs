//! Builds an image from our own binary and loads it into the engine: nothing is pulled, and keeper and gateway are
//! always of the same build as the client.
//!
//! The image is loaded as a reproducible archive, so that clients that race to load it all load the same one. Its tag
//! is a digest of the build: of the linker's build id and the file's size if the binary has a build id (reading the
//! whole file in each call would take longer than the call), and of the whole content otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::digest_cache;
use super::linux::elf::Elf;
use super::protocol::{self, Build};
use crate::engine::identity::{self, Role};
use crate::engine::image::content_digest;
use crate::engine::{
    CreateContainer, Engine, EngineError, ErrorKind, Filter, Image, ImageConfig, ObjectKind, architecture,
};

/// Environment variable with the path of the binary that goes into the image.
pub const VARIABLE: &str = "SANDBOX_AGENT_BINARY";
/// The binary's path in the image.
pub const PATH: &str = "/sandbox";
/// How often to load the image again if another client removes it before it is used.
const LOADS: usize = 3;
/// Label of the image: when the binary was built, in seconds since 1970.
const MADE: &str = "dev.sandbox.made";

/// Why our image cannot be provided.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no binary for the engine's architecture.
    #[error("no build of sandbox for the engine's machine (linux/{arch}): tried {}", tried.join(", "))]
    NoBinary {
        /// The engine's architecture.
        arch: String,
        /// The paths that were tried, each with what was wrong.
        tried: Vec<String>,
    },
    /// The binary could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The libraries that the binary needs could not be determined.
    #[error("cannot tell which libraries `{}` needs: {cause}", path.display())]
    Libraries {
        /// The binary.
        path: PathBuf,
        /// The cause.
        cause: String,
    },
    /// The engine returned an error.
    #[error("cannot load our own image")]
    Engine(#[from] EngineError),
    /// Another image has our image's name, even after we loaded ours.
    #[error("the image `{reference}` is not the one that was loaded: its content differs")]
    Altered {
        /// The image's name.
        reference: String,
    },
}

impl ImageError {
    /// Returns a hint for the user, if there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoBinary { arch, .. } => Some(format!(
                "put a Linux build for {arch} beside the program as `sandbox-linux-{arch}`, or name one in {VARIABLE}"
            )),
            Self::Engine(error) => error.hint(),
            Self::Altered { reference } => Some(format!(
                "find out who replaces it, then remove it with `docker image rm --force {reference}`"
            )),
            Self::Read { .. } | Self::Libraries { .. } => None,
        }
    }
}

/// A binary that can run on the engine's machine, with the libraries it needs.
#[derive(Debug, Clone)]
pub struct Payload {
    binary: PathBuf,
    arch: String,
    /// Libraries: the path in the image and the path on this machine.
    libraries: Vec<(PathBuf, PathBuf)>,
    build: Build,
}

impl Payload {
    /// Finds a binary for this architecture: the one in [`VARIABLE`], this program itself, or a Linux build next to it.
    pub fn find(arch: &str, named: Option<&Path>) -> Result<Self, ImageError> {
        let named = named.map(Path::to_owned).or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from));
        let own = std::env::current_exe().unwrap_or_default();
        let candidates = match named {
            Some(path) => vec![path],
            None if cfg!(target_os = "linux") => {
                vec![PathBuf::from("/proc/self/exe"), own.with_file_name(format!("sandbox-linux-{arch}"))]
            }
            None => vec![own.with_file_name(format!("sandbox-linux-{arch}"))],
        };
        let mut tried = Vec::new();
        for path in candidates {
            match Elf::read(&path) {
                Ok(Some(elf)) if elf.arch == arch => return Self::of(path, &elf, arch),
                Ok(Some(elf)) => tried.push(format!("`{}` (for {})", path.display(), elf.arch)),
                Ok(None) => tried.push(format!("`{}` (not a Linux program)", path.display())),
                Err(error) => tried.push(format!("`{}` ({error})", path.display())),
            }
        }
        Err(ImageError::NoBinary { arch: arch.to_owned(), tried })
    }

    /// As [`Payload::find`], for an engine on the same kind of machine as this program.
    pub fn for_this_machine(named: Option<&Path>) -> Result<Self, ImageError> {
        Self::find(architecture(std::env::consts::ARCH), named)
    }

    /// The image's reference.
    pub fn reference(&self) -> String {
        identity::agent_image(&self.build.digest)
    }

    /// Identifies the build.
    pub fn build(&self) -> &Build {
        &self.build
    }

    /// The binary's path on this machine.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    fn of(binary: PathBuf, elf: &Elf, arch: &str) -> Result<Self, ImageError> {
        let unreadable = |source| ImageError::Read { path: binary.clone(), source };
        let libraries = match &elf.interpreter {
            Some(interpreter) => libraries(&binary, interpreter)?,
            None => Vec::new(),
        };
        let meta = fs::metadata(&binary).map_err(unreadable)?;
        let mut hash = Sha256::new();
        hash.update(meta.len().to_le_bytes());
        match &elf.build_id {
            Some(id) => hash.update(id),
            None => hash.update(fs::read(&binary).map_err(unreadable)?),
        }
        for (inside, here) in &libraries {
            hash.update(inside.as_os_str().as_encoded_bytes());
            hash.update(fs::metadata(here).map_err(unreadable)?.len().to_le_bytes());
        }
        let made = meta.modified().ok().and_then(|it| it.duration_since(UNIX_EPOCH).ok());
        let build = Build {
            protocol: protocol::VERSION,
            version: own_version(),
            made: made.unwrap_or_default().as_secs(),
            digest: hex::encode(hash.finalize())[..12].to_owned(),
        };
        Ok(Self { binary, arch: arch.to_owned(), libraries, build })
    }

    /// Writes the files of the image as a reproducible tar.
    fn write_layer<W: Write>(&self, to: W) -> io::Result<W> {
        let mut tar = tar::Builder::new(to);
        let mut add = |inside: &Path, here: &Path| {
            let mut file = File::open(here)?;
            let mut header = tar::Header::new_ustar();
            header.set_size(file.metadata()?.len());
            header.set_mode(0o755);
            header.set_mtime(0);
            tar.append_data(&mut header, inside.strip_prefix("/").unwrap_or(inside), &mut file)
        };
        add(Path::new(PATH), &self.binary)?;
        for (inside, here) in &self.libraries {
            add(inside, here)?;
        }
        tar.into_inner()
    }

    /// Returns the digest of the layer. It has to be computed once per build of the program.
    fn layer_digest(&self) -> io::Result<String> {
        let key = self.layer_key()?;
        let cached = layer_digests().lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(digest) = cached {
            return Ok(digest);
        }
        let digest = if let Some(digest) = digest_cache::read(&key) {
            digest
        } else {
            let digest = hex::encode(self.write_layer(HashWriter::default())?.0.finalize());
            digest_cache::write(&key, &digest);
            digest
        };
        let digest = format!("sha256:{digest}");
        layer_digests().lock().unwrap_or_else(PoisonError::into_inner).insert(key, digest.clone());
        Ok(digest)
    }

    /// A key that changes when any file of the layer changes, because writing a file changes its ctime.
    fn layer_key(&self) -> io::Result<String> {
        let mut hash = Sha256::new();
        let files = self.libraries.iter().map(|(inside, here)| (inside.as_path(), here.as_path()));
        for (inside, here) in files.chain([(Path::new(PATH), self.binary.as_path())]) {
            let meta = fs::metadata(here)?;
            hash.update(inside.as_os_str().as_encoded_bytes());
            let numbers = [meta.dev(), meta.ino(), meta.size()];
            numbers.iter().for_each(|number| hash.update(number.to_le_bytes()));
            let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
            times.iter().for_each(|time| hash.update(time.to_le_bytes()));
        }
        Ok(hex::encode(hash.finalize()))
    }

    /// The configuration that the image's containers start with.
    fn config(&self) -> ImageConfig {
        ImageConfig {
            entrypoint: vec![PATH.to_owned()],
            env: vec!["PATH=/".to_owned()],
            labels: BTreeMap::from([
                (identity::ROLE.to_owned(), Role::Image.as_str().to_owned()),
                (MADE.to_owned(), self.build.made.to_string()),
            ]),
            ..ImageConfig::default()
        }
    }

    /// Whether an image has exactly the content that we would load. Its name and labels prove nothing: any build or
    /// archive can carry them.
    fn is_content_of(&self, image: &Image) -> io::Result<bool> {
        let mut expected = self.config();
        // A copy of the program has another age: the keeper's own, in its container, has none.
        if let Some(made) = image.config.labels.get(MADE).filter(|it| it.parse::<u64>().is_ok()) {
            expected.labels.insert(MADE.to_owned(), made.clone());
        }
        let layers = [self.layer_digest()?];
        let digest = content_digest("linux", &self.arch, &layers, &expected);
        Ok(image.content() == digest
            && image.config.labels == expected.labels
            && image.config.healthcheck.is_none())
    }

    /// Returns the whole image in the layout of `docker save`.
    fn archive(&self) -> io::Result<Vec<Bytes>> {
        let layer = self.write_layer(Vec::new())?;
        let config = self.config();
        let config = json!({
            "architecture": self.arch, "os": "linux", "created": "1970-01-01T00:00:00Z",
            "config": { "Entrypoint": config.entrypoint, "Env": config.env, "Labels": config.labels },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))] },
            "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "sandbox" }],
        })
        .to_string();
        let config_name = format!("{}.json", hex::encode(Sha256::digest(config.as_bytes())));
        let manifest =
            json!([{ "Config": config_name, "RepoTags": [self.reference()], "Layers": ["layer.tar"] }]);
        let mut head = tar::Builder::new(Vec::new());
        append(&mut head, &config_name, config.as_bytes())?;
        append(&mut head, "manifest.json", manifest.to_string().as_bytes())?;
        let mut header = tar::Header::new_ustar();
        header.set_path("layer.tar")?;
        header.set_size(layer.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let padding = layer.len().next_multiple_of(512) - layer.len();
        let mut head = std::mem::take(head.get_mut());
        head.extend_from_slice(header.as_bytes());
        Ok(vec![head.into(), layer.into(), vec![0; padding + 1024].into()])
    }
}

/// Makes sure that the engine has our image, checked by content, and returns its reference.
pub async fn ensure(engine: &dyn Engine, payload: &Payload) -> Result<String, ImageError> {
    let reference = payload.reference();
    payloads().lock().unwrap_or_else(PoisonError::into_inner).insert(reference.clone(), payload.clone());
    for _ in 0..LOADS {
        if let Some(image) = engine.image(&reference).await?
            && is_ours(payload, &image).await?
        {
            return Ok(reference);
        }
        // This takes the name from any other image.
        load(engine, payload).await?;
    }
    Err(ImageError::Altered { reference })
}

async fn load(engine: &dyn Engine, payload: &Payload) -> Result<(), ImageError> {
    let making = payload.clone();
    let archive = in_a_thread(payload, move || making.archive()).await?;
    engine.load_images(futures_util::stream::iter(archive).map(Ok).boxed()).await?;
    Ok(())
}

async fn is_ours(payload: &Payload, image: &Image) -> Result<bool, ImageError> {
    let (payload_of, image) = (payload.clone(), image.clone());
    in_a_thread(payload, move || payload_of.is_content_of(&image)).await
}

/// Runs work that reads our own files in a blocking thread.
async fn in_a_thread<T: Send + 'static>(
    payload: &Payload,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)
        .and_then(|it| it)
        .map_err(|source| ImageError::Read { path: payload.binary.clone(), source })
}

/// Creates a container of our own image and returns its id. The engine resolves the image's name when it creates the
/// container, so the resolved image is checked then, before the container can start. If another scope on this engine
/// removed the image meanwhile (`gc --all`), it is loaded again.
///
/// # Errors
/// Fails if the engine refuses, or if another image keeps taking our image's name.
pub async fn create_container(
    engine: &dyn Engine,
    container: &CreateContainer,
) -> Result<String, EngineError> {
    let mut last = None;
    for _ in 0..=LOADS {
        match engine.create_container(container).await {
            Ok(id) if made_of_ours(engine, &id, container).await? => return Ok(id),
            Ok(id) => {
                engine.remove_container(&id, true, true).await?;
                let words = format!("the image `{}` is not the one that was loaded", container.image);
                last = Some(EngineError::new(
                    "create",
                    ObjectKind::Container,
                    &container.name,
                    ErrorKind::Other,
                    words,
                ));
            }
            Err(error) if error.is_not_found() => last = Some(error),
            Err(error) => return Err(error),
        }
        match own_payload(engine, &container.image).await {
            Some(payload) if ensure(engine, &payload).await.is_ok() => {}
            _ => break,
        }
    }
    Err(last.unwrap_or_else(|| {
        EngineError::new(
            "create",
            ObjectKind::Container,
            &container.name,
            ErrorKind::Other,
            "no image of ours",
        )
    }))
}

/// Whether a newly created container has our image. Only checked if the requested image is this program's.
async fn made_of_ours(
    engine: &dyn Engine,
    id: &str,
    container: &CreateContainer,
) -> Result<bool, EngineError> {
    let Some(payload) = own_payload(engine, &container.image).await else { return Ok(true) };
    let Some(made) = engine.container(id).await? else { return Ok(true) };
    // An image id is a digest of the content, so a verified id stays verified.
    let is_known = || verified().lock().unwrap_or_else(PoisonError::into_inner).contains(&made.image_id);
    if is_known() {
        return Ok(true);
    }
    let Some(image) = engine.image(&made.image_id).await? else { return Ok(false) };
    let ours = is_ours(&payload, &image).await.unwrap_or(false);
    if ours {
        verified().lock().unwrap_or_else(PoisonError::into_inner).insert(made.image_id);
    }
    Ok(ours)
}

/// Returns what this program would load, if the reference is that of its image.
async fn own_payload(engine: &dyn Engine, reference: &str) -> Option<Payload> {
    let known = payloads().lock().unwrap_or_else(PoisonError::into_inner).get(reference).cloned();
    if known.is_some() || !reference.starts_with(identity::AGENT_IMAGE) {
        return known;
    }
    let info = engine.info().await.ok()?;
    let found = Payload::find(&info.arch, None).ok()?;
    payloads().lock().unwrap_or_else(PoisonError::into_inner).insert(found.reference(), found.clone());
    Some(found).filter(|payload| payload.reference() == reference)
}

/// The payloads that this process found, by the image's name.
fn payloads() -> &'static Mutex<BTreeMap<String, Payload>> {
    static PAYLOADS: Mutex<BTreeMap<String, Payload>> = Mutex::new(BTreeMap::new());
    &PAYLOADS
}

/// The ids of images that were verified to be ours.
fn verified() -> &'static Mutex<BTreeSet<String>> {
    static VERIFIED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    &VERIFIED
}

/// The computed digests of layers, by key.
fn layer_digests() -> &'static Mutex<BTreeMap<String, String>> {
    static DIGESTS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    &DIGESTS
}

/// A writer that hashes what it receives.
#[derive(Default)]
struct HashWriter(Sha256);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Removes our images that are older than this build and that no container uses. Failures are ignored.
pub async fn remove_older(engine: &Arc<dyn Engine>, build: &Build) -> Result<(), EngineError> {
    remove_if(engine, |made| made < build.made).await
}

/// Removes all our images that no container uses, and reports those that could not be removed.
pub async fn remove_all(engine: &Arc<dyn Engine>) -> Result<(), EngineError> {
    remove_if(engine, |_| true).await
}

async fn remove_if(engine: &Arc<dyn Engine>, unwanted: impl Fn(u64) -> bool) -> Result<(), EngineError> {
    let used: Vec<_> = engine.containers(&Filter::all()).await?.into_iter().map(|it| it.image_id).collect();
    let labelled = Filter::all().label(identity::ROLE, Role::Image.as_str());
    // Any image can carry the label, so only our own names are removed from it.
    let is_ours = |tag: &String| tag.split(':').next() == Some(identity::AGENT_IMAGE);
    let images = engine.images(&labelled).await?;
    for image in images.into_iter().filter(|image| !image.tags.is_empty() && image.tags.iter().all(is_ours)) {
        let made = image.config.labels.get(MADE).and_then(|it| it.parse().ok()).unwrap_or_default();
        if unwanted(made) && !used.contains(&image.id) {
            // If a container uses the image by now, the engine refuses, as it should.
            let _ = engine.remove_image(&image.id).await;
        }
    }
    Ok(())
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, path, content)
}

fn own_version() -> [u32; 3] {
    let mut parts = env!("CARGO_PKG_VERSION").split(['.', '-']).map(|it| it.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// Returns the libraries that the loader lists, and the loader itself.
fn libraries(binary: &Path, interpreter: &Path) -> Result<Vec<(PathBuf, PathBuf)>, ImageError> {
    let failed = |cause: String| ImageError::Libraries { path: binary.to_owned(), cause };
    let output = Command::new(interpreter)
        .arg("--list")
        .arg(seen_by_another(binary))
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let mut files = vec![(interpreter.to_owned(), interpreter.to_owned())];
    for (name, path) in listed(&String::from_utf8_lossy(&output.stdout)) {
        let Some(path) = path else { return Err(failed(format!("`{name}` is not found"))) };
        if path != interpreter {
            // Under the same path: the loader in the image searches where the loader on this machine found it.
            files.push((path.clone(), path));
        }
    }
    Ok(files)
}

/// The path under which another process finds a file. `/proc/self/exe` of that process would be the loader.
fn seen_by_another(path: &Path) -> PathBuf {
    match path.strip_prefix("/proc/self") {
        Ok(rest) => Path::new("/proc").join(std::process::id().to_string()).join(rest),
        Err(_) => path.to_owned(),
    }
}

/// Parses the lines `NAME => PATH (ADDRESS)` of a loader's `--list`. The kernel's own library has no path.
fn listed(text: &str) -> Vec<(String, Option<PathBuf>)> {
    text.lines()
        .filter_map(|line| line.trim().split_once(" => "))
        .map(|(name, rest)| {
            let path = rest.rsplit_once(" (").map(|(path, _)| PathBuf::from(path.trim()));
            (name.to_owned(), path.filter(|it| it.is_absolute()))
        })
        .collect()
}

/// Reads a whole archive into a map.
#[cfg(test)]
fn entries(archive: &[Bytes]) -> BTreeMap<String, Vec<u8>> {
    use std::io::Read as _;
    let bytes = archive.concat();
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        entries.insert(name, content);
    }
    entries
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const ARCH: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

    #[test]
    fn the_archive_is_the_same_each_time_and_whole() {
        let payload = Payload::find(ARCH, None).unwrap();
        let archive = payload.archive().unwrap();
        assert_eq!(archive, payload.archive().unwrap());
        let entries = entries(&archive);
        let manifest: serde_json::Value = serde_json::from_slice(&entries["manifest.json"]).unwrap();
        let config: serde_json::Value =
            serde_json::from_slice(&entries[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&entries["layer.tar"])));
        assert_eq!(config["rootfs"]["diff_ids"][0], digest);
        assert_eq!(payload.layer_digest().unwrap(), digest);
    }

    #[test]
    fn another_machine_needs_another_build() {
        let error = Payload::find("s390x", None).unwrap_err();
        assert!(error.to_string().contains("linux/s390x"), "{error}");
        assert!(error.hint().unwrap().contains("sandbox-linux-s390x"));
    }

    #[test]
    fn this_very_program_is_what_the_loader_is_asked_about() {
        let own = fs::canonicalize("/proc/self/exe").unwrap();
        let seen =
            Command::new("readlink").arg(seen_by_another(Path::new("/proc/self/exe"))).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), own.display().to_string());
        assert_eq!(seen_by_another(Path::new("/bin/ls")), Path::new("/bin/ls"));
    }

    #[test]
    fn a_loaders_list_is_read() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tlibz.so.1 => not found\n";
        let expected = vec![
            ("libc.so.6".to_owned(), Some(PathBuf::from("/lib/x/libc.so.6"))),
            ("libz.so.1".to_owned(), None),
        ];
        assert_eq!(listed(text), expected);
    }
}

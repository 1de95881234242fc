//! The binary that goes into our image, and the archive that is loaded.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::build_mark::Mark;
use super::libraries::libraries;
use super::{ImageError, MADE, PATH, VARIABLE};
use crate::agent::digest_cache;
use crate::agent::linux::elf::Elf;
use crate::agent::protocol::{self, Build};
use crate::engine::identity::{self, Role};
use crate::engine::image::content_digest;
use crate::engine::{Image, ImageConfig, architecture};

/// This program's own file.
const OWN: &str = "/proc/self/exe";

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
        let variable = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let beside =
            || std::env::current_exe().unwrap_or_default().with_file_name(format!("sandbox-linux-{arch}"));
        // Each with whether it may be another program, or another version of this one.
        let candidates = match (named, variable) {
            (Some(path), _) => vec![(path.to_owned(), false)],
            (None, Some(path)) => vec![(path, true)],
            (None, None) if cfg!(target_os = "linux") => {
                vec![(PathBuf::from(OWN), false), (beside(), true)]
            }
            (None, None) => vec![(beside(), true)],
        };
        let mut tried = Vec::new();
        for (path, marked) in candidates {
            match Elf::read(&path) {
                Ok(Some(elf)) if elf.arch == arch => match marked.then(|| refusal(&path)).flatten() {
                    Some(why) => tried.push(format!("`{}` ({why})", path.display())),
                    None => return Self::of(path, &elf, arch),
                },
                Ok(Some(elf)) => tried.push(format!("`{}` (for {})", path.display(), elf.arch)),
                Ok(None) => tried.push(format!("`{}` (not a Linux program)", path.display())),
                Err(error) => tried.push(format!("`{}` ({error})", path.display())),
            }
        }
        Err(ImageError::NoBinary { arch: arch.to_owned(), tried })
    }

    /// The same for a program that was taken out of an image; fails with what is wrong with it.
    pub(super) fn of_carrier(path: &Path, arch: &str) -> Result<Self, String> {
        let elf = Elf::read(path).map_err(|error| error.to_string())?;
        let elf = elf.ok_or_else(|| "its program is not one for Linux".to_owned())?;
        if elf.arch != arch {
            return Err(format!("its program is for {}", elf.arch));
        }
        if let Some(why) = refusal(path) {
            return Err(format!("its program is {why}"));
        }
        // The loader and the libraries would be this machine's.
        if elf.interpreter.is_some() {
            return Err("its program is not static".to_owned());
        }
        Self::of(path.to_owned(), &elf, arch).map_err(|error| error.to_string())
    }

    /// Whether this program runs on this machine, too.
    pub fn runs_here(&self) -> bool {
        cfg!(target_os = "linux") && self.arch == architecture(std::env::consts::ARCH)
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
    pub(super) fn is_content_of(&self, image: &Image) -> io::Result<bool> {
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
    pub(super) fn archive(&self) -> io::Result<Vec<Bytes>> {
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

/// Why a program is not the one for this client, if it is not.
fn refusal(path: &Path) -> Option<String> {
    match Mark::read(path) {
        Ok(Some(mark)) => mark.refusal(),
        Ok(None) => Some("not a build of sandbox, or a damaged one".to_owned()),
        Err(error) => Some(error.to_string()),
    }
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
}

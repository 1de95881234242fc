//! The bytes that shape a baseline, as digests: the seeds' files, and the files that the seeded services are given.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::SeedError;
use crate::spec::{ConfigSource, FileGrant, MountKind, SecretSource, Seed, Service, SnapshotRef, Spec};

/// Digests of all inputs, by what they are (`services.db.seed[0]`, `volumes.uploads.seed[1]`, …).
pub type Inputs = BTreeMap<String, String>;

/// A bound folder with more files than this, or more bytes, counts by its path alone: it is where someone works, not
/// what they seed from.
const FILES: usize = 20_000;
const BYTES: u64 = 128 << 20;
/// Folders that tools fill and that no seed is in.
const SKIPPED: [&str; 4] = [".git", "node_modules", "target", "__pycache__"];

/// Reads all that shapes the data of these services and of the volumes' own seeds. Blocking.
///
/// Of a bind mount that a service with seeds has, the bytes count too: a migration that runs in the service reads
/// them.
pub fn digest_inputs<'a>(
    spec: &'a Spec,
    services: impl IntoIterator<Item = &'a Service>,
    volumes: impl Fn(&str) -> bool,
) -> Result<Inputs, SeedError> {
    let mut inputs = Inputs::new();
    for service in services {
        let place = format!("services.{}", service.name);
        for (index, seed) in service.seed.iter().enumerate() {
            add_seed(&mut inputs, &format!("{place}.seed[{index}]"), seed)?;
        }
        for mount in &service.mounts {
            let MountKind::Bind { source, .. } = &mount.kind else { continue };
            if service.is_seeded() {
                let key = format!("{place}.mounts[{}]", mount.target);
                let reach = if mount.is_initdb() { Reach::Whole } else { Reach::Bounded };
                inputs.insert(key, digest(source, reach)?);
            }
        }
        for (kind, grants) in [("secrets", &service.secrets), ("configs", &service.configs)] {
            for grant in grants {
                add_grant(&mut inputs, spec, kind, grant)?;
            }
        }
    }
    for (name, volume) in &spec.volumes {
        if volumes(name.as_str()) {
            for (index, seed) in volume.seed.iter().enumerate() {
                add_seed(&mut inputs, &format!("volumes.{name}.seed[{index}]"), seed)?;
            }
        }
    }
    Ok(inputs)
}

fn add_seed(inputs: &mut Inputs, place: &str, seed: &Seed) -> Result<(), SeedError> {
    let files: Vec<&PathBuf> = match seed {
        Seed::Copy { source, .. } => vec![source],
        Seed::Sql { files, .. } => files.iter().collect(),
        Seed::Exec { stdin, .. } => stdin.iter().collect(),
        Seed::Snapshot { snapshot: SnapshotRef::File(file), .. } => vec![file],
        Seed::Snapshot { .. } => Vec::new(),
    };
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        inputs.insert(format!("{place}/{name}"), digest(file, Reach::Whole)?);
    }
    Ok(())
}

fn add_grant(inputs: &mut Inputs, spec: &Spec, kind: &str, grant: &FileGrant) -> Result<(), SeedError> {
    let file = if kind == "secrets" {
        spec.secrets.get(grant.source.as_str()).and_then(|secret| match &secret.source {
            SecretSource::File(path) => Some(path),
            _ => None,
        })
    } else {
        spec.configs.get(grant.source.as_str()).and_then(|config| match &config.source {
            ConfigSource::File(path) => Some(path),
            _ => None,
        })
    };
    if let Some(path) = file {
        inputs.insert(format!("{kind}.{}", grant.source), digest(path, Reach::Whole)?);
    }
    Ok(())
}

/// How much of a folder counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Whole,
    Bounded,
}

/// The digest of a file's bytes, or of all names, modes and bytes below a folder. Times and owners do not count: a
/// fresh checkout is the same seed.
fn digest(path: &Path, reach: Reach) -> Result<String, SeedError> {
    let mut sum = Sum { hash: Sha256::new(), files: 0, bytes: 0, reach };
    match sum.add(path, Path::new("")) {
        Ok(true) => Ok(hex::encode(sum.hash.finalize())),
        Ok(false) => Ok("too large to count".to_owned()),
        // A mount may make its source.
        Err(e) if e.kind() == io::ErrorKind::NotFound && reach == Reach::Bounded => Ok("missing".to_owned()),
        Err(source) => Err(SeedError::Unreadable { path: path.to_owned(), source }),
    }
}

struct Sum {
    hash: Sha256,
    files: usize,
    bytes: u64,
    reach: Reach,
}

impl Sum {
    /// Adds what is at a path; `false` once it is too much.
    fn add(&mut self, path: &Path, name: &Path) -> io::Result<bool> {
        // The seed itself may be named by a link; below it links count as links.
        let top = name.as_os_str().is_empty();
        let meta = if top { path.metadata()? } else { path.symlink_metadata()? };
        self.files += 1;
        self.bytes += if meta.is_file() { meta.size() } else { 0 };
        if self.reach == Reach::Bounded && (self.files > FILES || self.bytes > BYTES) {
            return Ok(false);
        }
        self.put(name.as_os_str().as_bytes());
        if meta.is_dir() {
            self.put(b"folder");
            let mut entries = std::fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let skipped = SKIPPED.iter().any(|skipped| entry.file_name() == *skipped);
                if self.reach == Reach::Bounded && skipped {
                    continue;
                }
                if !self.add(&entry.path(), &name.join(entry.file_name()))? {
                    return Ok(false);
                }
            }
        } else if meta.is_symlink() {
            self.put(b"link");
            self.put(path.read_link()?.as_os_str().as_bytes());
        } else if meta.is_file() {
            self.put(if meta.permissions().mode() & 0o111 == 0 { b"file" } else { b"program" });
            self.hash.update(meta.size().to_le_bytes());
            let mut file = File::open(path)?;
            let mut buffer = vec![0u8; 256 << 10];
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    got => self.hash.update(&buffer[..got]),
                }
            }
        }
        Ok(true)
    }

    /// Adds a text with its length, so that no two sequences of texts are alike.
    fn put(&mut self, text: &[u8]) {
        self.hash.update((text.len() as u64).to_le_bytes());
        self.hash.update(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_names_and_modes_count_and_times_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.sql");
        let write = |text: &str| {
            std::fs::write(&file, text).unwrap();
            digest(folder.path(), Reach::Whole).unwrap()
        };
        let first = write("select 1;");
        assert_ne!(first, write("select 1; -- a comment"));
        assert_eq!(first, write("select 1;"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(first, digest(folder.path(), Reach::Whole).unwrap());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::rename(&file, folder.path().join("b.sql")).unwrap();
        assert_ne!(first, digest(folder.path(), Reach::Whole).unwrap());
    }

    #[test]
    fn what_tools_fill_does_not_count_in_a_bound_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "x").unwrap();
        let before = digest(folder.path(), Reach::Bounded).unwrap();
        std::fs::create_dir(folder.path().join("node_modules")).unwrap();
        std::fs::write(folder.path().join("node_modules/b"), "y").unwrap();
        assert_eq!(before, digest(folder.path(), Reach::Bounded).unwrap());
        assert_ne!(before, digest(folder.path(), Reach::Whole).unwrap());
    }

    #[test]
    fn a_seed_that_is_not_there_is_named() {
        let missing = digest(Path::new("/nowhere/x.sql"), Reach::Whole).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read the seed `/nowhere/x.sql`");
    }
}

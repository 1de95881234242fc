//! Digests of the inputs of a baseline: the seeds' files, and the files that the seeded services use.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::SeedError;
use crate::spec::{ConfigSource, FileGrant, MountKind, SecretSource, Seed, Service, Spec};

/// Digests of all inputs, by name (`services.db.seed[0]`, `volumes.uploads.seed[1]`, …).
pub type Inputs = BTreeMap<String, String>;

/// A bound folder with more files or bytes than this counts by its path only, because it is a working folder rather
/// than a seed.
const FILES: usize = 20_000;
const BYTES: u64 = 128 << 20;
/// Folders that tools fill and that contain no seeds.
const SKIPPED: [&str; 4] = [".git", "node_modules", "target", "__pycache__"];

/// Key prefix of mounts that a service can write to: the digest is taken before the service runs.
const WRITTEN: &str = "writes";

/// Whether two digests of the same inputs differ in inputs that only the user changes.
pub fn differ(before: &Inputs, now: &Inputs) -> bool {
    let written = format!(".{WRITTEN}[");
    let steady = |(key, _): &(&String, &String)| !key.split('/').next().unwrap_or(key).contains(&written);
    !before.iter().filter(steady).eq(now.iter().filter(steady))
}

/// Digests everything that affects the data of these services and the seeds of volumes. Blocking.
///
/// The contents of bind mounts count too: a migration that runs in the service reads them, and a database reads its
/// configuration.
pub fn digest_inputs<'a>(
    spec: &'a Spec,
    services: impl IntoIterator<Item = &'a Service>,
    volumes: impl Fn(&str) -> bool,
) -> Result<Inputs, SeedError> {
    let mut inputs = Inputs::new();
    for service in services {
        let place = format!("services.{}", service.name);
        for (index, seed) in service.seed.iter().enumerate() {
            add_seed(&mut inputs, spec, &format!("{place}.seed[{index}]"), seed)?;
        }
        for mount in &service.mounts {
            let MountKind::Bind { source, .. } = &mount.kind else { continue };
            let reach = if mount.is_initdb() { DigestDepth::Mounted } else { DigestDepth::Bounded };
            let word = if mount.is_initdb() || mount.read_only { "mounts" } else { WRITTEN };
            let key = format!("{place}.{word}[{}]", mount.target);
            // The spec may be inside the mounted folder. The parts of it that affect data are in the key separately.
            inputs.insert(key, digest(source, reach, &spec.files)?);
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
                add_seed(&mut inputs, spec, &format!("volumes.{name}.seed[{index}]"), seed)?;
            }
        }
    }
    Ok(inputs)
}

/// Adds a seed's files, each by its index and its path below the spec's folder, because names can repeat.
fn add_seed(inputs: &mut Inputs, spec: &Spec, place: &str, seed: &Seed) -> Result<(), SeedError> {
    for (number, file) in seed.kind().files().into_iter().enumerate() {
        // Another checkout has the same seeds, and the location of files outside the folder does not matter.
        let name = file.strip_prefix(&spec.folder).ok();
        let name = name.or_else(|| file.file_name().map(Path::new)).unwrap_or(file).display();
        inputs.insert(format!("{place}/{number}/{name}"), digest(file, DigestDepth::Whole, &[])?);
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
        inputs.insert(format!("{kind}.{}", grant.source), digest(path, DigestDepth::Whole, &[])?);
    }
    Ok(())
}

/// How much of a folder is digested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DigestDepth {
    /// Everything, and all of it must be readable: we copy it, or pass it to a command.
    Whole,
    /// Everything that is readable: the engine mounts it and can read files that we cannot.
    Mounted,
    /// As `Mounted`, unless the folder is large.
    Bounded,
}

/// The digest of a file's content, or of all names, modes and contents below a folder. Times and owners do not count,
/// because a fresh checkout is the same seed. For unreadable files of a mount, size, time, mode and owner replace the
/// content. The files in `left_out` do not count.
fn digest(path: &Path, reach: DigestDepth, left_out: &[PathBuf]) -> Result<String, SeedError> {
    let mut sum = Sum { hash: Sha256::new(), files: 0, bytes: 0, reach, left_out };
    match sum.add(path, Path::new("")) {
        Ok(true) => Ok(hex::encode(sum.hash.finalize())),
        Ok(false) => Ok("too large to count".to_owned()),
        // The engine may create the source of a mount.
        Err(e) if e.kind() == io::ErrorKind::NotFound && reach != DigestDepth::Whole => {
            Ok("missing".to_owned())
        }
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && reach != DigestDepth::Whole => {
            Ok("out of reach".to_owned())
        }
        Err(source) => Err(SeedError::Unreadable { path: path.to_owned(), source }),
    }
}

struct Sum<'a> {
    hash: Sha256,
    files: usize,
    bytes: u64,
    reach: DigestDepth,
    left_out: &'a [PathBuf],
}

impl Sum<'_> {
    /// Adds the file or folder at a path; returns `false` once the total is too large.
    fn add(&mut self, path: &Path, name: &Path) -> io::Result<bool> {
        // A seed itself may be a link, which is followed; links below it count as links.
        let top = name.as_os_str().is_empty();
        let meta = if top { path.metadata()? } else { path.symlink_metadata()? };
        self.files += 1;
        self.bytes += if meta.is_file() { meta.size() } else { 0 };
        if self.reach == DigestDepth::Bounded && (self.files > FILES || self.bytes > BYTES) {
            return Ok(false);
        }
        self.put(name.as_os_str().as_bytes());
        if meta.is_dir() {
            self.put(b"folder");
            let listed = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let Some(mut entries) = self.or_what_it_is(&meta, listed)? else { return Ok(true) };
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let skipped = SKIPPED.iter().any(|skipped| entry.file_name() == *skipped);
                if self.reach == DigestDepth::Bounded && skipped || self.left_out.contains(&entry.path()) {
                    continue;
                }
                match self.add(&entry.path(), &name.join(entry.file_name())) {
                    Ok(true) => {}
                    // The file was removed meanwhile, because the folder is in use.
                    Err(e) if e.kind() == io::ErrorKind::NotFound && self.reach != DigestDepth::Whole => {}
                    other => return other,
                }
            }
        } else if meta.is_symlink() {
            self.put(b"link");
            self.put(path.read_link()?.as_os_str().as_bytes());
        } else if meta.is_file() {
            self.put(if meta.permissions().mode() & 0o111 == 0 { b"file" } else { b"program" });
            self.hash.update(meta.size().to_le_bytes());
            let Some(mut file) = self.or_what_it_is(&meta, File::open(path))? else { return Ok(true) };
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

    /// Returns what was read. For a file that only the engine may read, adds its metadata instead and returns `None`.
    fn or_what_it_is<T>(&mut self, meta: &std::fs::Metadata, read: io::Result<T>) -> io::Result<Option<T>> {
        match read {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && self.reach != DigestDepth::Whole => {
                self.put(b"out of reach");
                let (seconds, nanoseconds) = (meta.mtime(), meta.mtime_nsec());
                let (mode, uid, gid) = (meta.mode(), meta.uid(), meta.gid());
                self.put(format!("{} {seconds}.{nanoseconds} {mode:o} {uid}:{gid}", meta.size()).as_bytes());
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Adds a text with its length, so that different sequences of texts have different digests.
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
            digest(folder.path(), DigestDepth::Whole, &[]).unwrap()
        };
        let first = write("select 1;");
        assert_ne!(first, write("select 1; -- a comment"));
        assert_eq!(first, write("select 1;"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(first, digest(folder.path(), DigestDepth::Whole, &[]).unwrap());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::rename(&file, folder.path().join("b.sql")).unwrap();
        assert_ne!(first, digest(folder.path(), DigestDepth::Whole, &[]).unwrap());
    }

    #[test]
    fn what_tools_fill_does_not_count_in_a_bound_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "x").unwrap();
        let before = digest(folder.path(), DigestDepth::Bounded, &[]).unwrap();
        std::fs::create_dir(folder.path().join("node_modules")).unwrap();
        std::fs::write(folder.path().join("node_modules/b"), "y").unwrap();
        assert_eq!(before, digest(folder.path(), DigestDepth::Bounded, &[]).unwrap());
        assert_ne!(before, digest(folder.path(), DigestDepth::Whole, &[]).unwrap());
    }

    #[test]
    fn a_seed_that_is_not_there_is_named() {
        let missing = digest(Path::new("/nowhere/x.sql"), DigestDepth::Whole, &[]).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read the seed `/nowhere/x.sql`");
    }

    fn spec(folder: &Path) -> Spec {
        let name = crate::spec::ProjectName::new("shop").unwrap();
        let service = |name: &str| Service::new(crate::spec::ServiceName::new(name).unwrap(), "x");
        let mut spec = Spec::new(name, folder);
        spec.services.extend(["db", "web"].map(|name| (service(name).name.clone(), service(name))));
        spec
    }

    fn inputs(spec: &Spec) -> Inputs {
        digest_inputs(spec, spec.services.values(), |_| true).unwrap()
    }

    #[test]
    fn seeds_of_one_name_in_different_folders_all_count() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["001", "002"].map(|name| folder.path().join("migrations").join(name).join("up.sql"));
        for file in &files {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "one").unwrap();
        }
        let mut spec = spec(folder.path());
        spec.services.get_mut("db").unwrap().seed.push(Seed::Sql(crate::spec::SqlSeed {
            patterns: vec!["migrations/*/up.sql".into()],
            files: files.to_vec(),
            database: None,
            user: None,
            at: crate::spec::At::default(),
        }));
        let first = inputs(&spec);
        assert_eq!(first.len(), 2, "{first:?}");
        assert!(first.keys().all(|key| !key.contains(folder.path().to_str().unwrap())), "{first:?}");
        std::fs::write(&files[0], "two").unwrap();
        assert_ne!(first, inputs(&spec));
    }

    #[test]
    fn what_a_dependency_mounts_counts_and_the_spec_in_it_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec(folder.path());
        let file = folder.path().join("sandbox.yaml");
        spec.files.push(file.clone());
        let db = spec.services.get_mut("db").unwrap();
        db.mounts.push(crate::spec::Mount {
            kind: MountKind::Bind { source: folder.path().to_owned(), options: None },
            target: "/etc/mysql".to_owned(),
            read_only: true,
            consistency: None,
            at: crate::spec::At::default(),
        });
        std::fs::write(&file, "services: {}").unwrap();
        std::fs::write(folder.path().join("my.cnf"), "a").unwrap();
        let first = inputs(&spec);
        std::fs::write(&file, "services: { more: {} }").unwrap();
        assert_eq!(first, inputs(&spec));
        std::fs::write(folder.path().join("my.cnf"), "b").unwrap();
        assert_ne!(first, inputs(&spec));
        assert!(differ(&first, &inputs(&spec)), "it cannot have been the service");
        spec.services.get_mut("db").unwrap().mounts[0].read_only = false;
        let first = inputs(&spec);
        std::fs::write(folder.path().join("my.cnf"), "c").unwrap();
        assert!(first != inputs(&spec) && !differ(&first, &inputs(&spec)), "it may have been the service");
    }

    #[test]
    fn what_only_the_engine_may_read_counts_by_what_is_known_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        let locked = folder.path().join("locked");
        std::fs::write(&file, "secret").unwrap();
        std::fs::create_dir(&locked).unwrap();
        for path in [&file, &locked] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o000)).unwrap();
        }
        let path = folder.path().to_owned();
        // In a separate thread without the capabilities that let root ignore file modes.
        let powerless = move || {
            let none = rustix::thread::CapabilitySet::empty();
            let mut sets = rustix::thread::capabilities(None).unwrap();
            sets.effective = none;
            rustix::thread::set_capabilities(None, sets).unwrap();
            assert!(File::open(path.join("key.pem")).is_err());
            digest(&path, DigestDepth::Whole, &[]).unwrap_err();
            let mounted = digest(&path, DigestDepth::Mounted, &[]).unwrap();
            assert_eq!(mounted, digest(&path, DigestDepth::Bounded, &[]).unwrap());
            assert_eq!(digest(&path.join("locked/in"), DigestDepth::Bounded, &[]).unwrap(), "out of reach");
            std::fs::set_permissions(path.join("key.pem"), std::fs::Permissions::from_mode(0o040)).unwrap();
            assert_ne!(mounted, digest(&path, DigestDepth::Mounted, &[]).unwrap());
        };
        std::thread::spawn(powerless).join().unwrap();
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
}

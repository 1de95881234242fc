//! Unpacks an archive from a container. It writes nothing outside the target folder and nothing through a link, whether
//! the link was in the archive or existed before.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Timespec, Timestamps};

use super::{Folder, Owner, leads_out, set_mode, set_owner};

/// How to handle links in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Creates them as they are: none of our code follows them.
    Kept,
    /// Skips them.
    LeftOut,
}

/// Options for unpacking an archive.
#[derive(Debug, Clone)]
pub struct Unpack {
    /// Number of leading path components to strip.
    pub strip: usize,
    /// Name to put in place of the stripped components.
    pub prefix: Option<OsString>,
    /// How to handle links.
    pub links: Links,
    /// Whether files get the numeric owners that the archive names.
    pub owners: bool,
    /// The permission bits to keep.
    pub modes: u32,
}

impl Unpack {
    /// Options for files that the user only reads: setuid and setgid bits are dropped.
    pub fn plain(strip: usize, links: Links) -> Self {
        Self { strip, prefix: None, links, owners: false, modes: 0o777 }
    }

    /// The target path of an entry; `None` if the entry is not below the stripped prefix. A leading `.` counts as a
    /// component: the engine writes it for the contents of a folder.
    fn place(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let parts: Vec<Component<'_>> =
            path.components().filter(|part| *part != Component::RootDir).collect();
        if parts.iter().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(leads_out(path));
        }
        let Some(inner) = parts.get(self.strip..) else { return Ok(None) };
        let inner = inner.iter().filter(|part| **part != Component::CurDir).map(PathBuf::from);
        Ok(Some(self.prefix.iter().map(PathBuf::from).chain(inner).collect()))
    }
}

/// Unpacks an archive below a folder. Existing files and links of the same name are replaced.
///
/// # Errors
/// Fails if the archive is damaged or leads out of the folder, if a link is in the path, or if a file cannot be
/// written.
pub fn unpack(archive: impl Read, into: &Folder, how: &Unpack) -> io::Result<()> {
    let mut folders = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let Some(path) = how.place(&entry.path()?)? else { continue };
        let header = entry.header();
        let mode = header.mode().unwrap_or(0o755) & how.modes;
        let owner = Owner { uid: header.uid().unwrap_or_default(), gid: header.gid().unwrap_or_default() };
        let kind = header.entry_type();
        // The target folder itself exists and is not changed.
        let Some(name) = path.file_name() else { continue };
        let parent = into.make_below(path.parent().unwrap_or(Path::new("")))?;
        match kind {
            tar::EntryType::Directory => {
                // A folder without write permission gets its mode once its contents are written.
                parent.put_folder(name)?;
                folders.push((path, mode, owner));
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let seconds = i64::try_from(header.mtime().unwrap_or_default()).unwrap_or_default();
                let mut file = parent.write(name)?;
                io::copy(&mut entry, &mut file)?;
                if how.owners {
                    set_owner(&file, owner)?;
                }
                set_mode(&file, mode)?;
                let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
                rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })?;
            }
            tar::EntryType::Symlink if how.links == Links::Kept => {
                let target = entry.link_name()?.unwrap_or_default();
                parent.put_symlink(name, &target)?;
            }
            tar::EntryType::Link if how.links == Links::Kept => {
                let first = entry.link_name()?.unwrap_or_default();
                let first = how.place(&first)?.ok_or_else(|| leads_out(&first))?;
                parent.put_hard_link(name, into, &first)?;
            }
            // Pipes and devices have no contents.
            _ => {}
        }
    }
    for (path, mode, owner) in folders.into_iter().rev() {
        let folder = into.below(&path)?;
        if how.owners {
            folder.set_owner(owner)?;
        }
        folder.set_mode(mode)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::header;
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let is_file = *kind == tar::EntryType::Regular;
            let size = if is_file { content.len() as u64 } else { 0 };
            let mut header = header(*kind, size, 0o700, Owner::ROOT);
            match kind {
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    tar.append_link(&mut header, path, content).unwrap();
                }
                _ => tar
                    .append_data(&mut header, path, if is_file { content.as_bytes() } else { b"" })
                    .unwrap(),
            }
        }
        tar.into_inner().unwrap()
    }

    use tar::EntryType::{Directory, Link, Regular, Symlink};

    struct Ground(tempfile::TempDir);

    impl Ground {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("outside")).unwrap();
            std::fs::write(dir.path().join("outside/file"), "kept").unwrap();
            std::fs::set_permissions(dir.path().join("outside"), PermissionsExt::from_mode(0o755)).unwrap();
            std::fs::create_dir(dir.path().join("target")).unwrap();
            Self(dir)
        }

        fn path(&self, inner: &str) -> PathBuf {
            self.0.path().join(inner)
        }

        fn unpack(&self, entries: &[(&str, tar::EntryType, &str)]) -> io::Result<()> {
            let into = Folder::open(&self.path("target")).unwrap();
            unpack(archive(entries).as_slice(), &into, &Unpack::plain(1, Links::Kept))
        }

        fn outside_is_untouched(&self) {
            let names: Vec<_> = std::fs::read_dir(self.path("outside")).unwrap().collect();
            assert_eq!(names.len(), 1);
            assert_eq!(std::fs::read_to_string(self.path("outside/file")).unwrap(), "kept");
            let mode = std::fs::metadata(self.path("outside")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o755);
        }
    }

    #[test]
    fn folders_files_and_links_come_out_with_their_modes() {
        let ground = Ground::new();
        ground
            .unpack(&[
                ("out/", Directory, ""),
                ("out/deep/file", Regular, "hi"),
                ("out/link", Symlink, "deep/file"),
                ("out/second", Link, "out/deep/file"),
            ])
            .unwrap();
        assert_eq!(std::fs::read_to_string(ground.path("target/second")).unwrap(), "hi");
        assert_eq!(std::fs::read_link(ground.path("target/link")).unwrap(), Path::new("deep/file"));
        let mode = std::fs::metadata(ground.path("target/deep/file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
    }

    #[test]
    fn a_link_that_the_archive_brought_is_not_written_through() {
        let ground = Ground::new();
        ground.unpack(&[("a/door", Symlink, "../outside"), ("a/door/file", Regular, "x")]).unwrap_err();
        ground.outside_is_untouched();
    }

    #[test]
    fn a_link_that_was_there_is_replaced_by_what_has_its_name_and_never_followed() {
        let ground = Ground::new();
        symlink("../outside", ground.path("target/door")).unwrap();
        symlink("../outside/file", ground.path("target/file")).unwrap();
        ground.unpack(&[("a/door/file", Regular, "x")]).unwrap_err();
        ground
            .unpack(&[("a/door", Directory, ""), ("a/door/file", Regular, "x"), ("a/file", Regular, "y")])
            .unwrap();
        assert_eq!(std::fs::read_to_string(ground.path("target/door/file")).unwrap(), "x");
        ground.outside_is_untouched();
    }

    #[test]
    fn a_hard_link_is_made_to_plain_files_below_the_folder_only() {
        let ground = Ground::new();
        symlink("../outside/file", ground.path("target/planted")).unwrap();
        ground.unpack(&[("a/x", Link, "a/planted")]).unwrap_err();
        ground.unpack(&[("a/x", Link, "a/../../outside/file")]).unwrap_err();
        ground.unpack(&[("a/x", Link, "/etc/passwd")]).unwrap_err();
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        let how = Unpack::plain(1, Links::Kept);
        assert!(how.place(Path::new("a/../../x")).is_err());
        assert_eq!(how.place(Path::new("a/b")).unwrap(), Some(PathBuf::from("b")));
        assert_eq!(how.place(Path::new("./a/b")).unwrap(), Some(PathBuf::from("a/b")));
        let named = Unpack { prefix: Some("new".into()), ..how };
        assert_eq!(named.place(Path::new("a/b")).unwrap(), Some(PathBuf::from("new/b")));
        assert_eq!(named.place(Path::new("a")).unwrap(), Some(PathBuf::from("new")));
    }

    #[test]
    fn a_folder_is_not_replaced_by_a_file() {
        let ground = Ground::new();
        std::fs::create_dir(ground.path("target/full")).unwrap();
        let error = ground.unpack(&[("a/full", Regular, "x")]).unwrap_err();
        assert!(error.to_string().contains("full` is a folder"), "{error}");
    }
}

//! Detects symbolic links that services may have put into folders that they can write to.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::{Folder, leads_out};

/// Folders of this machine that services can write to. Links below them are not trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WritableFolders(Vec<PathBuf>);

/// A link below a folder that a service can write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlantedLink {
    /// The link.
    pub link: PathBuf,
    /// The folder.
    pub folder: PathBuf,
}

impl WritableFolders {
    /// Takes the folders as absolute paths.
    pub fn new(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut folders: Vec<PathBuf> = folders.into_iter().collect();
        folders.sort();
        folders.dedup();
        Self(folders)
    }

    /// Splits a path into the outermost of the folders that contains it, as the path spells it, and the rest.
    fn split<'p>(&self, path: &'p Path) -> Option<(&'p Path, &'p Path)> {
        let real: Vec<PathBuf> = self.0.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
        let is_one = |ancestor: &Path| {
            self.0.iter().any(|folder| folder == ancestor)
                || ancestor.canonicalize().is_ok_and(|ancestor| real.contains(&ancestor))
        };
        let mut ancestors: Vec<&Path> = path.ancestors().skip(1).collect();
        ancestors.reverse();
        let folder = ancestors.into_iter().find(|ancestor| is_one(ancestor))?;
        Some((folder, path.strip_prefix(folder).ok()?))
    }

    /// Whether a path lies below one of the folders.
    pub fn holds(&self, path: &Path) -> bool {
        self.split(path).is_some()
    }

    /// The first link in a path that lies below a folder that a service can write to.
    pub fn link_to(&self, path: &Path) -> Option<PlantedLink> {
        let (folder, inner) = self.split(path)?;
        let mut at = folder.to_owned();
        for part in inner.components() {
            at.push(part);
            if at.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
                return Some(PlantedLink { link: at, folder: folder.to_owned() });
            }
        }
        None
    }

    /// Opens a file for reading. Follows no link below a folder that a service can write to.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        match self.split(path) {
            Some((folder, inner)) => Folder::open(folder)?.read(inner),
            None => File::open(path),
        }
    }

    /// Opens a folder for writing. Follows no link below a folder that a service can write to.
    pub fn folder(&self, path: &Path) -> io::Result<Folder> {
        match self.split(path) {
            Some((folder, inner)) => Folder::open(folder)?.below(inner),
            None if path.as_os_str().is_empty() => Err(leads_out(path)),
            None => Folder::open(path),
        }
    }

    /// Opens a folder for writing and creates what is missing. Links are followed where only the user can have made them,
    /// and not below a folder that a service can write to.
    pub fn make_folder(&self, path: &Path) -> io::Result<Folder> {
        let mut left: VecDeque<OsString> =
            path.components().map(|part| part.as_os_str().to_owned()).collect();
        let (mut reached, mut links) = (PathBuf::from("/"), 0);
        while let Some(part) = left.pop_front() {
            match Path::new(&part).components().next() {
                None | Some(Component::CurDir | Component::Prefix(_)) => {}
                Some(Component::RootDir) => reached = PathBuf::from("/"),
                Some(Component::ParentDir) => {
                    reached.pop();
                }
                Some(Component::Normal(name)) => {
                    let next = reached.join(name);
                    if let Some((folder, inner)) = self.split(&next) {
                        let rest: PathBuf = left.iter().collect();
                        return Folder::make(folder)?.make_below(&inner.join(rest));
                    }
                    let Ok(target) = next.read_link() else {
                        reached = next;
                        continue;
                    };
                    links += 1;
                    if links > MOST_LINKS {
                        let text = format!("`{}` has too many symbolic links", path.display());
                        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                    }
                    let parts: Vec<OsString> =
                        target.components().map(|part| part.as_os_str().to_owned()).collect();
                    parts.into_iter().rev().for_each(|part| left.push_front(part));
                }
            }
        }
        Folder::make(&reached)
    }
}

/// The most links that Linux follows in a path.
const MOST_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_below_what_a_service_may_write_is_found_and_not_read_through() {
        let dir = tempfile::tempdir().unwrap();
        let path = |inner: &str| dir.path().join(inner);
        std::fs::create_dir_all(path("project/src")).unwrap();
        std::fs::create_dir(path("elsewhere")).unwrap();
        std::fs::write(path("elsewhere/key"), "secret").unwrap();
        std::fs::write(path("project/src/plain"), "text").unwrap();
        symlink("../../elsewhere", path("project/src/door")).unwrap();
        symlink("../elsewhere", path("project/mine")).unwrap();
        let writable = WritableFolders::new([path("project/src")]);

        let found = writable.link_to(&path("project/src/door/key")).unwrap();
        assert_eq!((found.link, found.folder), (path("project/src/door"), path("project/src")));
        assert!(writable.open(&path("project/src/door/key")).is_err());
        assert_eq!(writable.link_to(&path("project/src/plain")), None);
        assert_eq!(writable.link_to(&path("project/mine")), None, "no service can have made it");
        let mut text = String::new();
        writable.open(&path("project/mine/key")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "secret");
    }

    #[test]
    fn a_folder_is_made_through_the_users_own_links_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = |inner: &str| dir.path().join(inner);
        for folder in ["project/src/inner", "elsewhere"] {
            std::fs::create_dir_all(path(folder)).unwrap();
        }
        symlink("../elsewhere", path("project/mine")).unwrap();
        symlink("src/inner", path("project/into")).unwrap();
        symlink("../../elsewhere", path("project/src/door")).unwrap();
        symlink("src/door", path("project/through")).unwrap();
        symlink("loop", path("project/loop")).unwrap();
        let writable = WritableFolders::new([path("project/src")]);

        writable.make_folder(&path("project/mine/shop")).unwrap();
        writable.make_folder(&path("project/into/shop")).unwrap();
        writable.make_folder(&path("project/src/new/shop")).unwrap();
        writable.make_folder(&path("project/plain/shop")).unwrap();
        let made = ["elsewhere/shop", "project/src/inner/shop", "project/src/new/shop", "project/plain/shop"];
        assert!(made.iter().all(|folder| path(folder).is_dir()));

        std::fs::remove_dir(path("elsewhere/shop")).unwrap();
        for refused in ["project/src/door/shop", "project/through/shop", "project/loop/shop"] {
            assert!(writable.make_folder(&path(refused)).is_err(), "{refused}");
        }
        assert!(!path("elsewhere/shop").exists());
    }

    #[test]
    fn another_name_of_the_same_folder_is_the_same_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = |inner: &str| dir.path().join(inner);
        std::fs::create_dir(path("real")).unwrap();
        symlink("real", path("alias")).unwrap();
        symlink("/", path("real/door")).unwrap();
        let writable = WritableFolders::new([path("real")]);
        assert!(writable.link_to(&path("alias/door")).is_some());
    }
}

//! Removes a tree with anything that a service can create in it: folders nested deeper than a path or the open-file
//! limit allows, nested Btrfs subvolumes, read-only subvolumes, immutable and append-only flags.
//!
//! `std::fs::remove_dir_all` holds one open folder for each level and handles neither flags nor subvolumes. This code
//! moves a folder that lies too deep to the top of the tree and removes it from there, so depth has no limit.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, IFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{TreeError, open_folder};
use crate::storage::btrfs::ioctl;

/// A folder deeper than this is moved to the top before it is walked.
const DEEP: usize = 64;
/// Number of names read at once from a folder.
const BATCH: usize = 1024;

/// Removes a file, or a folder with everything below it. A missing path is not an error.
///
/// # Errors
/// Returns the path of the entry that cannot be removed.
pub fn remove_tree(path: &Path) -> Result<(), TreeError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(TreeError::new("remove", path, io::ErrorKind::InvalidInput));
    };
    let name =
        CString::new(name.as_bytes()).map_err(|e| TreeError::new("remove", path, io::Error::from(e)))?;
    let parent =
        match rustix::fs::open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(parent) => parent,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(TreeError::new("open", parent, e)),
        };
    if delete(parent.as_fd(), &name, FileType::Unknown).is_ok() {
        return Ok(());
    }
    let top = match open_folder(&parent, name.to_bytes()) {
        Ok(top) => top,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(TreeError::new("remove", path, e)),
    };
    Remover { top: top.as_fd(), moved: 0, path: PathBuf::new() }.empty(top.as_fd(), top.as_fd(), 0)?;
    delete(parent.as_fd(), &name, FileType::Directory).map_err(|e| TreeError::new("remove", path, e))
}

struct Remover<'a> {
    top: BorrowedFd<'a>,
    /// Number of folders moved to the top.
    moved: u64,
    /// Current position of the walk, for errors.
    path: PathBuf,
}

impl Remover<'_> {
    /// Removes everything in a folder. `root` is the top of the subvolume that the folder is in: a folder can be moved
    /// only within its subvolume.
    fn empty(&mut self, folder: BorrowedFd<'_>, root: BorrowedFd<'_>, depth: usize) -> Result<(), TreeError> {
        make_changeable(folder);
        loop {
            let names = some_names(folder).map_err(|e| TreeError::new("list", &self.path, e))?;
            if names.is_empty() {
                return Ok(());
            }
            for (name, kind) in names {
                self.path.push(OsStr::from_bytes(name.to_bytes()));
                self.remove(folder, &name, kind, root, depth)?;
                self.path.pop();
            }
        }
    }

    fn remove(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        root: BorrowedFd<'_>,
        depth: usize,
    ) -> Result<(), TreeError> {
        let failed = match delete(parent, name, kind) {
            Ok(()) => return Ok(()),
            Err(e) => e,
        };
        let folder = match open_folder(parent, name.to_bytes()) {
            Ok(folder) => folder,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => return Err(TreeError::new("remove", &self.path, failed)),
        };
        let is_subvolume = ioctl::is_subvolume(&folder);
        // At most one level of subvolumes is open: a nested one is first moved out of its parent. The kernel can move
        // a subvolume between subvolumes, but not a folder.
        let above = match (is_subvolume, depth) {
            (true, 1..) => Some(self.top),
            (false, DEEP..) => Some(root),
            _ => None,
        };
        if let Some(above) = above {
            make_changeable(folder.as_fd());
            return self.move_up(parent, name, above);
        }
        let root = if is_subvolume { folder.as_fd() } else { root };
        self.empty(folder.as_fd(), root, depth + 1)?;
        delete(parent, name, FileType::Directory).map_err(|e| TreeError::new("remove", &self.path, e))
    }

    fn move_up(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        above: BorrowedFd<'_>,
    ) -> Result<(), TreeError> {
        loop {
            self.moved += 1;
            let free = format!(".removed-{}", self.moved);
            match rustix::fs::renameat_with(parent, name, above, free, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                outcome => return outcome.map_err(|e| TreeError::new("move", &self.path, e)),
            }
        }
    }
}

/// Removes a file, an empty folder, or a subvolume that contains no other.
fn delete(parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> io::Result<()> {
    match try_to_delete(parent, name, kind) {
        Err(Errno::PERM | Errno::ACCESS | Errno::ROFS) => {}
        Err(Errno::NOENT) => return Ok(()),
        outcome => return Ok(outcome?),
    }
    make_changeable(parent);
    if let Ok(entry) = open_entry(parent, name) {
        make_changeable(entry.as_fd());
    }
    Ok(try_to_delete(parent, name, kind)?)
}

fn try_to_delete(parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> rustix::io::Result<()> {
    if kind != FileType::Directory {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            // Some file systems return this error when a folder is unlinked.
            Err(Errno::PERM) if open_folder(parent, name.to_bytes()).is_ok() => {}
            outcome => return outcome,
        }
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::PERM | Errno::ROFS)
            if open_folder(parent, name.to_bytes()).is_ok_and(|folder| {
                let is_subvolume = ioctl::is_subvolume(&folder);
                if is_subvolume {
                    make_changeable(folder.as_fd());
                }
                is_subvolume
            }) =>
        {
            ioctl::destroy_at(parent, name)
        }
        outcome => outcome,
    }
}

fn open_entry(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Clears flags that prevent changes or removal, as far as possible. Errors are ignored, because the deletion that
/// follows reports them.
fn make_changeable(entry: BorrowedFd<'_>) {
    if ioctl::is_subvolume(entry) {
        let _ = ioctl::set_read_only(entry, false);
    }
    let fixed = IFlags::IMMUTABLE | IFlags::APPEND;
    if let Ok(flags) = rustix::fs::ioctl_getflags(entry)
        && flags.intersects(fixed)
    {
        let _ = rustix::fs::ioctl_setflags(entry, flags - fixed);
    }
}

/// Returns only the first names of a folder, because it may have millions.
fn some_names(folder: BorrowedFd<'_>) -> io::Result<Vec<(CString, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push((name.to_owned(), entry.file_type()));
        }
        if names.len() == BATCH {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use rustix::fs::CWD;

    use super::*;

    fn deep(root: &Path, levels: usize) {
        let mut folder = open_folder(CWD, root.as_os_str().as_bytes()).unwrap();
        for _ in 0..levels {
            rustix::fs::mkdirat(&folder, c"a-folder-with-a-name", Mode::RWXU).unwrap();
            folder = open_folder(&folder, b"a-folder-with-a-name").unwrap();
        }
        rustix::fs::openat(&folder, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    }

    #[test]
    fn folders_are_removed_however_deep_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        std::fs::create_dir(&root).unwrap();
        // Deeper than the longest path and the open-file limit of a process.
        deep(&root, 5000);
        remove_tree(&root).unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn a_link_is_removed_and_what_it_points_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(folder.path().join("kept")).unwrap();
        std::fs::write(folder.path().join("kept/file"), "x").unwrap();
        std::os::unix::fs::symlink("../kept", root.join("link")).unwrap();
        std::os::unix::fs::symlink("kept", folder.path().join("top")).unwrap();
        remove_tree(&root).unwrap();
        remove_tree(&folder.path().join("top")).unwrap();
        assert!(folder.path().join("kept/file").exists());
        assert!(!root.exists() && folder.path().join("top").symlink_metadata().is_err());
    }

    #[test]
    fn more_names_than_are_read_at_once_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        std::fs::create_dir(&root).unwrap();
        for number in 0..=(BATCH * 2) {
            std::fs::write(root.join(format!("{number}\n")), "").unwrap();
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn nothing_there_is_success() {
        let folder = tempfile::tempdir().unwrap();
        remove_tree(&folder.path().join("no/such")).unwrap();
        remove_tree(&folder.path().join("none")).unwrap();
    }
}

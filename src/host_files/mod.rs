//! Opens files of this machine on behalf of specs, services and archives, without following links.
//!
//! The author of such a path, or a service that can write to a folder in it, may put a symbolic link there. So a
//! [`Folder`] is opened once, by a path that the user chose. Everything below it is opened one name at a time, relative
//! to an open folder and without following links. (`openat2` with `RESOLVE_BENEATH` needs Linux 5.6 and would need this
//! code as its fallback. One method that works everywhere is easier to test.)

mod entry;
mod unpack;
mod writable;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

pub use entry::{Owner, header, header_of};
pub use unpack::{Links, Unpack, unpack};
pub use writable::{PlantedLink, WritableFolders};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A folder that is held open. It stays the same folder even if its path is renamed or replaced.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder by a path that the user chose: links in it are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(path, FOLDER, Mode::empty()).map_err(|e| at(path, e))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Opens a folder, and creates it if it is missing.
    pub fn make(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Self::open(path)
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a folder below this one.
    pub fn below(&self, inner: &Path) -> io::Result<Self> {
        self.walk(inner, Folder::child)
    }

    /// Opens a folder below this one, and creates missing folders.
    pub fn make_below(&self, inner: &Path) -> io::Result<Self> {
        self.walk(inner, |folder, name| {
            match rustix::fs::mkdirat(&folder.fd, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => folder.child(name),
                Err(e) => Err(at(&folder.path.join(name), e)),
            }
        })
    }

    fn walk(&self, inner: &Path, step: impl Fn(&Self, &OsStr) -> io::Result<Self>) -> io::Result<Self> {
        let mut folder = Self { fd: self.fd.try_clone()?, path: self.path.clone() };
        for part in inner.components() {
            match part {
                Component::CurDir => {}
                Component::Normal(name) => folder = step(&folder, name)?,
                _ => return Err(leads_out(inner)),
            }
        }
        Ok(folder)
    }

    fn child(&self, name: &OsStr) -> io::Result<Self> {
        let path = self.path.join(name);
        match rustix::fs::openat(&self.fd, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(Errno::LOOP | Errno::NOTDIR) if self.kind(name)? == Some(FileType::Symlink) => {
                Err(is_a_link(&path))
            }
            Err(e) => Err(at(&path, e)),
        }
    }

    /// The type of an entry, if it exists.
    fn kind(&self, name: &OsStr) -> io::Result<Option<FileType>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(at(&self.path.join(name), e)),
        }
    }

    /// Opens a file or folder below this folder for reading. A service that runs as root can also make nodes of the
    /// machine's devices, which are no files of the project: whoever reads one reads the disk.
    pub fn read(&self, inner: &Path) -> io::Result<File> {
        let (folder, name) = self.parent_of(inner)?;
        let path = folder.path.join(&name);
        let is_plain = |kind| matches!(kind, FileType::RegularFile | FileType::Directory);
        // Opening a device can already have an effect, so it is looked at before and after.
        if folder.kind(&name)?.is_some_and(|kind| !is_plain(kind) && kind != FileType::Symlink) {
            return Err(is_no_file(&path));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&folder.fd, &*name, flags, Mode::empty()) {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).map_err(|e| at(&path, e))?;
                let kind = FileType::from_raw_mode(stat.st_mode);
                if is_plain(kind) { Ok(File::from(fd)) } else { Err(is_no_file(&path)) }
            }
            Err(Errno::LOOP) => Err(is_a_link(&path)),
            Err(e) => Err(at(&path, e)),
        }
    }

    /// Creates an empty file. It replaces an existing file or link, but not a folder, so that it never writes through a
    /// link or into a file that has another hard link.
    pub fn write(&self, name: &OsStr) -> io::Result<File> {
        let path = self.path.join(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            self.clear(name)?;
            match rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o666)) {
                Ok(fd) => return Ok(File::from(fd)),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(at(&path, e)),
            }
        }
    }

    /// Removes a file or link of this name. Fails if it is a folder.
    fn clear(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) if self.kind(name)? == Some(FileType::Directory) => {
                let text = format!("`{}` is a folder", self.path.join(name).display());
                Err(io::Error::new(io::ErrorKind::IsADirectory, text))
            }
            Err(e) => Err(at(&self.path.join(name), e)),
        }
    }

    /// Creates a folder, and replaces a file or link of its name.
    fn put_folder(&self, name: &OsStr) -> io::Result<Self> {
        if self.kind(name)?.is_some_and(|kind| kind != FileType::Directory) {
            self.clear(name)?;
        }
        self.make_below(Path::new(name))
    }

    fn put_symlink(&self, name: &OsStr, target: &Path) -> io::Result<()> {
        self.clear(name)?;
        rustix::fs::symlinkat(target, &self.fd, name).map_err(|e| at(&self.path.join(name), e))
    }

    /// Creates a hard link to a regular file below `root`.
    fn put_hard_link(&self, name: &OsStr, root: &Self, first: &Path) -> io::Result<()> {
        let (folder, first_name) = root.parent_of(first)?;
        if folder.kind(&first_name)? != Some(FileType::RegularFile) {
            let text = format!("`{}` is no plain file", folder.path.join(first_name).display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.clear(name)?;
        rustix::fs::linkat(&folder.fd, &*first_name, &self.fd, name, AtFlags::empty())
            .map_err(|e| at(&self.path.join(name), e))
    }

    fn parent_of(&self, inner: &Path) -> io::Result<(Self, std::ffi::OsString)> {
        let name = inner.file_name().ok_or_else(|| leads_out(inner))?.to_owned();
        Ok((self.below(inner.parent().unwrap_or(Path::new("")))?, name))
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        set_mode(&self.fd, mode).map_err(|e| at(&self.path, e))
    }

    fn set_owner(&self, owner: Owner) -> io::Result<()> {
        set_owner(&self.fd, owner).map_err(|e| at(&self.path, e))
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set_mode(file: impl AsFd, mode: u32) -> rustix::io::Result<()> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
}

fn set_owner(file: impl AsFd, owner: Owner) -> rustix::io::Result<()> {
    let number = |id: u64| u32::try_from(id).unwrap_or(u32::MAX - 1);
    let (uid, gid) = (Uid::from_raw(number(owner.uid)), Gid::from_raw(number(owner.gid)));
    rustix::fs::fchown(file, Some(uid), Some(gid))
}

fn at(path: &Path, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

fn is_a_link(path: &Path) -> io::Error {
    let text = format!("`{}` is a symbolic link, which is not followed here", path.display());
    io::Error::new(io::ErrorKind::NotADirectory, text)
}

fn is_no_file(path: &Path) -> io::Error {
    let text = format!("`{}` is a device, pipe or socket, which is not read here", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn leads_out(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` leads out of its folder", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_below_a_folder_is_followed_as_a_link() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/file"), "kept").unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        symlink("../outside", dir.path().join("root/door")).unwrap();
        symlink("../outside/file", dir.path().join("root/file")).unwrap();
        let root = Folder::open(&dir.path().join("root")).unwrap();

        let error = root.below(Path::new("door")).unwrap_err().to_string();
        assert!(error.contains("door` is a symbolic link"), "{error}");
        assert!(root.make_below(Path::new("door/inner")).is_err());
        assert!(root.read(Path::new("file")).is_err());
        assert!(root.read(Path::new("door/file")).is_err());
        assert!(root.below(Path::new("../outside")).is_err());
        root.write(OsStr::new("file")).unwrap().write_all(b"new").unwrap();

        assert_eq!(std::fs::read_to_string(dir.path().join("outside/file")).unwrap(), "kept");
        assert_eq!(std::fs::read_to_string(dir.path().join("root/file")).unwrap(), "new");
    }

    #[test]
    fn devices_pipes_and_sockets_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), FileType::Fifo, mode, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let root = Folder::open(dir.path()).unwrap();
        for name in ["pipe", "socket"] {
            let error = root.read(Path::new(name)).unwrap_err().to_string();
            assert!(error.contains("is a device, pipe or socket"), "{error}");
        }
    }

    #[test]
    fn a_file_with_another_name_is_replaced_and_not_written_into() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("first"), "kept").unwrap();
        std::fs::hard_link(dir.path().join("first"), dir.path().join("second")).unwrap();
        let root = Folder::open(dir.path()).unwrap();
        root.write(OsStr::new("second")).unwrap().write_all(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("first")).unwrap(), "kept");
    }
}

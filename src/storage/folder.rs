//! Storage in plain folders: files are cloned where the file system supports it (`reflink`), else copied (`copy`). The
//! engine bind-mounts the folder.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::local::{Backend, prepare_shelves};
use super::path::store_folder;
use super::space::HostSpace;
use super::tree::{self, Cloning, Counter};
use super::{Result, SetSize, StorageError, StorageKind, VolumeOptions};

/// Storage in folders of the keeper's volume.
#[derive(Debug)]
pub struct Folders {
    root: PathBuf,
    host_root: PathBuf,
    cloning: Cloning,
    space: HostSpace,
    budget: Option<u64>,
}

impl Folders {
    /// Opens the storage below a root.
    pub fn open(root: &Path, host_root: &Path, cloning: Cloning, budget: Option<u64>) -> Result<Self> {
        if cloning == Cloning::Reflink && !can_reflink(root) {
            let reason = "the engine's data root is on a file system that cannot clone files".to_owned();
            return Err(StorageError::Unavailable { storage: StorageKind::Reflink.to_string(), reason });
        }
        let folders = Self {
            root: root.to_owned(),
            host_root: host_root.to_owned(),
            cloning,
            space: HostSpace::new(root),
            budget,
        };
        prepare_shelves(&folders.store())?;
        Ok(folders)
    }
}

/// Tests whether files in a folder can share blocks, by cloning one.
pub fn can_reflink(folder: &Path) -> bool {
    let attempt = || -> std::io::Result<()> {
        let made = tempfile::tempdir_in(folder)?;
        std::fs::write(made.path().join("a"), [7u8; 4096])?;
        let from = File::open(made.path().join("a"))?;
        let to = File::create(made.path().join("b"))?;
        Ok(rustix::fs::ioctl_ficlone(&to, &from)?)
    };
    attempt().is_ok()
}

impl Backend for Folders {
    fn kind(&self) -> StorageKind {
        match self.cloning {
            Cloning::Reflink => StorageKind::Reflink,
            Cloning::Copy => StorageKind::Copy,
        }
    }

    fn store(&self) -> PathBuf {
        store_folder(&self.root, self.kind())
    }

    fn space(&self) -> &HostSpace {
        &self.space
    }

    fn create(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir(folder).map_err(|e| StorageError::io("make", folder, e))
    }

    fn clone_into(&self, from: &Path, to: &Path, counter: &Counter) -> Result<()> {
        let total = tree::apparent_size(from)?;
        counter.total.store(total, Ordering::Relaxed);
        if self.cloning == Cloning::Copy {
            let space = self.space.read()?;
            let held = tree::size_of_tree(from, false)?.own;
            if space.free < held + space.needed() {
                return Err(StorageError::Short { free: space.free, need: held + space.needed() });
            }
        }
        self.create(to)?;
        Ok(tree::clone_tree(from, to, self.cloning, counter)?)
    }

    fn freeze(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn remove(&self, folder: &Path) -> Result<()> {
        Ok(tree::remove_tree(folder)?)
    }

    fn sync(&self) -> Result<()> {
        let store = self.store();
        let fail = |e| StorageError::io("sync", &store, e);
        let fd = File::open(&store).map_err(fail)?;
        rustix::fs::syncfs(&fd).map_err(|e| fail(e.into()))
    }

    fn used(&self) -> Result<u64> {
        let size = tree::size_of_tree(&self.store(), self.cloning == Cloning::Reflink)?;
        // Every file that shares a block counts it. Assuming two owners for each, half of the sum is used.
        Ok(size.own + size.shared / 2)
    }

    fn budget(&self) -> Result<u64> {
        match self.budget {
            Some(budget) => Ok(budget),
            None => Ok(self.used()? + self.space.read()?.free / 2),
        }
    }

    fn size_of(&self, folder: &Path) -> Result<SetSize> {
        Ok(tree::size_of_tree(folder, self.cloning == Cloning::Reflink)?)
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn reattach(&self) -> Result<()> {
        Ok(())
    }

    fn mount_options(&self, relative: &Path) -> VolumeOptions {
        let device = store_folder(&self.host_root, self.kind()).join(relative);
        let options =
            [("type", "none".to_owned()), ("device", device.display().to_string()), ("o", "bind".to_owned())];
        let options = options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        VolumeOptions { driver: "local".to_owned(), options }
    }
}

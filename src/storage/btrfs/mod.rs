//! The pool: a Btrfs file system in a sparse file of the keeper's volume, attached to a loop device whose node lies in
//! the same volume. A volume is a subvolume and a clone is a snapshot, so neither costs more for more data.
//!
//! The engine mounts a subvolume by the node's path on its host. The node is recreated at each attach, because the
//! device number can change after a reboot. Two engines on one machine do not conflict, because each has its own
//! volume.

pub(crate) mod ioctl;
mod loopdev;
mod nested;

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fs_btrfs::mkfs;
use fs_core::FileDevice;
use rustix::fs::{IFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::local::{Backend, prepare_shelves};
use super::path::store_folder;
use super::space::HostSpace;
use super::tree::Counter;
use super::{Result, SetSize, StorageError, StorageKind, VolumeOptions, tree};

use loopdev::LoopDevice;

/// File system type that `statfs` returns for Btrfs.
const BTRFS_MAGIC: u64 = 0x9123_683E;
/// Minimum size of a Btrfs file system.
const SMALLEST: u64 = 256 << 20;
/// Upper bound of the file's block size; the size of the file is a multiple of it.
const ALIGN: u64 = 1 << 20;
/// How long to wait until an unmounted file system that nothing uses has disappeared.
const LETTING_GO: Duration = Duration::from_secs(5);

/// Paths of the pool's parts.
#[derive(Debug, Clone)]
struct Places {
    /// The keeper's volume, as the keeper sees it.
    root: PathBuf,
    /// The same volume, as the engine's host sees it.
    host_root: PathBuf,
}

impl Places {
    fn image(&self) -> PathBuf {
        self.root.join("pool.btrfs")
    }

    fn node(&self) -> PathBuf {
        self.root.join("pool.node")
    }

    fn store(&self) -> PathBuf {
        store_folder(&self.root, StorageKind::Pool)
    }
}

/// The Btrfs backend, attached and mounted.
#[derive(Debug)]
pub struct Pool {
    places: Places,
    space: HostSpace,
    budget: u64,
    device: Mutex<Option<LoopDevice>>,
}

/// Whether a keeper's volume contains a pool.
pub fn exists(root: &Path) -> bool {
    Places { root: root.to_owned(), host_root: PathBuf::new() }.image().exists()
}

impl Pool {
    /// Attaches the pool, and first creates its file system if there is none.
    pub fn open(root: &Path, host_root: &Path, budget: Option<u64>) -> Result<Self> {
        let places = Places { root: root.to_owned(), host_root: host_root.to_owned() };
        let space = HostSpace::new(root);
        let image = places.image();
        let size = match image.metadata() {
            Ok(held) => budget.unwrap_or(0).max(held.len()),
            Err(_) => budget.map_or_else(|| Ok::<_, StorageError>(space.read()?.free / 2), Ok)?,
        };
        let size = size / ALIGN * ALIGN;
        if size < SMALLEST {
            let reason = format!("a pool takes {SMALLEST} bytes at least, and its budget is {size}");
            return Err(StorageError::Unavailable { storage: StorageKind::Pool.to_string(), reason });
        }
        if !image.exists() {
            format(&image, size)?;
        }
        let pool = Self { places, space, budget: size, device: Mutex::new(None) };
        pool.attach()?;
        Ok(pool)
    }

    fn store(&self) -> PathBuf {
        self.places.store()
    }

    /// Attaches and mounts the pool. Does nothing if another process of the same container has already done it.
    fn attach(&self) -> Result<()> {
        if is_btrfs(&self.store()) && self.places.node().exists() && self.length()? >= self.budget {
            return Ok(());
        }
        let image = self.places.image();
        let file = File::options()
            .read(true)
            .write(true)
            .open(&image)
            .map_err(|e| StorageError::io("open", &image, e))?;
        let length = self.length()?;
        if length < self.budget {
            file.set_len(self.budget).map_err(|e| StorageError::io("grow", &image, e))?;
        }
        let node = self.places.node();
        let device = LoopDevice::attach(&file, &self.places.root)
            .map_err(|e| StorageError::io("attach to a loop device", &image, e))?;
        device.put_node(&node).map_err(|e| StorageError::io("make", &node, e))?;
        let store = self.store();
        mount(&node, &store)?;
        if length < self.budget {
            device.grow().map_err(|e| StorageError::io("grow the loop device of", &image, e))?;
            ioctl::grow(&store).map_err(|e| StorageError::io("grow", &store, e))?;
        }
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = Some(device);
        prepare_shelves(&store)
    }

    fn length(&self) -> Result<u64> {
        let image = self.places.image();
        Ok(image.metadata().map_err(|e| StorageError::io("read", &image, e))?.len())
    }

    fn is_read_only(&self) -> bool {
        rustix::fs::statvfs(self.store()).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY))
    }
}

/// Formats a sparse file. It gets its final name only when it is complete.
fn format(image: &Path, size: u64) -> Result<()> {
    let making = image.with_extension("new");
    let fail = |operation| {
        let making = making.clone();
        move |e: io::Error| StorageError::io(operation, &making, e)
    };
    let file = File::create(&making).map_err(fail("make"))?;
    // If the host's file system is Btrfs or XFS, this flag avoids fragmentation of the file. File systems without the
    // flag do not need it.
    if let Ok(flags) = rustix::fs::ioctl_getflags(&file) {
        let _ = rustix::fs::ioctl_setflags(&file, flags | IFlags::NOCOW);
    }
    file.set_len(size).map_err(fail("grow"))?;
    let device = FileDevice::open_rw(&making).map_err(|e| fail("open")(io::Error::other(e)))?;
    let options = mkfs::Options { label: Some("sandbox".to_owned()), ..mkfs::Options::default() };
    mkfs::format(&device, &options).map_err(|e| fail("format")(io::Error::other(e)))?;
    file.sync_all().map_err(fail("sync"))?;
    std::fs::rename(&making, image).map_err(fail("name"))
}

/// Mounts the pool in the keeper unless it is mounted. Freed blocks are discarded, which returns them to the host.
fn mount(node: &Path, store: &Path) -> Result<()> {
    std::fs::create_dir_all(store).map_err(|e| StorageError::io("make", store, e))?;
    if is_btrfs(store) {
        return Ok(());
    }
    let attempt = |options| rustix::mount::mount(node, store, "btrfs", MountFlags::NOATIME, options);
    match attempt(c"discard=async,subvolid=5") {
        // Linux before 5.6 has no asynchronous discard.
        Err(Errno::INVAL) => attempt(c"discard,subvolid=5"),
        outcome => outcome,
    }
    .map_err(|e| StorageError::io("mount", store, e))
}

/// Whether a path is the root of a mounted Btrfs. Inode 256 distinguishes the root from other folders.
fn is_btrfs(path: &Path) -> bool {
    let kind =
        rustix::fs::statfs(path).is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|t| t == BTRFS_MAGIC));
    kind && path.metadata().is_ok_and(|meta| meta.ino() == 256)
}

impl Backend for Pool {
    fn kind(&self) -> StorageKind {
        StorageKind::Pool
    }

    fn store(&self) -> PathBuf {
        Self::store(self)
    }

    fn space(&self) -> &HostSpace {
        &self.space
    }

    fn admit(&self) -> Result<()> {
        if self.is_read_only() {
            return Err(StorageError::ReadOnly);
        }
        self.space.admit()?;
        let store = self.store();
        let fs = rustix::fs::statvfs(&store).map_err(|e| StorageError::io("measure", &store, e))?;
        let (whole, free) = (fs.f_blocks * fs.f_frsize, fs.f_bavail * fs.f_frsize);
        if free < (whole / 50).clamp(16 << 20, 1 << 30) {
            return Err(StorageError::OverBudget { used: whole - free, budget: whole });
        }
        Ok(())
    }

    fn create(&self, folder: &Path) -> Result<()> {
        ioctl::create(folder).map_err(|e| StorageError::io("make", folder, e))
    }

    fn clone_into(&self, from: &Path, to: &Path, _: &Counter) -> Result<()> {
        nested::snapshot(from, to).map_err(|e| StorageError::io("clone", from, e))
    }

    fn freeze(&self, folder: &Path) -> Result<()> {
        let frozen = ioctl::folder(folder).and_then(|folder| ioctl::set_read_only(&folder, true));
        frozen.map_err(|e| StorageError::io("freeze", folder, e))
    }

    fn remove(&self, folder: &Path) -> Result<()> {
        Ok(tree::remove_tree(folder)?)
    }

    fn sync(&self) -> Result<()> {
        let store = self.store();
        ioctl::sync(&store).map_err(|e| StorageError::io("sync", &store, e))
    }

    fn used(&self) -> Result<u64> {
        let image = self.places.image();
        let held = image.metadata().map_err(|e| StorageError::io("read", &image, e))?;
        Ok(held.blocks() * 512)
    }

    fn budget(&self) -> Result<u64> {
        Ok(self.budget)
    }

    fn size_of(&self, folder: &Path) -> Result<SetSize> {
        Ok(tree::size_of_tree(folder, true)?)
    }

    fn is_read_only(&self) -> bool {
        Self::is_read_only(self)
    }

    /// A file system that met an error stays read-only until its last mount is removed. So this works only when no
    /// volume of it is mounted elsewhere.
    fn reattach(&self) -> Result<()> {
        if !self.is_read_only() {
            return Ok(());
        }
        let store = self.store();
        rustix::mount::unmount(&store, UnmountFlags::empty())
            .map_err(|e| StorageError::io("unmount", &store, e))?;
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // A container that is starting elsewhere briefly holds a copy of every mount. While the old mount exists, the
        // kernel refuses a writable one ("remounting read-write after error is not allowed").
        let deadline = Instant::now() + LETTING_GO;
        loop {
            match self.attach() {
                Ok(()) => break,
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                Err(e) => return Err(e),
            }
        }
        if self.is_read_only() { Err(StorageError::ReadOnly) } else { Ok(()) }
    }

    fn mount_options(&self, relative: &Path) -> VolumeOptions {
        let device = self.places.host_root.join("pool.node");
        let options = [
            ("type", "btrfs".to_owned()),
            ("device", device.display().to_string()),
            ("o", format!("noatime,subvol={}", relative.display())),
        ];
        let options = options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        VolumeOptions { driver: "local".to_owned(), options }
    }
}

//! The loop devices of this machine and their backing files.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A loop device that is in use.
pub struct LoopDevice {
    node: File,
    info: LoopInfo,
}

/// The kernel's `struct loop_info64`, which names the backing file.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rest: [u8; 216],
}

const LOOP_CLR_FD: libc::c_ulong = 0x4C01;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;

/// The loop devices in use. Creates their nodes, because `/dev` may not have them; needs root.
pub fn in_use() -> Vec<LoopDevice> {
    let Ok(devices) = std::fs::read_dir("/sys/block") else { return Vec::new() };
    let Ok(folder) = tempfile::tempdir() else { return Vec::new() };
    let used = devices.flatten().filter(|entry| entry.path().join("loop/backing_file").exists());
    let opened = used.filter_map(|entry| {
        let node = open_node(&entry.path().join("dev"), &folder.path().join(entry.file_name()))?;
        let mut info = LoopInfo { device: 0, inode: 0, rest: [0; 216] };
        // SAFETY: the descriptor is open and the structure is as long as the kernel's.
        let known = unsafe { libc::ioctl(node.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) } == 0;
        known.then_some(LoopDevice { node, info })
    });
    opened.collect()
}

impl LoopDevice {
    /// The backing file, as device and inode.
    pub fn file(&self) -> (u64, u64) {
        (self.info.device, self.info.inode)
    }

    /// Detaches the loop device.
    pub fn release(&self) {
        // SAFETY: the descriptor is open; the call takes no argument.
        unsafe { libc::ioctl(self.node.as_raw_fd(), LOOP_CLR_FD, 0) };
    }
}

fn open_node(numbers: &Path, node: &Path) -> Option<File> {
    let text = std::fs::read_to_string(numbers).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    let path = std::ffi::CString::new(node.as_os_str().as_bytes()).ok()?;
    let device = libc::makedev(major.parse().ok()?, minor.parse().ok()?);
    // SAFETY: the path is a C string that lives through the call.
    let made = unsafe { libc::mknod(path.as_ptr(), libc::S_IFBLK | 0o600, device) } == 0;
    made.then(|| File::open(node).ok())?
}

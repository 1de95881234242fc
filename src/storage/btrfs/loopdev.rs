//! Attaches loop devices through device nodes that we create, because a container does not see the host's `/dev`.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dev, FileType, Mode, makedev};
use rustix::io::Errno;
use rustix::ioctl::{self, Getter, IntegerSetter, Ioctl, IoctlOutput, NoArg, Opcode, Setter};

const LOOP_SET_FD: Opcode = 0x4C00;
const LOOP_CLR_FD: Opcode = 0x4C01;
const LOOP_SET_STATUS64: Opcode = 0x4C04;
const LOOP_GET_STATUS64: Opcode = 0x4C05;
const LOOP_SET_CAPACITY: Opcode = 0x4C07;
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;
/// `LO_FLAGS_AUTOCLEAR`: the kernel detaches the file when the last open descriptor of the device is closed.
const AUTOCLEAR: u32 = 4;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Info>() == 232 && size_of::<Config>() == 304);

impl Info {
    fn new() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

struct GetFree;

// SAFETY: the call takes no argument and returns a number.
unsafe impl Ioctl for GetFree {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut libc::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut libc::c_void) -> rustix::io::Result<u32> {
        u32::try_from(out).map_err(|_| Errno::INVAL)
    }
}

/// An attached loop device, held open.
#[derive(Debug)]
pub struct LoopDevice {
    file: File,
    number: Dev,
}

impl LoopDevice {
    /// Returns the device that already holds a file (after a restart of the keeper while volumes were mounted), else
    /// attaches a new one. Temporary nodes for the search are created in `folder`.
    pub fn attach(image: &File, folder: &Path) -> io::Result<Self> {
        if let Some(held) = Self::find(image, folder)? {
            return Ok(held);
        }
        let control = Node::make(folder.join("loop-control"), FileType::CharacterDevice, makedev(10, 237))?;
        let control = control.open()?;
        for _ in 0..64 {
            // SAFETY: see `GetFree`.
            let index = unsafe { ioctl::ioctl(&control, GetFree)? };
            let device = Self::open(folder, number_of(index))?;
            match device.configure(image) {
                Ok(()) => return Ok(device),
                // Another process took the device in the meantime.
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other("other programs took every free loop device"))
    }

    /// Finds the device that holds a file.
    fn find(image: &File, folder: &Path) -> io::Result<Option<Self>> {
        let wanted = image.metadata()?;
        for index in attached() {
            let Ok(device) = Self::open(folder, number_of(index)) else { continue };
            // SAFETY: the type is the one that this call fills.
            let Ok(info) = (unsafe { ioctl::ioctl(&device.file, Getter::<LOOP_GET_STATUS64, Info>::new()) })
            else {
                continue;
            };
            if info.inode == wanted.ino() && info.device == wanted.dev() && info.offset == 0 {
                return Ok(Some(device));
            }
        }
        Ok(None)
    }

    fn open(folder: &Path, number: Dev) -> io::Result<Self> {
        let name = format!("loop-{}", rustix::fs::minor(number));
        let node = Node::make(folder.join(name), FileType::BlockDevice, number)?;
        Ok(Self { file: node.open()?, number })
    }

    fn configure(&self, image: &File) -> io::Result<()> {
        let fd = image.as_fd().as_raw_fd();
        let config = Config { fd: fd.cast_unsigned(), block_size: 4096, info: Info::new(), reserved: [0; 8] };
        // SAFETY: the type is the one that this call takes, and `image` stays open over it.
        match unsafe { ioctl::ioctl(&self.file, Setter::<LOOP_CONFIGURE, _>::new(config)) } {
            Ok(()) => Ok(()),
            // Before Linux 5.8 this took two calls.
            Err(Errno::INVAL | Errno::NOTTY) => self.configure_in_two_steps(fd),
            Err(e) => Err(e.into()),
        }
    }

    fn configure_in_two_steps(&self, fd: i32) -> io::Result<()> {
        let fd = usize::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the call takes a descriptor's number.
        unsafe { ioctl::ioctl(&self.file, IntegerSetter::<LOOP_SET_FD>::new_usize(fd))? };
        // SAFETY: the type is the one that this call takes.
        let named = unsafe { ioctl::ioctl(&self.file, Setter::<LOOP_SET_STATUS64, _>::new(Info::new())) };
        if let Err(e) = named {
            // SAFETY: the call takes no argument.
            let _ = unsafe { ioctl::ioctl(&self.file, NoArg::<LOOP_CLR_FD>::new()) };
            return Err(e.into());
        }
        Ok(())
    }

    /// Updates the device's size after the file has grown.
    pub fn grow(&self) -> io::Result<()> {
        // SAFETY: the call takes no argument.
        unsafe { ioctl::ioctl(&self.file, NoArg::<LOOP_SET_CAPACITY>::new())? };
        Ok(())
    }

    /// Creates a node for the device at a path and atomically replaces an existing one.
    pub fn put_node(&self, path: &Path) -> io::Result<()> {
        let made = Node::make(path.with_extension("new"), FileType::BlockDevice, self.number)?;
        std::fs::rename(&made.path, path)
    }
}

/// A device node that is removed on drop.
struct Node {
    path: PathBuf,
}

impl Node {
    fn make(path: PathBuf, kind: FileType, number: Dev) -> io::Result<Self> {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        rustix::fs::mknodat(CWD, &path, kind, Mode::RUSR | Mode::WUSR, number)?;
        Ok(Self { path })
    }

    fn open(&self) -> io::Result<File> {
        File::options().read(true).write(true).open(&self.path)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The node was renamed into place, or is no longer needed.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The numbers of the loop devices that hold a file.
fn attached() -> Vec<u32> {
    let Ok(devices) = std::fs::read_dir("/sys/block") else { return (0..64).collect() };
    let mut numbers: Vec<u32> = devices
        .flatten()
        .filter(|device| device.path().join("loop/backing_file").exists())
        .filter_map(|device| device.file_name().to_str()?.strip_prefix("loop")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// The device number of a loop device. If the kernel is configured for partitions on loop devices, minor numbers have
/// gaps.
fn number_of(index: u32) -> Dev {
    let told = std::fs::read_to_string(format!("/sys/block/loop{index}/dev")).unwrap_or_default();
    let minor = told.trim().strip_prefix("7:").and_then(|minor| minor.parse().ok());
    makedev(7, minor.unwrap_or(index))
}

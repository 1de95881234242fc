//! The few calls of the kernel's Btrfs that a pool needs (`include/uapi/linux/btrfs.h`).

use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{IFlags, Mode, OFlags};
use rustix::ioctl::{self, Getter, Opcode, Setter, opcode};

const MAGIC: u8 = 0x94;
const RDONLY: u64 = 1 << 1;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

const _: () = assert!(size_of::<VolArgs>() == 4096 && size_of::<VolArgsV2>() == 4096);

const RESIZE: Opcode = opcode::write::<VolArgs>(MAGIC, 3);
const SYNC: Opcode = opcode::none(MAGIC, 8);
const SUBVOL_CREATE: Opcode = opcode::write::<VolArgs>(MAGIC, 14);
const SNAP_DESTROY: Opcode = opcode::write::<VolArgs>(MAGIC, 15);
const SNAP_CREATE_V2: Opcode = opcode::write::<VolArgsV2>(MAGIC, 23);
const SUBVOL_GETFLAGS: Opcode = opcode::read::<u64>(MAGIC, 25);
const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(MAGIC, 26);

fn folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn put<const N: usize>(text: &[u8]) -> io::Result<[u8; N]> {
    let mut name = [0; N];
    if text.len() >= N {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    name[..text.len()].copy_from_slice(text);
    Ok(name)
}

fn parent_and_name(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((folder(parent)?, name)),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Makes an empty subvolume whose files are written in place: they take no copy-on-write for each write, which a
/// database pays for, and are still shared by snapshots.
pub fn create(path: &Path) -> io::Result<()> {
    let (parent, name) = parent_and_name(path)?;
    let args = VolArgs { fd: 0, name: put(name.as_bytes())? };
    // SAFETY: the type is the one that this call takes.
    unsafe { ioctl::ioctl(&parent, Setter::<SUBVOL_CREATE, _>::new(args))? };
    let made = folder(path)?;
    let flags = rustix::fs::ioctl_getflags(&made)?;
    rustix::fs::ioctl_setflags(&made, flags | IFlags::NOCOW)?;
    Ok(())
}

/// Makes `to` a snapshot of the subvolume `from`.
pub fn snapshot(from: &Path, to: &Path) -> io::Result<()> {
    let source = folder(from)?;
    let (parent, name) = parent_and_name(to)?;
    let fd = i64::from(source.as_fd().as_raw_fd());
    let args = VolArgsV2 { fd, transid: 0, flags: 0, unused: [0; 4], name: put(name.as_bytes())? };
    // SAFETY: the type is the one that this call takes, and `source` stays open over it.
    unsafe { ioctl::ioctl(&parent, Setter::<SNAP_CREATE_V2, _>::new(args))? };
    Ok(())
}

/// Deletes a subvolume. The kernel lets one go that is mounted elsewhere.
pub fn destroy(path: &Path) -> io::Result<()> {
    let (parent, name) = parent_and_name(path)?;
    let args = VolArgs { fd: 0, name: put(name.as_bytes())? };
    // SAFETY: the type is the one that this call takes.
    unsafe { ioctl::ioctl(&parent, Setter::<SNAP_DESTROY, _>::new(args))? };
    Ok(())
}

/// Makes a subvolume read-only, or writable again.
pub fn set_read_only(path: &Path, read_only: bool) -> io::Result<()> {
    let fd = folder(path)?;
    // SAFETY: the types are the ones that these calls take.
    let flags = unsafe { ioctl::ioctl(&fd, Getter::<SUBVOL_GETFLAGS, u64>::new())? };
    let flags = if read_only { flags | RDONLY } else { flags & !RDONLY };
    // SAFETY: as above.
    unsafe { ioctl::ioctl(&fd, Setter::<SUBVOL_SETFLAGS, u64>::new(flags))? };
    Ok(())
}

/// Whether a folder is a subvolume's root.
pub fn is_subvolume(path: &Path) -> bool {
    folder(path).and_then(|fd| Ok(rustix::fs::fstat(fd)?)).is_ok_and(|stat| stat.st_ino == 256)
}

/// Commits everything, and waits for it.
pub fn sync(root: &Path) -> io::Result<()> {
    let fd = folder(root)?;
    // SAFETY: the call takes no argument.
    unsafe { ioctl::ioctl(&fd, ioctl::NoArg::<SYNC>::new())? };
    rustix::fs::syncfs(&fd)?;
    Ok(())
}

/// Lets the file system fill its device, which has grown.
pub fn grow(root: &Path) -> io::Result<()> {
    let fd = folder(root)?;
    let args = VolArgs { fd: 0, name: put(CStr::to_bytes(c"max"))? };
    // SAFETY: the type is the one that this call takes.
    unsafe { ioctl::ioctl(&fd, Setter::<RESIZE, _>::new(args))? };
    Ok(())
}

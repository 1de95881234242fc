//! The Btrfs ioctls that the pool uses (`include/uapi/linux/btrfs.h`).

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{IFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{self, Getter, Opcode, Setter, Updater, opcode};

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

/// `struct btrfs_ioctl_get_subvol_rootref_args`.
#[repr(C)]
struct RootRefs {
    least: u64,
    refs: [[u64; 2]; 255],
    count: u8,
    align: [u8; 7],
}

/// `struct btrfs_ioctl_ino_lookup_user_args`.
#[repr(C)]
struct InoLookupUser {
    folder: u64,
    number: u64,
    name: [u8; 256],
    path: [u8; 3824],
}

const _: () = assert!(size_of::<VolArgs>() == 4096 && size_of::<VolArgsV2>() == 4096);
const _: () = assert!(size_of::<RootRefs>() == 4096 && size_of::<InoLookupUser>() == 4096);

const RESIZE: Opcode = opcode::write::<VolArgs>(MAGIC, 3);
const SYNC: Opcode = opcode::none(MAGIC, 8);
const SUBVOL_CREATE: Opcode = opcode::write::<VolArgs>(MAGIC, 14);
const SNAP_DESTROY: Opcode = opcode::write::<VolArgs>(MAGIC, 15);
const SNAP_CREATE_V2: Opcode = opcode::write::<VolArgsV2>(MAGIC, 23);
const SUBVOL_GETFLAGS: Opcode = opcode::read::<u64>(MAGIC, 25);
const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(MAGIC, 26);
const GET_SUBVOL_ROOTREF: Opcode = opcode::read_write::<RootRefs>(MAGIC, 61);
const INO_LOOKUP_USER: Opcode = opcode::read_write::<InoLookupUser>(MAGIC, 62);

/// Opens a folder without following a symbolic link in its place.
pub fn folder(path: &Path) -> io::Result<OwnedFd> {
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

/// Creates an empty subvolume with the no-copy-on-write flag: files are written in place, which saves a database the
/// cost of copy-on-write, and can still be shared by snapshots.
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

/// Creates `name` in a folder as a snapshot of a subvolume. Subvolumes nested in the source become empty folders.
pub fn snapshot(source: impl AsFd, parent: impl AsFd, name: &CStr) -> io::Result<()> {
    let fd = i64::from(source.as_fd().as_raw_fd());
    let args = VolArgsV2 { fd, transid: 0, flags: 0, unused: [0; 4], name: put(name.to_bytes())? };
    // SAFETY: the type is the one that this call takes, and `source` stays open over it.
    unsafe { ioctl::ioctl(parent, Setter::<SNAP_CREATE_V2, _>::new(args))? };
    Ok(())
}

/// Deletes a subvolume that contains no other. The kernel does this even while the subvolume is mounted elsewhere.
pub fn destroy_at(parent: impl AsFd, name: &CStr) -> rustix::io::Result<()> {
    let args = VolArgs { fd: 0, name: put(name.to_bytes()).map_err(|_| Errno::NAMETOOLONG)? };
    // SAFETY: the type is the one that this call takes.
    unsafe { ioctl::ioctl(parent, Setter::<SNAP_DESTROY, _>::new(args)) }
}

/// Whether a subvolume is read-only.
pub fn is_read_only(subvolume: impl AsFd) -> io::Result<bool> {
    // SAFETY: the type is the one that this call fills.
    let flags = unsafe { ioctl::ioctl(subvolume, Getter::<SUBVOL_GETFLAGS, u64>::new())? };
    Ok(flags & RDONLY != 0)
}

/// Makes a subvolume read-only, or writable again.
pub fn set_read_only(subvolume: impl AsFd, read_only: bool) -> io::Result<()> {
    let fd = subvolume.as_fd();
    // SAFETY: the types are the ones that these calls take.
    let flags = unsafe { ioctl::ioctl(fd, Getter::<SUBVOL_GETFLAGS, u64>::new())? };
    let wanted = if read_only { flags | RDONLY } else { flags & !RDONLY };
    if wanted != flags {
        // SAFETY: as above.
        unsafe { ioctl::ioctl(fd, Setter::<SUBVOL_SETFLAGS, u64>::new(wanted))? };
    }
    Ok(())
}

/// Whether a folder is a subvolume's root.
pub fn is_subvolume(folder: impl AsFd) -> bool {
    let folder = folder.as_fd();
    rustix::fs::fstat(folder).is_ok_and(|stat| stat.st_ino == 256)
        && rustix::fs::fstatfs(folder)
            .is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|kind| kind == super::BTRFS_MAGIC))
}

/// Returns the subvolumes that lie directly in a subvolume, each as its number and the number of its parent folder.
pub fn nested(subvolume: impl AsFd) -> io::Result<Vec<[u64; 2]>> {
    let mut found = Vec::new();
    let mut args = Box::new(RootRefs { least: 0, refs: [[0; 2]; 255], count: 0, align: [0; 7] });
    loop {
        // SAFETY: the type is the one that this call takes and fills.
        match unsafe {
            ioctl::ioctl(subvolume.as_fd(), Updater::<GET_SUBVOL_ROOTREF, RootRefs>::new(&mut args))
        } {
            // More subvolumes exist than fit into one reply; the next call continues after the last one.
            Ok(()) | Err(Errno::OVERFLOW) if args.count == 255 => found.extend(args.refs),
            Ok(()) => {
                found.extend(args.refs.iter().take(usize::from(args.count)));
                return Ok(found);
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Returns the location of a nested subvolume: the path of its parent folder below the subvolume, and its name.
pub fn place_of(subvolume: impl AsFd, [number, folder]: [u64; 2]) -> io::Result<(PathBuf, CString)> {
    let mut args = Box::new(InoLookupUser { folder, number, name: [0; 256], path: [0; 3824] });
    // SAFETY: the type is the one that this call takes and fills.
    unsafe { ioctl::ioctl(subvolume, Updater::<INO_LOOKUP_USER, InoLookupUser>::new(&mut args))? };
    let text =
        |bytes: &[u8]| CStr::from_bytes_until_nul(bytes).map(ToOwned::to_owned).map_err(io::Error::other);
    let path = text(&args.path)?;
    Ok((PathBuf::from(OsStr::from_bytes(path.to_bytes())), text(&args.name)?))
}

/// Commits all pending writes and waits for the commit.
pub fn sync(root: &Path) -> io::Result<()> {
    let fd = folder(root)?;
    // SAFETY: the call takes no argument.
    unsafe { ioctl::ioctl(&fd, ioctl::NoArg::<SYNC>::new())? };
    rustix::fs::syncfs(&fd)?;
    Ok(())
}

/// Resizes the file system to the size of its device, which has grown.
pub fn grow(root: &Path) -> io::Result<()> {
    let fd = folder(root)?;
    let args = VolArgs { fd: 0, name: put(CStr::to_bytes(c"max"))? };
    // SAFETY: the type is the one that this call takes.
    unsafe { ioctl::ioctl(&fd, Setter::<RESIZE, _>::new(args))? };
    Ok(())
}

//! Subvolumes that a service has made inside of its volume. The kernel's snapshot of the volume has an empty folder in
//! the place of each, so each is cloned by itself.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::ioctl;

/// Makes `to`, which is not there, a clone of the subvolume `from` and of all that is nested in it.
pub fn snapshot(from: &Path, to: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let name = CString::new(name.as_bytes())?;
    ioctl::snapshot(ioctl::folder(from)?, ioctl::folder(parent)?, &name)?;
    // Those that are to be looked into: an original, its clone, and whether the clone is to be read-only in the end.
    let mut pairs = vec![(ioctl::folder(from)?, ioctl::folder(to)?, false)];
    let mut done = 0;
    while let Some((original, clone, _)) = pairs.get(done) {
        let mut found = Vec::new();
        for one in ioctl::nested(original)? {
            let (folder, name) = ioctl::place_of(original, one)?;
            let source = open(&open_below(original, &folder)?, &name)?;
            let place = open_below(clone, &folder)?;
            rustix::fs::unlinkat(&place, &name, AtFlags::REMOVEDIR)?;
            ioctl::snapshot(&source, &place, &name)?;
            let read_only = ioctl::is_read_only(&source)?;
            found.push((source, open(&place, &name)?, read_only));
        }
        pairs.extend(found);
        done += 1;
    }
    for (_, clone, _) in pairs.iter().filter(|(_, _, read_only)| *read_only) {
        ioctl::set_read_only(clone, true)?;
    }
    Ok(())
}

fn open(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn open_below(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut folder = root.try_clone()?;
    for part in path.components() {
        if let Component::Normal(name) = part {
            folder = open(&folder, &CString::new(name.as_bytes())?)?;
        }
    }
    Ok(folder)
}

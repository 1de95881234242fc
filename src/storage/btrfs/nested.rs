//! Clones subvolumes that a service created inside its volume. The kernel's snapshot of a volume contains an empty
//! folder in place of each nested subvolume, so each one is cloned separately.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::ioctl;

/// Creates `to`, which must not exist, as a clone of the subvolume `from` and of all subvolumes nested in it.
pub fn snapshot(from: &Path, to: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let name = CString::new(name.as_bytes())?;
    ioctl::snapshot(ioctl::folder(from)?, ioctl::folder(parent)?, &name)?;
    // Pairs still to be searched: an original, its clone, and whether the clone becomes read-only at the end.
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

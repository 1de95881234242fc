//! Extended attributes of an entry, accessed by its folder and name so that no symbolic link is followed.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// An attribute's name and value.
pub type Xattr = (CString, Vec<u8>);

/// The entry's path through the descriptor of the open folder, because the `l*xattr` calls take only paths. They do
/// not follow a link in the last component, which is the entry's own name.
fn path_of(folder: impl AsFd, name: &CStr) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    path
}

/// Lists all visible attributes, sorted by name.
pub fn list_xattrs(folder: impl AsFd, name: &CStr) -> io::Result<Vec<Xattr>> {
    let path = path_of(folder, name);
    let mut list = loop {
        let size = match rustix::fs::llistxattr_query(&*path) {
            Ok(0) | Err(Errno::NOTSUP | Errno::ACCESS) => return Ok(Vec::new()),
            Ok(size) => size,
            Err(e) => return Err(e.into()),
        };
        let mut buffer = vec![0u8; size];
        match rustix::fs::llistxattr(&*path, &mut buffer[..]) {
            Ok(used) => {
                buffer.truncate(used);
                break buffer;
            }
            Err(Errno::RANGE) => {}
            Err(e) => return Err(e.into()),
        }
    };
    if list.last() == Some(&0) {
        list.pop();
    }
    let mut xattrs = Vec::new();
    for key in list.split(|b| *b == 0).filter(|key| !key.is_empty()) {
        let key = CString::new(key).map_err(io::Error::other)?;
        if let Some(value) = get(&path, &key)? {
            xattrs.push((key, value));
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

fn get(path: &[u8], key: &CStr) -> io::Result<Option<Vec<u8>>> {
    loop {
        let size = match rustix::fs::lgetxattr_query(path, key) {
            Ok(size) => size,
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut value = vec![0u8; size];
        if size == 0 {
            return Ok(Some(value));
        }
        match rustix::fs::lgetxattr(path, key, &mut value[..]) {
            Ok(used) => {
                value.truncate(used);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) => {}
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Sets one attribute of an entry. If the file system refuses one that belongs to the machine rather than to the data
/// (see [`is_refusable`]), this is not an error.
pub fn set_xattr(folder: impl AsFd, name: &CStr, key: &CStr, value: &[u8]) -> io::Result<()> {
    let path = path_of(folder, name);
    match rustix::fs::lsetxattr(&*path, key, value, XattrFlags::empty()) {
        Err(Errno::NOTSUP | Errno::PERM | Errno::INVAL) if is_refusable(key) => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Whether an attribute describes the machine that holds the data (security labels, compression), not the data.
pub fn is_refusable(key: &CStr) -> bool {
    let key = key.to_bytes();
    !(key.starts_with(b"user.") || key == b"security.capability" || key.starts_with(b"system.posix_acl_"))
}

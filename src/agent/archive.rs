//! Unpacking an archive that came out of a container: folders and plain files only, nothing outside the target.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// Unpacks folders and files below `into`, the first `strip` parts of their paths left out. Links and devices are
/// passed over: their makers are not trusted.
pub fn unpack(archive: impl Read, into: &Path, strip: usize) -> io::Result<()> {
    std::fs::create_dir_all(into)?;
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path: PathBuf =
            entry.path()?.components().filter(|it| matches!(it, Component::Normal(_))).skip(strip).collect();
        let target = into.join(&path);
        match entry.header().entry_type() {
            _ if path.as_os_str().is_empty() => {}
            tar::EntryType::Directory => std::fs::create_dir_all(&target)?,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                std::fs::create_dir_all(target.parent().unwrap_or(into))?;
                io::copy(&mut entry, &mut std::fs::File::create(&target)?)?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_and_folders_come_out() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(2);
        header.set_mode(0o644);
        tar.append_data(&mut header, "out/report.txt", b"hi".as_slice()).unwrap();
        let mut link = tar::Header::new_ustar();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "out/link", "/etc/passwd").unwrap();
        let target = tempfile::tempdir().unwrap();
        unpack(tar.into_inner().unwrap().as_slice(), target.path(), 1).unwrap();
        assert_eq!(std::fs::read(target.path().join("report.txt")).unwrap(), b"hi");
        assert!(!target.path().join("link").exists());
    }
}

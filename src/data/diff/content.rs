//! Compares the content of two files block by block.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The unit in which differences are counted.
const BLOCK: usize = 4096;
/// How much is read at once.
const PORTION: usize = 256 << 10;

/// How many bytes differ: blocks that differ, and what only the longer file has.
pub(super) fn changed_bytes(before: &Path, now: &File) -> io::Result<u64> {
    let before = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(before)?;
    let (mut old, mut new) = (vec![0; PORTION], vec![0; PORTION]);
    let (mut at, mut changed) = (0, 0);
    loop {
        let (old_length, new_length) = (fill(&before, &mut old, at)?, fill(now, &mut new, at)?);
        if old_length == 0 && new_length == 0 {
            return Ok(changed);
        }
        let common = old_length.min(new_length);
        if old[..common] != new[..common] {
            let blocks = old[..common].chunks(BLOCK).zip(new[..common].chunks(BLOCK));
            changed += blocks.filter(|(old, new)| old != new).map(|(old, _)| old.len() as u64).sum::<u64>();
        }
        changed += old_length.abs_diff(new_length) as u64;
        at += PORTION as u64;
    }
}

/// Fills a buffer from an offset; returns fewer bytes at the end of the file.
fn fill(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

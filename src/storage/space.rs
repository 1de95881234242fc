//! Free space on the host's disk, and a reserve that is released before the disk is full.
//!
//! A file system in a sparse file may promise space that the host does not have. When the host's disk is full, its
//! writes fail and it becomes read-only. Releasing the reserve gives the keeper time to pause writers before that.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::{Pressure, Result, StorageError};

const MIB: u64 = 1 << 20;

/// Bytes of the host's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Total size.
    pub total: u64,
    /// Free bytes.
    pub free: u64,
}

impl Space {
    /// Bytes that must stay free to accept new work: 2 % of the disk, from 64 MiB to 2 GiB.
    pub fn needed(self) -> u64 {
        (self.total / 50).clamp(64 * MIB, 2048 * MIB)
    }

    /// The reserve's size. When less than this is free, the reserve is released.
    pub fn reserve(self) -> u64 {
        (self.needed() / 8).max(16 * MIB)
    }

    /// The disk pressure.
    pub fn pressure(self) -> Pressure {
        if self.free < self.reserve() {
            Pressure::Critical
        } else if self.free < self.needed() {
            Pressure::Short
        } else {
            Pressure::Fine
        }
    }
}

/// The disk that holds a folder, with the reserve file kept in that folder.
#[derive(Debug)]
pub struct HostSpace {
    folder: PathBuf,
}

impl HostSpace {
    /// Creates a view of the disk that holds a folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Reads the disk's size and free space.
    pub fn read(&self) -> Result<Space> {
        let fs =
            rustix::fs::statvfs(&self.folder).map_err(|e| StorageError::io("measure", &self.folder, e))?;
        Ok(Space { total: fs.f_blocks * fs.f_frsize, free: fs.f_bavail * fs.f_frsize })
    }

    /// Fails if the host is short of space.
    pub fn admit(&self) -> Result<()> {
        let space = self.read()?;
        match space.pressure() {
            Pressure::Fine => Ok(()),
            _ => Err(StorageError::Short { free: space.free, need: space.needed() }),
        }
    }

    /// Measures the pressure; releases the reserve when it is critical, and refills it when there is room again.
    pub fn check(&self) -> Result<Pressure> {
        let space = self.read()?;
        let reserve = self.folder.join("reserve");
        match space.pressure() {
            Pressure::Fine if !reserve.exists() && space.free > space.needed() + 2 * space.reserve() => {
                // Best effort: without a reserve the next check only reacts slightly later.
                if let Err(error) = lay_up(&reserve, space.reserve()) {
                    tracing::debug!(%error, "no reserve could be laid up");
                    let _ = std::fs::remove_file(&reserve);
                }
                Ok(Pressure::Fine)
            }
            Pressure::Critical => {
                let _ = std::fs::remove_file(&reserve);
                Ok(Pressure::Critical)
            }
            other => Ok(other),
        }
    }
}

fn lay_up(path: &Path, size: u64) -> std::io::Result<()> {
    let file = File::create(path)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_rises_as_the_disk_fills() {
        let disk = |free| Space { total: 100 << 30, free }.pressure();
        assert_eq!(disk(50 << 30), Pressure::Fine);
        assert_eq!(disk(1 << 30), Pressure::Short);
        assert_eq!(disk(100 << 20), Pressure::Critical);
    }

    #[test]
    fn a_small_disk_is_not_refused_for_being_small() {
        assert_eq!(Space { total: 600 << 20, free: 500 << 20 }.pressure(), Pressure::Fine);
    }
}

//! Reads what we need from an ELF file: its architecture, its interpreter and its build id.
//!
//! Field offsets are those of `elf(5)`. Only 64-bit little-endian files are supported; all known engines run on such
//! machines.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes per program header.
const SEGMENT: usize = 56;
const PROGRAM_INTERPRETER: u32 = 3;
const PROGRAM_NOTE: u32 = 4;
const NOTE_BUILD_ID: u32 = 3;

/// The properties of an ELF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// The architecture as registries name it (`amd64`), empty for one that they do not name.
    pub arch: &'static str,
    /// The interpreter (dynamic loader); `None` if the file is static.
    pub interpreter: Option<PathBuf>,
    /// The linker's build id, if it wrote one.
    pub build_id: Option<Vec<u8>>,
}

impl Elf {
    /// Reads the headers of a file; `None` if it is no supported ELF file.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let mut head = [0_u8; 64];
        match file.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        if !head.starts_with(b"\x7fELF\x02\x01") {
            return Ok(None);
        }
        let mut elf = Self { arch: arch(number(&head, 18, 2)), interpreter: None, build_id: None };
        let (table, size, count) = (number(&head, 32, 8), number(&head, 54, 2), number(&head, 56, 2));
        let Some(entry) = usize::try_from(size).ok().filter(|size| *size >= SEGMENT && count > 0) else {
            // It is not an executable, so it has no program headers.
            return Ok(None);
        };
        let segments = part(&mut file, table, size * count)?;
        for segment in segments.chunks_exact(entry) {
            let kind = u32::try_from(number(segment, 0, 4)).unwrap_or(0);
            if !matches!(kind, PROGRAM_INTERPRETER | PROGRAM_NOTE) {
                continue;
            }
            let content = part(&mut file, number(segment, 8, 8), number(segment, 32, 8))?;
            if kind == PROGRAM_INTERPRETER {
                let text = String::from_utf8_lossy(&content);
                elf.interpreter = Some(PathBuf::from(text.trim_end_matches('\0')));
            } else if elf.build_id.is_none() {
                elf.build_id = build_id(&content);
            }
        }
        Ok(Some(elf))
    }
}

/// Reads a little-endian number of `size` bytes; zero if it is out of range.
fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let bytes = bytes.get(at..at + size).unwrap_or_default();
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Reads a bounded part of a file: only headers are needed.
fn part(file: &mut File, at: u64, size: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut content = Vec::new();
    file.take(size.min(64 * 1024)).read_to_end(&mut content)?;
    Ok(content)
}

fn build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    let padded = |size: u64| usize::try_from(size.next_multiple_of(4)).ok();
    while notes.len() >= 12 {
        let (name, content) = (number(notes, 0, 4), number(notes, 4, 4));
        let (kind, start) = (number(notes, 8, 4), 12 + padded(name)?);
        if kind == u64::from(NOTE_BUILD_ID) && notes.get(12..16) == Some(b"GNU\0") {
            return notes.get(start..start + usize::try_from(content).ok()?).map(<[u8]>::to_vec);
        }
        notes = notes.get(start + padded(content)?..)?;
    }
    None
}

fn arch(machine: u64) -> &'static str {
    match machine {
        3 => "386",
        21 => "ppc64le",
        22 => "s390x",
        40 => "arm",
        62 => "amd64",
        183 => "arm64",
        243 => "riscv64",
        258 => "loong64",
        _ => "",
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_is_understood() {
        let elf = Elf::read(&std::env::current_exe().unwrap()).unwrap().unwrap();
        let own = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        assert_eq!(elf.arch, own);
    }

    #[test]
    fn a_script_is_no_elf_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"#!/bin/sh\n").unwrap();
        assert_eq!(Elf::read(file.path()).unwrap(), None);
    }

    #[test]
    fn what_has_nothing_to_load_is_no_program() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let head = [b"\x7fELF\x02\x01".as_slice(), &[0; 58]].concat();
        std::io::Write::write_all(&mut file, &head).unwrap();
        assert_eq!(Elf::read(file.path()).unwrap(), None);
    }

    #[test]
    fn a_file_cut_short_is_no_reason_to_fail() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"\x7fELF\x02\x01\x01").unwrap();
        assert_eq!(Elf::read(file.path()).unwrap(), None);
    }
}

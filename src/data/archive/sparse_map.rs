//! GNU's sparse map 1.0, stored before a file's data: the number of extents, then the offset and length of each, one
//! number a line, padded to a block.

use std::io::Read;

use super::ArchiveError;
use super::block::{Member, TarReader};

/// Maximum number of extents of one file.
const MAX_EXTENTS: u64 = 1 << 22;

/// Writes the map for these data extents. A hole at the end is expressed by an empty extent there.
pub fn map_of(extents: &[(u64, u64)], whole: u64) -> Vec<u8> {
    let ends = extents.last().is_some_and(|(at, length)| at + length == whole);
    let end = (!ends).then_some((whole, 0));
    let mut numbers = vec![extents.len() as u64 + u64::from(!ends)];
    numbers.extend(extents.iter().chain(&end).flat_map(|(at, length)| [*at, *length]));
    let lines: String = numbers.iter().flat_map(|number| [number.to_string(), "\n".to_owned()]).collect();
    let mut map = lines.into_bytes();
    map.resize(map.len().next_multiple_of(512), 0);
    map
}

/// Reads a sparse map; returns its extents and its length in bytes.
pub fn read_map<R: Read>(
    tar: &mut TarReader<R>,
    member: &Member,
    length: u64,
) -> Result<(Vec<(u64, u64)>, u64), ArchiveError> {
    let bad = || ArchiveError::hostile(&member.path, "its map of holes makes no sense");
    let mut map = MapReader { block: [0; 512], at: 512, taken: 0, size: member.size };
    let count = map.number(tar, member)?;
    if count > MAX_EXTENTS || count > member.size {
        return Err(bad());
    }
    let mut extents = Vec::new();
    let mut reached = 0u64;
    for _ in 0..count {
        let (at, long) = (map.number(tar, member)?, map.number(tar, member)?);
        let end = at.checked_add(long).filter(|end| at >= reached && *end <= length).ok_or_else(bad)?;
        reached = end;
        extents.push((at, long));
    }
    Ok((extents, map.taken))
}

struct MapReader {
    block: [u8; 512],
    at: usize,
    taken: u64,
    size: u64,
}

impl MapReader {
    fn number<R: Read>(&mut self, tar: &mut TarReader<R>, member: &Member) -> Result<u64, ArchiveError> {
        let bad = || ArchiveError::hostile(&member.path, "its map of holes makes no sense");
        let mut value: Option<u64> = None;
        loop {
            if self.at == self.block.len() {
                if self.taken + 512 > self.size {
                    return Err(bad());
                }
                tar.data(&mut self.block)?;
                self.taken += 512;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'\n' => return value.ok_or_else(bad),
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    let next = value.unwrap_or(0).checked_mul(10).and_then(|v| v.checked_add(digit));
                    value = Some(next.ok_or_else(bad)?);
                }
                _ => return Err(bad()),
            }
        }
    }
}

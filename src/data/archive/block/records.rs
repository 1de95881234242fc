//! PAX records: values that do not fit into a header's fields, as lines of text before the header.

use std::collections::BTreeMap;
use std::ffi::CString;

use super::super::ArchiveError;
use super::Member;
use super::header::{OCTAL_7, OCTAL_11};
use crate::storage::tree::Xattr;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// The records that an entry needs.
pub fn records(member: &Member) -> Vec<u8> {
    let mut records = Vec::new();
    let plain = |text: &[u8]| text.is_ascii() && text.len() <= 100;
    if let Some(length) = member.sparse {
        record(&mut records, b"GNU.sparse.major", b"1");
        record(&mut records, b"GNU.sparse.minor", b"0");
        record(&mut records, b"GNU.sparse.name", &member.path);
        record(&mut records, b"GNU.sparse.realsize", length.to_string().as_bytes());
    } else if !plain(&member.path) {
        record(&mut records, b"path", &member.path);
    }
    if !plain(&member.link) {
        record(&mut records, b"linkpath", &member.link);
    }
    for (key, value) in [(&b"uid"[..], u64::from(member.uid)), (b"gid", u64::from(member.gid))] {
        if value > OCTAL_7 {
            record(&mut records, key, value.to_string().as_bytes());
        }
    }
    if member.size > OCTAL_11 {
        record(&mut records, b"size", member.size.to_string().as_bytes());
    }
    let (seconds, nanoseconds) = member.mtime;
    if nanoseconds != 0 || seconds < 0 || seconds.cast_unsigned() > OCTAL_11 {
        record(&mut records, b"mtime", decimal(seconds, nanoseconds).as_bytes());
    }
    for (key, value) in &member.xattrs {
        record(&mut records, &[XATTR, key.to_bytes()].concat(), value);
    }
    records
}

/// Formats seconds and nanoseconds as one decimal number: (-2, 500000000) is -1.5.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    let whole = -(i128::from(seconds) + 1);
    format!("-{whole}.{:09}", 1_000_000_000 - nanoseconds)
}

fn parse_decimal(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: u32 = format!("{fraction:0<9}").parse().ok()?;
    if negative && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

/// Appends one record: its length, which includes the length field itself, then `key=value`.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut digits = 1;
    while (rest + digits).to_string().len() > digits {
        digits += 1;
    }
    records.extend_from_slice((rest + digits).to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The parsed records of one entry.
#[derive(Default)]
pub struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<Xattr>,
    gnu: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Records {
    /// Parses records; `None` for records that the writer does not produce, and for a repeated key.
    pub fn parse(mut rest: &[u8]) -> Option<Self> {
        let mut records = Self::default();
        let mut seen = std::collections::BTreeSet::new();
        while !rest.is_empty() {
            let space = rest.iter().take(8).position(|b| *b == b' ')?;
            let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
            let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|b| *b == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            if !seen.insert(key.to_vec()) || !records.take(key, value)? {
                return None;
            }
            rest = &rest[length..];
        }
        Some(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<bool> {
        let decimal = || std::str::from_utf8(value).ok()?.parse::<u64>().ok();
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal()?),
            b"uid" => self.uid = Some(decimal()?),
            b"gid" => self.gid = Some(decimal()?),
            b"mtime" => self.mtime = Some(parse_decimal(std::str::from_utf8(value).ok()?)?),
            b"GNU.sparse.major" | b"GNU.sparse.minor" | b"GNU.sparse.name" | b"GNU.sparse.realsize" => {
                self.gnu.insert(key.to_vec(), value.to_vec());
            }
            _ => {
                let name = key.strip_prefix(XATTR)?;
                self.xattrs.push((CString::new(name).ok()?, value.to_vec()));
            }
        }
        Some(true)
    }

    /// For a sparse file, its name and full length.
    pub fn sparse(&self) -> Result<Option<(Vec<u8>, u64)>, ArchiveError> {
        if self.gnu.is_empty() {
            return Ok(None);
        }
        let get = |key: &[u8]| self.gnu.get(key).map(Vec::as_slice).unwrap_or_default();
        let name = get(b"GNU.sparse.name");
        let length = std::str::from_utf8(get(b"GNU.sparse.realsize")).ok().and_then(|text| text.parse().ok());
        match length {
            Some(length) if get(b"GNU.sparse.major") == b"1" && get(b"GNU.sparse.minor") == b"0" => {
                Ok(Some((name.to_vec(), length)))
            }
            _ => Err(ArchiveError::damaged(name, "its map of holes is of an unknown kind")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_survive() {
        for time in [(0, 5), (-1, 0), (-2, 500_000_000), (-1, 1), (1_700_000_000, 999_999_999), (i64::MIN, 7)]
        {
            assert_eq!(parse_decimal(&decimal(time.0, time.1)), Some(time), "{}", decimal(time.0, time.1));
        }
        assert_eq!(parse_decimal("1.5"), Some((1, 500_000_000)));
        assert_eq!(parse_decimal("1.x"), None);
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for length in [1, 90, 91, 92, 93, 94, 95, 990, 991, 992, 993] {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'a'; length]);
            assert_eq!(Records::parse(&records).unwrap().path.unwrap().len(), length);
        }
    }

    #[test]
    fn records_that_lie_are_refused() {
        for bad in
            [&b"9 path=ab\n"[..], b"99 path=a\n", b"x path=a\n", b"10 path=a\n11", b"3 =\n", b"0 path=a\n"]
        {
            assert!(Records::parse(bad).is_none(), "{:?}", String::from_utf8_lossy(bad));
        }
        let mut twice = Vec::new();
        record(&mut twice, b"path", b"a");
        record(&mut twice, b"path", b"b");
        assert!(Records::parse(&twice).is_none());
        let mut unknown = Vec::new();
        record(&mut unknown, b"LIBARCHIVE.magic", b"a");
        assert!(Records::parse(&unknown).is_none());
    }
}

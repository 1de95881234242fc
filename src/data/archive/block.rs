//! The tar format itself: 512-byte headers and PAX records, written and read.
//!
//! The format is POSIX.1-2017's pax interchange format, with `SCHILY.xattr.` for extended attributes and GNU's sparse
//! format 1.0, as GNU tar and libarchive read them. The reader knows what the writer writes and refuses all else.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::{ArchiveError, Limits};
use crate::pool::tree::Xattr;

const BLOCK: usize = 512;
const XATTR: &[u8] = b"SCHILY.xattr.";
/// One entry's PAX records are at most this long.
const MAX_RECORDS: u64 = 1 << 20;
const OCTAL_11: u64 = 0o777_7777_7777;
const OCTAL_7: u64 = 0o777_7777;

/// What an entry is, by tar's letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    Folder,
    Fifo,
}

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::Folder => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// One entry's metadata.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its path in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Where it links to.
    pub link: Vec<u8>,
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was changed: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
    /// Bytes that follow.
    pub size: u64,
    /// Of a file with holes, its whole length; what follows begins with a map of its data.
    pub sparse: Option<u64>,
}

impl Member {
    /// A file that carries our own words.
    pub fn document(path: &[u8], size: u64) -> Self {
        Self {
            path: path.to_vec(),
            kind: Kind::File,
            link: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: Vec::new(),
            size,
            sparse: None,
        }
    }
}

/// Writes entries, and hashes what it writes on demand.
pub struct TarWriter<W> {
    out: W,
    hash: Option<Sha256>,
    written: u64,
}

impl<W: Write> TarWriter<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, hash: None, written: 0 }
    }

    /// Begins a checksum.
    pub fn begin(&mut self) {
        self.hash = Some(Sha256::new());
    }

    /// Ends the checksum.
    pub fn end(&mut self) -> String {
        hex::encode(self.hash.take().unwrap_or_default().finalize())
    }

    /// Writes an entry's header; its data is to follow by [`TarWriter::data`], then [`TarWriter::pad`].
    pub fn member(&mut self, member: &Member) -> io::Result<()> {
        let records = records(member);
        if !records.is_empty() {
            let header = header(b"PaxHeaders/entry", b'x', 0o644, (0, 0), records.len() as u64, 0, b"");
            self.data(&header)?;
            self.data(&records)?;
            self.pad()?;
        }
        let name = if member.sparse.is_some() { sparse_name(&member.path) } else { member.path.clone() };
        let mtime = u64::try_from(member.mtime.0).unwrap_or(0);
        let owner = (u64::from(member.uid), u64::from(member.gid));
        let header =
            header(&name, member.kind.letter(), member.mode, owner, member.size, mtime, &member.link);
        self.data(&header)
    }

    /// Writes data of an entry.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Fills up to the next block.
    pub fn pad(&mut self) -> io::Result<()> {
        let over = usize::try_from(self.written % BLOCK as u64).unwrap_or(0);
        if over > 0 { self.data(&[0; BLOCK][over..]) } else { Ok(()) }
    }

    /// A whole entry of our own words.
    pub fn document(&mut self, path: &[u8], text: &[u8]) -> io::Result<()> {
        self.member(&Member::document(path, text.len() as u64))?;
        self.data(text)?;
        self.pad()
    }

    /// Ends the archive and gives back what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.data(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }
}

fn sparse_name(path: &[u8]) -> Vec<u8> {
    let at = path.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    [&path[..at], b"GNUSparseFile.0/", &path[at..]].concat()
}

fn records(member: &Member) -> Vec<u8> {
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

/// Seconds and the nanoseconds after them as one number: -1.5 is written for (-2, 500000000).
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

/// One record: its length, which counts itself, then `key=value`.
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

fn header(
    name: &[u8],
    letter: u8,
    mode: u32,
    owner: (u64, u64),
    size: u64,
    mtime: u64,
    link: &[u8],
) -> [u8; BLOCK] {
    let mut block = [0u8; BLOCK];
    let mut put = |at: usize, length: usize, bytes: &[u8]| {
        let used = bytes.len().min(length);
        block[at..at + used].copy_from_slice(&bytes[..used]);
    };
    let octal = |value: u64, digits: usize, most: u64| format!("{:0digits$o}", value.min(most));
    put(0, 100, name);
    put(100, 8, octal(u64::from(mode & 0o7777), 7, OCTAL_7).as_bytes());
    put(108, 8, octal(owner.0, 7, OCTAL_7).as_bytes());
    put(116, 8, octal(owner.1, 7, OCTAL_7).as_bytes());
    put(124, 12, octal(size, 11, OCTAL_11).as_bytes());
    put(136, 12, octal(mtime, 11, OCTAL_11).as_bytes());
    put(148, 8, b"        ");
    put(156, 1, &[letter]);
    put(157, 100, link);
    put(257, 8, b"ustar\x0000");
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Reads entries, and refuses what the writer would not have written.
pub struct TarReader<R> {
    input: R,
    hash: Option<Sha256>,
    /// The header read last, which is part of the checksum only once it is known to belong there.
    pending: Vec<u8>,
    /// Bytes read of the tar, and of the packed file.
    read: u64,
    packed: PackedCount,
    limits: Limits,
    /// The entry being read, for messages.
    entry: Vec<u8>,
}

/// How many bytes of the packed file have been read, told by whoever reads them.
pub type PackedCount = std::sync::Arc<std::sync::atomic::AtomicU64>;

impl<R: Read> TarReader<R> {
    /// Reads from `input`.
    pub fn new(input: R, packed: PackedCount, limits: Limits) -> Self {
        Self { input, hash: None, pending: Vec::new(), read: 0, packed, limits, entry: Vec::new() }
    }

    /// Begins a checksum, before the entry that [`TarReader::next`] answered last.
    pub fn begin(&mut self) {
        self.hash = Some(Sha256::new());
    }

    /// Lets the entry that [`TarReader::next`] answered last be part of the checksum.
    pub fn accept(&mut self) {
        if let Some(hash) = &mut self.hash {
            hash.update(&self.pending);
        }
    }

    /// Ends the checksum, before the entry that [`TarReader::next`] answered last.
    pub fn end(&mut self) -> String {
        hex::encode(self.hash.take().unwrap_or_default().finalize())
    }

    /// Fills a buffer.
    pub fn data(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.fill(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&*buffer);
        }
        Ok(())
    }

    /// Fills a buffer with what is part of a header.
    fn words(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.fill(buffer)?;
        self.pending.extend_from_slice(buffer);
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.input.read_exact(buffer).map_err(|e| self.failed(e))?;
        self.read += buffer.len() as u64;
        let packed = self.packed.load(std::sync::atomic::Ordering::Relaxed).max(1);
        if self.read > 64 << 20 && self.read / packed > self.limits.ratio {
            let what = format!("{} bytes for each byte of the file", self.read / packed);
            return Err(ArchiveError::TooMuch { what, limit: self.limits.ratio.to_string() });
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> ArchiveError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::damaged(&self.entry, "it ends here"),
            // What zstd says of bytes that it did not write.
            io::ErrorKind::Other | io::ErrorKind::InvalidData => {
                ArchiveError::damaged(&self.entry, error.to_string())
            }
            _ => ArchiveError::Stream { operation: "read", source: error },
        }
    }

    /// Skips what fills the last block of `size` bytes; it must be zeros.
    pub fn skip_padding(&mut self, size: u64) -> Result<(), ArchiveError> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over == 0 {
            return Ok(());
        }
        let mut padding = [0u8; BLOCK];
        self.data(&mut padding[over..])?;
        if padding == [0; BLOCK] {
            Ok(())
        } else {
            Err(ArchiveError::damaged(&self.entry, "its filling is not empty"))
        }
    }

    /// A whole entry, of at most `limit` bytes.
    pub fn document(&mut self, member: &Member, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        if member.kind != Kind::File || member.sparse.is_some() {
            return Err(ArchiveError::hostile(&member.path, "it is not a plain file"));
        }
        if member.size > limit {
            return Err(ArchiveError::hostile(&member.path, format!("it is longer than {limit} bytes")));
        }
        let mut text = vec![0; usize::try_from(member.size).unwrap_or(0)];
        self.data(&mut text)?;
        self.skip_padding(member.size)?;
        Ok(text)
    }

    /// The next entry's metadata, `None` at the end. Its data must have been read.
    pub fn next(&mut self) -> Result<Option<Member>, ArchiveError> {
        self.pending.clear();
        let Some(first) = self.header()? else { return Ok(None) };
        if first[156] != b'x' {
            let member = self.member(&first, Records::default())?;
            return Ok(Some(member));
        }
        let size = number(&first[124..136]).unwrap_or(u64::MAX);
        if size > MAX_RECORDS {
            return Err(ArchiveError::hostile(&self.entry, "the next entry's attributes are too long"));
        }
        let mut text = vec![0; usize::try_from(size).unwrap_or(0)];
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        self.words(&mut text)?;
        text.truncate(usize::try_from(size).unwrap_or(0));
        let records = Records::parse(&text).ok_or_else(|| {
            ArchiveError::damaged(&self.entry, "the next entry's attributes cannot be read")
        })?;
        let Some(second) = self.header()? else {
            return Err(ArchiveError::damaged(&self.entry, "attributes without an entry follow it"));
        };
        self.member(&second, records).map(Some)
    }

    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        let mut block = [0u8; BLOCK];
        self.words(&mut block)?;
        if block == [0; BLOCK] {
            self.words(&mut block)?;
            if block != [0; BLOCK] {
                return Err(ArchiveError::damaged(&self.entry, "its end is followed by more"));
            }
            return Ok(None);
        }
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u64::from(*b) })
            .sum();
        if &block[257..262] != b"ustar" || number(&block[148..156]) != Some(sum) {
            return Err(ArchiveError::damaged(&self.entry, "what follows it is not an entry"));
        }
        Ok(Some(block))
    }

    fn member(&mut self, block: &[u8; BLOCK], records: Records) -> Result<Member, ArchiveError> {
        let sparse = records.sparse()?;
        let name = text(&block[0..100]);
        let path = match (&sparse, records.path) {
            (Some((name, _)), None) => name.clone(),
            (None, Some(path)) => path,
            (None, None) => name.to_vec(),
            (Some(_), Some(path)) => return Err(ArchiveError::hostile(&path, "it has two names")),
        };
        self.entry.clone_from(&path);
        let bad = |what: &str| ArchiveError::damaged(&path, format!("its {what} cannot be read"));
        if block[345] != 0 {
            return Err(bad("name"));
        }
        let kind = match block[156] {
            b'0' | 0 => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'5' => Kind::Folder,
            b'6' => Kind::Fifo,
            b'3' | b'4' => return Err(ArchiveError::hostile(&path, "it is a device")),
            other => {
                let letter = char::from(other).escape_debug();
                return Err(ArchiveError::hostile(
                    &path,
                    format!("no volume has an entry of type `{letter}`"),
                ));
            }
        };
        let size = records.size.or_else(|| number(&block[124..136])).ok_or_else(|| bad("size"))?;
        if kind != Kind::File && (size != 0 || sparse.is_some()) {
            return Err(ArchiveError::hostile(&path, "it has data, and is not a file"));
        }
        let id = |record: Option<u64>, field: &[u8]| {
            let id = record.or_else(|| number(field)).and_then(|id| u32::try_from(id).ok());
            id.filter(|id| *id != u32::MAX).ok_or_else(|| bad("owner"))
        };
        let seconds = number(&block[136..148]).and_then(|s| i64::try_from(s).ok());
        Ok(Member {
            kind,
            link: records.link.unwrap_or_else(|| text(&block[157..257]).to_vec()),
            mode: number(&block[100..108]).and_then(|m| u32::try_from(m).ok()).ok_or_else(|| bad("mode"))?
                & 0o7777,
            uid: id(records.uid, &block[108..116])?,
            gid: id(records.gid, &block[116..124])?,
            mtime: records.mtime.or(seconds.map(|s| (s, 0))).ok_or_else(|| bad("time"))?,
            xattrs: records.xattrs,
            size,
            sparse: sparse.map(|(_, length)| length),
            path,
        })
    }

    /// Reads what is left of the file after the archive's end: only zeros may be there. The unpacker checks its own
    /// checksum on the way.
    pub fn drain(&mut self) -> Result<(), ArchiveError> {
        let mut buffer = [0u8; 4096];
        let mut left = 1 << 20;
        loop {
            let got = self.input.read(&mut buffer).map_err(|e| self.failed(e))?;
            if got == 0 {
                return Ok(());
            }
            left -= got.min(left);
            if left == 0 || buffer[..got].iter().any(|b| *b != 0) {
                return Err(ArchiveError::damaged(&self.entry, "its end is followed by more"));
            }
        }
    }
}

fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

/// An octal number; anything but digits around it is an error.
fn number(field: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(text(field)).ok()?.trim_matches(' ');
    if digits.is_empty() || !digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return None;
    }
    u64::from_str_radix(digits, 8).ok()
}

#[derive(Default)]
struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<Xattr>,
    gnu: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Records {
    /// `None` for anything that the writer does not write, and for a key that is there twice.
    fn parse(mut rest: &[u8]) -> Option<Self> {
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

    fn sparse(&self) -> Result<Option<(Vec<u8>, u64)>, ArchiveError> {
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

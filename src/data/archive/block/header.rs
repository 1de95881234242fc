//! A tar header: one block of fixed fields, with numbers in octal digits.

use super::BLOCK;

/// The largest numbers that eleven and seven octal digits can express.
pub const OCTAL_11: u64 = 0o777_7777_7777;
pub const OCTAL_7: u64 = 0o777_7777;

pub fn header(
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

/// A field's bytes up to the first zero.
pub fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

/// Parses an octal number; `None` if it contains other characters.
pub fn number(field: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(text(field)).ok()?.trim_matches(' ');
    if digits.is_empty() || !digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return None;
    }
    u64::from_str_radix(digits, 8).ok()
}

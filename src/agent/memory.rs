//! Giving back memory that only a burst of work needed: the pages of this program itself.
//!
//! Keeper and gateway wait nearly all of their lives, but every page of code that a start or a destruction touched
//! would count as resident from then on. What is dropped here is the file's own content; it comes back from the page
//! cache when it is needed.

/// Drops this program's own pages of code and constants.
#[cfg(target_os = "linux")]
pub fn give_back() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    let own = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(|line| clean(line, &own)) {
        // SAFETY: a private mapping of a file that was never written to has the file's content again when it is next
        // read; nothing that Rust knows of changes. `clean` selects no others.
        let _ = unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Elsewhere there is no such figure to keep.
#[cfg(not(target_os = "linux"))]
pub fn give_back() {}

/// The range of a mapping of this program's file that cannot have been written to: code, and the constants at the
/// file's beginning. (The constants at its end are relocated by the loader before they are made read-only.)
#[cfg(target_os = "linux")]
fn clean(line: &str, own: &std::path::Path) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, permissions, offset) = (words.next()?, words.next()?, words.next()?);
    let file = words.nth(2)?;
    let at_the_beginning = offset.bytes().all(|digit| digit == b'0');
    let unwritten = permissions == "r-xp" || (permissions == "r--p" && at_the_beginning);
    if !unwritten || std::path::Path::new(file) != own {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_were_never_written_are_given_back() {
        let own = std::path::Path::new("/sandbox");
        let line = |permissions, offset| format!("1000-3000 {permissions} {offset} 00:2b 77 /sandbox");
        assert_eq!(clean(&line("r-xp", "00001000"), own), Some((0x1000, 0x2000)));
        assert_eq!(clean(&line("r--p", "00000000"), own), Some((0x1000, 0x2000)));
        assert_eq!(clean(&line("r--p", "00009000"), own), None);
        assert_eq!(clean(&line("rw-p", "00000000"), own), None);
        assert_eq!(clean("1000-3000 r-xp 00000000 00:2b 77 /lib/libc.so", own), None);
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        give_back();
        assert_eq!(format!("{:?}", [1, 2]), "[1, 2]");
    }
}

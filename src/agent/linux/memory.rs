//! Keeps the resident memory of this program's own code small.
//!
//! Keeper and gateway are idle nearly all the time, but every page of code that a start or a destruction touches stays
//! resident, and the kernel maps sixteen at a time. So before the runtime's thread parks, this module checks how much
//! of the executable is resident, and releases it with `MADV_DONTNEED` if it is more than 3 MiB. The content is that of
//! the file, so it is read again from the page cache when it is needed.

#[cfg(target_os = "linux")]
pub use linux::keep_small;

/// Does nothing on systems other than Linux.
#[cfg(not(target_os = "linux"))]
pub fn keep_small(runtime: &mut tokio::runtime::Builder) -> &mut tokio::runtime::Builder {
    runtime
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use tokio::runtime::Builder;

    /// The most bytes of the program's file that may be resident when the thread parks.
    const MOST: usize = 3 << 20;
    /// The least time between two checks: one takes a microsecond or two.
    const PAUSE: Duration = Duration::from_micros(500);

    /// Makes a single-threaded runtime check its resident memory before it parks.
    pub fn keep_small(runtime: &mut Builder) -> &mut Builder {
        let Some(mut resident) = Resident::of_this_process() else { return runtime };
        resident.look(Instant::now());
        let resident = Mutex::new(resident);
        runtime.on_thread_park(move || {
            // There is only one thread, so the lock is free.
            if let Ok(mut resident) = resident.try_lock() {
                resident.look(Instant::now());
            }
        })
    }

    /// The resident memory of this process's own file.
    struct Resident {
        /// `/proc/self/statm`, kept open.
        statm: File,
        /// The page size, in bytes.
        page: usize,
        /// The address ranges that can be released; they never move.
        ranges: Vec<(usize, usize)>,
        looked: Option<Instant>,
    }

    impl Resident {
        fn of_this_process() -> Option<Self> {
            let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
            let own = std::fs::read_link("/proc/self/exe").ok()?;
            Some(Self {
                statm: File::open("/proc/self/statm").ok()?,
                page: page()?,
                ranges: maps.lines().filter_map(|line| clean(line, &own)).collect(),
                looked: None,
            })
        }

        fn look(&mut self, now: Instant) {
            if self.looked.is_some_and(|then| now.saturating_duration_since(then) < PAUSE) {
                return;
            }
            self.looked = Some(now);
            if self.file_pages().is_some_and(|pages| pages * self.page > MOST) {
                self.relinquish();
            }
        }

        /// Returns the number of resident file pages: the third field (proc(5)).
        fn file_pages(&self) -> Option<usize> {
            let mut line = [0; 128];
            let length = self.statm.read_at(&mut line, 0).ok()?;
            std::str::from_utf8(&line[..length]).ok()?.split_ascii_whitespace().nth(2)?.parse().ok()
        }

        /// Releases this program's own pages of code and constants.
        fn relinquish(&self) {
            for (start, length) in &self.ranges {
                // SAFETY: a private mapping of a file that was never written to has the file's content again when it
                // is next read; nothing that Rust knows of changes. `clean` selects no others.
                let _ = unsafe { libc::madvise(*start as *mut libc::c_void, *length, libc::MADV_DONTNEED) };
            }
        }
    }

    /// Returns the page size, in bytes.
    fn page() -> Option<usize> {
        // SAFETY: it only returns a number.
        usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()
    }

    /// Returns the range of a mapping of this program's file that cannot have been written to: code, and the constants
    /// at the beginning of the file. (The loader relocates those at the end before it makes them read-only.)
    fn clean(line: &str, own: &Path) -> Option<(usize, usize)> {
        let mut words = line.split_ascii_whitespace();
        let (range, permissions, offset) = (words.next()?, words.next()?, words.next()?);
        let file = words.nth(2)?;
        let at_the_beginning = offset.bytes().all(|digit| digit == b'0');
        let unwritten = permissions == "r-xp" || (permissions == "r--p" && at_the_beginning);
        if !unwritten || Path::new(file) != own {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        Some((start, end.checked_sub(start)?))
    }

    #[cfg(test)]
    mod tests {
        use super::super::linux::*;

        #[test]
        fn only_pages_that_were_never_written_are_given_back() {
            let own = Path::new("/sandbox");
            let line = |permissions, offset| format!("1000-3000 {permissions} {offset} 00:2b 77 /sandbox");
            assert_eq!(clean(&line("r-xp", "00001000"), own), Some((0x1000, 0x2000)));
            assert_eq!(clean(&line("r--p", "00000000"), own), Some((0x1000, 0x2000)));
            assert_eq!(clean(&line("r--p", "00009000"), own), None);
            assert_eq!(clean(&line("rw-p", "00000000"), own), None);
            assert_eq!(clean("1000-3000 r-xp 00000000 00:2b 77 /lib/libc.so", own), None);
        }

        #[test]
        fn the_program_goes_on_afterwards_with_less() {
            let resident = Resident::of_this_process().unwrap();
            assert!(!resident.ranges.is_empty());
            let before = resident.file_pages().unwrap();
            resident.relinquish();
            assert!(resident.file_pages().unwrap() < before);
            assert_eq!(format!("{:?}", [1, 2]), "[1, 2]");
        }

        #[test]
        fn a_runtime_that_looks_runs() {
            let mut builder = Builder::new_current_thread();
            let runtime = keep_small(builder.enable_all()).build().unwrap();
            runtime.block_on(async { tokio::time::sleep(PAUSE * 3).await });
        }
    }
}

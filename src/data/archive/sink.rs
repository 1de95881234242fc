//! What a tar is written to.

use std::io::{self, Write};

/// Data of a file that comes next in a tar.
#[derive(Debug, Clone, Copy)]
pub struct Extent<'a> {
    /// The entry's path in the tar.
    pub path: &'a [u8],
    /// The length of the whole file.
    pub file_length: u64,
    /// Where the data begins in the file.
    pub at: u64,
    /// The length of the data.
    pub length: u64,
}

/// A writer that is told which bytes of a tar are data of files. By default it ignores that.
pub trait TarSink: Write {
    /// Announces that the next `extent.length` bytes are data of a file.
    fn extent(&mut self, extent: Extent<'_>) -> io::Result<()> {
        let _ = extent;
        Ok(())
    }
}

impl<W: Write> TarSink for io::BufWriter<W> {}

impl<S: TarSink> TarSink for &mut S {
    fn extent(&mut self, extent: Extent<'_>) -> io::Result<()> {
        (**self).extent(extent)
    }
}

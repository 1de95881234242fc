//! Reads in a separate thread, so that decompression and writing run concurrently.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};

use super::buffer_pool::{BufferPool, PORTION, PooledBuffer};

/// Number of buffered portions.
const AHEAD: usize = 8;

/// A reader that fetches bytes before they are requested. Its thread ends with the input, or when this reader is
/// dropped.
pub struct ReadAhead {
    portions: Receiver<io::Result<PooledBuffer>>,
    current: PooledBuffer,
    /// Number of its bytes already returned.
    at: usize,
}

impl ReadAhead {
    /// Starts the thread.
    pub fn of(mut input: impl Read + Send + 'static) -> Self {
        let (sender, portions) = sync_channel(AHEAD);
        std::thread::spawn(move || {
            let mut buffers = BufferPool::default();
            loop {
                let read = match buffers.fill(PORTION, |buffer| input.read(buffer)) {
                    Ok(portion) if portion.is_empty() => return,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    read => read,
                };
                let failed = read.is_err();
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        });
        Self { portions, current: PooledBuffer::default(), at: 0 }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() && !buffer.is_empty() {
            match self.portions.recv() {
                Ok(portion) => (self.current, self.at) = (portion?, 0),
                // The thread has ended because the input has ended.
                Err(_) => return Ok(0),
            }
        }
        let got = (&self.current[self.at..]).read(buffer)?;
        self.at += got;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn all_of_it_comes_in_order_and_an_error_after_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::ConnectionReset))
            }
        }
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_be_bytes()[2]).collect();
        let mut ahead = ReadAhead::of(Cursor::new(bytes.clone()).chain(Broken));
        let mut read = vec![0; bytes.len()];
        ahead.read_exact(&mut read).unwrap();
        assert!(read == bytes);
        assert_eq!(ahead.read(&mut read).unwrap_err().kind(), io::ErrorKind::ConnectionReset);

        let mut whole = Vec::new();
        ReadAhead::of(Cursor::new(bytes.clone())).read_to_end(&mut whole).unwrap();
        assert!(whole == bytes);
    }
}

//! Reads in a thread of its own, so that unpacking and writing go on side by side.

use std::io::{self, Cursor, Read};
use std::sync::mpsc::{Receiver, sync_channel};

/// Bytes read at once, and how many of these are kept ahead.
const CHUNK: usize = 256 * 1024;
const CHUNKS: usize = 8;

/// A reader whose bytes are read before they are asked for. Its thread ends with the input, or at the first chunk that
/// nobody waits for any more.
pub struct Ahead {
    chunks: Receiver<io::Result<Vec<u8>>>,
    current: Cursor<Vec<u8>>,
}

impl Ahead {
    /// Begins to read.
    pub fn of(mut input: impl Read + Send + 'static) -> Self {
        let (sender, chunks) = sync_channel(CHUNKS);
        std::thread::spawn(move || {
            loop {
                let mut chunk = vec![0; CHUNK];
                let read = match input.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(length) => {
                        chunk.truncate(length);
                        Ok(chunk)
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = read.is_err();
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        });
        Self { chunks, current: Cursor::default() }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let got = self.current.read(buffer)?;
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            match self.chunks.recv() {
                Ok(chunk) => self.current = Cursor::new(chunk?),
                // The thread has ended, and so has the input.
                Err(_) => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
        let mut ahead = Ahead::of(Cursor::new(bytes.clone()).chain(Broken));
        let mut read = vec![0; bytes.len()];
        ahead.read_exact(&mut read).unwrap();
        assert!(read == bytes);
        assert_eq!(ahead.read(&mut read).unwrap_err().kind(), io::ErrorKind::ConnectionReset);

        let mut whole = Vec::new();
        Ahead::of(Cursor::new(bytes.clone())).read_to_end(&mut whole).unwrap();
        assert!(whole == bytes);
    }
}

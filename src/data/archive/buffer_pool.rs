//! Reusable shared buffers: one thread writes a buffer out while another hashes it.

use std::sync::Arc;

/// Number of bytes read at once: small enough to stay in the processor's cache while they are hashed, packed and
/// written.
pub const PORTION: usize = 256 << 10;

/// Bytes that are no longer modified.
pub type PooledBuffer = Arc<Vec<u8>>;

/// A pool of buffers; a buffer is reused when nothing references it any more.
#[derive(Default)]
pub struct BufferPool {
    kept: Vec<PooledBuffer>,
}

impl BufferPool {
    /// Fills a buffer with at most the given number of bytes; `fill` returns how many it wrote.
    pub fn fill<E>(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<PooledBuffer, E> {
        let free = self.kept.iter().position(|portion| Arc::strong_count(portion) == 1);
        let mut portion = free.map(|at| self.kept.swap_remove(at)).unwrap_or_default();
        let buffer = Arc::make_mut(&mut portion);
        buffer.resize(length, 0);
        let filled = fill(buffer);
        if let Ok(filled) = &filled {
            buffer.truncate(*filled);
        }
        self.kept.push(Arc::clone(&portion));
        filled.map(|_| portion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_not_reused_while_it_is_read() {
        let mut portions = BufferPool::default();
        let mut filled = |byte: u8| {
            let fill = |buffer: &mut [u8]| {
                buffer.fill(byte);
                Ok::<_, ()>(3)
            };
            portions.fill(8, fill).unwrap()
        };
        let (first, second) = (filled(1), filled(2));
        assert_eq!((first.as_slice(), second.as_slice()), (&[1; 3][..], &[2; 3][..]));
        let place = first.as_ptr();
        drop(first);
        assert_eq!(filled(3).as_ptr(), place);
        assert_eq!(second.as_slice(), [2; 3]);
    }
}

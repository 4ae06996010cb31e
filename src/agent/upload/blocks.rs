//! Memory for what is on its way to the bucket: blocks of one size, used again and again. An allocator keeps what is freed, on
//! each of its threads, and so takes several times what is in use.

use std::sync::{Arc, Mutex};

/// Bytes of a block.
pub(super) const BLOCK: usize = 1 << 20;

/// Blocks that nobody uses now.
#[derive(Debug)]
pub(super) struct Blocks {
    size: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Default for Blocks {
    fn default() -> Self {
        Self::of(BLOCK)
    }
}

/// A piece of a file. Its memory goes back when the last one that reads it is done.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) content: Vec<u8>,
    home: Arc<Blocks>,
}

impl Blocks {
    /// Blocks of so many bytes.
    pub(super) const fn of(size: usize) -> Self {
        Self { size, free: Mutex::new(Vec::new()) }
    }

    /// Room for so many bytes, at most a block. What needs little of a block has memory of its own.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Block {
        let whole = length > self.size / 4;
        let used = if whole { self.free().pop() } else { None };
        let mut content = used.unwrap_or_else(|| Vec::with_capacity(if whole { self.size } else { length }));
        content.resize(length, 0);
        Block { content, home: Arc::clone(self) }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        // Nothing panics while it is held.
        self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Bytes of memory that a file's content takes in blocks of [`BLOCK`].
pub(super) fn footprint(bytes: u64) -> u64 {
    let (block, rest) = (BLOCK as u64, bytes % BLOCK as u64);
    bytes - rest + if rest > block / 4 { block } else { rest }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.content.capacity() == self.home.size {
            self.home.free().push(std::mem::take(&mut self.content));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_used_again() {
        let blocks = Arc::<Blocks>::default();
        let first = blocks.take(BLOCK);
        let place = first.as_ref().as_ptr();
        drop((first, blocks.take(10)));
        assert_eq!(blocks.free().len(), 1);
        let again = blocks.take(BLOCK / 2);
        assert_eq!((again.as_ref().as_ptr(), again.as_ref().len()), (place, BLOCK / 2));
    }

    #[test]
    fn memory_is_counted_as_it_is_taken() {
        let (block, blocks) = (BLOCK as u64, Arc::<Blocks>::default());
        for length in [0, 1, block / 4, block / 4 + 1, block - 1, block] {
            let taken = blocks.take(length as usize).content.capacity() as u64;
            assert_eq!(footprint(length), taken, "{length}");
            assert_eq!(footprint(7 * block + length), 7 * block + taken, "{length}");
        }
    }
}

//! Memory for what is on its way to the bucket: blocks of one size, used again and again. An allocator keeps what is freed, on
//! each of its threads, and so takes several times what is in use.

use std::sync::{Arc, Mutex};

/// Bytes of a block.
pub(super) const BLOCK: usize = 1 << 20;

/// Blocks that nobody uses now.
#[derive(Debug, Default)]
pub(super) struct Blocks(Mutex<Vec<Vec<u8>>>);

/// A piece of a file. Its memory goes back when the last one that reads it is done.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) content: Vec<u8>,
    home: Arc<Blocks>,
}

impl Blocks {
    /// Room for so many bytes, at most [`BLOCK`]. What needs little of a block has memory of its own.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Block {
        let used = if length > BLOCK / 4 { self.free().pop() } else { None };
        let mut content = used.unwrap_or_else(|| Vec::with_capacity(if length > BLOCK / 4 { BLOCK } else { length }));
        content.resize(length, 0);
        Block { content, home: Arc::clone(self) }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.content.capacity() == BLOCK {
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
}

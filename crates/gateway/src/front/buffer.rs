//! Buffers of long bodies, kept by each thread for the next one: fresh memory costs a page fault for every 4 KB, which for a
//! prompt of 64 KB was a third of all the work.

use std::cell::RefCell;

/// Bodies below take what the allocator has at hand.
const LONG_BYTES: usize = 24 << 10;
/// Larger ones are rare, and keeping them would cost more than it saves.
const KEPT_BYTES_MAX: usize = 128 << 10;
/// So a thread keeps 4 MiB at most.
const KEPT_MAX: usize = 32;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes whose memory goes back to the thread that drops them.
pub(super) struct Buffer(pub(super) Vec<u8>);

impl Buffer {
    /// An empty one with room for `length` bytes.
    pub(super) fn new(length: usize) -> Self {
        let kept = KEPT.with_borrow_mut(|kept| {
            let place = kept.iter().rposition(|bytes| bytes.capacity() >= length)?;
            Some(kept.swap_remove(place))
        });
        let room = length.checked_next_power_of_two().filter(|room| *room <= KEPT_BYTES_MAX).unwrap_or(length);
        Self(kept.unwrap_or_else(|| Vec::with_capacity(room)))
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        if !(LONG_BYTES..=KEPT_BYTES_MAX).contains(&bytes.capacity()) {
            return;
        }
        bytes.clear();
        // A thread that ends keeps nothing.
        let _ended = KEPT.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut()
                && kept.len() < KEPT_MAX
            {
                kept.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_what_is_kept_has_a_bound() {
        let mut first = Buffer::new(60_000);
        first.0.extend_from_slice(b"secret");
        let place = first.0.as_ptr();
        drop(first);
        let again = Buffer::new(65_536);
        assert_eq!((again.0.as_ptr(), again.0.len()), (place, 0));
        assert!(Buffer::new(65_537).0.capacity() >= 65_537);
        drop((0..100).map(|_| Buffer::new(30_000)).collect::<Vec<_>>());
        drop(Buffer::new(1 << 20));
        KEPT.with_borrow(|kept| {
            assert_eq!(kept.len(), KEPT_MAX);
            assert!(kept.iter().all(|bytes| bytes.capacity() <= KEPT_BYTES_MAX));
        });
    }
}

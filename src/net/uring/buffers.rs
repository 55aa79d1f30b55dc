//! A provided buffer ring (io_uring_register_buf_ring(3)): the kernel takes buffers from it for
//! multishot receives, we give them back.
//!
//! The ring's memory must start at a page; its tail lives in the reserved field of entry 0 and is
//! published with release order.

#![expect(unsafe_code, reason = "memory shared with the kernel")]

use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Buffers of equal size, each either with the kernel or with us.
pub struct BufferRing {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    mask: u16,
    tail: u16,
    memory: Box<[u8]>,
    size: usize,
}

impl std::fmt::Debug for BufferRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BufferRing({} × {} bytes)", u32::from(self.mask) + 1, self.size)
    }
}

const PAGE: usize = 4096;

impl BufferRing {
    /// `count` buffers (a power of two, at most 32768) of `size` bytes, all of them ready to be provided.
    ///
    /// # Errors
    /// `InvalidInput` when `count` is not such a number.
    pub fn new(count: u16, size: usize) -> io::Result<BufferRing> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        if !count.is_power_of_two() {
            return Err(invalid());
        }
        let layout = Layout::array::<BufRingEntry>(usize::from(count))
            .and_then(|layout| layout.align_to(PAGE))
            .map_err(|_| invalid())?;
        // SAFETY: alloc_zeroed wants a layout of non-zero size; count ≥ 1.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(entries) = NonNull::new(memory.cast::<BufRingEntry>()) else { handle_alloc_error(layout) };
        let mut ring = BufferRing {
            entries,
            layout,
            mask: count - 1,
            tail: 0,
            memory: vec![0; usize::from(count) * size].into_boxed_slice(),
            size,
        };
        for id in 0..count {
            ring.give_back(id);
        }
        ring.publish();
        Ok(ring)
    }

    /// Address of the ring for `register_buf_ring`.
    pub fn address(&self) -> u64 {
        self.entries.as_ptr() as u64
    }

    /// Number of buffers.
    pub fn count(&self) -> u16 {
        self.mask + 1
    }

    /// The buffer the kernel filled and named in a completion; `None` for a name that is not ours.
    pub fn get(&self, id: u16) -> Option<&[u8]> {
        let start = usize::from(id) * self.size;
        self.memory.get(start..start + self.size)
    }

    /// Puts a buffer at the tail; the kernel sees it after [`BufferRing::publish`].
    pub fn give_back(&mut self, id: u16) {
        let start = usize::from(id) * self.size;
        let address = self.memory[start..start + self.size].as_mut_ptr() as u64;
        let position = usize::from(self.tail & self.mask);
        // SAFETY: position ≤ mask, and `entries` points to mask + 1 entries of ours.
        let entry = unsafe { self.entries.add(position) };
        // SAFETY: the kernel does not read entries at or past the published tail, so nobody else
        // touches this one; the fields are written one by one because entry 0 also holds the tail.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(address);
        entry.set_len(self.size as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel all buffers given back so far.
    pub fn publish(&mut self) {
        // SAFETY: `entries` is the base of a ring laid out as the kernel's `io_uring_buf_ring`.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail is a u16 of that memory, aligned to 2, and lives as long as `self`; both
        // sides access it atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout. The owner unregisters the ring first.
        unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_do_not_overlap_and_foreign_names_are_refused() {
        let ring = BufferRing::new(4, 32).expect("a power of two");
        let a = ring.get(0).expect("ours").as_ptr() as usize;
        let b = ring.get(1).expect("ours").as_ptr() as usize;
        assert_eq!(b - a, 32);
        assert!(ring.get(4).is_none());
        assert!(BufferRing::new(3, 32).is_err());
    }
}

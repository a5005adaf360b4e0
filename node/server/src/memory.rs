//! The process's allocator, and how much it has given out.
//!
//! [`Counting`] hands everything on to the system's allocator and counts what is in use, rounded up to what the allocator really sets aside: this is,
//! with what entries take of the engine's own pages, `used_memory`, and what `maxmemory` is compared with. Each thread counts for itself and adds to the common figure in steps, so
//! that counting touches no cache line of another thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

/// The allocator of the programs: install it with `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

/// What a thread has not yet added to [`USED`] is below this: with a few threads far below a thousandth.
const STEP: usize = 64 * 1024;

static USED: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static PENDING: Cell<isize> = const { Cell::new(0) };
}

#[inline]
fn count(bytes: isize) {
    // A thread that is ending has no cell any more; what it frees then is little.
    let _ = PENDING.try_with(|pending| {
        let sum = pending.get() + bytes;
        if sum.unsigned_abs() < STEP {
            pending.set(sum);
        } else {
            pending.set(0);
            USED.fetch_add(sum, Ordering::Relaxed);
        }
    });
}

/// What a request for so many bytes really takes of glibc: 8 bytes more, in steps of 16, 32 at least; above 128 KiB whole pages.
#[inline]
fn taken(layout: Layout) -> isize {
    let size = layout.size() + 8;
    if size <= 128 << 10 {
        size.next_multiple_of(16).max(32) as isize
    } else {
        size.next_multiple_of(4096) as isize
    }
}

// SAFETY: everything is handed on unchanged to an allocator that keeps the contract; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { System.alloc(layout) };
        if !memory.is_null() {
            count(taken(layout));
        }
        memory
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if !memory.is_null() {
            count(taken(layout));
        }
        memory
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) };
        count(-taken(layout));
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises; a layout of the new size is valid then.
        let (moved, new) = unsafe {
            (
                System.realloc(memory, layout, size),
                Layout::from_size_align_unchecked(size, layout.align()),
            )
        };
        if !moved.is_null() {
            count(taken(new) - taken(layout));
        }
        moved
    }
}

/// Bytes in use, to within 64 KiB a thread. 0 in programs without [`Counting`].
#[inline]
pub fn used() -> usize {
    let _ = PENDING.try_with(|pending| {
        let bytes = pending.replace(0);
        if bytes != 0 {
            USED.fetch_add(bytes, Ordering::Relaxed);
        }
    });
    usize::try_from(USED.load(Ordering::Relaxed)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_close() {
        for size in 1..300_000usize {
            let layout = Layout::from_size_align(size, 8).expect("a layout");
            let taken = taken(layout) as usize;
            assert!(taken >= size + 8, "{size}");
            assert!(
                size < 24 || taken - size <= 24 || size > 100_000,
                "{size}: {taken}"
            );
        }
    }
}

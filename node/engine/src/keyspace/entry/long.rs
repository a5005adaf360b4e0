//! Strings that are too long to lie in an entry, as they lie in its payload: one's own allocation, and one that replies or whoever sent it may hold, too.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::STR_BYTES_MAX;

/// A string's allocation, as it lies in the payload.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct Heap {
    pub(super) bytes: *mut u8,
    pub(super) len: u32,
    pub(super) cap: u32,
}

pub(super) const HEAP: usize = size_of::<Heap>();
const _: () = assert!(HEAP == 16);

impl Heap {
    pub(super) fn new(bytes: Vec<u8>) -> Heap {
        let mut bytes = ManuallyDrop::new(bytes);
        assert!(
            bytes.len() <= STR_BYTES_MAX,
            "a string of {} bytes",
            bytes.len()
        );
        if bytes.capacity() > u32::MAX as usize {
            bytes.shrink_to_fit();
        }
        Heap {
            bytes: bytes.as_mut_ptr(),
            len: bytes.len() as u32,
            cap: bytes.capacity() as u32,
        }
    }

    /// # Safety
    /// Once for each `new`.
    pub(super) unsafe fn into_vec(self) -> Vec<u8> {
        // SAFETY: taken apart by `new`.
        unsafe { Vec::from_raw_parts(self.bytes, self.len as usize, self.cap as usize) }
    }
}

/// A string that replies may hold, too, as it lies in the payload: as long as [`Heap`].
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct Shared {
    pub(super) text: *const Vec<u8>,
    unused: u64,
}
const _: () = assert!(size_of::<Shared>() == HEAP);

/// What the counters and the `Vec` of a shared string take beside its bytes.
pub(super) const SHARED_BYTES: usize = 48;

impl Shared {
    pub(super) fn new(text: Arc<Vec<u8>>) -> Shared {
        assert!(
            text.len() <= STR_BYTES_MAX,
            "a string of {} bytes",
            text.len()
        );
        Shared {
            text: Arc::into_raw(text),
            unused: 0,
        }
    }

    /// # Safety
    /// Once for each `new`.
    pub(super) unsafe fn into_arc(self) -> Arc<Vec<u8>> {
        // SAFETY: taken apart by `new`.
        unsafe { Arc::from_raw(self.text) }
    }

    /// # Safety
    /// Only as long as the entry whose payload this is.
    pub(super) unsafe fn text<'a>(self) -> &'a Vec<u8> {
        // SAFETY: the entry owns one of the references that keep it.
        unsafe { &*self.text }
    }
}

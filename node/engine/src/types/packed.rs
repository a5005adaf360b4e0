//! A run of bytes and a box that need no alignment, so that small values lie in an entry of the keyspace as they are.
//!
//! ```text
//!  PackedBytes   pointer (8) │ length (4) │ capacity (4)        PackedBox   pointer (8)
//! ```
//!
//! A collection's value is an enum of these two. It takes 16 or 17 bytes of its key's entry, and its content one allocation; there is nothing
//! between them.
//!
//! # Soundness
//! [`PackedBytes`] is a `Vec` taken apart: it is put together again from the very parts, once, to be changed or dropped. [`PackedBox`] is a `Box`
//! in the same way. Fields of packed structures are only copied, never borrowed.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// What an allocator keeps beside each block.
const BLOCK_HEAD: usize = 8;
/// The least that it gives.
const BLOCK_MIN: usize = 32;

/// Bytes that a block for so many bytes takes of the process's memory: glibc's rule.
pub(crate) fn block_bytes(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        _ => (bytes + BLOCK_HEAD).next_multiple_of(16).max(BLOCK_MIN),
    }
}

/// The room that is asked for when so many bytes are to be kept: what the allocator would give anyway, and up to a 32nd more, so that growing
/// element by element does not copy all of a long run each time.
fn room(bytes: usize) -> usize {
    let whole = bytes + BLOCK_HEAD;
    let step = (whole.next_power_of_two() / 32).max(16);
    whole.next_multiple_of(step).max(BLOCK_MIN) - BLOCK_HEAD
}

/// See the module's documentation. At most 4 GiB.
#[repr(C, packed)]
pub(crate) struct PackedBytes {
    at: NonNull<u8>,
    len: u32,
    cap: u32,
}

// SAFETY: it owns its bytes, as a `Vec` does.
unsafe impl Send for PackedBytes {}
// SAFETY: as above.
unsafe impl Sync for PackedBytes {}

impl PackedBytes {
    fn new(bytes: Vec<u8>) -> Self {
        let mut bytes = ManuallyDrop::new(bytes);
        let (Ok(len), Ok(cap)) = (u32::try_from(bytes.len()), u32::try_from(bytes.capacity()))
        else {
            panic!("{} bytes in one small value", bytes.capacity());
        };
        PackedBytes {
            // SAFETY: the pointer of a `Vec` is never null.
            at: unsafe { NonNull::new_unchecked(bytes.as_mut_ptr()) },
            len,
            cap,
        }
    }

    /// # Safety
    /// Once, and the bytes are not used in this form any more.
    unsafe fn to_vec_again(&self) -> Vec<u8> {
        let (at, len, cap) = (self.at, self.len, self.cap);
        // SAFETY: taken apart by `new`.
        unsafe { Vec::from_raw_parts(at.as_ptr(), len as usize, cap as usize) }
    }

    fn into_vec(self) -> Vec<u8> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is consumed, and not dropped.
        unsafe { this.to_vec_again() }
    }

    /// Changes the bytes as a `Vec`.
    #[inline]
    fn edit(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::mem::take(self).into_vec();
        change(&mut bytes);
        *self = PackedBytes::new(bytes);
    }

    /// Puts these parts in the place of the `removed` bytes from `at` on.
    ///
    /// # Panics
    /// When there are no such bytes.
    #[inline]
    pub fn splice(&mut self, at: usize, removed: usize, parts: &[&[u8]]) {
        let added: usize = parts.iter().map(|p| p.len()).sum();
        self.edit(|bytes| {
            let old = bytes.len();
            assert!(at + removed <= old, "{at} + {removed} of {old} bytes");
            let new = old - removed + added;
            if new > bytes.capacity() {
                bytes.reserve_exact(room(new) - old);
            }
            if new > old {
                bytes.resize(new, 0);
            }
            bytes.copy_within(at + removed..old, at + added);
            let mut to = at;
            for part in parts {
                bytes[to..to + part.len()].copy_from_slice(part);
                to += part.len();
            }
            bytes.truncate(new);
            // So that what grows and shrinks by turns is not moved each time.
            if bytes.capacity() > new + new / 8 + 64 {
                bytes.shrink_to(room(new));
            }
        });
    }

    /// Gives back memory that was kept for growth.
    pub fn shrink_to_fit(&mut self) {
        if self.cap as usize > room(self.len()) {
            self.edit(|bytes| bytes.shrink_to(room(bytes.len())));
        }
    }

    /// Bytes of the process's memory.
    pub fn memory(&self) -> usize {
        block_bytes(self.cap as usize)
    }
}

impl From<Vec<u8>> for PackedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let mut packed = PackedBytes::new(bytes);
        packed.shrink_to_fit();
        packed
    }
}

impl Default for PackedBytes {
    fn default() -> Self {
        PackedBytes::new(Vec::new())
    }
}

impl Drop for PackedBytes {
    fn drop(&mut self) {
        // SAFETY: nobody uses the bytes after this.
        drop(unsafe { self.to_vec_again() });
    }
}

impl Deref for PackedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let (at, len) = (self.at, self.len);
        // SAFETY: as a `Vec` would say; the borrow of `self` covers it.
        unsafe { std::slice::from_raw_parts(at.as_ptr(), len as usize) }
    }
}

impl DerefMut for PackedBytes {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let (at, len) = (self.at, self.len);
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), len as usize) }
    }
}

impl Clone for PackedBytes {
    fn clone(&self) -> Self {
        let mut bytes = Vec::with_capacity(room(self.len()));
        bytes.extend_from_slice(self);
        PackedBytes::new(bytes)
    }
}

impl PartialEq for PackedBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for PackedBytes {}

impl fmt::Debug for PackedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A box that needs no alignment.
#[repr(C, packed)]
pub struct PackedBox<T>(NonNull<T>);

// SAFETY: it owns what it points to, as a `Box` does.
unsafe impl<T: Send> Send for PackedBox<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for PackedBox<T> {}

impl<T> PackedBox<T> {
    /// Boxes a value.
    pub fn new(value: T) -> Self {
        let leaked = ManuallyDrop::new(Box::new(value));
        PackedBox(NonNull::from(&**leaked))
    }
}

impl<T> Drop for PackedBox<T> {
    fn drop(&mut self) {
        let at = self.0;
        // SAFETY: from a `Box`, and nobody uses it after this.
        drop(unsafe { Box::from_raw(at.as_ptr()) });
    }
}

impl<T> Deref for PackedBox<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        let at = self.0;
        // SAFETY: the box is ours; the borrow of `self` covers it.
        unsafe { &*at.as_ptr() }
    }
}

impl<T> DerefMut for PackedBox<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        let at = self.0;
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { &mut *at.as_ptr() }
    }
}

impl<T: Default> Default for PackedBox<T> {
    fn default() -> Self {
        PackedBox::new(T::default())
    }
}

impl<T: Clone> Clone for PackedBox<T> {
    fn clone(&self) -> Self {
        PackedBox::new((**self).clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for PackedBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn neither_needs_alignment() {
        assert_eq!(
            (size_of::<PackedBytes>(), align_of::<PackedBytes>()),
            (16, 1)
        );
        assert_eq!(
            (size_of::<PackedBox<u64>>(), align_of::<PackedBox<u64>>()),
            (8, 1)
        );
        // At any address: a byte in front of each.
        let all: Vec<(u8, PackedBytes, PackedBox<u64>)> = (0..4)
            .map(|n| (n, PackedBytes::from(vec![n]), PackedBox::new(u64::from(n))))
            .collect();
        assert!(
            all.clone()
                .iter()
                .all(|(n, bytes, number)| { **bytes == [*n] && **number == u64::from(*n) })
        );
    }

    #[test]
    fn splices_as_a_vector_does() {
        let mut rng = Rng::new(8);
        let (mut bytes, mut model) = (PackedBytes::default(), Vec::new());
        for step in 0..20_000 {
            let at = rng.index(model.len() + 1);
            let removed = rng.index(model.len() - at + 1).min(rng.index(60));
            let (a, b) = (vec![step as u8; rng.index(40)], vec![1; rng.index(3)]);
            let grow = step / 2_000 % 2 == 0 || model.len() < 100;
            let parts: [&[u8]; 2] = if grow { [&a, &b] } else { [&[], &b] };
            bytes.splice(at, removed, &parts);
            model.splice(at..at + removed, parts.concat());
            assert_eq!(*bytes, *model);
            let cap = bytes.cap as usize;
            assert!(cap >= model.len() && cap <= model.len() * 9 / 8 + 80);
            if step % 100 == 0 {
                bytes.shrink_to_fit();
                assert_eq!(*bytes.clone(), *model);
                assert!(bytes.memory() <= model.len() * 33 / 32 + 40);
            }
        }
    }
}

//! A key with its value and what is known about both, in one allocation.
//!
//! ```text
//!  0       8       16        20       24        28    32
//!  ┌───────┬───────┬─────────┬────────┬─────────┬─────┬───────────┬─────────────────────┐
//!  │expire │ word  │ version │ meta   │ key_len │ cap │ key bytes │ string bytes (≤cap) │
//!  └───────┴───────┴─────────┴────────┴─────────┴─────┴───────────┴─────────────────────┘
//!  expire   Unix time in ms, u64::MAX: never
//!  word     by kind: an integer's value · a string's length · the pointer to a boxed value
//!  version  number of the last snapshot that has seen this value (keyspace-wide counter)
//!  meta     kind (high 8 bits), time of the last access in seconds (low 24 bits)
//!  cap      bytes of room for a string behind the key, whatever the kind
//! ```
//!
//! Reading a string thus takes one cache miss for the bucket and one here. Overwriting a string with one that fits takes no
//! allocation. Integers live in `word`.
//!
//! # Soundness
//! An [`Entry`] owns its allocation, made by [`Entry::allocate`] with the layout that [`layout`] gives for its `key_len` and
//! `cap`; both change only together with a reallocation. `word` is a pointer from `Box::into_raw` exactly while the kind says so, and the
//! box is taken back exactly once: by [`Entry::drop_value`]. Key bytes are initialized at creation, the first `word` string bytes
//! whenever the kind is [`KIND_STR`] or [`KIND_RAW`].

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::fmt;
use std::ptr::{self, NonNull};

use crate::types::{HashValue, ListValue, SetValue, ZsetValue};
use crate::value::{StrRef, StrValue, Value, ValueMut, ValueRef};

/// No expiry.
pub(crate) const NEVER: u64 = u64::MAX;

/// The longest string (and key) that an entry holds.
pub(crate) const STR_BYTES_MAX: usize = (u32::MAX - 64) as usize;

/// Collections of up to so many elements are freed where they are removed: some 10 µs.
const FREE_AT_ONCE: usize = 256;

const KIND_STR: u8 = 0;
/// A string that has been changed in place: the same, but for what `OBJECT ENCODING` says of it.
const KIND_RAW: u8 = 1;
const KIND_INT: u8 = 2;
/// From here on values live in boxes.
const KIND_LIST: u8 = 3;
const KIND_SET: u8 = 4;
const KIND_ZSET: u8 = 5;
const KIND_HASH: u8 = 6;

const ACCESS_MASK: u32 = 0x00ff_ffff;

#[repr(C)]
struct Header {
    expire_at_ms: u64,
    word: *mut (),
    version: u32,
    meta: u32,
    key_len: u32,
    cap: u32,
}

const HEADER_BYTES: usize = size_of::<Header>();
const _: () = assert!(HEADER_BYTES == 32 && size_of::<usize>() == 8 && align_of::<Header>() == 8);

fn layout(key_len: u32, cap: u32) -> Layout {
    let size = HEADER_BYTES + key_len as usize + cap as usize;
    // Cannot fail: two lengths below 4 GiB are far below isize::MAX.
    match Layout::from_size_align(size, align_of::<Header>()) {
        Ok(layout) => layout,
        Err(_) => unreachable!("entry of {size} bytes"),
    }
}

/// Rounded up so that header and all fill what allocators hand out anyway.
fn room_for(key_len: usize, str_len: usize) -> u32 {
    let total = (HEADER_BYTES + key_len + str_len).next_multiple_of(8);
    (total - HEADER_BYTES - key_len).min(u32::MAX as usize) as u32
}

/// See the module's documentation.
#[repr(transparent)]
pub(crate) struct Entry {
    header: NonNull<Header>,
}

// SAFETY: an entry owns everything it points to, and all of that is Send and Sync (asserted below).
unsafe impl Send for Entry {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Entry {}

const fn assert_send_sync<T: Send + Sync>() {}
const _: () = {
    assert_send_sync::<ListValue>();
    assert_send_sync::<SetValue>();
    assert_send_sync::<ZsetValue>();
    assert_send_sync::<HashValue>();
};

impl Entry {
    fn allocate(key: &[u8], cap: u32, version: u32) -> Entry {
        assert!(key.len() <= STR_BYTES_MAX, "a key of {} bytes", key.len());
        let key_len = key.len() as u32;
        let layout = layout(key_len, cap);
        // SAFETY: the layout is not of size zero; the header is written before anything reads it; the key's
        // bytes lie within the allocation, behind the header.
        unsafe {
            let Some(header) = NonNull::new(alloc(layout).cast::<Header>()) else {
                handle_alloc_error(layout)
            };
            header.write(Header {
                expire_at_ms: NEVER,
                word: ptr::without_provenance_mut(0),
                version,
                meta: u32::from(KIND_INT) << 24,
                key_len,
                cap,
            });
            let data = header.cast::<u8>().add(HEADER_BYTES);
            ptr::copy_nonoverlapping(key.as_ptr(), data.as_ptr(), key.len());
            Entry { header }
        }
    }

    /// An entry with a string of these bytes.
    pub fn new_str(key: &[u8], bytes: &[u8], version: u32) -> Entry {
        let mut entry = Entry::allocate(key, room_for(key.len(), bytes.len()), version);
        entry.write_str(bytes);
        entry
    }

    /// An entry with an integer.
    pub fn new_int(key: &[u8], value: i64, version: u32) -> Entry {
        let mut entry = Entry::allocate(key, room_for(key.len(), 0), version);
        entry.set_int(value);
        entry
    }

    /// An entry with any value.
    pub fn new(key: &[u8], value: Value, version: u32) -> Entry {
        match value {
            Value::Str(StrValue::Bytes(bytes)) => Entry::new_str(key, &bytes, version),
            value => {
                let mut entry = Entry::new_int(key, 0, version);
                entry.set_value(value);
                entry
            }
        }
    }

    #[inline]
    fn head(&self) -> &Header {
        // SAFETY: the entry owns an initialized header.
        unsafe { self.header.as_ref() }
    }

    #[inline]
    fn head_mut(&mut self) -> &mut Header {
        // SAFETY: as in `head`, and we are borrowed exclusively.
        unsafe { self.header.as_mut() }
    }

    #[inline]
    fn data(&self) -> *mut u8 {
        // SAFETY: the header is followed by the key within the same allocation.
        unsafe { self.header.cast::<u8>().add(HEADER_BYTES).as_ptr() }
    }

    #[inline]
    fn kind(&self) -> u8 {
        (self.head().meta >> 24) as u8
    }

    fn set_kind(&mut self, kind: u8) {
        let head = self.head_mut();
        head.meta = head.meta & ACCESS_MASK | u32::from(kind) << 24;
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        // SAFETY: `key_len` initialized bytes follow the header.
        unsafe { std::slice::from_raw_parts(self.data(), self.head().key_len as usize) }
    }

    /// When the key expires, in Unix milliseconds; [`NEVER`].
    #[inline]
    pub fn expire_at_ms(&self) -> u64 {
        self.head().expire_at_ms
    }

    /// As above, as an option.
    pub fn expiry(&self) -> Option<u64> {
        Some(self.expire_at_ms()).filter(|at| *at != NEVER)
    }

    /// Only through the database, which keeps the index of expiries.
    pub(super) fn set_expire_at_ms(&mut self, at: u64) {
        self.head_mut().expire_at_ms = at;
    }

    /// See the module's documentation.
    #[inline]
    pub fn version(&self) -> u32 {
        self.head().version
    }

    #[inline]
    pub fn set_version(&mut self, version: u32) {
        self.head_mut().version = version;
    }

    /// Notes an access.
    #[inline]
    pub fn touch(&mut self, now_ms: u64) {
        let head = self.head_mut();
        head.meta = head.meta & !ACCESS_MASK | (now_ms / 1000) as u32 & ACCESS_MASK;
    }

    /// Seconds since the last access; right for up to half a year.
    pub fn idle_s(&self, now_ms: u64) -> u32 {
        ((now_ms / 1000) as u32).wrapping_sub(self.head().meta) & ACCESS_MASK
    }

    #[inline]
    fn str_bytes(&self) -> &[u8] {
        let head = self.head();
        // SAFETY: only called for strings: `word` initialized bytes follow the key.
        unsafe {
            std::slice::from_raw_parts(self.data().add(head.key_len as usize), head.word.addr())
        }
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> ValueRef<'_> {
        let word = self.head().word;
        // SAFETY: the kind says what `word` points to.
        unsafe {
            match self.kind() {
                KIND_STR | KIND_RAW => ValueRef::Str(StrRef::Bytes(self.str_bytes())),
                KIND_INT => ValueRef::Str(StrRef::Int(word.addr() as i64)),
                KIND_LIST => ValueRef::List(&*word.cast()),
                KIND_SET => ValueRef::Set(&*word.cast()),
                KIND_ZSET => ValueRef::Zset(&*word.cast()),
                KIND_HASH => ValueRef::Hash(&*word.cast()),
                kind => unreachable!("entry of kind {kind}"),
            }
        }
    }

    /// `OBJECT ENCODING`.
    pub fn encoding(&self) -> &'static str {
        if self.kind() == KIND_RAW {
            "raw"
        } else {
            self.value().encoding()
        }
    }

    /// The value, to change in place.
    pub fn value_mut(&mut self) -> ValueMut<'_> {
        let word = self.head().word;
        // SAFETY: the kind says what `word` points to, and we are borrowed exclusively.
        unsafe {
            match self.kind() {
                KIND_LIST => ValueMut::List(&mut *word.cast()),
                KIND_SET => ValueMut::Set(&mut *word.cast()),
                KIND_ZSET => ValueMut::Zset(&mut *word.cast()),
                KIND_HASH => ValueMut::Hash(&mut *word.cast()),
                _ => ValueMut::Str,
            }
        }
    }

    /// The string, if it is one.
    #[inline]
    pub fn as_str(&self) -> Option<StrRef<'_>> {
        match self.value() {
            ValueRef::Str(s) => Some(s),
            _ => None,
        }
    }

    /// Frees what `word` points to; the entry becomes the integer 0.
    fn drop_value(&mut self) {
        let (kind, word) = (self.kind(), self.head().word);
        self.head_mut().word = ptr::without_provenance_mut(0);
        self.set_kind(KIND_INT);
        // SAFETY: the pointer came from `Box::into_raw` of this kind and has just been forgotten.
        unsafe {
            match kind {
                KIND_LIST => drop(Box::from_raw(word.cast::<ListValue>())),
                KIND_SET => drop(Box::from_raw(word.cast::<SetValue>())),
                KIND_ZSET => drop(Box::from_raw(word.cast::<ZsetValue>())),
                KIND_HASH => drop(Box::from_raw(word.cast::<HashValue>())),
                _ => {}
            }
        }
    }

    /// Takes the value out, leaving the integer 0.
    pub fn take_value(&mut self) -> Value {
        let (kind, word) = (self.kind(), self.head().word);
        let value = match kind {
            KIND_STR | KIND_RAW => Value::Str(StrValue::Bytes(self.str_bytes().to_vec())),
            KIND_INT => Value::Str(StrValue::Int(word.addr() as i64)),
            // SAFETY: the pointer came from `Box::into_raw` of this kind and is forgotten below.
            KIND_LIST => Value::List(unsafe { Box::from_raw(word.cast()) }),
            // SAFETY: as above.
            KIND_SET => Value::Set(unsafe { Box::from_raw(word.cast()) }),
            // SAFETY: as above.
            KIND_ZSET => Value::Zset(unsafe { Box::from_raw(word.cast()) }),
            // SAFETY: as above.
            KIND_HASH => Value::Hash(unsafe { Box::from_raw(word.cast()) }),
            kind => unreachable!("entry of kind {kind}"),
        };
        self.head_mut().word = ptr::without_provenance_mut(0);
        self.set_kind(KIND_INT);
        value
    }

    /// Takes the value out if it is one whose freeing would take long, leaving the integer 0.
    #[inline]
    pub fn take_if_large(&mut self) -> Option<Value> {
        (self.kind() > KIND_INT && self.value().elements() > FREE_AT_ONCE)
            .then(|| self.take_value())
    }

    /// Makes the value an integer.
    pub fn set_int(&mut self, value: i64) {
        if self.kind() > KIND_INT {
            self.drop_value();
        }
        self.set_kind(KIND_INT);
        self.head_mut().word = ptr::without_provenance_mut(value as usize);
    }

    /// Makes the value a string of these bytes.
    #[inline]
    pub fn set_str(&mut self, bytes: &[u8]) {
        if self.kind() > KIND_INT {
            self.drop_value();
        }
        let cap = self.head().cap as usize;
        // Keep the room unless it is too small, or far too large.
        if bytes.len() > cap || cap > 64 + bytes.len() * 2 {
            // What was there need not be kept: shrink the string first, so that less is copied.
            self.head_mut().word = ptr::without_provenance_mut(0);
            self.set_kind(KIND_STR);
            self.resize(room_for(self.head().key_len as usize, bytes.len()));
        }
        self.write_str(bytes);
    }

    /// Writes a string that fits.
    #[inline]
    fn write_str(&mut self, bytes: &[u8]) {
        let head = self.head();
        assert!(bytes.len() <= head.cap as usize, "string beyond its room");
        // SAFETY: `cap` bytes follow the key, and `bytes` cannot overlap them, since we are borrowed exclusively.
        unsafe {
            let at = self.data().add(head.key_len as usize);
            ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len());
        }
        self.head_mut().word = ptr::without_provenance_mut(bytes.len());
        self.set_kind(KIND_STR);
    }

    /// The string as bytes to change in place, grown with zeros to at least `len`; an integer becomes its digits first.
    /// Must be a string or integer, and `len` at most [`STR_BYTES_MAX`].
    pub fn str_mut(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= STR_BYTES_MAX, "a string of {len} bytes");
        if self.kind() > KIND_RAW {
            let digits = self.as_str().map(|s| s.text().to_vec()).unwrap_or_default();
            self.set_str(&digits);
        }
        let old = self.head().word.addr();
        let new = old.max(len);
        let cap = self.head().cap as usize;
        if new > cap {
            // Grow by half again, so that many small appends cost a constant each.
            let wanted = new.max(cap + cap / 2).min(STR_BYTES_MAX.max(new));
            self.resize(room_for(self.head().key_len as usize, wanted));
        }
        self.head_mut().word = ptr::without_provenance_mut(new);
        self.set_kind(KIND_RAW);
        // SAFETY: `new` is within the room; the bytes behind the old length are initialized here before they are seen.
        unsafe {
            let at = self.data().add(self.head().key_len as usize);
            ptr::write_bytes(at.add(old), 0, new - old);
            std::slice::from_raw_parts_mut(at, new)
        }
    }

    /// Changes the room for a string, which must not be smaller than the string.
    fn resize(&mut self, cap: u32) {
        let (key_len, old_cap) = (self.head().key_len, self.head().cap);
        if self.kind() <= KIND_RAW {
            assert!(
                self.head().word.addr() <= cap as usize,
                "room smaller than the string"
            );
        }
        let new = layout(key_len, cap);
        // SAFETY: allocated with exactly this layout; the new size is not zero.
        unsafe {
            let moved = realloc(
                self.header.as_ptr().cast(),
                layout(key_len, old_cap),
                new.size(),
            );
            let Some(header) = NonNull::new(moved.cast::<Header>()) else {
                handle_alloc_error(new)
            };
            self.header = header;
        }
        self.head_mut().cap = cap;
    }

    /// Makes the value any value.
    pub fn set_value(&mut self, value: Value) {
        let (kind, word): (u8, *mut ()) = match value {
            Value::Str(StrValue::Int(value)) => return self.set_int(value),
            Value::Str(StrValue::Bytes(bytes)) => return self.set_str(&bytes),
            Value::List(v) => (KIND_LIST, Box::into_raw(v).cast()),
            Value::Set(v) => (KIND_SET, Box::into_raw(v).cast()),
            Value::Zset(v) => (KIND_ZSET, Box::into_raw(v).cast()),
            Value::Hash(v) => (KIND_HASH, Box::into_raw(v).cast()),
        };
        self.drop_value();
        self.head_mut().word = word;
        self.set_kind(kind);
        let keep = room_for(self.head().key_len as usize, 0);
        if self.head().cap > keep {
            self.resize(keep);
        }
    }

    /// Bytes of the entry itself, without what a boxed value owns.
    pub fn own_bytes(&self) -> usize {
        layout(self.head().key_len, self.head().cap).size()
    }

    /// As a raw pointer that owns the entry, for the table's buckets.
    pub(super) fn into_raw(self) -> *mut () {
        let raw = self.header.as_ptr().cast();
        std::mem::forget(self);
        raw
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.drop_value();
        let layout = layout(self.head().key_len, self.head().cap);
        // SAFETY: allocated with exactly this layout, and nobody uses it any more.
        unsafe { dealloc(self.header.as_ptr().cast(), layout) }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("value", &self.value())
            .field("expiry", &self.expiry())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(entry: &Entry) -> Vec<u8> {
        entry
            .as_str()
            .map(|s| s.text().to_vec())
            .unwrap_or_default()
    }

    #[test]
    fn strings_grow_shrink_and_change_kind() {
        let mut e = Entry::new_str(b"key", b"value", 3);
        assert_eq!(
            (e.key(), &text(&e)[..], e.version(), e.expiry()),
            (&b"key"[..], &b"value"[..], 3, None)
        );
        for len in [0, 1, 7, 8, 9, 100, 5, 10_000, 3] {
            let bytes = vec![b'a' + (len % 26) as u8; len];
            e.set_str(&bytes);
            assert_eq!(text(&e), bytes);
            assert_eq!(e.key(), b"key");
        }
        e.set_int(-5);
        assert_eq!(e.as_str(), Some(StrRef::Int(-5)));
        e.str_mut(4)[2..].copy_from_slice(b"xy");
        assert_eq!(text(&e), b"-5xy");
        assert_eq!(e.str_mut(6), b"-5xy\0\0");
        e.set_value(Value::List(Box::default()));
        assert!(matches!(e.value(), ValueRef::List(_)));
        assert!(matches!(e.take_value(), Value::List(_)));
        assert_eq!(e.as_str(), Some(StrRef::Int(0)));
        e.set_value(Value::Hash(Box::default()));
        e.set_str(b"again");
        assert_eq!(text(&e), b"again");
        assert!(e.own_bytes() <= 48);
    }

    #[test]
    fn access_times_wrap() {
        let mut e = Entry::new_int(b"", 1, 0);
        e.touch(5_000);
        assert_eq!(e.idle_s(9_999), 4);
        e.touch((1 << 24) * 1000 - 1000);
        assert_eq!(e.idle_s((1 << 24) * 1000 + 2000), 3);
    }
}

//! A key with its value and what is known about both, in one piece of memory.
//!
//! ```text
//!  0     1       2       4          7         7        7 ┄
//!  ┌─────┬───────┬───────┬──────────┬─────────┬────────┬─────────┬─────────┐
//!  │flags│key_len│version│access(24)│[lengths]│[expire]│key bytes│ payload │
//!  └─────┴───────┴───────┴──────────┴─────────┴────────┴─────────┴─────────┘
//!  flags    kind (low 4 bits), EXPIRES, LONG, INDIRECT, WIDE
//!  version  the last snapshot that has this value (low 16 bits of the keyspace-wide epoch)
//!  access   seconds of the last access, or minutes and a logarithmic counter, as `maxmemory-policy` wants it
//!  lengths  only if LONG: length of the key and of the string, as u32 each
//!  expire   only if EXPIRES: milliseconds since 2020 (5 bytes); if WIDE, too: Unix time in ms (8)
//!  payload  by kind: the string's bytes · an integer (8) · a string of its own allocation: pointer, len, cap (16) ·
//!           the pointer to a string that replies hold, too (16, of which 8 are unused) · a collection's value as it is (16 or 17): see `types/packed.rs` · the pointer to a stream (8)
//! ```
//!
//! A key of 16 bytes with a value of 32 thus takes 55 bytes, 60 if it expires, and a reference of 5 in the table. Reading a string takes one
//! cache miss for the table and one here. A piece is always just as long as its content wants: its size need not be stored, and the length of a
//! string follows from it. Where pieces are not exact any more, an entry with a string is LONG; one with a key above 255 bytes is, too.
//! Entries beyond [`PIECE_MAX`] bytes (keys of kilobytes) are `INDIRECT`: 16 bytes whose last eight point to the real thing.
//!
//! # Soundness
//! An [`Entry`] owns a piece of the engine's [`Slabs`], of the size that [`Entry::size`] computes from its header; whoever changes what that depends on
//! reallocates. An entry must be given back by [`Entry::free`] or [`Entry::into_value`]; one that is only dropped leaks until its slabs go, which is
//! harmless. Collections are moved into the payload and out of it, streams come from `Box::into_raw`, heap strings from a `Vec`, shared ones from
//! `Arc::into_raw`, and all are taken back exactly once: the kind says whether there is one. A shared string's bytes are only read; who changes it takes
//! it back first, or a copy if replies still hold it. Slabs outlive the tables that hold the entries (`Engine` declares them last), and entries never leave the crate.

mod long;

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;

use self::long::{HEAP, Heap, SHARED_BYTES, Shared};
use super::slabs::{self, EXACT_MAX, PIECE_MAX, Ref, Slabs, piece_bytes};
use crate::types::{HashValue, ListValue, SetValue, StreamValue, ZsetValue, listpack};
use crate::value::{StrRef, StrValue, Value, ValueMut, ValueRef};

/// No expiry.
pub(crate) const NEVER: u64 = u64::MAX;

/// The longest string (and key) that an entry holds.
pub(crate) const STR_BYTES_MAX: usize = (u32::MAX - 64) as usize;

/// Collections of up to so many elements are freed where they are removed: a few µs. As in Valkey, whose `lazyfreed_objects` counts the others.
pub(crate) const FREE_AT_ONCE: usize = 64;
/// Strings of up to so many bytes, too.
const FREE_BYTES_AT_ONCE: usize = 1 << 16;

/// Strings are kept in the entry while all of it takes at most so many bytes.
pub(crate) const INLINE_MAX: usize = 1024;
/// Strings that are changed in place leave the entry earlier, to get room to grow.
const INLINE_RAW_MAX: usize = 256;

const KIND: u8 = 0x0f;
const EXPIRES: u8 = 0x10;
const LONG: u8 = 0x20;
const INDIRECT: u8 = 0x40;
const WIDE: u8 = 0x80;

/// From here on expiries are counted: 2020, in Unix milliseconds. Five bytes reach until 2054.
const EXPIRY_EPOCH_MS: u64 = 1_577_836_800_000;
const EXPIRY: usize = 5;
const WIDE_EXPIRY: usize = 8;

/// Bytes of the lengths of an entry that is LONG.
const LENGTHS: usize = 8;

const KIND_STR: u8 = 0;
/// A string that has been changed in place: the same, but for what `OBJECT ENCODING` says of it.
const KIND_RAW: u8 = 1;
const KIND_INT: u8 = 2;
/// A string with an allocation of its own.
const KIND_HEAP: u8 = 3;
/// The same, once it has been sent, or if it was gathered by who sent it: others may hold it, too.
const KIND_SHARED: u8 = 4;
/// From here on values are collections.
const KIND_LIST: u8 = 5;
const KIND_SET: u8 = 6;
const KIND_ZSET: u8 = 7;
const KIND_HASH: u8 = 8;
const KIND_STREAM: u8 = 9;
/// The place of a set that has been taken out.
const KIND_GONE: u8 = 10;

#[repr(C)]
struct Header {
    flags: u8,
    key_len: u8,
    version: [u8; 2],
    access: [u8; 3],
}

const HEADER: usize = size_of::<Header>();
const _: () = assert!(HEADER == 7 && align_of::<Header>() == 1 && size_of::<usize>() == 8);

/// See the module's documentation. Five bytes, in a group of the table.
#[repr(transparent)]
#[must_use]
pub(crate) struct Entry {
    at: Ref,
}
const _: () = assert!(size_of::<Entry>() == 5 && align_of::<Entry>() == 1);

// What lies in a payload as it is can lie anywhere.
const _: () = {
    assert!(align_of::<ListValue>() == 1 && size_of::<ListValue>() == 16);
    assert!(align_of::<SetValue>() == 1 && size_of::<SetValue>() == 17);
    assert!(align_of::<ZsetValue>() == 1 && size_of::<ZsetValue>() == 16);
    assert!(align_of::<HashValue>() == 1 && size_of::<HashValue>() == 16);
};

// What an entry owns is Send and Sync.
const fn assert_send_sync<T: Send + Sync>() {}
const _: () = {
    assert_send_sync::<ListValue>();
    assert_send_sync::<SetValue>();
    assert_send_sync::<ZsetValue>();
    assert_send_sync::<HashValue>();
    assert_send_sync::<StreamValue>();
    assert_send_sync::<Arc<Vec<u8>>>();
};

fn block_layout(bytes: usize) -> Layout {
    // Cannot fail: two lengths below 4 GiB are far below isize::MAX.
    match Layout::from_size_align(bytes, 8) {
        Ok(layout) => layout,
        Err(_) => unreachable!("entry of {bytes} bytes"),
    }
}

/// The kind of an entry that owns such a value.
fn owned_kind(value: &Value) -> u8 {
    match value {
        Value::Str(_) => KIND_HEAP,
        Value::List(_) => KIND_LIST,
        Value::Set(_) => KIND_SET,
        Value::Zset(_) => KIND_ZSET,
        Value::Hash(_) => KIND_HASH,
        Value::Stream(_) => KIND_STREAM,
    }
}

/// What an entry's size depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    kind: u8,
    /// Bytes of the expiry.
    expiry: usize,
    key_len: usize,
    /// Only of strings in the entry.
    str_len: usize,
}

/// Bytes that an expiry takes.
#[inline]
fn expiry_bytes(at_ms: u64) -> usize {
    match at_ms.wrapping_sub(EXPIRY_EPOCH_MS) {
        _ if at_ms == NEVER => 0,
        since if since < 1 << (EXPIRY * 8) => EXPIRY,
        _ => WIDE_EXPIRY,
    }
}

/// Bytes of the expiry of an entry with these flags.
#[inline]
fn expiry_of(flags: u8) -> usize {
    if flags & EXPIRES == 0 {
        0
    } else if flags & WIDE == 0 {
        EXPIRY
    } else {
        WIDE_EXPIRY
    }
}

impl Shape {
    #[inline]
    fn is_long(self) -> bool {
        self.key_len > 255
            || (self.kind <= KIND_RAW
                && HEADER + self.expiry + self.key_len + self.str_len > EXACT_MAX)
    }

    #[inline]
    fn key_offset(self) -> usize {
        HEADER + if self.is_long() { LENGTHS } else { 0 } + self.expiry
    }

    #[inline]
    fn payload_offset(self) -> usize {
        self.key_offset() + self.key_len
    }

    #[inline]
    fn payload(self) -> usize {
        match self.kind {
            KIND_STR | KIND_RAW => self.str_len,
            KIND_HEAP | KIND_SHARED => HEAP,
            KIND_LIST => size_of::<ListValue>(),
            KIND_SET | KIND_GONE => size_of::<SetValue>(),
            KIND_ZSET => size_of::<ZsetValue>(),
            KIND_HASH => size_of::<HashValue>(),
            _ => 8,
        }
    }

    #[inline]
    fn size(self) -> usize {
        self.payload_offset() + self.payload()
    }

    fn flags(self) -> u8 {
        let expiry = match self.expiry {
            0 => 0,
            EXPIRY => EXPIRES,
            _ => EXPIRES | WIDE,
        };
        self.kind | expiry | if self.is_long() { LONG } else { 0 }
    }
}
const _: () = assert!(KIND_STR < KIND_RAW && KIND_RAW == 1);

/// Writes an expiry of so many bytes.
///
/// # Safety
/// There must be room for it.
unsafe fn write_expiry(to: *mut u8, bytes: usize, at_ms: u64) {
    let since = match bytes {
        WIDE_EXPIRY => at_ms,
        _ => at_ms.wrapping_sub(EXPIRY_EPOCH_MS),
    };
    // SAFETY: as the caller promises.
    unsafe { ptr::copy_nonoverlapping(since.to_le_bytes().as_ptr(), to, bytes) }
}

impl Entry {
    /// Memory for an entry of this shape, with header, lengths, key and expiry written; the payload is not.
    fn allocate(
        slabs: &mut Slabs,
        shape: Shape,
        key: &[u8],
        expire_at_ms: u64,
        version: [u8; 2],
        access: [u8; 3],
    ) -> Entry {
        let size = shape.size();
        // SAFETY: the piece, or the block that it points to, has `size` bytes; all that is written lies within.
        unsafe {
            let (at, base) = if size <= PIECE_MAX {
                let at = slabs.alloc(size);
                (at, at.address())
            } else {
                let at = slabs.alloc(16);
                let base = alloc(block_layout(size));
                if base.is_null() {
                    handle_alloc_error(block_layout(size));
                }
                at.address().write(INDIRECT | LONG);
                at.address().add(8).cast::<*mut u8>().write_unaligned(base);
                (at, base)
            };
            base.cast::<Header>().write(Header {
                flags: shape.flags(),
                key_len: shape.key_len as u8,
                version,
                access,
            });
            let mut to = base.add(HEADER);
            if shape.is_long() {
                to.cast::<u32>().write_unaligned(shape.key_len as u32);
                to.add(4)
                    .cast::<u32>()
                    .write_unaligned(shape.str_len as u32);
                to = to.add(LENGTHS);
            }
            if shape.expiry > 0 {
                write_expiry(to, shape.expiry, expire_at_ms);
                to = to.add(shape.expiry);
            }
            ptr::copy_nonoverlapping(key.as_ptr(), to, key.len());
            Entry { at }
        }
    }

    #[inline]
    fn fresh(
        slabs: &mut Slabs,
        key: &[u8],
        (kind, str_len): (u8, usize),
        version: u32,
        until: u64,
    ) -> Entry {
        assert!(key.len() <= STR_BYTES_MAX, "a key of {} bytes", key.len());
        let shape = Shape {
            kind,
            expiry: expiry_bytes(until),
            key_len: key.len(),
            str_len,
        };
        let version = (version as u16).to_le_bytes();
        Entry::allocate(slabs, shape, key, until, version, [0; 3])
    }

    /// An entry with a string of these bytes.
    #[inline]
    pub fn new_str(slabs: &mut Slabs, key: &[u8], bytes: &[u8], version: u32) -> Entry {
        Entry::new_str_until(slabs, key, bytes, version, NEVER)
    }

    /// An entry with a string of these bytes, and an expiry that whoever puts it into a table takes note of.
    #[inline]
    pub fn new_str_until(
        slabs: &mut Slabs,
        key: &[u8],
        bytes: &[u8],
        version: u32,
        until: u64,
    ) -> Entry {
        if HEADER + LENGTHS + key.len() + bytes.len() > INLINE_MAX {
            return Entry::new_heap(slabs, key, bytes.to_vec(), version, until);
        }
        let entry = Entry::fresh(slabs, key, (KIND_STR, bytes.len()), version, until);
        // SAFETY: the payload has that many bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), entry.payload(), bytes.len()) };
        entry
    }

    fn new_heap(slabs: &mut Slabs, key: &[u8], bytes: Vec<u8>, version: u32, until: u64) -> Entry {
        let mut entry = Entry::fresh(slabs, key, (KIND_HEAP, 0), version, until);
        entry.write_payload(Heap::new(bytes));
        entry
    }

    /// An entry with a string that others may hold, too, and that is too long to lie in an entry.
    pub fn new_shared(slabs: &mut Slabs, key: &[u8], text: Arc<Vec<u8>>, version: u32) -> Entry {
        let mut entry = Entry::fresh(slabs, key, (KIND_SHARED, 0), version, NEVER);
        entry.write_payload(Shared::new(text));
        entry
    }

    /// An entry with an integer.
    #[inline]
    pub fn new_int(slabs: &mut Slabs, key: &[u8], value: i64, version: u32) -> Entry {
        Entry::new_int_until(slabs, key, value, version, NEVER)
    }

    /// An entry with an integer, and an expiry that whoever puts it into a table takes note of.
    #[inline]
    pub fn new_int_until(
        slabs: &mut Slabs,
        key: &[u8],
        value: i64,
        version: u32,
        until: u64,
    ) -> Entry {
        let mut entry = Entry::fresh(slabs, key, (KIND_INT, 0), version, until);
        entry.write_payload(value);
        entry
    }

    /// An entry with any value.
    pub fn new(slabs: &mut Slabs, key: &[u8], value: Value, version: u32) -> Entry {
        Entry::new_until(slabs, key, value, version, NEVER)
    }

    /// An entry with any value, and an expiry that whoever puts it into a table takes note of.
    pub fn new_until(
        slabs: &mut Slabs,
        key: &[u8],
        value: Value,
        version: u32,
        until: u64,
    ) -> Entry {
        match value {
            Value::Str(StrValue::Bytes(bytes))
                if HEADER + LENGTHS + key.len() + bytes.len() > INLINE_MAX =>
            {
                Entry::new_heap(slabs, key, bytes, version, until)
            }
            Value::Str(StrValue::Bytes(bytes)) => {
                Entry::new_str_until(slabs, key, &bytes, version, until)
            }
            Value::Str(StrValue::Int(value)) => {
                Entry::new_int_until(slabs, key, value, version, until)
            }
            value => {
                let mut entry = Entry::fresh(slabs, key, (owned_kind(&value), 0), version, until);
                entry.write_owned(value);
                entry
            }
        }
    }

    #[inline]
    fn base(&self) -> *mut u8 {
        // SAFETY: an entry owns its piece; if it is indirect, its last eight bytes are the pointer to a block of ours.
        unsafe {
            let base = self.at.address();
            if *base & INDIRECT == 0 {
                base
            } else {
                base.add(8).cast::<*mut u8>().read_unaligned()
            }
        }
    }

    /// Asks the processor to fetch the entry's first bytes: the header and a key of usual length, and all of it if it is short.
    #[inline]
    pub fn prefetch(&self) {
        const LINE: usize = 64;
        // SAFETY: an entry owns its piece.
        let (base, size) = unsafe { self.at.piece() };
        slabs::prefetch(base);
        slabs::prefetch(base.wrapping_add(size.min(LINE) - 1));
        if size > LINE {
            slabs::prefetch(base.wrapping_add(size.min(2 * LINE) - 1));
        }
    }

    /// Asks the processor to fetch what the entry points to, if its value lies elsewhere.
    #[inline]
    pub fn prefetch_value(&self) {
        match self.kind() {
            ..=KIND_INT => return,
            // SAFETY: the kind says so.
            KIND_SHARED => {
                return slabs::prefetch(unsafe { self.read_payload::<Shared>().text }.cast());
            }
            _ => {}
        }
        let pack = |pack: &listpack::Listpack| pack.as_bytes().as_ptr();
        slabs::prefetch(match self.value() {
            ValueRef::Str(StrRef::Bytes(bytes)) => bytes.as_ptr(),
            ValueRef::Str(StrRef::Int(_)) => return,
            ValueRef::List(ListValue::Pack(list)) => pack(list),
            ValueRef::List(ListValue::Quick(list)) => ptr::from_ref(&**list).cast(),
            ValueRef::Set(SetValue::Ints(ints)) => ints.as_bytes().as_ptr(),
            ValueRef::Set(SetValue::Pack(set)) => pack(set),
            ValueRef::Set(SetValue::Table(set)) => ptr::from_ref(&**set).cast(),
            ValueRef::Zset(ZsetValue::Pack(zset)) => pack(zset),
            ValueRef::Zset(ZsetValue::Ordered(zset)) => ptr::from_ref(&**zset).cast(),
            ValueRef::Hash(HashValue::Pack(hash)) => pack(hash),
            ValueRef::Hash(HashValue::Table(hash)) => ptr::from_ref(&**hash).cast(),
            ValueRef::Stream(stream) => ptr::from_ref(stream).cast(),
        });
    }

    #[inline]
    fn head(&self) -> &Header {
        // SAFETY: every entry begins with a header, which needs no alignment.
        unsafe { &*self.base().cast() }
    }

    #[inline]
    fn head_mut(&mut self) -> &mut Header {
        // SAFETY: as in `head`, and we are borrowed exclusively.
        unsafe { &mut *self.base().cast() }
    }

    /// Where the entry is, and its shape.
    #[inline]
    fn base_and_shape(&self) -> (*mut u8, Shape) {
        // SAFETY: an entry owns its piece; the flags say which parts there are. One that is indirect is long.
        unsafe {
            let (base, piece) = self.at.piece();
            let flags = *base;
            if flags & LONG == 0 {
                let (expiry, kind) = (expiry_of(flags), flags & KIND);
                let key_len = usize::from((*base.cast::<Header>()).key_len);
                let str_len = if kind <= KIND_RAW {
                    piece - HEADER - expiry - key_len
                } else {
                    0
                };
                let shape = Shape {
                    kind,
                    expiry,
                    key_len,
                    str_len,
                };
                return (base, shape);
            }
            let base = self.base();
            let lengths = base.add(HEADER).cast::<u32>();
            let flags = *base;
            let shape = Shape {
                kind: flags & KIND,
                expiry: expiry_of(flags),
                key_len: lengths.read_unaligned() as usize,
                str_len: lengths.add(1).read_unaligned() as usize,
            };
            (base, shape)
        }
    }

    #[inline]
    fn shape(&self) -> Shape {
        self.base_and_shape().1
    }

    #[inline]
    fn kind(&self) -> u8 {
        self.head().flags & KIND
    }

    /// Where the payload begins.
    #[inline]
    fn payload(&self) -> *mut u8 {
        let (base, shape) = self.base_and_shape();
        // SAFETY: within the entry.
        unsafe { base.add(shape.payload_offset()) }
    }

    /// Reads a payload of a fixed size.
    ///
    /// # Safety
    /// The kind must be one whose payload this is.
    #[inline]
    unsafe fn read_payload<T: Copy>(&self) -> T {
        // SAFETY: as the caller promises.
        unsafe { self.payload().cast::<T>().read_unaligned() }
    }

    /// Writes a payload of a fixed size; the kind must be one whose payload this is.
    #[inline]
    fn write_payload<T>(&mut self, value: T) {
        debug_assert_eq!(self.shape().payload(), size_of::<T>());
        // SAFETY: all kinds that this is called for have payloads of this size.
        unsafe { self.payload().cast::<T>().write_unaligned(value) }
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        let base = self.base();
        // SAFETY: the flags say where the key is, and how long.
        unsafe {
            let head = &*base.cast::<Header>();
            if head.flags & LONG == 0 {
                let at = base.add(HEADER + expiry_of(head.flags));
                return std::slice::from_raw_parts(at, usize::from(head.key_len));
            }
            let shape = self.shape();
            std::slice::from_raw_parts(base.add(shape.key_offset()), shape.key_len)
        }
    }

    /// When the key expires, in Unix milliseconds; [`NEVER`].
    #[inline]
    pub fn expire_at_ms(&self) -> u64 {
        let base = self.base();
        // SAFETY: the flags say whether and where there is an expiry.
        unsafe {
            let flags = *base;
            let bytes = expiry_of(flags);
            if bytes == 0 {
                return NEVER;
            }
            let at = base.add(HEADER + if flags & LONG == 0 { 0 } else { LENGTHS });
            let mut since = [0; 8];
            ptr::copy_nonoverlapping(at, since.as_mut_ptr(), bytes);
            let since = u64::from_le_bytes(since);
            if bytes == EXPIRY {
                EXPIRY_EPOCH_MS + since
            } else {
                since
            }
        }
    }

    /// As above, as an option.
    pub fn expiry(&self) -> Option<u64> {
        Some(self.expire_at_ms()).filter(|at| *at != NEVER)
    }

    /// Only through the database, which keeps the index of expiries.
    pub(super) fn set_expire_at_ms(&mut self, at: u64, slabs: &mut Slabs) {
        let (base, old) = self.base_and_shape();
        let new = Shape {
            expiry: expiry_bytes(at),
            ..old
        };
        if old.expiry != new.expiry {
            self.reshape(slabs, new, at, old.payload());
        } else if new.expiry > 0 {
            let offset = HEADER + if new.is_long() { LENGTHS } else { 0 };
            // SAFETY: the entry has an expiry of so many bytes, there.
            unsafe { write_expiry(base.add(offset), new.expiry, at) };
        }
    }

    /// Moves the entry into memory of another shape, with the first `keep` bytes of the payload; whatever the rest of the payload
    /// owned must have been taken care of.
    fn reshape(&mut self, slabs: &mut Slabs, new: Shape, expire_at_ms: u64, keep: usize) {
        let old = self.shape();
        let head = self.head();
        let (version, access) = (head.version, head.access);
        let moved = Entry::allocate(slabs, new, self.key(), expire_at_ms, version, access);
        // SAFETY: both payloads have at least `keep` bytes.
        unsafe {
            ptr::copy_nonoverlapping(self.payload(), moved.payload(), keep);
            self.free_memory(slabs, old.size());
        }
        self.at = moved.at;
    }

    /// Moves the entry as it is, if it lies in a page that is being emptied. Whether it did.
    pub(super) fn relocate(&mut self, slabs: &mut Slabs) -> bool {
        if !slabs.is_leaving(self.at) {
            return false;
        }
        // SAFETY: the entry owns its piece, whose size the directory knows; the new one is of the same class. Nobody else has a reference to what is
        // in it, since we are borrowed exclusively, and the old one is given up.
        unsafe {
            let (from, bytes) = self.at.piece();
            let at = slabs.alloc(bytes);
            ptr::copy_nonoverlapping(from, at.address(), bytes);
            slabs.free(self.at, bytes);
            self.at = at;
        }
        true
    }

    /// Makes the payload that of a kind, keeping the first `keep` bytes of what is there.
    fn reshape_payload(&mut self, slabs: &mut Slabs, kind: u8, str_len: usize, keep: usize) {
        let old = self.shape();
        let new = Shape {
            kind,
            str_len,
            ..old
        };
        let (from, to) = (old.size(), new.size());
        let stays = old.is_long() == new.is_long()
            && from <= PIECE_MAX
            && to <= PIECE_MAX
            && piece_bytes(from) == piece_bytes(to);
        if !stays {
            let at = self.expire_at_ms();
            return self.reshape(slabs, new, at, keep);
        }
        self.set_kind_and_len(kind, str_len);
    }

    /// Changes the kind in place: the entry's size must be the same with it.
    fn set_kind_and_len(&mut self, kind: u8, str_len: usize) {
        let head = self.head_mut();
        head.flags = head.flags & !KIND | kind;
        if head.flags & LONG != 0 {
            // SAFETY: a long entry has its lengths there.
            unsafe {
                let lengths = self.base().add(HEADER).cast::<u32>();
                lengths.add(1).write_unaligned(str_len as u32);
            }
        }
    }

    /// # Safety
    /// `size` must be the entry's, and the entry is not to be used any more.
    unsafe fn free_memory(&mut self, slabs: &mut Slabs, size: usize) {
        // SAFETY: allocated by `allocate` in just this way.
        unsafe {
            if size <= PIECE_MAX {
                slabs.free(self.at, size);
            } else {
                dealloc(self.base(), block_layout(size));
                slabs.free(self.at, 16);
            }
        }
    }

    /// The snapshot that has seen this value last. Exact while `epoch`, the present one, is at most 65,535 ahead of it.
    #[inline]
    pub fn version(&self, epoch: u32) -> u32 {
        let behind = (epoch as u16).wrapping_sub(u16::from_le_bytes(self.head().version));
        epoch.wrapping_sub(u32::from(behind))
    }

    /// Whether the latest snapshot has the value.
    #[inline]
    pub fn is_at(&self, epoch: u32) -> bool {
        self.head().version == (epoch as u16).to_le_bytes()
    }

    #[inline]
    pub fn set_version(&mut self, version: u32) {
        self.head_mut().version = (version as u16).to_le_bytes();
    }

    /// What is noted of accesses: 24 bits, whose meaning is the engine's.
    #[inline]
    pub fn access(&self) -> u32 {
        let [a, b, c] = self.head().access;
        u32::from_le_bytes([a, b, c, 0])
    }

    /// Sets the low 24 bits as the note of accesses.
    #[inline]
    pub fn set_access(&mut self, access: u32) {
        let [a, b, c, _] = access.to_le_bytes();
        self.head_mut().access = [a, b, c];
    }

    /// Notes an access.
    #[inline]
    pub fn touch(&mut self, now_ms: u64) {
        self.set_access((now_ms / 1000) as u32);
    }

    /// Seconds since the last access; right for up to half a year.
    pub fn idle_s(&self, now_ms: u64) -> u32 {
        ((now_ms / 1000) as u32).wrapping_sub(self.access()) & 0x00ff_ffff
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> ValueRef<'_> {
        let (base, shape) = self.base_and_shape();
        // SAFETY: the kind says what the payload is.
        unsafe {
            let payload = base.add(shape.payload_offset());
            match shape.kind {
                KIND_STR | KIND_RAW => {
                    let bytes = std::slice::from_raw_parts(payload, shape.str_len);
                    ValueRef::Str(StrRef::Bytes(bytes))
                }
                KIND_INT => ValueRef::Str(StrRef::Int(payload.cast::<i64>().read_unaligned())),
                KIND_HEAP => {
                    let heap = payload.cast::<Heap>().read_unaligned();
                    let bytes = std::slice::from_raw_parts(heap.bytes, heap.len as usize);
                    ValueRef::Str(StrRef::Bytes(bytes))
                }
                KIND_SHARED => {
                    let shared = payload.cast::<Shared>().read_unaligned();
                    ValueRef::Str(StrRef::Bytes(shared.text()))
                }
                KIND_LIST => ValueRef::List(&*payload.cast()),
                KIND_SET => ValueRef::Set(&*payload.cast()),
                KIND_ZSET => ValueRef::Zset(&*payload.cast()),
                KIND_HASH => ValueRef::Hash(&*payload.cast()),
                KIND_STREAM => {
                    let stream = payload.cast::<*mut StreamValue>().read_unaligned();
                    ValueRef::Stream(&*stream)
                }
                kind => unreachable!("entry of kind {kind}"),
            }
        }
    }

    /// `OBJECT ENCODING`.
    pub fn encoding(&self) -> &'static str {
        match self.kind() {
            KIND_RAW | KIND_HEAP | KIND_SHARED => "raw",
            _ => self.value().encoding(),
        }
    }

    /// The value, to change in place.
    pub fn value_mut(&mut self) -> ValueMut<'_> {
        let kind = self.kind();
        if kind < KIND_LIST {
            return ValueMut::Str;
        }
        let payload = self.payload();
        // SAFETY: the kind says what the payload is, and we are borrowed exclusively. What lies in it needs no alignment.
        unsafe {
            match kind {
                KIND_LIST => ValueMut::List(&mut *payload.cast()),
                KIND_SET => ValueMut::Set(&mut *payload.cast()),
                KIND_ZSET => ValueMut::Zset(&mut *payload.cast()),
                KIND_HASH => ValueMut::Hash(&mut *payload.cast()),
                KIND_STREAM => {
                    let stream = payload.cast::<*mut StreamValue>().read_unaligned();
                    ValueMut::Stream(&mut *stream)
                }
                kind => unreachable!("entry of kind {kind}"),
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

    /// The string, for a reply to hold, if it has an allocation of its own and at least so many bytes.
    pub fn share(&mut self, bytes_min: usize) -> Option<Arc<Vec<u8>>> {
        let kind = self.kind();
        if kind != KIND_HEAP && kind != KIND_SHARED || self.as_str()?.len() < bytes_min {
            return None;
        }
        let payload = self.payload();
        // SAFETY: the kind says what the payload owns; what is taken out of it is forgotten or put back at once.
        unsafe {
            let text = if kind == KIND_SHARED {
                payload.cast::<Shared>().read_unaligned().into_arc()
            } else {
                let heap = payload.cast::<Heap>().read_unaligned();
                self.set_kind_and_len(KIND_SHARED, 0);
                Arc::new(heap.into_vec())
            };
            self.write_payload(Shared::new(text.clone()));
            Some(text)
        }
    }

    /// Drops what the payload owns; leaves what [`Entry::take_owned`] does.
    fn drop_owned(&mut self) {
        if self.kind() == KIND_SHARED {
            drop(self.take_shared());
        } else {
            drop(self.take_owned());
        }
    }

    /// Takes out the string of a payload that is shared.
    fn take_shared(&mut self) -> Arc<Vec<u8>> {
        assert_eq!(self.kind(), KIND_SHARED);
        // SAFETY: the kind says what the payload owns; it is forgotten at once.
        let text = unsafe { self.read_payload::<Shared>().into_arc() };
        self.set_kind_and_len(KIND_HEAP, 0);
        self.write_payload(Heap::new(Vec::new()));
        text
    }

    /// Takes what the payload owns, leaving an empty string or something else that is to be overwritten or freed. `None` if it owns nothing.
    fn take_owned(&mut self) -> Option<Value> {
        let shape = self.shape();
        if shape.kind < KIND_HEAP || shape.kind == KIND_GONE {
            return None;
        }
        if shape.kind == KIND_SHARED {
            // What replies hold stays as it is.
            let text = Arc::unwrap_or_clone(self.take_shared());
            return Some(Value::Str(StrValue::Bytes(text)));
        }
        let payload = self.payload();
        // SAFETY: the kind says what the payload owns; it is forgotten at once.
        unsafe {
            let value = match shape.kind {
                KIND_HEAP => {
                    let heap = payload.cast::<Heap>().read_unaligned();
                    Value::Str(StrValue::Bytes(heap.into_vec()))
                }
                KIND_LIST => Value::List(payload.cast::<ListValue>().read()),
                KIND_SET => Value::Set(payload.cast::<SetValue>().read()),
                KIND_ZSET => Value::Zset(payload.cast::<ZsetValue>().read()),
                KIND_HASH => Value::Hash(payload.cast::<HashValue>().read()),
                KIND_STREAM => {
                    let stream = payload.cast::<*mut StreamValue>().read_unaligned();
                    Value::Stream(Box::from_raw(stream))
                }
                kind => unreachable!("entry of kind {kind}"),
            };
            // What stays has the same size.
            match shape.payload() {
                8 => {
                    self.set_kind_and_len(KIND_INT, 0);
                    self.write_payload(0i64);
                }
                HEAP => {
                    self.set_kind_and_len(KIND_HEAP, 0);
                    self.write_payload(Heap::new(Vec::new()));
                }
                _ => self.set_kind_and_len(KIND_GONE, 0),
            }
            Some(value)
        }
    }

    /// Drops what the payload points to, and leaves the memory of the entry alone: for an engine that is dropped as a whole.
    pub(super) fn drop_value(&mut self) {
        self.drop_owned();
        if self.shape().size() > PIECE_MAX {
            // SAFETY: an indirect entry owns its block; nobody looks at the entry again.
            unsafe { dealloc(self.base(), block_layout(self.shape().size())) };
        }
    }

    /// Whether to free it is to free more than its own piece.
    #[inline]
    pub fn is_pointing(&self) -> bool {
        self.kind() >= KIND_HEAP
    }

    /// Gives the entry up; its value is dropped here and now.
    pub fn free(mut self, slabs: &mut Slabs) {
        self.drop_owned();
        let size = self.shape().size();
        // SAFETY: the entry is consumed.
        unsafe { self.free_memory(slabs, size) };
    }

    /// Gives the entry up for its value.
    pub fn into_value(mut self, slabs: &mut Slabs) -> Value {
        let value = match self.take_owned() {
            Some(value) => value,
            None => match self.value() {
                ValueRef::Str(text) => Value::Str(text.to_value()),
                _ => unreachable!("a value that is neither pointed to nor a string"),
            },
        };
        self.free(slabs);
        value
    }

    /// Takes the value out if it is one whose freeing would take long; what stays must be overwritten or freed.
    #[inline]
    pub fn take_if_large(&mut self) -> Option<Value> {
        let large = match self.kind() {
            ..KIND_HEAP => false,
            // SAFETY: the kind says so.
            KIND_HEAP => unsafe { self.read_payload::<Heap>().cap as usize > FREE_BYTES_AT_ONCE },
            // While replies hold it, it is not freed here. SAFETY: as above.
            KIND_SHARED => unsafe {
                let text = ManuallyDrop::new(self.read_payload::<Shared>().into_arc());
                text.capacity() > FREE_BYTES_AT_ONCE && Arc::strong_count(&text) == 1
            },
            _ => self.value().elements() > FREE_AT_ONCE,
        };
        if large { self.take_owned() } else { None }
    }

    /// Makes the value an integer.
    #[inline]
    pub fn set_int(&mut self, value: i64, slabs: &mut Slabs) {
        if self.kind() != KIND_INT {
            self.drop_owned();
            self.reshape_payload(slabs, KIND_INT, 0, 0);
        }
        self.write_payload(value);
    }

    /// Makes the value a string of these bytes.
    #[inline]
    pub fn set_str(&mut self, bytes: &[u8], slabs: &mut Slabs) {
        let shape = self.shape();
        if shape.payload_offset() + bytes.len() > INLINE_MAX {
            return self.set_heap(bytes, slabs);
        }
        if shape.kind >= KIND_HEAP {
            self.drop_owned();
        }
        if shape.kind != KIND_STR || shape.str_len != bytes.len() {
            self.reshape_payload(slabs, KIND_STR, bytes.len(), 0);
        }
        // SAFETY: the payload has that many bytes; `bytes` cannot overlap it, since we are borrowed exclusively.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.payload(), bytes.len()) };
    }

    /// Makes the value a string that others may hold, too, and that is too long to lie in an entry.
    pub fn set_shared(&mut self, text: Arc<Vec<u8>>, slabs: &mut Slabs) {
        self.drop_owned();
        self.reshape_payload(slabs, KIND_SHARED, 0, 0);
        self.write_payload(Shared::new(text));
    }

    fn set_heap(&mut self, bytes: &[u8], slabs: &mut Slabs) {
        let old = match self.kind() {
            KIND_SHARED => Arc::into_inner(self.take_shared()),
            _ => match self.take_owned() {
                Some(Value::Str(StrValue::Bytes(old))) => Some(old),
                _ => None,
            },
        };
        let mut text = match old {
            // Keep the room unless it is too small, or far too large.
            Some(old)
                if old.capacity() >= bytes.len() && old.capacity() <= 64 + bytes.len() * 2 =>
            {
                old
            }
            _ => Vec::with_capacity(bytes.len()),
        };
        text.clear();
        text.extend_from_slice(bytes);
        self.put_heap(text, slabs);
    }

    /// Makes the value a string with this allocation; what the payload pointed to must have been taken.
    fn put_heap(&mut self, text: Vec<u8>, slabs: &mut Slabs) {
        if self.kind() != KIND_HEAP {
            self.reshape_payload(slabs, KIND_HEAP, 0, 0);
        }
        self.write_payload(Heap::new(text));
    }

    /// The string as bytes to change in place, grown with zeros to at least `len`; an integer becomes its digits first.
    /// Must be a string or integer, and `len` at most [`STR_BYTES_MAX`].
    pub fn str_mut(&mut self, len: usize, slabs: &mut Slabs) -> &mut [u8] {
        assert!(len <= STR_BYTES_MAX, "a string of {len} bytes");
        if self.kind() == KIND_INT {
            let digits = self.as_str().map(|s| s.text().to_vec()).unwrap_or_default();
            self.set_str(&digits, slabs);
        }
        if self.kind() < KIND_HEAP {
            let shape = self.shape();
            let (old, new) = (shape.str_len, shape.str_len.max(len));
            if new == old || shape.payload_offset() + new <= INLINE_RAW_MAX {
                self.reshape_payload(slabs, KIND_RAW, new, old);
                // SAFETY: the payload has `new` bytes, of which the first `old` are initialized.
                unsafe {
                    let payload = self.payload();
                    ptr::write_bytes(payload.add(old), 0, new - old);
                    return std::slice::from_raw_parts_mut(payload, new);
                }
            }
            let mut text = Vec::with_capacity(new);
            // SAFETY: as above.
            text.extend_from_slice(unsafe { std::slice::from_raw_parts(self.payload(), old) });
            self.put_heap(text, slabs);
        }
        let mut text = match self.take_owned() {
            Some(Value::Str(StrValue::Bytes(text))) => text,
            _ => unreachable!("a string with an allocation of its own"),
        };
        if text.len() < len {
            if len > text.capacity() {
                // Grow by half again, so that many small appends cost a constant each.
                let wanted = len.max(text.capacity() + text.capacity() / 2);
                text.reserve_exact(wanted.min(STR_BYTES_MAX) - text.len());
            }
            text.resize(len, 0);
        }
        self.put_heap(text, slabs);
        // SAFETY: put there just now, and we are borrowed exclusively.
        unsafe {
            let heap = self.read_payload::<Heap>();
            std::slice::from_raw_parts_mut(heap.bytes, heap.len as usize)
        }
    }

    /// Makes the value any value.
    pub fn set_value(&mut self, value: Value, slabs: &mut Slabs) {
        match value {
            Value::Str(StrValue::Int(value)) => self.set_int(value, slabs),
            Value::Str(StrValue::Bytes(bytes)) => self.set_str(&bytes, slabs),
            value => {
                self.drop_owned();
                self.reshape_payload(slabs, owned_kind(&value), 0, 0);
                self.write_owned(value);
            }
        }
    }

    /// Writes the payload of [`owned_kind`].
    fn write_owned(&mut self, value: Value) {
        match value {
            Value::List(v) => self.write_payload(v),
            Value::Set(v) => self.write_payload(v),
            Value::Zset(v) => self.write_payload(v),
            Value::Hash(v) => self.write_payload(v),
            Value::Stream(v) => self.write_payload(Box::into_raw(v)),
            Value::Str(_) => unreachable!("strings are copied into entries"),
        }
    }

    /// Bytes of the entry itself and a string's own allocation, without what a boxed value owns.
    pub fn own_bytes(&self) -> usize {
        let size = self.shape().size();
        // SAFETY: the kind says what the payload is.
        let heap = match self.kind() {
            KIND_HEAP => unsafe { self.read_payload::<Heap>().cap as usize },
            KIND_SHARED => unsafe {
                self.read_payload::<Shared>().text().capacity() + SHARED_BYTES
            },
            _ => 0,
        };
        heap + if size <= PIECE_MAX {
            piece_bytes(size)
        } else {
            size + 16
        }
    }
}

/// An entry to change, with the slabs that it may need for that.
pub(crate) struct EntryMut<'a> {
    pub entry: &'a mut Entry,
    pub slabs: &'a mut Slabs,
}

impl<'a> EntryMut<'a> {
    /// See [`Entry::set_int`].
    pub fn set_int(&mut self, value: i64) {
        self.entry.set_int(value, self.slabs);
    }

    /// See [`Entry::set_str`].
    #[inline]
    pub fn set_str(&mut self, bytes: &[u8]) {
        self.entry.set_str(bytes, self.slabs);
    }

    /// See [`Entry::set_shared`].
    pub fn set_shared(&mut self, text: Arc<Vec<u8>>) {
        self.entry.set_shared(text, self.slabs);
    }

    /// See [`Entry::set_value`].
    pub fn set_value(&mut self, value: Value) {
        self.entry.set_value(value, self.slabs);
    }

    /// See [`Entry::str_mut`].
    pub fn str_mut(self, len: usize) -> &'a mut [u8] {
        self.entry.str_mut(len, self.slabs)
    }
}

impl std::ops::Deref for EntryMut<'_> {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        self.entry
    }
}

impl std::ops::DerefMut for EntryMut<'_> {
    fn deref_mut(&mut self) -> &mut Entry {
        self.entry
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
mod tests;

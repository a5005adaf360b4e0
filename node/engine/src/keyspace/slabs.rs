//! Memory for what the keyspace holds by the million: entries, and the groups of references to them.
//!
//! ```text
//!  chunk (1 MiB, from the system): 16 pages
//!
//!  page (64 KiB)
//!  ┌──────┬──────┬──────┬ … ┬──────┬ never used yet ┐    all pieces of a page have one size
//!  └──────┴──────┴──────┴ … ┴──────┴────────────────┘    a free piece's first two bytes: where the next free one is
//!
//!  Ref (40 bits)    page number (24) │ place in the page (16)
//!  directory word   the page's address │ size of its pieces − 1 (12)
//! ```
//!
//! - Sizes are exact up to [`EXACT_MAX`] and to less than 1.6 % above, so that next to nothing is lost to rounding, and a piece's size
//!   tells the length of what is in it.
//! - A reference takes 5 bytes. The directory of pages is one static array for the whole process, so that a reference can be followed
//!   without knowing whose it is: one load that is nearly always in the first cache.
//! - What is known of a page lies beside it, not in it: page headers would all fall on the same few cache lines.
//! - The memory of an empty page goes back to the system, but for a few that are kept; its addresses stay reserved for the next need.
//!
//! # Soundness
//! The numbers of a chunk's pages are given to one [`Slabs`] at a time, under a lock, until it is dropped; their slots in the directory are written by that one alone. Pieces are
//! handed out once until they are freed. Whoever follows a [`Ref`] must hold one that has not been freed, of slabs that still live; this is what
//! `entry.rs` and `table.rs` argue.

mod clearing;

pub(crate) use clearing::Clearing;

use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Bytes of a page.
const PAGE: usize = 1 << 16;
/// Pages there may be in a process: half a tebibyte of entries.
const PAGES_MAX: usize = 1 << 23;
const OFFSET_BITS: u32 = 16;
const _: () = assert!(PAGE == 1 << OFFSET_BITS && PAGES_MAX <= 1 << (40 - OFFSET_BITS));

/// The longest piece.
pub(crate) const PIECE_MAX: usize = 4096;
/// Pieces of up to so many bytes are just as long as was asked for, but for those of one byte.
pub(crate) const EXACT_MAX: usize = 256;

/// The bits of a directory word that are not the address: pages begin where pages of the system do.
const SIZE_BITS: usize = (1 << 12) - 1;
const _: () = assert!(PIECE_MAX - 1 <= SIZE_BITS);

/// Pages of a chunk.
const CHUNK_PAGES: u32 = 16;
const CHUNK: usize = PAGE * CHUNK_PAGES as usize;

/// Empty pages whose memory is kept for the next need.
const SPARE_PAGES: usize = 8;

const NONE: u32 = u32::MAX;
const NO_PIECE: u16 = u16::MAX;

static PAGES: [AtomicPtr<u8>; PAGES_MAX] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; PAGES_MAX];

/// The numbers of the pages of free chunks: the first number of each that was given back, and all from `next` on.
struct Numbers {
    free: Vec<u32>,
    next: u32,
}

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers {
    free: Vec::new(),
    next: 0,
});

/// Where a piece is. Five bytes in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Ref([u8; 5]);

impl Ref {
    #[inline]
    pub fn from_bits(bits: u64) -> Ref {
        let [a, b, c, d, e, ..] = bits.to_le_bytes();
        Ref([a, b, c, d, e])
    }

    #[inline]
    pub fn bits(self) -> u64 {
        let [a, b, c, d, e] = self.0;
        u64::from(u32::from_le_bytes([a, b, c, d])) | u64::from(e) << 32
    }

    fn new(page: u32, offset: u16) -> Ref {
        Ref::from_bits(u64::from(page) << OFFSET_BITS | u64::from(offset))
    }

    fn page(self) -> u32 {
        (self.bits() >> OFFSET_BITS) as u32
    }

    fn offset(self) -> u16 {
        self.bits() as u16
    }

    /// The page's word in the directory.
    ///
    /// # Safety
    /// As for [`address`](Self::address).
    #[inline]
    unsafe fn word(self) -> *mut u8 {
        // SAFETY: the page number of a piece that lives is below PAGES_MAX.
        unsafe { PAGES.get_unchecked(self.page() as usize) }.load(Ordering::Relaxed)
    }

    /// The address of the piece.
    ///
    /// # Safety
    /// The piece must not have been freed, and the slabs that it is of must still live.
    #[inline]
    pub unsafe fn address(self) -> *mut u8 {
        // SAFETY: as the caller promises; the offset is within the page.
        unsafe { page_of(self.word()).add(usize::from(self.offset())) }
    }

    /// The address of the piece, and its bytes.
    ///
    /// # Safety
    /// As for [`address`](Self::address).
    #[inline]
    pub unsafe fn piece(self) -> (*mut u8, usize) {
        // SAFETY: as in `address`.
        unsafe {
            let word = self.word();
            let address = page_of(word).add(usize::from(self.offset()));
            (address, (word.addr() & SIZE_BITS) + 1)
        }
    }
}

/// Asks the processor to fetch the cache line at an address. A hint: the address need not be anybody's.
#[inline]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction accesses nothing and cannot fail.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// What AddressSanitizer is told, which knows nothing of pieces: what is free must not be touched. Compiled in by `cargo asan` only.
#[cfg(asan)]
mod sanitizer {
    use std::ffi::c_void;

    unsafe extern "C" {
        fn __asan_poison_memory_region(at: *const c_void, bytes: usize);
        fn __asan_unpoison_memory_region(at: *const c_void, bytes: usize);
    }

    pub fn poison(at: *mut u8, bytes: usize) {
        // SAFETY: only the sanitizer's own notes are changed; whoever calls says what is free.
        unsafe { __asan_poison_memory_region(at.cast(), bytes) }
    }

    pub fn unpoison(at: *mut u8, bytes: usize) {
        // SAFETY: as above.
        unsafe { __asan_unpoison_memory_region(at.cast(), bytes) }
    }
}

#[cfg(not(asan))]
mod sanitizer {
    #[inline(always)]
    pub fn poison(_: *mut u8, _: usize) {}

    #[inline(always)]
    pub fn unpoison(_: *mut u8, _: usize) {}
}

/// The address of a page, of its directory word.
#[inline]
fn page_of(word: *mut u8) -> *mut u8 {
    word.map_addr(|bits| bits & !SIZE_BITS)
}

/// Steps of sizes: up to `.0` bytes in steps of `.1`. A free piece holds two bytes: class 0 is the same as class 1.
const STEPS: [(usize, usize); 5] = [
    (EXACT_MAX, 1),
    (512, 4),
    (1024, 8),
    (2048, 16),
    (PIECE_MAX, 32),
];
const CLASSES: usize = EXACT_MAX + 64 * 4;

#[inline]
const fn class_of(bytes: usize) -> usize {
    if bytes <= EXACT_MAX {
        return if bytes > 2 { bytes - 1 } else { 1 };
    }
    let mut class = EXACT_MAX;
    let mut below = EXACT_MAX;
    let mut at = 1;
    while at < STEPS.len() {
        let (to, step) = STEPS[at];
        if bytes <= to {
            return class + (bytes - below - 1) / step;
        }
        class += (to - below) / step;
        below = to;
        at += 1;
    }
    CLASSES
}

const fn class_bytes(class: usize) -> usize {
    let (mut first, mut below, mut at) = (0, 0, 0);
    while at < STEPS.len() {
        let (to, step) = STEPS[at];
        let count = (to - below) / step;
        if class < first + count {
            return below + (class - first + 1) * step;
        }
        first += count;
        below = to;
        at += 1;
    }
    PIECE_MAX
}

const BYTES_OF: [u16; CLASSES] = {
    let mut all = [0; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        all[class] = class_bytes(class) as u16;
        assert!(class == 0 || class_of(all[class] as usize) == class);
        class += 1;
    }
    all
};

/// The bytes that a piece of this size really takes; the size must be 1 to [`PIECE_MAX`].
#[inline]
pub(crate) fn piece_bytes(bytes: usize) -> usize {
    usize::from(BYTES_OF[class_of(bytes)])
}

/// What is known of a page of ours.
#[derive(Clone, Copy)]
struct Page {
    class: u16,
    live: u16,
    /// First free piece, or [`NO_PIECE`].
    free: u16,
    /// It is being emptied, and in no list.
    leaving: bool,
    /// The first byte that has never been used.
    fresh: u32,
    /// Neighbours in the list of its class's pages with room.
    before: u32,
    after: u32,
}

const NO_PAGE: Page = Page {
    class: 0,
    live: 0,
    free: NO_PIECE,
    leaving: false,
    fresh: 0,
    before: NONE,
    after: NONE,
};

/// Pages described in one block, so that no long array is ever moved.
const BLOCK: usize = 1024;

/// The pages of one engine.
pub(crate) struct Slabs {
    /// By page number; blocks without a page of ours are empty.
    blocks: Vec<Box<[Page]>>,
    /// First page with room of each class.
    room: Box<[u32; CLASSES]>,
    spare: Vec<u32>,
    /// Empty pages without memory.
    bare: Vec<u32>,
    /// The first page of each chunk.
    chunks: Vec<u32>,
    /// Pages with memory.
    pages: usize,
    live_bytes: usize,
}

impl Default for Slabs {
    fn default() -> Self {
        Slabs {
            blocks: Vec::new(),
            room: Box::new([NONE; CLASSES]),
            spare: Vec::new(),
            bare: Vec::new(),
            chunks: Vec::new(),
            pages: 0,
            live_bytes: 0,
        }
    }
}

impl Slabs {
    /// Bytes in pieces that are in use.
    pub fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// Bytes of pages that are in no piece in use.
    pub fn free_bytes(&self) -> usize {
        self.pages * PAGE - self.live_bytes
    }

    #[inline]
    fn page(&mut self, number: u32) -> &mut Page {
        &mut self.blocks[number as usize / BLOCK][number as usize % BLOCK]
    }

    /// A piece of at least so many bytes, 1 to [`PIECE_MAX`]. Its content is whatever was there.
    #[inline]
    pub fn alloc(&mut self, bytes: usize) -> Ref {
        let class = class_of(bytes);
        let size = usize::from(BYTES_OF[class]);
        let number = match self.room[class] {
            NONE => self.new_page(class),
            number => number,
        };
        let page = self.page(number);
        page.live += 1;
        let free = page.free;
        let at = if free != NO_PIECE {
            let at = Ref::new(number, free);
            // SAFETY: a piece of a page of ours.
            sanitizer::unpoison(unsafe { at.address() }, size);
            // SAFETY: a free piece of a page of ours, with the place of the next one in it.
            page.free = unsafe { at.address().cast::<u16>().read_unaligned() };
            at
        } else {
            let at = Ref::new(number, page.fresh as u16);
            page.fresh += size as u32;
            // SAFETY: as above.
            sanitizer::unpoison(unsafe { at.address() }, size);
            at
        };
        if page.free == NO_PIECE && page.fresh as usize + size > PAGE {
            self.unlink(number, class);
        }
        self.live_bytes += size;
        at
    }

    /// Frees a piece that was asked for with so many bytes.
    ///
    /// # Safety
    /// The piece must be one of these slabs, allocated with a size of the same class, and not be used again.
    #[inline]
    pub unsafe fn free(&mut self, piece: Ref, bytes: usize) {
        let class = class_of(bytes);
        let size = usize::from(BYTES_OF[class]);
        self.live_bytes -= size;
        let number = piece.page();
        let page = self.page(number);
        debug_assert!(usize::from(page.class) == class && page.live > 0);
        let was_full = page.free == NO_PIECE && page.fresh as usize + size > PAGE;
        // SAFETY: the caller gives the piece up; it is at least two bytes long.
        unsafe {
            piece.address().cast::<u16>().write_unaligned(page.free);
            sanitizer::poison(piece.address(), size);
        }
        page.free = piece.offset();
        page.live -= 1;
        let empty = page.live == 0;
        if page.leaving {
            if empty {
                page.leaving = false;
                self.release(number);
            }
            return;
        }
        if was_full {
            self.link(number, class);
        }
        if empty {
            self.unlink(number, class);
            self.release(number);
        }
    }

    /// Whether a piece had better be moved to where [`alloc`](Self::alloc) would put another one of its size: most of its page is free, and
    /// there is another page with room.
    #[inline]
    pub fn is_lonely(&mut self, piece: Ref) -> bool {
        let number = piece.page();
        let Page { class, live, .. } = *self.page(number);
        let class = usize::from(class);
        usize::from(live) * usize::from(BYTES_OF[class]) < PAGE / 8 * 7
            && self.room[class] != number
    }

    #[cold]
    fn new_page(&mut self, class: usize) -> u32 {
        let number = self.spare.pop().unwrap_or_else(|| {
            if self.bare.is_empty() {
                self.new_chunk();
            }
            self.pages += 1;
            self.bare
                .pop()
                .unwrap_or_else(|| unreachable!("a chunk without pages"))
        });
        *self.page(number) = Page {
            class: class as u16,
            ..NO_PAGE
        };
        let place = &PAGES[number as usize];
        let size = usize::from(BYTES_OF[class]);
        let word = page_of(place.load(Ordering::Relaxed)).map_addr(|at| at | (size - 1));
        place.store(word, Ordering::Relaxed);
        self.link(number, class);
        number
    }

    /// Takes a chunk from the system, and numbers for its pages.
    fn new_chunk(&mut self) {
        // SAFETY: a new mapping wherever the system likes.
        let memory = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                CHUNK,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let memory = match memory {
            Ok(memory) => memory.cast::<u8>(),
            Err(error) => panic!("no memory for keys: {error}"),
        };
        sanitizer::poison(memory, CHUNK);
        let first = {
            let mut numbers = NUMBERS.lock().unwrap_or_else(|e| e.into_inner());
            numbers.free.pop().unwrap_or_else(|| {
                numbers.next += CHUNK_PAGES;
                numbers.next - CHUNK_PAGES
            })
        };
        let pages = first as usize..(first + CHUNK_PAGES) as usize;
        assert!(
            pages.end <= PAGES_MAX,
            "more than {PAGES_MAX} pages of entries"
        );
        for (i, place) in PAGES[pages].iter().enumerate() {
            // SAFETY: within the mapping.
            place.store(unsafe { memory.add(i * PAGE) }, Ordering::Relaxed);
        }
        let block = first as usize / BLOCK;
        if self.blocks.len() <= block {
            self.blocks.resize_with(block + 1, Box::default);
        }
        if self.blocks[block].is_empty() {
            self.blocks[block] = vec![NO_PAGE; BLOCK].into_boxed_slice();
        }
        self.chunks.push(first);
        self.bare.extend((first..first + CHUNK_PAGES).rev());
    }

    #[cold]
    fn release(&mut self, number: u32) {
        // Where many keys are removed their pages empty nearly all at the same time, and each takes the system some µs.
        self.spare.push(number);
    }

    /// Gives up to `count` pages that are too many to be kept for the next need back to the system. Whether there are more.
    pub fn give_back_some(&mut self, count: usize) -> bool {
        for _ in 0..count {
            if self.spare.len() <= SPARE_PAGES {
                return false;
            }
            if let Some(number) = self.spare.pop() {
                self.give_back(number);
            }
        }
        self.spare.len() > SPARE_PAGES
    }

    /// Gives the memory of an empty page back to the system.
    fn give_back(&mut self, number: u32) {
        let memory = page_of(PAGES[number as usize].load(Ordering::Relaxed));
        // SAFETY: a page of ours without a piece in use. That the advice is not taken does no harm.
        let _ = unsafe { madvise(memory.cast::<c_void>(), PAGE, Advice::LinuxDontNeed) };
        self.pages -= 1;
        self.bare.push(number);
    }

    /// Gives the memory of the spare pages back, too (`MEMORY PURGE`).
    pub fn purge(&mut self) {
        while let Some(number) = self.spare.pop() {
            self.give_back(number);
        }
    }

    fn link(&mut self, number: u32, class: usize) {
        let first = std::mem::replace(&mut self.room[class], number);
        let page = self.page(number);
        page.before = NONE;
        page.after = first;
        if first != NONE {
            self.page(first).before = number;
        }
    }

    fn unlink(&mut self, number: u32, class: usize) {
        let Page { before, after, .. } = *self.page(number);
        match before {
            NONE => self.room[class] = after,
            before => self.page(before).after = after,
        }
        if after != NONE {
            self.page(after).before = before;
        }
    }
}

impl Drop for Slabs {
    /// Whatever pieces are left are given up with their chunks: nobody follows a reference after this.
    fn drop(&mut self) {
        for first in self.chunks.drain(..) {
            let pages = first as usize..(first + CHUNK_PAGES) as usize;
            let memory = page_of(PAGES[pages.start].load(Ordering::Relaxed));
            sanitizer::unpoison(memory, CHUNK);
            for place in &PAGES[pages] {
                place.store(std::ptr::null_mut(), Ordering::Relaxed);
            }
            // SAFETY: mapped by `new_chunk` with this size, and not used any more.
            if let Err(error) = unsafe { munmap(memory.cast::<c_void>(), CHUNK) } {
                panic!("memory of keys cannot be given back: {error}");
            }
            let mut numbers = NUMBERS.lock().unwrap_or_else(|e| e.into_inner());
            numbers.free.push(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn classes_cover_all_sizes_closely() {
        for bytes in 1..=PIECE_MAX {
            let piece = piece_bytes(bytes);
            assert!(piece >= bytes, "{bytes}: {piece}");
            assert!(
                bytes == 1 || piece == bytes || bytes > EXACT_MAX,
                "{bytes}: {piece}"
            );
            assert!(
                bytes == 1 || (piece - bytes) * 64 < bytes,
                "{bytes}: {piece}"
            );
        }
        assert_eq!(class_of(PIECE_MAX), CLASSES - 1);
    }

    /// Pieces filled with a pattern of their own keep it whatever is allocated and freed around them.
    #[test]
    fn pieces_do_not_overlap() {
        let mut rng = Rng::new(4);
        let mut slabs = Slabs::default();
        let mut live: Vec<(Ref, usize, u8)> = Vec::new();
        let mut bytes_live = 0;
        for step in 0..60_000 {
            if live.is_empty() || rng.below(100) < if step % 20_000 < 12_000 { 60 } else { 40 } {
                let bytes = 1 + if rng.below(10) == 0 {
                    rng.index(PIECE_MAX)
                } else {
                    rng.index(90)
                };
                let piece = slabs.alloc(bytes);
                let mark = step as u8;
                // SAFETY: a piece of that many bytes, ours.
                unsafe {
                    piece.address().write_bytes(mark, bytes);
                    assert_eq!(piece.piece().1, piece_bytes(bytes));
                }
                live.push((piece, bytes, mark));
                bytes_live += piece_bytes(bytes);
            } else {
                let (piece, bytes, mark) = live.swap_remove(rng.index(live.len()));
                // SAFETY: the piece has been written and not been freed.
                unsafe {
                    let content = std::slice::from_raw_parts(piece.address(), bytes);
                    assert!(content.iter().all(|b| *b == mark), "step {step}");
                    slabs.free(piece, bytes);
                }
                bytes_live -= piece_bytes(bytes);
            }
            assert_eq!(slabs.live_bytes(), bytes_live);
        }
        for (piece, bytes, _) in live {
            // SAFETY: not freed yet.
            unsafe { slabs.free(piece, bytes) };
        }
        slabs.purge();
        assert_eq!((slabs.live_bytes(), slabs.pages), (0, 0));
    }
}

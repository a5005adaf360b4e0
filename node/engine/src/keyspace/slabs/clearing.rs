//! Which pages are to be emptied, so that their memory can go back to the system.
//!
//! All pages are counted by class and by how full they are. Of each class the emptiest are chosen, as many as the others have free pieces for. A
//! chosen page is in no list of room: nothing comes into it any more, and it goes when the last piece has been moved or freed. What could not be
//! emptied is released again.

use super::{BYTES_OF, CHUNK_PAGES, CLASSES, NO_PIECE, PAGE, Page, Ref, Slabs};

/// How finely it is looked at how full a page is.
const LEVELS: usize = 16;
/// Pages above this level stay: much would have to be moved for little.
const LEVEL_MAX: usize = 13;

/// Of the pages of one class: the pages to be emptied are all below a level, and so many of that level.
#[derive(Clone, Copy, Default)]
struct Choice {
    below: usize,
    more: u32,
}

#[derive(Clone, Copy, Default)]
struct Count {
    pages: [u32; LEVELS],
    live: u64,
}

enum Stage {
    Counting(Vec<Count>),
    Choosing(Vec<Choice>),
    Chosen,
}

/// See the module's documentation.
pub(crate) struct Clearing {
    stage: Stage,
    /// The chunk that is looked at next.
    chunk: usize,
}

impl Default for Clearing {
    fn default() -> Self {
        Clearing {
            stage: Stage::Counting(vec![Count::default(); CLASSES]),
            chunk: 0,
        }
    }
}

fn capacity(class: usize) -> usize {
    PAGE / usize::from(BYTES_OF[class])
}

fn level(page: &Page) -> usize {
    usize::from(page.live) * LEVELS / (capacity(usize::from(page.class)) + 1)
}

impl Choice {
    fn of(class: usize, count: &Count) -> Choice {
        let pages: u32 = count.pages.iter().sum();
        let needed = count.live.div_ceil(capacity(class) as u64) as u32;
        let slack = 1 + pages / 32;
        let mut more = pages.saturating_sub(needed + slack);
        for (below, pages) in count.pages.iter().enumerate().take(LEVEL_MAX) {
            if more <= *pages {
                return Choice { below, more };
            }
            more -= pages;
        }
        Choice {
            below: LEVEL_MAX,
            more: 0,
        }
    }
}

impl Clearing {
    /// Goes on choosing, looking at so many chunks of pages. Whether there is more to do.
    pub fn choose_step(&mut self, slabs: &mut Slabs, chunks: usize) -> bool {
        let end = (self.chunk + chunks).min(slabs.chunks.len());
        for chunk in std::mem::replace(&mut self.chunk, end)..end {
            let first = slabs.chunks[chunk];
            for number in first..first + CHUNK_PAGES {
                let page = *slabs.page(number);
                if page.live == 0 || page.leaving {
                    continue;
                }
                let (class, level) = (usize::from(page.class), level(&page));
                match &mut self.stage {
                    Stage::Counting(counts) => {
                        counts[class].pages[level] += 1;
                        counts[class].live += u64::from(page.live);
                    }
                    Stage::Choosing(choices) => {
                        let choice = &mut choices[class];
                        if level == choice.below && choice.more > 0 {
                            choice.more -= 1;
                            slabs.leave(number);
                        } else if level < choice.below {
                            slabs.leave(number);
                        }
                    }
                    Stage::Chosen => return false,
                }
            }
        }
        if self.chunk < slabs.chunks.len() {
            return true;
        }
        self.chunk = 0;
        self.stage = match &self.stage {
            Stage::Counting(counts) => {
                let of = |(class, count)| Choice::of(class, count);
                Stage::Choosing(counts.iter().enumerate().map(of).collect())
            }
            _ => Stage::Chosen,
        };
        !matches!(self.stage, Stage::Chosen)
    }

    /// Ends the choice, if it was under way; what was chosen is to be released.
    pub fn rewind(&mut self) {
        self.stage = Stage::Chosen;
        self.chunk = 0;
    }

    /// Releases what could not be emptied, looking at so many chunks of pages. Whether there is more to do.
    pub fn release_step(&mut self, slabs: &mut Slabs, chunks: usize) -> bool {
        let end = (self.chunk + chunks).min(slabs.chunks.len());
        for chunk in std::mem::replace(&mut self.chunk, end)..end {
            let first = slabs.chunks[chunk];
            for number in first..first + CHUNK_PAGES {
                slabs.stay(number);
            }
        }
        self.chunk < slabs.chunks.len()
    }
}

impl Slabs {
    /// Whether the piece lies in a page that is being emptied.
    #[inline]
    pub fn is_leaving(&mut self, piece: Ref) -> bool {
        self.page(piece.page()).leaving
    }

    fn has_room(&mut self, number: u32) -> bool {
        let page = self.page(number);
        let size = usize::from(BYTES_OF[usize::from(page.class)]);
        page.free != NO_PIECE || page.fresh as usize + size <= PAGE
    }

    fn leave(&mut self, number: u32) {
        if self.has_room(number) {
            let class = usize::from(self.page(number).class);
            self.unlink(number, class);
        }
        self.page(number).leaving = true;
    }

    fn stay(&mut self, number: u32) {
        if !std::mem::take(&mut self.page(number).leaving) {
            return;
        }
        if self.has_room(number) {
            let class = usize::from(self.page(number).class);
            self.link(number, class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// After most pieces of some sizes are gone, the others are moved together: they keep their content, and the memory goes back.
    #[test]
    fn thin_pages_are_emptied() {
        let mut rng = Rng::new(2);
        let mut slabs = Slabs::default();
        let mut live: Vec<(Ref, usize, u8)> = Vec::new();
        for n in 0..60_000 {
            let bytes = [24, 56, 57, 300, 1000][rng.index(5)];
            let piece = slabs.alloc(bytes);
            // SAFETY: a piece of that many bytes, ours.
            unsafe { piece.address().write_bytes(n as u8, bytes) };
            live.push((piece, bytes, n as u8));
        }
        let mut kept = Vec::new();
        for (piece, bytes, mark) in live {
            if bytes != 300 && rng.below(3) == 0 || bytes == 300 && rng.below(50) > 0 {
                kept.push((piece, bytes, mark));
            } else {
                // SAFETY: not freed yet.
                unsafe { slabs.free(piece, bytes) };
            }
        }
        while slabs.give_back_some(3) {}
        let (before, used) = (slabs.free_bytes(), slabs.live_bytes());
        let mut clearing = Clearing::default();
        while clearing.choose_step(&mut slabs, 3) {}
        let mut moved = 0;
        for (at, (piece, bytes, mark)) in kept.iter_mut().enumerate() {
            if slabs.is_leaving(*piece) && at % 1000 != 0 {
                let new = slabs.alloc(*bytes);
                assert!(!slabs.is_leaving(new), "nothing comes into them");
                // SAFETY: two pieces of that many bytes, the old one not freed yet.
                unsafe {
                    std::ptr::copy_nonoverlapping(piece.address(), new.address(), *bytes);
                    slabs.free(*piece, *bytes);
                }
                *piece = new;
                moved += 1;
            }
            // SAFETY: not freed yet.
            let content = unsafe { std::slice::from_raw_parts(piece.address(), *bytes) };
            assert!(content.iter().all(|b| b == mark));
        }
        while clearing.release_step(&mut slabs, 3) {}
        while slabs.give_back_some(3) {}
        assert_eq!(slabs.live_bytes(), used);
        let after = slabs.free_bytes();
        assert!(
            moved > 5_000 && after * 3 < before,
            "{moved} moved, {before} to {after}"
        );
        // What was released has room again: nothing is lost.
        for (piece, bytes, _) in kept {
            assert!(!slabs.is_leaving(piece));
            // SAFETY: not freed yet.
            unsafe { slabs.free(piece, bytes) };
        }
        slabs.purge();
        assert_eq!((slabs.live_bytes(), slabs.free_bytes()), (0, 0));
    }
}

//! A vector in chunks: growing copies no more than one chunk, and leaves no more than one half empty.

use std::ops::{Index, IndexMut};

/// Elements of a chunk.
const CHUNK: usize = 256;

/// See the module's documentation. All chunks but the last are full.
#[derive(Debug, Clone)]
pub struct Chunked<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Chunked { chunks: Vec::new() }
    }
}

impl<T> Chunked<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self.chunks.last() {
            Some(last) => (self.chunks.len() - 1) * CHUNK + last.len(),
            None => 0,
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Appends an element.
    pub fn push(&mut self, element: T) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(element),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(element);
                self.chunks.push(chunk);
            }
            None => self.chunks.push(vec![element]),
        }
    }

    /// Takes the last element.
    pub fn pop(&mut self) -> Option<T> {
        let last = self.chunks.last_mut()?;
        let element = last.pop();
        if last.is_empty() {
            self.chunks.pop();
        }
        element
    }

    /// Removes an element; the last one takes its place.
    pub fn swap_remove(&mut self, at: usize) -> T {
        let last = self.pop().expect("an index within");
        if at == self.len() {
            last
        } else {
            std::mem::replace(&mut self[at], last)
        }
    }

    /// Drops all elements from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.chunks.truncate(len.div_ceil(CHUNK));
        if let Some(last) = self.chunks.last_mut()
            && !len.is_multiple_of(CHUNK)
        {
            last.truncate(len % CHUNK);
        }
    }

    /// The element at an index.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    /// As above, to change.
    #[inline]
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.chunks.get_mut(at / CHUNK)?.get_mut(at % CHUNK)
    }

    /// All elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.chunks.iter().flatten()
    }

    /// Number of elements that there is room for.
    pub fn capacity(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum()
    }
}

impl<T> Index<usize> for Chunked<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        &self.chunks[at / CHUNK][at % CHUNK]
    }
}

impl<T> IndexMut<usize> for Chunked<T> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.chunks[at / CHUNK][at % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn behaves_as_a_vector() {
        let (mut v, mut model, mut rng) = (Chunked::default(), Vec::new(), Rng::new(1));
        for n in 0..20_000u32 {
            match rng.index(5) {
                0..3 => {
                    v.push(n);
                    model.push(n);
                }
                3 if !model.is_empty() => {
                    let at = rng.index(model.len());
                    assert_eq!(v.swap_remove(at), model.swap_remove(at));
                }
                4 if rng.index(500) == 0 => {
                    let len = rng.index(model.len() + 1);
                    v.truncate(len);
                    model.truncate(len);
                }
                _ => assert_eq!(v.pop(), model.pop()),
            }
            assert_eq!((v.len(), v.is_empty()), (model.len(), model.is_empty()));
            let at = rng.index(model.len() + 1);
            assert_eq!(v.get(at), model.get(at));
        }
        assert!(v.iter().eq(model.iter()));
        assert!(v.capacity() < model.len() + CHUNK);
    }
}

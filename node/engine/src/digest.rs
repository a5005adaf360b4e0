//! Digests of keys and of the whole keyspace, by the scheme of Valkey's `DEBUG DIGEST`: equal data gives equal
//! digests whatever the order of keys and the encodings, on our nodes and on Valkey's.

use crate::sha1::sha1;

/// A digest being gathered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueDigest(pub [u8; 20]);

impl ValueDigest {
    /// A digest of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds data whose order among the others does not matter.
    pub fn xor(&mut self, data: &[u8]) {
        self.xor_digest(&ValueDigest(sha1(data)));
    }

    /// Adds data whose order matters.
    pub fn mix(&mut self, data: &[u8]) {
        self.xor(data);
        self.0 = sha1(&self.0);
    }

    /// Adds a finished digest as data whose order does not matter: for each element of a set, gather `mix`ed parts into
    /// a digest of their own, then add its bytes with [`xor`](Self::xor).
    pub fn xor_digest(&mut self, other: &ValueDigest) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a ^= b;
        }
    }
}

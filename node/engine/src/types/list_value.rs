//! A list's value: one listpack while small, a deque of listpack nodes when large.
//!
//! A node holds at most what `list-max-listpack-size` says; an element larger than that is a node of its own.
//! Nodes are never empty. Reaching an element by index walks over nodes, not over elements.

use super::limits::TypeLimits;
use super::listpack::{Elem, Listpack};
use super::packed::{PackedBox, block_bytes};
use std::collections::VecDeque;

/// The two ends of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The head: `LEFT`.
    Left,
    /// The tail: `RIGHT`.
    Right,
}

/// Bytes that a node's entry may take beside its string: an estimate from above.
const ENTRY_OVERHEAD: usize = 8;
/// A node limited by count is limited to this many bytes as well.
const SAFE_BYTES: usize = 8192;

/// What one node may hold.
struct NodeLimit {
    bytes: usize,
    count: usize,
}

impl NodeLimit {
    fn of(limits: &TypeLimits) -> Self {
        match limits.list_size {
            0 => NodeLimit {
                bytes: usize::MAX,
                count: 1,
            },
            n @ 1.. => NodeLimit {
                bytes: usize::MAX,
                count: n as usize,
            },
            n => NodeLimit {
                bytes: 4096 << (n.unsigned_abs() - 1).min(4),
                count: usize::MAX,
            },
        }
    }

    fn exceeded(&self, bytes: usize, count: usize) -> bool {
        if self.bytes != usize::MAX {
            bytes > self.bytes
        } else {
            bytes > SAFE_BYTES || count > self.count
        }
    }

    fn large_element(&self, len: usize) -> bool {
        len > if self.bytes == usize::MAX {
            SAFE_BYTES
        } else {
            self.bytes
        }
    }
}

/// One node of a large list.
#[derive(Debug, Clone)]
pub enum Node {
    /// Many elements.
    Pack(Listpack),
    /// One large element.
    Plain(Box<[u8]>),
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Node::Pack(lp) => lp.len(),
            Node::Plain(_) => 1,
        }
    }

    fn of(s: &[u8], limit: &NodeLimit) -> Self {
        if limit.large_element(s.len()) {
            return Node::Plain(s.into());
        }
        let mut lp = Listpack::new();
        lp.push_back(s);
        Node::Pack(lp)
    }

    /// The node's listpack, if an element of `len` bytes may be added to it.
    fn room_for(&mut self, len: usize, limit: &NodeLimit) -> Option<&mut Listpack> {
        match self {
            Node::Pack(lp)
                if !limit.large_element(len)
                    && !limit.exceeded(lp.byte_len() + len + ENTRY_OVERHEAD, lp.len() + 1) =>
            {
                Some(lp)
            }
            _ => None,
        }
    }
}

/// A large list's nodes.
#[derive(Debug, Clone, Default)]
pub struct Quicklist {
    nodes: VecDeque<Node>,
    len: usize,
}

/// The value of a list key.
#[derive(Debug, Clone)]
pub enum ListValue {
    /// Small form.
    Pack(Listpack),
    /// Large form.
    Quick(PackedBox<Quicklist>),
}

impl Default for ListValue {
    fn default() -> Self {
        Self::new()
    }
}

impl Quicklist {
    /// The nodes from head to tail.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.iter()
    }

    /// The node that holds `index` (which is below `len`), and the index within it.
    fn locate(&self, index: usize) -> (usize, usize) {
        if index <= self.len / 2 {
            let mut rest = index;
            for (i, n) in self.nodes.iter().enumerate() {
                let len = n.len();
                if rest < len {
                    return (i, rest);
                }
                rest -= len;
            }
        } else {
            let mut behind = self.len;
            for (i, n) in self.nodes.iter().enumerate().rev() {
                behind -= n.len();
                if index >= behind {
                    return (i, index - behind);
                }
            }
        }
        unreachable!("an index is below the length");
    }

    fn push(&mut self, end: End, s: &[u8], limit: &NodeLimit) {
        self.len += 1;
        let node = match end {
            End::Left => self.nodes.front_mut(),
            End::Right => self.nodes.back_mut(),
        };
        if let Some(lp) = node.and_then(|n| n.room_for(s.len(), limit)) {
            match end {
                End::Left => lp.push_front(s),
                End::Right => lp.push_back(s),
            }
            return;
        }
        let node = Node::of(s, limit);
        match end {
            End::Left => self.nodes.push_front(node),
            End::Right => self.nodes.push_back(node),
        }
    }

    /// Inserts before the element at `index`, which is below the length.
    fn insert(&mut self, index: usize, s: &[u8], limit: &NodeLimit) {
        let (i, within) = self.locate(index);
        self.len += 1;
        if let Some(lp) = self.nodes[i].room_for(s.len(), limit) {
            let at = lp.seek(within).unwrap_or(lp.end());
            lp.insert(at, s);
            return;
        }
        let mut i = i;
        if within > 0
            && let Node::Pack(lp) = &mut self.nodes[i]
        {
            let tail = lp.split_off(lp.seek(within).expect("an index within the node"));
            self.nodes.insert(i + 1, Node::Pack(tail));
            i += 1;
        }
        // Now the place is just before node `i`: at its head, behind its neighbour, or a node of its own.
        if let Some(lp) = self.nodes[i].room_for(s.len(), limit) {
            lp.push_front(s);
        } else if let Some(lp) = i
            .checked_sub(1)
            .and_then(|p| self.nodes[p].room_for(s.len(), limit))
        {
            lp.push_back(s);
        } else {
            self.nodes.insert(i, Node::of(s, limit));
        }
    }

    fn remove(&mut self, start: usize, mut n: usize) {
        let (mut i, mut within) = self.locate(start);
        self.len -= n;
        while n > 0 {
            let len = self.nodes[i].len();
            let here = n.min(len - within);
            n -= here;
            if here == len {
                // A run of whole nodes goes in one drain.
                let first = i;
                i += 1;
                while n > 0 && i < self.nodes.len() && self.nodes[i].len() <= n {
                    n -= self.nodes[i].len();
                    i += 1;
                }
                self.nodes.drain(first..i);
                i = first;
            } else {
                if let Node::Pack(lp) = &mut self.nodes[i] {
                    lp.remove_at(within, here);
                }
                i += 1;
            }
            within = 0;
        }
    }
}

impl ListValue {
    /// Frees nodes with about `n` elements from the tail, of a list that will not be used again. Whether there is more.
    pub fn discard(&mut self, n: usize) -> bool {
        match self {
            ListValue::Pack(_) => false,
            ListValue::Quick(list) => {
                // A node holds some 8 KiB.
                let nodes = list.nodes.len().saturating_sub(n.div_ceil(64));
                list.nodes.truncate(nodes);
                nodes > 0
            }
        }
    }

    /// An empty list in the small form.
    pub fn new() -> Self {
        ListValue::Pack(Listpack::new())
    }

    /// A list from the nodes of a file, in order; empty nodes are dropped.
    pub fn from_nodes(nodes: impl IntoIterator<Item = Node>, limits: &TypeLimits) -> Self {
        let mut quick = Quicklist::default();
        for node in nodes {
            quick.append_node(node);
        }
        let mut list = ListValue::Quick(PackedBox::new(quick));
        list.fit(limits);
        list
    }

    /// Appends a whole node, for loading.
    pub fn append_node(&mut self, node: Node) {
        if let ListValue::Pack(lp) = self {
            let mut quick = Quicklist::default();
            quick.append_node(Node::Pack(std::mem::take(lp)));
            *self = ListValue::Quick(PackedBox::new(quick));
        }
        if let ListValue::Quick(q) = self {
            q.append_node(node);
        }
    }

    /// Name of the form, as `OBJECT ENCODING` reports it.
    pub fn encoding(&self) -> &'static str {
        match self {
            ListValue::Pack(_) => "listpack",
            ListValue::Quick(_) => "quicklist",
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            ListValue::Pack(lp) => lp.len(),
            ListValue::Quick(q) => q.len,
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the large form if `count` elements of `bytes` bytes in all, about to be added, ask for it.
    pub fn prepare(&mut self, bytes: usize, count: usize, limits: &TypeLimits) {
        if let ListValue::Pack(lp) = self
            && NodeLimit::of(limits).exceeded(lp.byte_len() + bytes, lp.len() + count)
        {
            let mut quick = Quicklist::default();
            quick.append_node(Node::Pack(std::mem::take(lp)));
            *self = ListValue::Quick(PackedBox::new(quick));
        }
    }

    fn pack_again(&mut self, share: usize, limits: &TypeLimits) {
        let ListValue::Quick(q) = self else {
            return;
        };
        let limit = NodeLimit::of(limits);
        let len = q.len;
        if q.nodes.len() == 1
            && let Some(Node::Pack(lp)) = q.nodes.front_mut()
            && lp.byte_len() <= limit.bytes / share
            && len <= limit.count / share
        {
            *self = ListValue::Pack(std::mem::take(lp));
        } else if q.nodes.is_empty() {
            *self = ListValue::new();
        }
    }

    /// Takes the small form if elements were removed and half the limit is enough.
    pub fn shrink(&mut self, limits: &TypeLimits) {
        self.pack_again(2, limits);
    }

    /// Takes the form that suits a list that was just built.
    pub fn fit(&mut self, limits: &TypeLimits) {
        self.prepare(0, 0, limits);
        self.pack_again(1, limits);
    }

    /// Adds `s` at an end. [`ListValue::prepare`] comes first.
    pub fn push(&mut self, end: End, s: &[u8], limits: &TypeLimits) {
        match self {
            ListValue::Pack(lp) => match end {
                End::Left => lp.push_front(s),
                End::Right => lp.push_back(s),
            },
            ListValue::Quick(q) => q.push(end, s, &NodeLimit::of(limits)),
        }
    }

    /// Inserts `s` before the element at `index`, or at the tail when there is none.
    pub fn insert(&mut self, index: usize, s: &[u8], limits: &TypeLimits) {
        if index >= self.len() {
            return self.push(End::Right, s, limits);
        }
        match self {
            ListValue::Pack(lp) => {
                let at = lp.seek(index).unwrap_or(lp.end());
                lp.insert(at, s);
            }
            ListValue::Quick(q) => q.insert(index, s, &NodeLimit::of(limits)),
        }
    }

    /// Takes the element at an end away. The form stays; see [`ListValue::shrink`].
    pub fn pop(&mut self, end: End) -> Option<Box<[u8]>> {
        let index = match end {
            End::Left => 0,
            End::Right => self.len().checked_sub(1)?,
        };
        let s = self.get(index)?.to_boxed();
        self.remove(index, 1);
        Some(s)
    }

    /// The element at `index`.
    pub fn get(&self, index: usize) -> Option<Elem<'_>> {
        self.iter_from(index, false).next()
    }

    /// Replaces the element at `index`; whether there is one. [`ListValue::prepare`] comes first.
    pub fn set(&mut self, index: usize, s: &[u8], limits: &TypeLimits) -> bool {
        if index >= self.len() {
            return false;
        }
        match self {
            ListValue::Pack(lp) => {
                let at = lp.seek(index).expect("below the length");
                lp.replace(at, s);
            }
            ListValue::Quick(q) => {
                let limit = NodeLimit::of(limits);
                let (i, within) = q.locate(index);
                match &mut q.nodes[i] {
                    Node::Pack(lp) => {
                        let at = lp.seek(within).expect("an index within the node");
                        let old = lp.get(at).byte_len();
                        let bytes = (lp.byte_len() + s.len() + ENTRY_OVERHEAD).saturating_sub(old);
                        if !limit.large_element(s.len()) && !limit.exceeded(bytes, lp.len()) {
                            lp.replace(at, s);
                        } else {
                            q.insert(index, s, &limit);
                            q.remove(index + 1, 1);
                        }
                    }
                    node @ Node::Plain(_) => *node = Node::of(s, &limit),
                }
            }
        }
        true
    }

    /// Removes `n` elements from `start` on (fewer when the list ends before).
    pub fn remove(&mut self, start: usize, n: usize) {
        let n = n.min(self.len().saturating_sub(start));
        if n == 0 {
            return;
        }
        match self {
            ListValue::Pack(lp) => lp.remove_at(start, n),
            ListValue::Quick(q) => q.remove(start, n),
        }
    }

    /// All elements from head to tail.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0, false)
    }

    /// The elements from `index` on, towards the tail, or the head if `reverse`.
    pub fn iter_from(&self, index: usize, reverse: bool) -> Iter<'_> {
        if index >= self.len() {
            return Iter {
                list: self,
                node: usize::MAX,
                at: None,
                reverse,
            };
        }
        let (node, within) = match self {
            ListValue::Pack(_) => (0, index),
            ListValue::Quick(q) => q.locate(index),
        };
        let at = match self.pack(node) {
            Some(lp) => lp.seek(within),
            None => Some(0),
        };
        Iter {
            list: self,
            node,
            at,
            reverse,
        }
    }

    /// The listpack of a node, if it has one.
    fn pack(&self, node: usize) -> Option<&Listpack> {
        match self {
            ListValue::Pack(lp) => Some(lp),
            ListValue::Quick(q) => match q.nodes.get(node) {
                Some(Node::Pack(lp)) => Some(lp),
                _ => None,
            },
        }
    }

    fn node_count(&self) -> usize {
        match self {
            ListValue::Pack(_) => 1,
            ListValue::Quick(q) => q.nodes.len(),
        }
    }

    /// Nodes of the large form, and the bytes in them; `None` in the small form.
    pub fn nodes_and_bytes(&self) -> Option<(usize, usize)> {
        let ListValue::Quick(q) = self else {
            return None;
        };
        let bytes = |n: &Node| match n {
            Node::Pack(lp) => lp.byte_len(),
            Node::Plain(s) => s.len(),
        };
        Some((q.nodes.len(), q.nodes.iter().map(bytes).sum()))
    }

    /// Bytes of memory that the value takes, roughly.
    pub fn memory(&self) -> usize {
        match self {
            ListValue::Pack(lp) => lp.memory(),
            ListValue::Quick(q) => {
                let node = |n: &Node| match n {
                    Node::Pack(lp) => lp.memory(),
                    Node::Plain(s) => block_bytes(s.len()),
                };
                q.nodes.iter().map(node).sum::<usize>()
                    + block_bytes(q.nodes.capacity() * size_of::<Node>())
                    + block_bytes(size_of::<Quicklist>())
            }
        }
    }
}

impl Quicklist {
    fn append_node(&mut self, node: Node) {
        let n = node.len();
        if n > 0 {
            self.len += n;
            self.nodes.push_back(node);
        }
    }
}

/// Iterator over a list's elements, in either direction.
#[derive(Clone)]
pub struct Iter<'a> {
    list: &'a ListValue,
    node: usize,
    /// Position in the node's listpack (0 for a plain node); `None` at the end.
    at: Option<usize>,
    reverse: bool,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Elem<'a>;

    fn next(&mut self) -> Option<Elem<'a>> {
        let at = self.at?;
        let (elem, next) = match self.list.pack(self.node) {
            Some(lp) if self.reverse => (lp.get(at), lp.prev(at)),
            Some(lp) => lp.get_and_next(at),
            None => match self.list {
                ListValue::Quick(q) => match q.nodes.get(self.node)? {
                    Node::Plain(s) => (Elem::Str(s), None),
                    Node::Pack(_) => return None,
                },
                ListValue::Pack(_) => return None,
            },
        };
        self.at = next;
        if next.is_none() {
            let node = if self.reverse {
                self.node.checked_sub(1)
            } else {
                Some(self.node + 1)
            };
            if let Some(node) = node.filter(|n| *n < self.list.node_count()) {
                self.node = node;
                self.at = match self.list.pack(node) {
                    Some(lp) if self.reverse => lp.last(),
                    Some(lp) => lp.first(),
                    None => Some(0),
                };
            }
        }
        Some(elem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_as_a_deque_in_both_forms() {
        let mut seed = 9u64;
        let mut rnd = move |n: usize| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) as usize % n
        };
        for list_size in [-1, 3, 0, 128] {
            let limits = TypeLimits {
                list_size,
                ..TypeLimits::default()
            };
            let (mut list, mut model) = (ListValue::new(), Vec::<Vec<u8>>::new());
            for round in 0..6000 {
                let s = match rnd(30) {
                    0 => vec![b'L'; 4000 + rnd(6000)],
                    1..=10 => rnd(1000).to_string().into_bytes(),
                    _ => vec![b'a' + rnd(26) as u8; rnd(60)],
                };
                let i = rnd(model.len() + 1);
                let grow = if round < 3000 { 6 } else { 3 };
                if rnd(10) < grow {
                    list.prepare(s.len(), 1, &limits);
                    match rnd(4) {
                        0 => {
                            list.push(End::Left, &s, &limits);
                            model.insert(0, s);
                        }
                        1 => {
                            list.push(End::Right, &s, &limits);
                            model.push(s);
                        }
                        2 => {
                            list.insert(i, &s, &limits);
                            model.insert(i, s);
                        }
                        _ if i < model.len() => {
                            assert!(list.set(i, &s, &limits));
                            model[i] = s;
                        }
                        _ => {}
                    }
                } else {
                    match rnd(3) {
                        0 => assert_eq!(list.pop(End::Right).map(Vec::from), model.pop()),
                        1 if !model.is_empty() => {
                            assert_eq!(list.pop(End::Left).map(Vec::from), Some(model.remove(0)));
                        }
                        _ => {
                            let n = rnd(6).min(model.len() - i);
                            list.remove(i, n);
                            model.drain(i..i + n);
                        }
                    }
                    list.shrink(&limits);
                }
                assert_eq!(list.len(), model.len());
                assert_eq!(list.get(i).map(|e| e.to_vec()), model.get(i).cloned());
                if round % 100 == 0 {
                    assert_eq!(list.iter().map(|e| e.to_vec()).collect::<Vec<_>>(), model);
                    let back: Vec<_> = list.iter_from(i, true).map(|e| e.to_vec()).collect();
                    let want: Vec<_> = match i < model.len() {
                        true => model[..=i].iter().rev().cloned().collect(),
                        false => Vec::new(),
                    };
                    assert_eq!(back, want);
                }
            }
        }
    }
}

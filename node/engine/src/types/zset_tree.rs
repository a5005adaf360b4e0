//! The order of a large sorted set: a B+ tree with counts.
//!
//! Entries are `(score, id)`; what an id stands for is the caller's affair, who brings the comparison with
//! each call. Each inner node knows, for each child, its least entry and how many entries it holds, so that
//! rank → entry and "how many entries are before …" both take O(log n).

/// Most entries of a leaf.
const LEAF_MAX: usize = 64;
/// Most children of an inner node.
const INNER_MAX: usize = 32;
/// Nodes grow by so many entries at a time, so that few are unused.
const LEAF_STEP: usize = 8;
const INNER_STEP: usize = 4;

/// One entry of the order: 12 bytes, so that a leaf holds a third more of them than it would aligned.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, packed(4))]
pub struct Key {
    /// The score; never NaN.
    pub score: f64,
    /// The member, as the owner of the tree counts them.
    pub id: u32,
}

#[derive(Debug, Clone)]
enum Node {
    Leaf(Vec<Key>),
    Inner(Vec<Child>),
}

#[derive(Debug, Clone)]
struct Child {
    min: Key,
    count: u32,
    node: Node,
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Tree {
    root: Node,
    len: u32,
}

impl Default for Tree {
    fn default() -> Self {
        Tree {
            root: Node::Leaf(Vec::new()),
            len: 0,
        }
    }
}

/// Inserts into a node that grows in steps.
fn insert_at<T>(node: &mut Vec<T>, at: usize, item: T, step: usize) {
    if node.len() == node.capacity() {
        node.reserve_exact(step);
    }
    node.insert(at, item);
}

/// Cuts a node in two; the right half.
fn split_off<T>(node: &mut Vec<T>, cut: usize, step: usize) -> Vec<T> {
    let mut right = Vec::with_capacity((node.len() - cut).next_multiple_of(step));
    right.extend(node.drain(cut..));
    node.shrink_to(cut.next_multiple_of(step));
    right
}

/// Removes from a node that shrinks in steps.
fn remove_at<T>(node: &mut Vec<T>, at: usize, step: usize) -> T {
    let item = node.remove(at);
    if node.capacity() >= node.len() + 2 * step {
        node.shrink_to(node.len().next_multiple_of(step));
    }
    item
}

impl Node {
    fn first(&self) -> Key {
        match self {
            Node::Leaf(keys) => keys[0],
            Node::Inner(children) => children[0].min,
        }
    }

    fn size(&self) -> usize {
        match self {
            Node::Leaf(keys) => keys.len(),
            Node::Inner(children) => children.len(),
        }
    }

    fn count(&self) -> u32 {
        match self {
            Node::Leaf(keys) => keys.len() as u32,
            Node::Inner(children) => children.iter().map(|c| c.count).sum(),
        }
    }

    fn into_child(self) -> Child {
        Child {
            min: self.first(),
            count: self.count(),
            node: self,
        }
    }

    /// Inserts below; the right half when the node had to be split.
    fn insert(&mut self, key: Key, before: &impl Fn(&Key) -> bool) -> Option<Node> {
        match self {
            Node::Leaf(keys) => {
                let at = keys.partition_point(before);
                insert_at(keys, at, key, LEAF_STEP);
                if keys.len() <= LEAF_MAX {
                    return None;
                }
                // Appending (growing scores) leaves the left half nearly full.
                let cut = if at + 1 == keys.len() {
                    LEAF_MAX * 7 / 8
                } else {
                    LEAF_MAX / 2
                };
                Some(Node::Leaf(split_off(keys, cut, LEAF_STEP)))
            }
            Node::Inner(children) => {
                let i = children
                    .partition_point(|c| before(&c.min))
                    .saturating_sub(1);
                let child = &mut children[i];
                let split = child.node.insert(key, before);
                child.count += 1;
                child.min = child.node.first();
                let right = split?.into_child();
                child.count -= right.count;
                insert_at(children, i + 1, right, INNER_STEP);
                if children.len() <= INNER_MAX {
                    return None;
                }
                let cut = if i + 2 == children.len() {
                    INNER_MAX * 7 / 8
                } else {
                    INNER_MAX / 2
                };
                Some(Node::Inner(split_off(children, cut, INNER_STEP)))
            }
        }
    }

    fn set_id(&mut self, rank: u32, id: u32) {
        match self {
            Node::Leaf(keys) => keys[rank as usize].id = id,
            Node::Inner(children) => {
                let (i, rank) = locate(children, rank);
                if rank == 0 {
                    children[i].min.id = id;
                }
                children[i].node.set_id(rank, id);
            }
        }
    }

    /// Frees up to `left` leaves, the last ones first. Whether this node is empty.
    fn discard(&mut self, left: &mut usize) -> bool {
        let Node::Inner(children) = self else {
            *left = left.saturating_sub(1);
            return true;
        };
        while *left > 0
            && let Some(last) = children.last_mut()
        {
            if last.node.discard(left) {
                children.pop();
            }
        }
        children.is_empty()
    }

    fn memory(&self) -> usize {
        match self {
            Node::Leaf(keys) => keys.capacity() * size_of::<Key>(),
            Node::Inner(children) => {
                children.capacity() * size_of::<Child>()
                    + children.iter().map(|c| c.node.memory()).sum::<usize>()
            }
        }
    }

    fn remove(&mut self, rank: u32) -> Key {
        match self {
            Node::Leaf(keys) => remove_at(keys, rank as usize, LEAF_STEP),
            Node::Inner(children) => {
                let (i, rank) = locate(children, rank);
                let child = &mut children[i];
                let key = child.node.remove(rank);
                child.count -= 1;
                if child.count == 0 {
                    remove_at(children, i, INNER_STEP);
                    return key;
                }
                child.min = child.node.first();
                let max = match child.node {
                    Node::Leaf(_) => LEAF_MAX,
                    Node::Inner(_) => INNER_MAX,
                };
                if child.node.size() < max / 4 {
                    let left = if i > 0 { i - 1 } else { i };
                    if left + 1 < children.len()
                        && children[left].node.size() + children[left + 1].node.size()
                            <= max * 3 / 4
                    {
                        let right = remove_at(children, left + 1, INNER_STEP);
                        children[left].merge(right);
                    }
                }
                key
            }
        }
    }
}

impl Child {
    fn merge(&mut self, right: Child) {
        self.count += right.count;
        match (&mut self.node, right.node) {
            (Node::Leaf(a), Node::Leaf(b)) => {
                a.reserve_exact(b.len());
                a.extend(b);
            }
            (Node::Inner(a), Node::Inner(b)) => {
                a.reserve_exact(b.len());
                a.extend(b);
            }
            _ => unreachable!("all leaves are at one depth"),
        }
    }
}

/// The child that holds the entry of this rank, and the rank within it.
fn locate(children: &[Child], mut rank: u32) -> (usize, u32) {
    for (i, c) in children.iter().enumerate() {
        if rank < c.count {
            return (i, rank);
        }
        rank -= c.count;
    }
    unreachable!("a rank is below the count");
}

impl Tree {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Inserts `key`; `before` says whether an entry of the tree is ordered before it.
    pub fn insert(&mut self, key: Key, before: impl Fn(&Key) -> bool) {
        if let Some(right) = self.root.insert(key, &before) {
            let left = std::mem::replace(&mut self.root, Node::Leaf(Vec::new()));
            self.root = Node::Inner(vec![left.into_child(), right.into_child()]);
        }
        self.len += 1;
    }

    /// Removes the entry of this rank.
    ///
    /// # Panics
    /// When `rank` is not below [`Tree::len`].
    pub fn remove(&mut self, rank: usize) -> Key {
        assert!(rank < self.len());
        let key = self.root.remove(rank as u32);
        self.len -= 1;
        while let Node::Inner(children) = &mut self.root {
            match children.len() {
                0 => self.root = Node::Leaf(Vec::new()),
                1 => self.root = children.remove(0).node,
                _ => break,
            }
        }
        key
    }

    /// Gives the entry of this rank another id, which must not change its place.
    ///
    /// # Panics
    /// When `rank` is not below [`Tree::len`].
    pub fn set_id(&mut self, rank: usize, id: u32) {
        assert!(rank < self.len());
        self.root.set_id(rank as u32, id);
    }

    /// Frees up to `n` leaves. The tree is then fit for nothing but more of this, and to be dropped. Whether there is more.
    pub fn discard(&mut self, n: usize) -> bool {
        let mut left = n.max(1);
        !self.root.discard(&mut left)
    }

    /// Bytes that the nodes take.
    pub fn memory(&self) -> usize {
        self.root.memory()
    }

    /// How many entries `pred` holds for; it must hold for a prefix of the order.
    pub fn partition_point(&self, pred: impl Fn(&Key) -> bool) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(keys) => return rank + keys.partition_point(&pred),
                Node::Inner(children) => {
                    let i = children.partition_point(|c| pred(&c.min));
                    let Some(i) = i.checked_sub(1) else {
                        return rank;
                    };
                    rank += children[..i]
                        .iter()
                        .map(|c| c.count as usize)
                        .sum::<usize>();
                    node = &children[i].node;
                }
            }
        }
    }

    /// The leaf that holds the entry of this rank, and the entry's index in it.
    fn leaf(&self, rank: usize) -> (&[Key], usize) {
        let (mut node, mut rank) = (&self.root, rank as u32);
        loop {
            match node {
                Node::Leaf(keys) => return (keys, rank as usize),
                Node::Inner(children) => {
                    let (i, r) = locate(children, rank);
                    rank = r;
                    node = &children[i].node;
                }
            }
        }
    }

    /// The entry of this rank.
    pub fn get(&self, rank: usize) -> Option<Key> {
        if rank >= self.len() {
            return None;
        }
        let (keys, i) = self.leaf(rank);
        Some(keys[i])
    }

    /// The entries with ranks in `range`, in order or in reverse.
    pub fn range(&self, range: std::ops::Range<usize>, reverse: bool) -> Range<'_> {
        Range {
            tree: self,
            start: range.start,
            end: range.end.min(self.len()),
            reverse,
            leaf: &[],
            at: 0,
        }
    }
}

/// Iterator over a range of ranks.
#[derive(Clone)]
pub struct Range<'a> {
    tree: &'a Tree,
    start: usize,
    end: usize,
    reverse: bool,
    leaf: &'a [Key],
    /// Forward: index of the next entry in `leaf`. Reverse: that index + 1.
    at: usize,
}

impl Iterator for Range<'_> {
    type Item = Key;

    fn next(&mut self) -> Option<Key> {
        if self.start >= self.end {
            return None;
        }
        if self.reverse {
            if self.at == 0 {
                let (leaf, i) = self.tree.leaf(self.end - 1);
                (self.leaf, self.at) = (leaf, i + 1);
            }
            self.end -= 1;
            self.at -= 1;
            Some(self.leaf[self.at])
        } else {
            if self.at >= self.leaf.len() {
                (self.leaf, self.at) = self.tree.leaf(self.start);
            }
            self.start += 1;
            self.at += 1;
            Some(self.leaf[self.at - 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tree: &Tree, model: &[Key]) {
        assert_eq!(tree.len(), model.len());
        assert!(tree.range(0..model.len(), false).eq(model.iter().copied()));
        assert!(
            tree.range(0..model.len(), true)
                .eq(model.iter().rev().copied())
        );
    }

    #[test]
    fn behaves_as_a_sorted_vector() {
        let mut seed = 11u64;
        let mut rnd = move |n: usize| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) as usize % n
        };
        for shape in 0..3 {
            let (mut tree, mut model) = (Tree::default(), Vec::<Key>::new());
            for round in 0..30_000u32 {
                let grow = if round < 15_000 { 8 } else { 3 };
                if model.is_empty() || rnd(10) < grow {
                    let score = match shape {
                        0 => rnd(1000) as f64,
                        1 => f64::from(round),
                        _ => -f64::from(round),
                    };
                    let key = Key { score, id: round };
                    let before = |k: &Key| (k.score, k.id) < (key.score, key.id);
                    let at = model.partition_point(before);
                    assert_eq!(tree.partition_point(before), at);
                    tree.insert(key, before);
                    model.insert(at, key);
                } else {
                    let at = rnd(model.len());
                    assert_eq!(tree.get(at), Some(model[at]));
                    assert_eq!(tree.remove(at), model.remove(at));
                }
                if round % 1000 == 0 {
                    check(&tree, &model);
                }
            }
            check(&tree, &model);
            let (a, b) = (model.len() / 3, model.len() / 2);
            assert!(tree.range(a..b, true).eq(model[a..b].iter().rev().copied()));
            while !model.is_empty() {
                let at = rnd(model.len());
                tree.remove(at);
                model.remove(at);
            }
            assert!(tree.is_empty());
        }
    }
}

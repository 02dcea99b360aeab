//! A radix tree of raw byte strings: the longest one that a text begins with.

use super::index::{Numbers, Segment};

/// Strings of one directory, each with the routes for texts that begin with it and for the text itself.
#[derive(Debug, Default)]
pub(super) struct Segments {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// What leads here from the parent.
    label: Box<[u8]>,
    /// First bytes of the children's labels, ascending; side by side, since they are all that a search looks at.
    first_bytes: Box<[u8]>,
    children: Box<[Node]>,
    /// Routes for texts that go on from here, and for those that end here; `None` where no configured string ends.
    numbers: Option<[Numbers; 2]>,
}

impl Segments {
    /// From strings in ascending order, with the routes of [prefix, exact].
    pub(super) fn new(sorted: &[Segment<'_>]) -> Self {
        Self { root: Node::grow(sorted, 0, 0) }
    }

    /// The routes of the longest string that `text` begins with; `None` when it begins with none.
    pub(super) fn find(&self, text: &[u8]) -> Option<&Numbers> {
        let (mut node, mut rest, mut found) = (&self.root, text, None);
        loop {
            if let Some([prefix, exact]) = &node.numbers {
                found = Some(if rest.is_empty() { exact } else { prefix });
            }
            let Some(first) = rest.first() else { return found };
            let Some(at) = node.first_bytes.iter().position(|byte| byte == first) else { return found };
            let child = &node.children[at];
            let Some(behind) = rest.strip_prefix(&*child.label) else { return found };
            (node, rest) = (child, behind);
        }
    }
}

impl Node {
    /// A node for strings that have their first `end` bytes in common, of which those from `begin` lead here.
    fn grow(sorted: &[Segment<'_>], begin: usize, end: usize) -> Self {
        let Some(((first, own), others)) = sorted.split_first() else { return Self::default() };
        let label = first[begin..end].into();
        let (numbers, mut others) = if first.len() == end { (Some(own.clone()), others) } else { (None, sorted) };
        let (mut first_bytes, mut children) = (Vec::new(), Vec::new());
        while let Some((next, _)) = others.first() {
            let byte = next[end];
            let (group, behind) = others.split_at(others.partition_point(|(text, _)| text[end] == byte));
            let common = group.last().map_or(end + 1, |(last, _)| common_length(next, last));
            first_bytes.push(byte);
            children.push(Self::grow(group, end, common));
            others = behind;
        }
        Self { label, first_bytes: first_bytes.into(), children: children.into(), numbers }
    }
}

fn common_length(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

//! Strings of bytes by their beginnings.

/// Strings with a number each, walked byte by byte.
///
/// Nodes are numbered by their depth first, so that the node behind edge `e` is `e + 1`.
#[derive(Clone, Debug, Default)]
pub(super) struct Trie {
    /// Where the edges of each node begin in `labels`; one more than there are nodes.
    edges: Vec<u32>,
    labels: Vec<u8>,
    /// The number of the string that ends at a node; [`NONE`] where none does.
    values: Vec<u32>,
    /// The nodes one byte below the root; 0 where there is none.
    roots: Vec<u32>,
}

/// No string ends here.
const NONE: u32 = u32::MAX;
/// The node of the empty string.
pub(super) const ROOT: u32 = 0;

impl Trie {
    /// - `strings`: none empty; of equal ones the last counts.
    pub(super) fn new<'a>(strings: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let mut sorted: Vec<(&[u8], u32)> = strings.map(|(text, value)| (text.as_bytes(), value)).collect();
        // Stable: of equal ones the last stays last.
        sorted.sort_by_key(|(text, _)| *text);
        let mut trie = Self { roots: vec![0; 256], ..Self::default() };
        let mut level: Vec<_> = std::iter::once(0..sorted.len()).collect();
        let mut depth = 0;
        while !level.is_empty() {
            let mut below = Vec::new();
            for mut range in level {
                trie.edges.push(trie.labels.len() as u32);
                let mut value = NONE;
                while let Some(&(text, number)) =
                    sorted[range.clone()].first().filter(|(text, _)| text.len() == depth)
                {
                    debug_assert_eq!(text.len(), depth, "filtered");
                    value = number;
                    range.start += 1;
                }
                trie.values.push(value);
                while !range.is_empty() {
                    let label = sorted[range.start].0[depth];
                    let length = sorted[range.clone()].partition_point(|(text, _)| text[depth] == label);
                    if depth == 0 {
                        trie.roots[usize::from(label)] = trie.labels.len() as u32 + 1;
                    }
                    trie.labels.push(label);
                    below.push(range.start..range.start + length);
                    range.start += length;
                }
            }
            level = below;
            depth += 1;
        }
        trie.edges.push(trie.labels.len() as u32);
        trie
    }

    /// The node one byte further.
    pub(super) fn step(&self, node: u32, byte: u8) -> Option<u32> {
        if node == ROOT {
            return self.roots.get(usize::from(byte)).copied().filter(|&below| below != 0);
        }
        let [first, end] = [self.edges[node as usize] as usize, self.edges[node as usize + 1] as usize];
        let at = self.labels[first..end].binary_search(&byte).ok()?;
        Some((first + at) as u32 + 1)
    }

    /// The number of the string that ends at a node.
    pub(super) fn value(&self, node: u32) -> Option<u32> {
        Some(self.values[node as usize]).filter(|&value| value != NONE)
    }

    /// The longest string that `bytes` begin with: its length and number.
    pub(super) fn longest(&self, bytes: &[u8]) -> Option<(usize, u32)> {
        let (mut node, mut found) = (ROOT, None);
        for (at, &byte) in bytes.iter().enumerate() {
            let Some(below) = self.step(node, byte) else { break };
            node = below;
            if let Some(value) = self.value(node) {
                found = Some((at + 1, value));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_longest_string_is_found(
            strings in prop::collection::vec("[ab\u{e9}]{1,4}", 0..20), text in "[ab\u{e9}]{0,8}"
        ) {
            let trie = Trie::new(strings.iter().map(String::as_str).zip(0..));
            let begins = strings.iter().zip(0u32..).filter(|(string, _)| text.starts_with(string.as_str()));
            let longest = begins.map(|(string, value)| (string.len(), value)).max();
            prop_assert_eq!(trie.longest(text.as_bytes()), longest);
        }
    }
}

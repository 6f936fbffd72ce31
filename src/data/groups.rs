//! Pairs of the same source, as one question with several right answers.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hasher};

use s2s_runtime::vocabulary::Tokeniser;

use super::Part;

/// A source text and everything that is right for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// As it stands in the file.
    pub source: String,
    /// Its distinct targets, in the order of the file.
    pub references: Vec<String>,
}

/// Pairs by their source after normalisation: where each is, twelve bytes a pair, and no text.
pub struct Groups<'a> {
    pairs: &'a Part,
    /// (position of the group's first pair, 0, position of the pair): pairs of a group stand side by side.
    members: Vec<[u32; 3]>,
    /// (position of the first pair, its place among the members) of each group, in the order of the file.
    firsts: Vec<[u32; 2]>,
}

/// A number that equal texts have in common, and others hardly ever.
pub(super) fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// Hash of the source and position of each pair, sorted: equal sources side by side, in order.
pub(super) fn by_source(pairs: &Part, source: &dyn Tokeniser) -> Vec<[u32; 3]> {
    let key = |(i, (text, _)): (usize, (&str, &str))| {
        let hash = hash(&source.normalised(text));
        [(hash >> 32) as u32, hash as u32, i as u32]
    };
    let mut keys: Vec<[u32; 3]> = pairs.iter().enumerate().map(key).collect();
    keys.sort_unstable();
    keys
}

/// Runs of keys of the same hash.
pub(super) fn runs(keys: &[[u32; 3]]) -> impl Iterator<Item = &[[u32; 3]]> {
    keys.chunk_by(|a, b| a[..2] == b[..2])
}

impl<'a> Groups<'a> {
    /// Groups pairs by source text after normalisation.
    pub fn new(pairs: &'a Part, source: &dyn Tokeniser) -> Self {
        let mut members = by_source(pairs, source);
        let mut firsts = Vec::new();
        let mut start = 0;
        while start < members.len() {
            let length = members[start..].iter().take_while(|key| key[..2] == members[start][..2]).count();
            let run = &mut members[start..start + length];
            let text = |key: &[u32; 3]| -> Cow<'_, str> { source.normalised(pairs.get(key[2] as usize).0) };
            if run[1..].iter().any(|key| text(key) != text(&run[0])) {
                // Two texts of the same hash, which hardly ever happens.
                let mut by_text: BTreeMap<String, Vec<u32>> = BTreeMap::new();
                run.iter().for_each(|key| by_text.entry(text(key).into_owned()).or_default().push(key[2]));
                let mut at = 0;
                for group in by_text.into_values() {
                    firsts.push([group[0], (start + at) as u32]);
                    for &position in &group {
                        run[at] = [group[0], 0, position];
                        at += 1;
                    }
                }
            } else {
                let first = run[0][2];
                firsts.push([first, start as u32]);
                run.iter_mut().for_each(|key| *key = [first, 0, key[2]]);
            }
            start += length;
        }
        firsts.sort_unstable();
        Self { pairs, members, firsts }
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.firsts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.firsts.is_empty()
    }

    /// A group, counted in the order of the file.
    pub fn get(&self, i: usize) -> Group {
        let [first, start] = self.firsts[i];
        let members = self.members[start as usize..].iter().take_while(|member| member[0] == first);
        let mut seen = HashSet::new();
        let targets =
            members.map(|member| self.pairs.get(member[2] as usize).1).filter(|target| seen.insert(*target));
        let references = targets.map(str::to_owned).collect();
        Group { source: self.pairs.get(first as usize).0.to_owned(), references }
    }
}

/// Groups pairs by source text after normalisation, so that a prediction is right when it equals any of the
/// references.
pub fn group(pairs: &Part, source: &dyn Tokeniser) -> Vec<Group> {
    let groups = Groups::new(pairs, source);
    (0..groups.len()).map(|i| groups.get(i)).collect()
}

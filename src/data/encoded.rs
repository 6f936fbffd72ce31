//! Pairs as ids, in one buffer that is no longer than the texts.
//!
//! An id is written as LEB128 (seven bits a byte, the lowest first): ids follow code points, so that a
//! character of ASCII takes one byte, and others take about what they take in UTF-8.

use s2s_runtime::vocabulary::{Unit, Vocabulary};

use super::{Part, Progress};
use crate::error::{Error, ErrorKind, Result};
use crate::network::Example;

/// Pairs as ids, without START and END.
#[derive(Clone, Debug, Default)]
pub struct EncodedPairs {
    /// Of each pair: the number of source ids, the source ids, the target ids.
    bytes: Vec<u8>,
    /// Where each pair ends.
    ends: Vec<u32>,
}

/// The ids of some pairs, as the network reads them.
#[derive(Debug, Default)]
pub struct Batch {
    ids: Vec<u32>,
    /// Where source and target of each pair end.
    ends: Vec<[usize; 2]>,
}

/// Text to ids, by a table where symbols are characters.
struct Encoder<'a> {
    vocabulary: &'a Vocabulary,
    /// The id of each code point.
    table: Vec<u32>,
}

impl<'a> Encoder<'a> {
    fn new(vocabulary: &'a Vocabulary) -> Self {
        let is_character = vocabulary.spec().unit == Unit::Character;
        let characters = vocabulary.spec().symbols.iter().filter(|_| is_character).filter_map(|symbol| {
            let mut characters = symbol.chars();
            characters.next().filter(|_| characters.next().is_none())
        });
        let size = characters.clone().max().map_or(0, |c| c as usize + 1);
        let mut table = vec![s2s_runtime::contract::UNK; size];
        for character in characters {
            let id = vocabulary.id(character.encode_utf8(&mut [0; 4]));
            table[character as usize] = id.unwrap_or(s2s_runtime::contract::UNK);
        }
        Self { vocabulary, table }
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        ids.clear();
        match self.vocabulary.spec().unit {
            Unit::Character => {
                let id = |c: char| self.table.get(c as usize).copied().unwrap_or(s2s_runtime::contract::UNK);
                ids.extend(self.vocabulary.normalised(text).chars().map(id));
                self.vocabulary.fill(ids);
            }
            Unit::Token => *ids = self.vocabulary.encode(text),
        }
    }
}

impl EncodedPairs {
    /// Encodes pairs.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] with the line where a text normalises to nothing, because there is nothing to
    /// learn from it; beyond 4 GiB of ids.
    pub fn new(
        pairs: &Part,
        source: &Vocabulary,
        target: &Vocabulary,
        progress: &mut Progress<'_>,
    ) -> Result<Self> {
        let encoders = [Encoder::new(source), Encoder::new(target)];
        let mut all = Self { bytes: Vec::new(), ends: Vec::with_capacity(pairs.len()) };
        let [mut source, mut target] = [Vec::new(), Vec::new()];
        for (i, (from, to)) in pairs.iter().enumerate() {
            if i.is_multiple_of(1 << 14) {
                progress("encoding", i, pairs.len());
            }
            encoders[0].encode(from, &mut source);
            encoders[1].encode(to, &mut target);
            if source.is_empty() || target.is_empty() {
                let message = format!(
                    "nothing is left of the pair {from:?}, {to:?} in line {} after normalisation",
                    pairs.line(i)
                );
                return Err(Error::new(ErrorKind::Data, message)
                    .help("take the pair out of the data, or normalise less"));
            }
            write(&mut all.bytes, source.len() as u32);
            source.iter().chain(&target).for_each(|&id| write(&mut all.bytes, id));
            all.ends.push(u32::try_from(all.bytes.len()).map_err(|_| {
                let error = Error::new(ErrorKind::Data, "more than 4 GiB of ids");
                error.help("`data.limit: N` takes the first pairs only")
            })?);
        }
        // What was reserved and not needed is no memory until it is written to, but counts where memory is
        // limited.
        all.bytes.shrink_to_fit();
        Ok(all)
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn bytes(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.bytes[start..self.ends[i] as usize]
    }

    /// (source ids, target ids) of a pair.
    pub fn lengths(&self, i: usize) -> (usize, usize) {
        let mut bytes = self.bytes(i);
        let source = read(&mut bytes) as usize;
        // An id ends with a byte below 128.
        (source, bytes.iter().filter(|&&b| b < 128).count() - source)
    }

    /// Puts the ids of these pairs into a batch, in place of what is in there.
    pub fn fill(&self, positions: impl IntoIterator<Item = usize>, batch: &mut Batch) {
        batch.ids.clear();
        batch.ends.clear();
        for i in positions {
            let mut bytes = self.bytes(i);
            let middle = read(&mut bytes) as usize + batch.ids.len();
            while !bytes.is_empty() {
                batch.ids.push(read(&mut bytes));
            }
            batch.ends.push([middle, batch.ids.len()]);
        }
    }
}

impl Batch {
    /// The pairs, in order.
    pub fn examples(&self) -> Vec<Example<'_>> {
        let mut start = 0;
        let example = |&[middle, end]: &[usize; 2]| {
            let example = Example { source: &self.ids[start..middle], target: &self.ids[middle..end] };
            start = end;
            example
        };
        self.ends.iter().map(example).collect()
    }
}

fn write(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 128 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn read(bytes: &mut &[u8]) -> u32 {
    let (mut number, mut shift) = (0, 0);
    while let Some((&byte, rest)) = bytes.split_first() {
        *bytes = rest;
        number |= u32::from(byte & 127) << shift;
        if byte < 128 {
            break;
        }
        shift += 7;
    }
    number
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use s2s_runtime::vocabulary::Normalisation;

    use super::*;
    use crate::data::{Pair, Pairs};

    #[test]
    fn ids_of_every_size_are_read_as_they_were_written() {
        let numbers = [0, 1, 127, 128, 16_383, 16_384, u32::MAX];
        let mut bytes = Vec::new();
        numbers.into_iter().for_each(|number| write(&mut bytes, number));
        let mut rest = &bytes[..];
        assert_eq!(numbers.map(|_| read(&mut rest)), numbers);
        assert_eq!((bytes.len(), rest.len()), (1 + 1 + 1 + 2 + 2 + 3 + 5, 0));
    }

    #[test]
    fn a_batch_has_the_ids_that_the_vocabularies_give() {
        // More symbols than a byte has values, on the side of the targets.
        let wide: String = ('\u{4e00}'..'\u{5000}').collect();
        let pairs = [("B a", wide.as_str()), ("\u{e9}?", "x"), ("a", "\u{4e00}\u{4fff}\u{4e01}")];
        let pairs = pairs.map(|(s, t)| Pair { source: s.to_owned(), target: t.to_owned() });
        let part = Part::whole(Arc::new(Pairs::from_iter(&pairs)));
        let source = Vocabulary::build(Unit::Character, [Normalisation::Lowercase], ["ab \u{e9}"]);
        for target in [
            Vocabulary::build(Unit::Character, [], [&wide, "y"]),
            Vocabulary::build(Unit::Token, [], [&wide]),
        ] {
            let encoded = EncodedPairs::new(&part, &source, &target, &mut |_, _, _| ()).unwrap();
            let mut batch = Batch::default();
            encoded.fill([2, 0, 1], &mut batch);
            for (example, i) in batch.examples().into_iter().zip([2, 0, 1]) {
                assert_eq!(example.source, source.encode(&pairs[i].source));
                assert_eq!(example.target, target.encode(&pairs[i].target));
                assert_eq!(encoded.lengths(i), (example.source.len(), example.target.len()));
            }
        }
    }
}

//! Pairs of text in one buffer.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// A source text and its target text, as they stand in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// What is read.
    pub source: String,
    /// What shall be written.
    pub target: String,
}

/// How often something was met, and where first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// How often it was met.
    pub count: usize,
    /// 1-based line of the first; 0 where there is none.
    pub line: u64,
}

/// Pairs of text, one behind the other in one buffer: some eight bytes a pair more than the texts themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    text: String,
    /// Where a pair's source and its target end; its source begins where the pair before ends.
    ends: Vec<[u32; 2]>,
    /// Where the lines of pairs do not follow each other: the pair, and its line.
    lines: Vec<(u32, u64)>,
    /// Lines without a source or a target, which were left out.
    pub empty: Met,
    /// Lines that end in CR alone.
    pub returns: Met,
}

/// Some pairs of a buffer, in an order of their own.
#[derive(Clone, Debug, Default)]
pub struct Part {
    pairs: Arc<Pairs>,
    order: Order,
}

#[derive(Clone, Debug)]
enum Order {
    Range(usize, usize),
    List(Vec<u32>),
}

impl Default for Order {
    fn default() -> Self {
        Self::Range(0, 0)
    }
}

impl Met {
    pub(super) fn meet(&mut self, line: u64) {
        if self.count == 0 {
            self.line = line;
        }
        self.count += 1;
    }
}

impl Pairs {
    /// Room for pairs of `bytes` of text; what is reserved and not written to is no memory.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ..Self::default() }
    }

    /// Gives back the room that is not needed.
    pub(super) fn shrink_to_fit(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// Adds a pair that stands in `line`.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] beyond 4 GiB of text or 2^32 pairs.
    pub fn push(&mut self, line: u64, source: &str, target: &str) -> Result<()> {
        let too_much = || {
            let error = Error::new(ErrorKind::Data, "more than 4 GiB of text, or more than 4294967295 pairs");
            error.help("`data.limit: N` takes the first pairs only")
        };
        let end = |length: usize| u32::try_from(length).map_err(|_| too_much());
        let at = end(self.ends.len())?;
        let ends =
            [end(self.text.len() + source.len())?, end(self.text.len() + source.len() + target.len())?];
        if line != self.lines.last().map_or(0, |&(first, line)| line + u64::from(at - first)) {
            self.lines.push((at, line));
        }
        self.text.push_str(source);
        self.text.push_str(target);
        self.ends.push(ends);
        Ok(())
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Source and target of a pair.
    pub fn get(&self, i: usize) -> (&str, &str) {
        let start = if i == 0 { 0 } else { self.ends[i - 1][1] as usize };
        let [middle, end] = self.ends[i].map(|end| end as usize);
        (&self.text[start..middle], &self.text[middle..end])
    }

    /// Source and target of each pair.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// 1-based line of a pair.
    pub fn line(&self, i: usize) -> u64 {
        let after = self.lines.partition_point(|&(first, _)| first as usize <= i);
        let Some(&(first, line)) = self.lines.get(after.wrapping_sub(1)) else { return i as u64 + 1 };
        line + (i as u64 - u64::from(first))
    }
}

impl<'a> FromIterator<&'a Pair> for Pairs {
    fn from_iter<T: IntoIterator<Item = &'a Pair>>(pairs: T) -> Self {
        let mut all = Self::default();
        for (pair, line) in pairs.into_iter().zip(1..) {
            // Pairs that are held already are far fewer than a buffer takes.
            if all.push(line, &pair.source, &pair.target).is_err() {
                break;
            }
        }
        all
    }
}

impl Part {
    /// All pairs of a buffer, in their order.
    pub fn whole(pairs: Arc<Pairs>) -> Self {
        let order = Order::Range(0, pairs.len());
        Self { pairs, order }
    }

    /// The pairs at these positions.
    pub fn listed(pairs: Arc<Pairs>, positions: Vec<u32>) -> Self {
        Self { pairs, order: Order::List(positions) }
    }

    /// Cuts the pairs from `at` on off.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let order = match &mut self.order {
            Order::Range(start, end) => {
                let at = *start + at.min(*end - *start);
                Order::Range(at, std::mem::replace(end, at))
            }
            Order::List(positions) => {
                let rest = positions.split_off(at.min(positions.len()));
                positions.shrink_to_fit();
                Order::List(rest)
            }
        };
        Self { pairs: Arc::clone(&self.pairs), order }
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        match &self.order {
            Order::Range(start, end) => end - start,
            Order::List(positions) => positions.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn position(&self, i: usize) -> usize {
        match &self.order {
            Order::Range(start, _) => start + i,
            Order::List(positions) => positions[i] as usize,
        }
    }

    /// Source and target of a pair.
    pub fn get(&self, i: usize) -> (&str, &str) {
        self.pairs.get(self.position(i))
    }

    /// Source and target of each pair.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// 1-based line of a pair.
    pub fn line(&self, i: usize) -> u64 {
        self.pairs.line(self.position(i))
    }
}

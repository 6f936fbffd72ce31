//! Stop strings: texts at which a hypothesis ends besides END.

/// What the options need to know of the target vocabulary.
pub trait TargetSymbols {
    /// Symbols, the four special ones counted.
    fn size(&self) -> usize;
    /// The text of a symbol as it appears in the output; empty for PAD, START and END.
    fn piece(&self, id: u32) -> &str;
    /// What stands between two symbols: empty for characters, a space for tokens.
    fn separator(&self) -> &str;
    /// The id of a symbol.
    fn find(&self, symbol: &str) -> Option<u32>;
    /// Ids of a text; UNK for unknown symbols.
    fn ids(&self, text: &str) -> Vec<u32>;
}

/// The stop strings of a request, and the text of every symbol to find them in.
#[derive(Clone, Debug)]
pub struct StopStrings {
    strings: Vec<String>,
    longest: usize,
    pieces: Vec<String>,
    separator: String,
}

impl StopStrings {
    /// `strings` are looked for in the text of `symbols`.
    pub fn new(strings: &[String], symbols: &dyn TargetSymbols) -> Self {
        Self {
            strings: strings.to_vec(),
            longest: strings.iter().map(String::len).max().unwrap_or(0),
            pieces: (0..symbols.size())
                .map(|id| symbols.piece(u32::try_from(id).unwrap_or(u32::MAX)).to_owned())
                .collect(),
            separator: symbols.separator().to_owned(),
        }
    }

    /// The strings.
    pub fn strings(&self) -> &[String] {
        &self.strings
    }

    /// Whether the last of `ids` (generated tokens, at least one) completes a stop string.
    pub fn completed_by_last(&self, ids: &[u32]) -> bool {
        let piece = |id: &u32| self.pieces.get(*id as usize).map_or("", String::as_str);
        let Some((last, before)) = ids.split_last() else { return false };
        let last = piece(last);
        // Enough of the tail that a match which ends within the last piece begins within it.
        let mut tail: Vec<&str> = vec![last];
        let mut bytes = 0;
        for id in before.iter().rev() {
            if bytes >= self.longest {
                break;
            }
            tail.push(&self.separator);
            tail.push(piece(id));
            bytes += piece(id).len() + self.separator.len();
        }
        tail.reverse();
        let text = tail.concat();
        // The separator came with the last piece.
        let separator = if before.is_empty() { 0 } else { self.separator.len() };
        let fresh = text.len() - last.len() - separator.min(text.len() - last.len());
        self.strings.iter().any(|s| text.match_indices(s.as_str()).any(|(at, _)| at + s.len() > fresh))
    }

    /// Where the first stop string in `text` begins.
    pub fn first_in(&self, text: &str) -> Option<usize> {
        self.strings.iter().filter_map(|s| text.find(s.as_str())).min()
    }

    /// How many bytes at the end of `text` may be the beginning of a stop string, so that a stream holds them
    /// back.
    pub fn held_back(&self, text: &str) -> usize {
        let held = |s: &String| {
            (1..s.len())
                .rev()
                .filter(|&n| s.is_char_boundary(n))
                .find(|&n| text.ends_with(&s[..n]))
                .unwrap_or(0)
        };
        self.strings.iter().map(held).max().unwrap_or(0)
    }
}

//! What a model reads of a plain text: its lines, or its sentences. Models are trained on lines, and a text
//! with line breaks in it is nothing that they have ever seen.

use std::ops::Range;
use std::str::FromStr;

use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;

/// How a text is taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// At line breaks (LF, CR LF or CR), as `s2s translate` does; breaks and blank lines stay.
    #[default]
    Lines,
    /// At line breaks, and between the sentences of a line (Unicode Standard Annex 29); the spaces between
    /// them stay.
    Sentences,
    /// Texts are translated whole.
    None,
}

impl Split {
    /// As flags and requests have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Sentences => "sentences",
            Self::None => "none",
        }
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found =
            [Self::Lines, Self::Sentences, Self::None].into_iter().find(|split| split.as_str() == text);
        found.ok_or_else(|| format!("split {text:?} is not known; send lines, sentences or none"))
    }
}

/// Characters without a letter or a digit among them, after which a sentence ends: the search for what
/// follows a full stop goes over each of them as often as there are.
const LONGEST_RUN: usize = 32;

/// The parts of `text` that the model reads, in order; `None` where there are more than `most`. What lies
/// between them stays as it is.
pub(super) fn ranges(text: &str, split: Split, most: usize) -> Option<Vec<Range<usize>>> {
    let mut found = Vec::new();
    let mut add = |range: Range<usize>| {
        found.push(range);
        (found.len() <= most).then_some(())
    };
    match split {
        Split::None if text.is_empty() => {}
        Split::None => add(0..text.len())?,
        Split::Lines => lines(text).try_for_each(add)?,
        Split::Sentences => {
            for line in lines(text) {
                for block in blocks(text, line) {
                    for (at, sentence) in text[block.clone()].split_sentence_bound_indices() {
                        let start = block.start + at + (sentence.len() - sentence.trim_start().len());
                        let words = sentence.trim();
                        if !words.is_empty() {
                            add(start..start + words.len())?;
                        }
                    }
                }
            }
        }
    }
    Some(found)
}

/// Lines that are not blank, without their ends.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    let all = std::iter::from_fn(move || {
        let rest = text.get(start..)?;
        let line = start..start + rest.find(['\n', '\r']).unwrap_or(rest.len());
        start = line.end + 1;
        Some(line)
    });
    all.filter(|line| !text[line.clone()].trim().is_empty())
}

/// A line cut behind every [`LONGEST_RUN`] characters without a letter or a digit.
fn blocks(text: &str, line: Range<usize>) -> Vec<Range<usize>> {
    let (mut blocks, mut start, mut run) = (Vec::new(), line.start, 0);
    for (at, c) in text[line.clone()].char_indices() {
        run = if c.is_alphanumeric() && !is_combining_mark(c) { 0 } else { run + 1 };
        if run == LONGEST_RUN {
            let end = line.start + at + c.len_utf8();
            blocks.push(start..end);
            (start, run) = (end, 0);
        }
    }
    blocks.push(start..line.end);
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str, split: Split) -> Vec<&str> {
        ranges(text, split, usize::MAX).into_iter().flatten().map(|range| &text[range]).collect()
    }

    #[test]
    fn lines_end_with_any_line_break_and_blank_ones_are_not_read() {
        assert_eq!(parts("a\r\n b \n\n  \t\nc\rd\n", Split::Lines), ["a", " b ", "c", "d"]);
        assert_eq!(parts("one line.", Split::Lines), ["one line."]);
        for nothing in ["", " ", "\n\r\n"] {
            assert!(
                parts(nothing, Split::Lines).is_empty() && parts(nothing, Split::Sentences).is_empty(),
                "{nothing:?}"
            );
        }
        assert_eq!(parts("a\nb", Split::None), ["a\nb"]);
    }

    #[test]
    fn sentences_end_where_unicode_says_so_and_the_spaces_between_are_not_read() {
        let text = "  Hello there.  How are you? He paid 3.50 to him, i.e. her.\n你好。再见！ \u{201c}Yes.\u{201d} \
            No";
        let expected = [
            "Hello there.",
            "How are you?",
            "He paid 3.50 to him, i.e. her.",
            "你好。",
            "再见！",
            "\u{201c}Yes.\u{201d}",
            "No",
        ];
        assert_eq!(parts(text, Split::Sentences), expected);
    }

    #[test]
    fn more_parts_than_allowed_are_none_and_hostile_lines_take_linear_time() {
        assert_eq!(ranges("a\nb\nc", Split::Lines, 2), None);
        let started = std::time::Instant::now();
        for hostile in [
            ".)".to_owned() + &")".repeat(500_000),
            ". ".to_owned() + &" ".repeat(500_000) + "x",
            ".\u{300}".repeat(200_000),
        ] {
            ranges(&hostile, Split::Sentences, 4096);
        }
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }
}

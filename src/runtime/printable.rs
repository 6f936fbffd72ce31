//! Text of others (names in graphs, lines of files, requests), as a terminal, a log or a picture may show it.
//!
//! Control characters can steer a terminal, marks of direction make a line read as another than it is, and
//! invisible characters hide. All of them are shown as escapes; letters of every script, combining marks and
//! joiners stay.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether `c` is shown as an escape.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Direction: embeddings, overrides, isolates and marks; separators of lines and paragraphs.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Invisible: zero width, word joiners, byte order mark, annotations, tags, what is no character.
            | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// One line: control characters and the like as escapes such as `\u{1b}`, line breaks as `\n`.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_unprintable)
}

/// The same for texts of several lines: line breaks and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_unprintable(c) && c != '\n' && c != '\t')
}

/// The same for JSON that was written already: such characters stand in strings only, and become `\u001b`.
pub fn json(text: &str) -> Cow<'_, str> {
    let is_escaped = |c: char| is_unprintable(c) && !matches!(c, '\n' | '\t' | '\r');
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_hides_is_escaped_and_writing_of_every_script_stays() {
        assert_eq!(
            line("a\u{1b}[31m\nb\u{9b}\u{202e}c\u{200b}"),
            "a\\u{1b}[31m\\nb\\u{9b}\\u{202e}c\\u{200b}"
        );
        assert_eq!(lines("a\n\tb\r"), "a\n\tb\\r");
        for text in ["", "häß", "नमस्ते", "می‌خواهم", "👩\u{200d}👩", "e\u{301}", "שלום"]
        {
            assert!(matches!(line(text), Cow::Borrowed(_)), "{text:?}");
        }
    }

    #[test]
    fn json_reads_the_same_when_it_is_made_printable() {
        let value = serde_json::json!({ "a": "x\u{202e}y\u{7f}\u{e0041}\u{1b}", "b": [1, "\n"] });
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap_or_default()] {
            let shown = json(&text);
            assert!(!shown.contains(|c: char| is_unprintable(c) && c != '\n'), "{shown:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).ok(), Some(value.clone()));
        }
    }
}

//! Texts in YAML that come back as they were, and show what is in them.

use std::fmt::Write as _;

/// A YAML flow list of double-quoted strings, wrapped; `indent` spaces before each line.
pub(super) fn flow_list(items: &[String], indent: usize) -> String {
    const WIDTH: usize = 120;
    let indent = " ".repeat(indent);
    let (mut list, mut width) = ("[".to_owned(), WIDTH);
    for item in items {
        let quoted = quote(item);
        let length = quoted.chars().count() + 2;
        if width + length > WIDTH {
            list.push('\n');
            list.push_str(&indent);
            width = indent.len();
        } else {
            list.push(' ');
        }
        list.push_str(&quoted);
        list.push(',');
        width += length;
    }
    list.push('\n');
    list.push_str(&indent);
    list.push(']');
    list
}

/// A YAML double-quoted scalar: whatever might not be seen, or not survive an editor, is escaped.
pub fn quote(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        let plain = c == ' ' || !(c.is_control() || c.is_whitespace() || is_invisible(c));
        let _ = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            '\t' => write!(quoted, "\\t"),
            '\n' => write!(quoted, "\\n"),
            _ if plain => write!(quoted, "{c}"),
            _ if u32::from(c) <= 0xffff => write!(quoted, "\\u{:04x}", u32::from(c)),
            _ => write!(quoted, "\\U{:08x}", u32::from(c)),
        };
    }
    quoted.push('"');
    quoted
}

/// Format characters, combining marks and private-use or unassigned ranges that show nothing, or change their
/// neighbours.
fn is_invisible(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
        || matches!(u32::from(c),
            0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfe00..=0xfe0f | 0xfeff
            | 0xfff0..=0xfffb | 0xfffe | 0xffff | 0xe000..=0xf8ff | 0xe0000..)
}

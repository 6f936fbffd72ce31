//! Rust source as a list of words and marks, without comments and without what strings say.

/// A word (`crate`, `Parameters`), `::`, or a single mark; a literal is `"`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'s> {
    pub(crate) text: &'s str,
    /// From 1.
    pub(crate) line: usize,
}

impl Token<'_> {
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(is_word_start)
    }
}

fn is_word_start(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Takes `source` apart.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let (text, length) = next(rest, first);
        if let Some(text) = text {
            found.push(Token { text, line });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// The token at the beginning of `rest`, if one is there, and the bytes that are dealt with.
fn next(rest: &str, first: char) -> (Option<&str>, usize) {
    if rest.starts_with("//") {
        return (None, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (None, comment(rest));
    }
    if let Some(length) = string(rest) {
        return (Some("\""), length);
    }
    if let Some(byte) = rest.strip_prefix('b').filter(|byte| byte.starts_with('\'')) {
        return (Some("\""), 1 + quoted(byte).1);
    }
    if first == '\'' {
        return quoted(rest);
    }
    if is_word_start(first) || first.is_ascii_digit() {
        let from = if rest.starts_with("r#") { 2 } else { 0 };
        let length = rest[from..].find(|c| !is_word(c)).map_or(rest.len(), |length| from + length);
        let text = if first.is_ascii_digit() { "\"" } else { &rest[from..length] };
        return (Some(text), length);
    }
    let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
    (Some(&rest[..length]).filter(|_| !first.is_whitespace()), length)
}

/// The length of a block comment, which may hold others.
fn comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        let (opens, closes) = (rest[at..].find("/*"), rest[at..].find("*/"));
        match (opens, closes) {
            (Some(open), Some(close)) if open < close => (depth, at) = (depth + 1, at + open + 2),
            (_, Some(close)) => (depth, at) = (depth - 1, at + close + 2),
            (_, None) => return rest.len(),
        }
        if depth == 0 {
            return at;
        }
    }
}

/// The length of a string literal of any kind, if `rest` begins with one.
fn string(rest: &str) -> Option<usize> {
    let prefix = rest.find(|c| !matches!(c, 'b' | 'c' | 'r')).filter(|&length| length <= 2)?;
    let raw = rest[..prefix].contains('r');
    let hashes = rest[prefix..].find(|c| c != '#').filter(|&n| n == 0 || raw)?;
    let from = prefix + hashes;
    if !rest[from..].starts_with('"') {
        return None;
    }
    let body = &rest[from + 1..];
    if raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(body.find(&end).map_or(rest.len(), |at| from + 1 + at + end.len()));
    }
    let mut escaped = false;
    let end = body.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    Some(end.map_or(rest.len(), |at| from + 2 + at))
}

/// A character (`'a'`, `'\''`) is a literal, a lifetime (`'a`) is nothing.
fn quoted(rest: &str) -> (Option<&str>, usize) {
    let inside = &rest[1..];
    if let Some(escape) = inside.strip_prefix('\\') {
        let skipped = escape.chars().next().map_or(0, char::len_utf8);
        let end = escape[skipped..].find('\'').map_or(rest.len(), |at| 2 + skipped + at + 1);
        return (Some("\""), end);
    }
    let first = inside.chars().next().map_or(0, char::len_utf8);
    if inside[first..].starts_with('\'') {
        return (Some("\""), first + 2);
    }
    (None, 1 + inside.find(|c| !is_word(c)).unwrap_or(inside.len()))
}

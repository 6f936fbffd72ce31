//! Properties that several targets hold.

use s2s::error::Error;

/// Whether a terminal would do something else with it than show it.
fn is_control(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

/// What every error keeps: a sentence that can be printed anywhere. Helps are escaped where they are printed.
pub(crate) fn is_well(error: &Error) {
    let text = error.to_string();
    assert!(!error.message().trim().is_empty(), "an error without a sentence: {text:?}");
    assert!(!text.contains(is_control), "control characters in an error: {text:?}");
    assert!(
        text.len() <= 20_000,
        "an error of {} bytes: {:?}...",
        text.len(),
        text.chars().take(200).collect::<String>()
    );
    if let Some(help) = error.help_text() {
        assert!(!help.trim().is_empty() && help.len() <= 20_000, "a help of {} bytes", help.len());
    }
}

/// The value, if there is one; the error, if there is one, is looked at.
pub(crate) fn looked_at<T>(result: Result<T, Error>) -> Option<T> {
    result.inspect_err(is_well).ok()
}

/// Text that is shown to people: lines without control characters.
pub(crate) fn is_printable(what: &str, text: &str) {
    let strange = text.chars().find(|&c| is_control(c));
    assert!(strange.is_none(), "{strange:?} in {what}: {:?}", text.chars().take(2000).collect::<String>());
}

/// Well-formed XML, as far as it matters for what is written here: elements nest, attributes are quoted, text
/// is escaped.
pub(crate) fn is_xml(what: &str, text: &str) {
    is_printable(what, text);
    let wrong = |why: &str, at: usize| -> ! {
        let around: String = text[..at]
            .chars()
            .rev()
            .take(80)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .chain(text[at..].chars().take(80))
            .collect();
        panic!("{what} is no XML: {why} at byte {at}: {around:?}");
    };
    if let Some(at) = text.find(['\u{fffe}', '\u{ffff}']) {
        wrong("a character that XML does not have", at);
    }
    let (mut open, mut at, mut roots) = (Vec::new(), 0, 0);
    while let Some(start) = text[at..].find('<').map(|offset| at + offset) {
        is_escaped(&text[at..start]).unwrap_or_else(|| wrong("a bare &", at));
        let Some(end) = end_of_tag(text, start) else { wrong("a tag that does not end", start) };
        let tag = &text[start + 1..end];
        let name = tag
            .trim_start_matches('/')
            .split(|c: char| c.is_whitespace() || c == '/')
            .next()
            .unwrap_or_default();
        if !name.starts_with(['?', '!']) {
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_:".contains(c)) || name.is_empty() {
                wrong("a strange name", start);
            }
            if tag.starts_with('/') {
                if open.pop() != Some(name) {
                    wrong("an element closed that is not open", start);
                }
            } else {
                roots += usize::from(open.is_empty());
                attributes(tag[name.len()..].trim_end_matches('/')).unwrap_or_else(|why| wrong(why, start));
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
        }
        at = end + 1;
    }
    if !open.is_empty() || roots != 1 || !text[at..].trim().is_empty() {
        wrong("elements left open, or not one root", at);
    }
}

/// The `>` of the tag that begins at `start`, outside quotes.
fn end_of_tag(text: &str, start: usize) -> Option<usize> {
    let mut quote = None;
    text[start..].char_indices().find_map(|(offset, c)| {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '>') => return Some(start + offset),
            _ => {}
        }
        None
    })
}

fn is_escaped(text: &str) -> Option<()> {
    text.match_indices('&')
        .all(|(at, _)| {
            let reference = text[at + 1..].split(';').next().unwrap_or_default();
            ["amp", "lt", "gt", "quot", "apos"].contains(&reference) || reference.starts_with('#')
        })
        .then_some(())
}

fn attributes(mut text: &str) -> Result<(), &'static str> {
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return Ok(());
        }
        let (name, rest) = text.split_once('=').ok_or("an attribute without a value")?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_:".contains(c)) {
            return Err("an attribute with a strange name");
        }
        let quote =
            rest.chars().next().filter(|c| ['"', '\''].contains(c)).ok_or("an attribute without quotes")?;
        let (value, rest) = rest[1..].split_once(quote).ok_or("an attribute that does not end")?;
        if value.contains('<') {
            return Err("a bare < in an attribute");
        }
        is_escaped(value).ok_or("a bare & in an attribute")?;
        text = rest;
    }
}

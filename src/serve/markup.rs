//! Texts between the tags of HTML and XML, with their places: tags, attributes, comments, scripts and styles
//! stay, byte for byte.

use std::borrow::Cow;
use std::convert::Infallible;
use std::ops::Range;

use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Span, Tokenizer};

/// What a text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Markup {
    /// HTML, whole pages and fragments.
    Html,
    /// XML, whatever its elements are called.
    Xml,
}

/// Elements of HTML whose content is no text in a language.
const KEPT: [&str; 12] = [
    "code",
    "iframe",
    "kbd",
    "math",
    "noembed",
    "noframes",
    "noscript",
    "plaintext",
    "samp",
    "script",
    "style",
    "xmp",
];
/// Elements of HTML that have no end.
const VOID: [&str; 14] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];
/// Elements of HTML whose line breaks are seen.
const PREFORMATTED: [&str; 3] = ["listing", "pre", "textarea"];

/// A text between two tags.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Where it stands, without the white space around it.
    pub(super) range: Range<usize>,
    /// What it says: entities decoded, line breaks read as the spaces that they are.
    pub(super) text: String,
}

/// Texts of `source`; `None` where there are more than `most`.
///
/// - `ignored`: elements that are kept as they are, beside those with `translate="no"` or the class
///   `notranslate`.
pub(super) fn nodes(source: &str, markup: Markup, ignored: &[String], most: usize) -> Option<Vec<Node>> {
    let mut reader = Reader {
        source,
        markup,
        ignored,
        most,
        nodes: Vec::new(),
        tag: String::new(),
        attribute: String::new(),
        is_marked: false,
        kept: None,
        preformatted: 0,
    };
    let mut start = 0;
    // Only XML has sections of character data; they are kept.
    while markup == Markup::Xml
        && let Some(at) = source[start..].find("<![CDATA[")
        && let Some(length) = source[start + at..].find("]]>")
    {
        reader.read(start..start + at);
        start += at + length + "]]>".len();
    }
    reader.read(start..source.len());
    (reader.nodes.len() <= most).then_some(reader.nodes)
}

/// A text as it stands between tags.
pub(super) fn escaped(text: &str, markup: Markup) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '\u{a0}']) {
        return text.into();
    }
    let space = if markup == Markup::Html { "&nbsp;" } else { "&#160;" };
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\u{a0}', space).into()
}

struct Reader<'s> {
    source: &'s str,
    markup: Markup,
    ignored: &'s [String],
    most: usize,
    nodes: Vec<Node>,
    /// The tag that is being read, its attribute, and whether that asks to keep the element.
    tag: String,
    attribute: String,
    is_marked: bool,
    /// The element that is kept, and how many of its name are open.
    kept: Option<(String, usize)>,
    preformatted: usize,
}

impl Reader<'_> {
    fn read(&mut self, part: Range<usize>) {
        let source = &self.source[part.clone()];
        let is_html = self.markup == Markup::Html;
        let event = |event: CallbackEvent<'_>, span: Span<usize>| -> Option<Infallible> {
            self.take(&event, part.start + span.start..part.start + span.end);
            None
        };
        let mut emitter = CallbackEmitter::<_, Infallible, usize>::new(event);
        emitter.naively_switch_states(is_html);
        let Ok(()) = Tokenizer::new_with_emitter(source, emitter).finish();
    }

    fn take(&mut self, event: &CallbackEvent<'_>, range: Range<usize>) {
        match event {
            CallbackEvent::OpenStartTag { name } => {
                self.tag = String::from_utf8_lossy(name).into_owned();
                self.is_marked = false;
                self.attribute.clear();
            }
            CallbackEvent::AttributeName { name } => {
                self.attribute = String::from_utf8_lossy(name).into_owned();
            }
            CallbackEvent::AttributeValue { value } => {
                let is_class = |class: &[u8]| class.eq_ignore_ascii_case(b"notranslate");
                self.is_marked |= match self.attribute.as_str() {
                    "translate" => value.eq_ignore_ascii_case(b"no"),
                    "class" => value.split(u8::is_ascii_whitespace).any(is_class),
                    _ => false,
                };
            }
            CallbackEvent::CloseStartTag { self_closing } => self.open(*self_closing),
            CallbackEvent::EndTag { name } => self.close(name),
            CallbackEvent::String { value } => self.text(value, range),
            CallbackEvent::Comment { .. } | CallbackEvent::Doctype { .. } | CallbackEvent::Error(_) => {}
        }
    }

    fn open(&mut self, self_closing: bool) {
        let is_html = self.markup == Markup::Html;
        let tag = self.tag.as_str();
        if if is_html { VOID.contains(&tag) } else { self_closing } {
            return;
        }
        match &mut self.kept {
            Some((name, open)) => *open += usize::from(name == tag),
            None if self.is_marked
                || (is_html && KEPT.contains(&tag))
                || self.ignored.iter().any(|name| name.eq_ignore_ascii_case(tag)) =>
            {
                self.kept = Some((tag.to_owned(), 1));
            }
            None => self.preformatted += usize::from(is_html && PREFORMATTED.contains(&tag)),
        }
    }

    fn close(&mut self, name: &[u8]) {
        match &mut self.kept {
            Some((kept, open)) if kept.as_bytes() == name => {
                *open -= 1;
                if *open == 0 {
                    self.kept = None;
                }
            }
            None if self.markup == Markup::Html && PREFORMATTED.iter().any(|tag| tag.as_bytes() == name) => {
                self.preformatted = self.preformatted.saturating_sub(1);
            }
            Some(_) | None => {}
        }
    }

    fn text(&mut self, value: &[u8], range: Range<usize>) {
        // One more than allowed is enough to know.
        if self.kept.is_some() || self.nodes.len() > self.most {
            return;
        }
        let (Ok(value), Some(raw)) = (std::str::from_utf8(value), self.source.get(range.clone())) else {
            return;
        };
        let before = raw.len() - raw.trim_ascii_start().len();
        let behind = raw.len() - raw.trim_ascii_end().len();
        // Without letters or digits it is an ornament.
        if before == raw.len() || !value.contains(char::is_alphanumeric) {
            return;
        }
        let read = |space: &str| space.replace("\r\n", "\n").len();
        let inner = read(&raw[..before])..value.len().saturating_sub(read(&raw[raw.len() - behind..]));
        let inner = value.get(inner).unwrap_or(value);
        let text = if self.preformatted > 0 { inner.to_owned() } else { one_line(inner) };
        self.nodes.push(Node { range: range.start + before..range.end - behind, text });
    }
}

/// White space with a line break in it is one space, as browsers show it.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_whitespace()) {
        let length = rest[at..].find(|c: char| !c.is_ascii_whitespace()).unwrap_or(rest.len() - at);
        let space = &rest[at..at + length];
        line.push_str(&rest[..at]);
        line.push_str(if space.contains(['\n', '\r']) { " " } else { space });
        rest = &rest[at + length..];
    }
    line + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str, markup: Markup, ignored: &[&str]) -> Vec<(String, String)> {
        let ignored: Vec<String> = ignored.iter().map(|&name| name.to_owned()).collect();
        let found = nodes(source, markup, &ignored, usize::MAX).into_iter().flatten();
        found.map(|node| (source[node.range].to_owned(), node.text)).collect()
    }

    fn read(source: &str) -> Vec<String> {
        texts(source, Markup::Html, &[]).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn texts_between_tags_are_read_where_they_stand_with_their_entities_decoded() {
        let source = "<p title='a > b'> caf&eacute; &amp;\r\n  <b>tea</b>&nbsp;1 &lt; 2, a < b &#x4f60;&copy \
            no &bogus; <3</p>";
        let expected = [
            ("caf&eacute; &amp;", "café &"),
            ("tea", "tea"),
            ("&nbsp;1 &lt; 2, a < b &#x4f60;&copy no &bogus; <3", "\u{a0}1 < 2, a < b 你© no &bogus; <3"),
        ];
        assert_eq!(
            texts(source, Markup::Html, &[]),
            expected.map(|(raw, text)| (raw.to_owned(), text.to_owned()))
        );
    }

    #[test]
    fn comments_scripts_styles_code_and_what_asks_for_it_are_kept() {
        let source = "<!doctype html><!-- no --><style>a{}</style><script>if (a < b) \
            '<p>no</p>'</script><title>T &amp; U</title>\
            a<code>x<code>y</code>z</code>b<span translate=no>no<span>no</span></span>c<i class='x \
            notranslate'>no</i>d<br>e\
            <p>. , -</p><textarea>f\ng</textarea><p>one\n two\tthree</p>";
        assert_eq!(read(source), ["T & U", "a", "b", "c", "d", "e", "f\ng", "one two\tthree"]);
    }

    #[test]
    fn xml_has_no_elements_of_its_own_but_ends_in_tags_and_character_data() {
        let source = "<?xml version='1.0'?><a><code>b</code><x id='1'/>c<![CDATA[ <p>no]]>d<mrk>no</mrk></a>";
        let found: Vec<String> =
            texts(source, Markup::Xml, &["mrk"]).into_iter().map(|(_, text)| text).collect();
        assert_eq!(found, ["b", "c", "d"]);
    }

    #[test]
    fn broken_and_hostile_markup_takes_linear_time_and_is_never_read_as_text() {
        assert_eq!(read("a<b"), ["a"]);
        assert_eq!(read("a<!-- b"), ["a"]);
        assert_eq!(read("a<script>b"), ["a"]);
        assert_eq!(read("a</b c='>'>d"), ["a", "d"]);
        assert_eq!(nodes("<b>a</b>b", Markup::Html, &[], 1), None);
        let started = std::time::Instant::now();
        for hostile in [
            "<",
            "<b",
            "<b>",
            "</b>",
            "<b a=",
            "&",
            "&amp",
            "<!--",
            "<![CDATA[",
            "<span translate=no>",
            "<a <",
            "-->",
            "&#1",
        ] {
            for markup in [Markup::Html, Markup::Xml] {
                nodes(&hostile.repeat(1_000_000 / hostile.len()), markup, &[], 4096);
            }
        }
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    #[test]
    fn what_is_written_between_tags_reads_as_what_was_meant() {
        for markup in [Markup::Html, Markup::Xml] {
            let text = "a & b < c > d\u{a0}e \"f\"";
            assert_eq!(texts(&escaped(text, markup), markup, &[])[0].1, text);
        }
        assert_eq!(escaped("plain é", Markup::Html), "plain é");
    }
}

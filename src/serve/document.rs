//! Texts as clients send them (several lines, HTML) and as models read them: taken apart, translated a line,
//! a sentence or a text between tags at a time, and put together again with everything between them as it
//! was.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use s2s_runtime::decoding::Settings;
use s2s_runtime::translator::{SourceText, Translation};
use s2s_runtime::vocabulary::SymbolList;

use super::body::SMALL;
use super::client::Caller;
use super::error::{ApiError, Fault};
use super::markup::{self, Markup};
use super::offload;
use super::scheduler::{Misread, Scheduler};
use super::server::Server;
use super::split::{Split, ranges};

/// Between two tries to put more of a long request into a full queue.
const PAUSE: Duration = Duration::from_millis(20);

/// How the texts of a request are to be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    pub(super) split: Split,
    pub(super) markup: Option<Markup>,
    /// Elements of the markup that are kept as they are.
    pub(super) ignored: Vec<String>,
    /// Line breaks are spaces.
    pub(super) joins_lines: bool,
}

#[derive(Debug)]
enum Part {
    /// Bytes of the source that stay.
    Kept(Range<usize>),
    /// What stands between two sentences of a text whose entities were decoded.
    Between(String),
    /// Bytes of the source that the model reads.
    Read(Range<usize>),
    /// What the model reads of markup, and where that begins in the source.
    Decoded(String, usize),
}

/// One text of a request.
#[derive(Debug)]
pub(super) struct Document {
    source: String,
    parts: Vec<Part>,
    markup: Option<Markup>,
}

impl Document {
    /// `None` where the model would have to read more than `most` parts.
    fn new(source: String, reading: &Reading, most: usize) -> Option<Self> {
        let source =
            if reading.joins_lines { source.replace("\r\n", " ").replace(['\n', '\r'], " ") } else { source };
        let mut parts = Vec::new();
        let mut kept = 0;
        if let Some(markup) = reading.markup {
            let mut left = most;
            for node in markup::nodes(&source, markup, &reading.ignored, most)? {
                parts.push(Part::Kept(kept..node.range.start));
                let mut between = 0;
                for range in ranges(&node.text, reading.split, left)? {
                    left -= 1;
                    parts.push(Part::Between(
                        markup::escaped(&node.text[between..range.start], markup).into_owned(),
                    ));
                    between = range.end;
                    parts.push(Part::Decoded(node.text[range].to_owned(), node.range.start));
                }
                parts.push(Part::Between(markup::escaped(&node.text[between..], markup).into_owned()));
                kept = node.range.end;
            }
        } else {
            for range in ranges(&source, reading.split, most)? {
                parts.push(Part::Kept(kept..range.start));
                kept = range.end;
                parts.push(Part::Read(range));
            }
        }
        parts.push(Part::Kept(kept..source.len()));
        Some(Self { source, parts, markup: reading.markup })
    }

    fn reads(&self) -> impl Iterator<Item = (&str, usize)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Read(range) => Some((&self.source[range.clone()], range.start)),
            Part::Decoded(text, at) => Some((text.as_str(), *at)),
            Part::Kept(_) | Part::Between(_) => None,
        })
    }

    /// The text with `made` in the place of what the model read.
    fn put_together<'t>(&self, mut made: impl Iterator<Item = &'t str>) -> String {
        let mut whole = String::with_capacity(self.source.len());
        for part in &self.parts {
            match (part, self.markup) {
                (Part::Kept(range), _) => whole.push_str(&self.source[range.clone()]),
                (Part::Between(text), _) => whole.push_str(text),
                (Part::Read(_) | Part::Decoded(..), None) => whole.push_str(made.next().unwrap_or_default()),
                (Part::Read(_) | Part::Decoded(..), Some(markup)) => {
                    whole.push_str(&markup::escaped(made.next().unwrap_or_default(), markup));
                }
            }
        }
        whole
    }
}

/// What became of one text of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Whole {
    pub(super) text: String,
    /// Other hypotheses of all its parts, the best first.
    pub(super) alternatives: Vec<String>,
    /// Symbols that the model does not know, each once, in order of appearance.
    pub(super) unknown: Vec<String>,
    /// The score of its worst part, as far as scores were asked for.
    pub(super) score: f32,
}

/// All texts of a request, translated.
#[derive(Debug, Default)]
pub(super) struct Translated {
    /// In the order of the request.
    pub(super) texts: Vec<Whole>,
    /// The longest wait of any part.
    pub(super) queued: Duration,
    /// The longest decoding of any part.
    pub(super) inference: Duration,
    /// Tokens of all hypotheses returned.
    pub(super) generated_tokens: usize,
}

impl Translated {
    /// Unknown symbols of all texts.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().flat_map(|text| &text.unknown).map(String::as_str)
    }
}

/// Takes texts apart: all their parts together are at most `most`.
fn take_apart(texts: Vec<String>, reading: &Reading, most: usize) -> Result<Vec<Document>, ApiError> {
    let mut left = most;
    let mut documents = Vec::with_capacity(texts.len());
    for text in texts {
        let document = Document::new(text, reading, left);
        let document = document.ok_or_else(|| {
            let message = format!(
                "the request has more than {most} lines, sentences or texts between tags; send it in pieces"
            );
            ApiError::new(Fault::TooLong, message)
        })?;
        left -= document.reads().count();
        documents.push(document);
    }
    Ok(documents)
}

/// Translates the texts of a request, each as `reading` says. Its parts wait in the queue a few at a time, so
/// that it has no more than its turn; whether all of them can be translated is known before the first is
/// decoded.
///
/// # Errors
/// Too many texts or parts; what is wrong with a part, by its place; an answer that might become too large;
/// those of [`Scheduler::decode`].
pub(super) async fn translate(
    server: &Server,
    scheduler: &Scheduler,
    texts: Vec<String>,
    reading: &Reading,
    settings: &Arc<Settings>,
    caller: Caller,
) -> Result<Translated, ApiError> {
    let limits = server.limits();
    scheduler.check_texts(texts.len())?;
    let characters: usize = texts.iter().map(|text| text.chars().count()).sum();
    let bytes: usize = texts.iter().map(String::len).sum();
    // Every text may be one part, however few lines may be sent.
    let most = limits.max_lines.max(texts.len());
    let documents = if bytes <= SMALL {
        take_apart(texts, reading, most)?
    } else {
        let reading = reading.clone();
        offload::run(move || take_apart(texts, &reading, most)).await??
    };
    let parts: Vec<&str> = documents.iter().flat_map(Document::reads).map(|(text, _)| text).collect();
    let decoded = decode_parts(scheduler, &parts, settings, caller)
        .await
        .map_err(|misread| named(&documents, misread))?;
    server.count_characters(characters);
    let mut made = decoded.made.iter();
    let mut texts = Vec::with_capacity(documents.len());
    for document in &documents {
        let own: Vec<&Translation> = made.by_ref().take(document.reads().count()).collect();
        texts.push(whole(document, &own));
    }
    let Decoded { queued, inference, generated_tokens, .. } = decoded;
    Ok(Translated { texts, queued, inference, generated_tokens })
}

/// Parts of a request, decoded.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// In the order of the parts.
    pub(super) made: Vec<Translation>,
    /// The symbols of each part, where attention is asked for.
    pub(super) symbols: Vec<SymbolList>,
    pub(super) queued: Duration,
    pub(super) inference: Duration,
    pub(super) generated_tokens: usize,
}

/// Decodes the parts of a request, a few at a time.
///
/// # Errors
/// Where a part cannot be read, which; of the whole, the first.
pub(super) async fn decode_parts(
    scheduler: &Scheduler,
    parts: &[&str],
    settings: &Arc<Settings>,
    caller: Caller,
) -> Result<Decoded, Misread> {
    let whole = |error| Misread { index: usize::MAX, error };
    let together = scheduler.most_together();
    let mut windows = Vec::with_capacity(parts.len().div_ceil(together.max(1)));
    let mut lengths = Vec::with_capacity(parts.len());
    for window in parts.chunks(together) {
        let from = lengths.len();
        let owned = window.iter().map(|&part| part.to_owned()).collect();
        let sources = scheduler.encode_each(owned, settings).await;
        let sources = sources.map_err(|misread| Misread { index: misread.index + from, ..misread })?;
        lengths.extend(sources.iter().map(|source| source.ids.len()));
        windows.push(sources);
    }
    scheduler.check_answer(&lengths, settings).map_err(whole)?;
    let mut decoded = Decoded::default();
    for (at, sources) in windows.into_iter().enumerate() {
        if settings.attention {
            decoded.symbols.extend(sources.iter().map(|source| source.symbols.clone()));
        }
        let done = match at {
            0 => scheduler.decode(sources, settings, caller).await,
            _ => patiently(scheduler, sources, settings, caller).await,
        };
        let done = done.map_err(whole)?;
        decoded.queued = decoded.queued.max(done.queued);
        decoded.inference = decoded.inference.max(done.inference);
        decoded.generated_tokens += done.generated_tokens;
        decoded.made.extend(done.texts);
    }
    Ok(decoded)
}

/// As [`Scheduler::decode`], but a request that has begun waits for room in the queue as long as its time
/// allows.
async fn patiently(
    scheduler: &Scheduler,
    sources: Vec<SourceText>,
    settings: &Arc<Settings>,
    caller: Caller,
) -> Result<super::scheduler::Answer, ApiError> {
    loop {
        match scheduler.decode(sources.clone(), settings, caller).await {
            Err(error) if error.fault == Fault::Overloaded && Instant::now() + PAUSE < caller.deadline => {
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

fn whole(document: &Document, made: &[&Translation]) -> Whole {
    let mut seen = HashSet::new();
    let unknown = made
        .iter()
        .flat_map(|part| &part.unknown)
        .filter(|symbol| seen.insert(symbol.as_str()))
        .cloned()
        .collect();
    let others = made.iter().map(|part| part.alternatives.len()).max().unwrap_or(0);
    let other = |n: usize| {
        let parts = made.iter().map(move |part| part.alternatives.get(n).unwrap_or(&part.best).text.as_str());
        document.put_together(parts)
    };
    Whole {
        text: document.put_together(made.iter().map(|part| part.best.text.as_str())),
        alternatives: (0..others).map(other).collect(),
        unknown,
        score: made.iter().map(|part| part.score).reduce(f32::min).unwrap_or(0.0),
    }
}

/// An error of one part, which says where that is.
fn named(documents: &[Document], misread: Misread) -> ApiError {
    let Misread { mut index, error } = misread;
    let mut place = String::new();
    for (at, document) in documents.iter().enumerate() {
        let reads = document.reads().count();
        if index >= reads {
            index -= reads;
            continue;
        }
        if documents.len() > 1 {
            place = format!("text {at}: ");
        }
        if reads > 1
            && let Some((_, start)) = document.reads().nth(index)
        {
            let line = document.source[..start].lines().count().max(1)
                + usize::from(document.source[..start].ends_with(['\n', '\r']));
            place.push_str(&format!("line {line}: "));
        }
        break;
    }
    if place.is_empty() { error } else { ApiError::new(error.fault, place + &error.message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upper(source: &str, reading: &Reading) -> String {
        let document = Document::new(source.to_owned(), reading, usize::MAX);
        document.map_or_else(String::new, |document| {
            let made: Vec<String> = document.reads().map(|(text, _)| text.to_uppercase()).collect();
            document.put_together(made.iter().map(String::as_str))
        })
    }

    #[test]
    fn lines_and_sentences_keep_what_is_between_them() {
        let text = " a b \r\n\r\nc. d?  e\r\tf\n";
        for split in [Split::Lines, Split::Sentences, Split::None] {
            assert_eq!(
                upper(text, &Reading { split, ..Reading::default() }),
                text.to_uppercase(),
                "{split:?}"
            );
        }
        let joined = Reading { split: Split::Sentences, joins_lines: true, ..Reading::default() };
        assert_eq!(upper("a\r\nb. c\nd.", &joined), "A B. C D.");
    }

    #[test]
    fn tags_and_entities_of_html_stay_or_come_back() {
        let reading = Reading { markup: Some(Markup::Html), ..Reading::default() };
        let html = "<p class=\"a\">x &amp; y.  <b>z</b>&nbsp;!<br/>\n two\n lines &lt;3</p><!-- c \
            --><script>s</script>";
        let expected = "<p class=\"a\">X &amp; Y.  <b>Z</b>&nbsp;!<br/>\n TWO LINES &lt;3</p><!-- c \
            --><script>s</script>";
        assert_eq!(upper(html, &reading), expected);
        let sentences = Reading { split: Split::Sentences, ..reading };
        assert_eq!(upper(html, &sentences), expected);
        assert_eq!(upper("<pre>a\n\n b</pre>", &sentences), "<pre>A\n\n B</pre>");
        assert_eq!(upper("a.&nbsp; B &lt; c.", &sentences), "A.&nbsp; B &lt; C.");
    }
}

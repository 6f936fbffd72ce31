//! The one error type of the project: a public kind, a private cause, and the place where it happened.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::printable;

/// What went wrong, coarse enough to be mapped to an exit code or an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The command line does not fit.
    Usage,
    /// A configuration or decoding file has an unknown key, a wrong type or a value out of range.
    Config,
    /// Training or input data cannot be read as described.
    Data,
    /// A bundle is damaged, incomplete, mixed from several exports, or of an unknown version.
    Bundle,
    /// Two computations that must agree do not.
    Parity,
    /// One text or one request cannot be handled: unknown character under `error`, bad parameter.
    Input,
    /// One text, or what is asked for it, is longer than a limit.
    TooLong,
    /// An engine is missing, too old, or failed on a graph.
    Engine,
    /// Reading or writing failed.
    Io,
    /// The address to serve on cannot be bound.
    Bind,
    /// The deadline passed.
    Timeout,
    /// The user or a signal asked to stop.
    Interrupted,
    /// A defect in this project.
    Internal,
}

/// Where it went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A file, with the 1-based line and the dotted key where they are known.
    File {
        /// The file as the user named it.
        path: PathBuf,
        /// 1-based.
        line: Option<u64>,
        /// Dotted, as in `model.hidden`.
        key: Option<String>,
    },
    /// A node, input or output of an ONNX graph.
    Graph {
        /// For example `decoder.onnx`.
        graph: String,
        /// The node, input or output.
        node: Option<String>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, key } => {
                f.write_str(&printable::line(&path.to_string_lossy()))?;
                if let Some(line) = line {
                    write!(f, ":{line}")?;
                }
                if let Some(key) = key {
                    write!(f, ":{}", printable::line(&cut(key, LONGEST_NAME)))?;
                }
                Ok(())
            }
            Self::Graph { graph, node: Some(node) } => {
                write!(f, "{}:{}", printable::line(graph), printable::line(&cut(node, LONGEST_NAME)))
            }
            Self::Graph { graph, node: None } => f.write_str(&printable::line(graph)),
        }
    }
}

/// Something that went wrong; [`Display`](fmt::Display) prints `place: message`, [`StdError::source`] gives
/// the cause.
///
/// What is printed is [`printable`]: names out of files and graphs cannot steer a terminal.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    place: Option<Place>,
    help: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `message` says what is wrong in one sentence without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), place: None, help: None, source: None }))
    }

    /// Reading or writing `path` failed.
    pub fn io(path: impl AsRef<Path>, cause: std::io::Error) -> Self {
        let message = match cause.kind() {
            std::io::ErrorKind::NotFound => "no such file or folder".to_owned(),
            std::io::ErrorKind::StorageFull => "the disk is full".to_owned(),
            std::io::ErrorKind::QuotaExceeded => "the disk quota is used up".to_owned(),
            std::io::ErrorKind::FileTooLarge => "the file would be larger than the system allows".to_owned(),
            _ => cause.to_string(),
        };
        Self::new(ErrorKind::Io, message).in_file(path).caused_by(cause)
    }

    /// Adds the file; an error that already has a place keeps it.
    #[must_use]
    pub fn in_file(self, path: impl AsRef<Path>) -> Self {
        self.at(Place::File { path: path.as_ref().to_owned(), line: None, key: None })
    }

    /// Adds file, 1-based line and dotted key.
    #[must_use]
    pub fn at_line(self, path: impl AsRef<Path>, line: Option<u64>, key: Option<&str>) -> Self {
        self.at(Place::File { path: path.as_ref().to_owned(), line, key: key.map(str::to_owned) })
    }

    /// Adds the graph and, where known, the node.
    #[must_use]
    pub fn in_graph(self, graph: impl Into<String>, node: Option<&str>) -> Self {
        self.at(Place::Graph { graph: graph.into(), node: node.map(str::to_owned) })
    }

    /// Adds a place; an error that already has one keeps it, because the innermost is the most exact.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.0.place.get_or_insert(place);
        self
    }

    /// Adds what would be right, or what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Adds the error underneath.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(cause.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence without the place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where.
    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    /// What would be right.
    pub fn help_text(&self) -> Option<&str> {
        self.0.help.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.0.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&printable::lines(&cut(&self.0.message, LONGEST_MESSAGE)))
    }
}

/// Characters of a name or a path of names that are shown: in foreign files they may be of any length.
const LONGEST_NAME: usize = 400;
/// Characters of a message that are shown, with all that it quotes.
const LONGEST_MESSAGE: usize = 8000;

/// The text, or its beginning and how long it is.
fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}... ({} bytes)", &text[..end], text.len())),
        None => Cow::Borrowed(text),
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}

/// Bytes of a name that another one is proposed for, and of the proposal.
const LONGEST_TYPED: usize = 128;
/// Names that it is compared with, the first ones: a comparison costs the product of both lengths.
const MOST_COMPARED: usize = 1000;

/// Words of a name that are compared with those of another.
const MOST_WORDS: usize = 8;
/// Names that are all said where none is near; of more, the nearest are.
const FEW_NAMES: usize = 8;
/// How many of the nearest.
const NEAREST: usize = 3;

/// The name in `known` nearest to `typed`, if it is near enough to be what was meant: a few letters off,
/// another case, `-` for `_`, half of its words (`hidden_size` for `hidden`), or the first letters of its
/// words (`lr` for `learning_rate`).
///
/// Nothing is proposed for names that nobody types, and of many known names only the first are looked at,
/// because both may come out of foreign files.
pub fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if typed.len() > LONGEST_TYPED {
        return None;
    }
    let plain_typed = plain(typed);
    known
        .into_iter()
        .take(MOST_COMPARED)
        .filter(|name| name.len() <= LONGEST_TYPED)
        .filter_map(|name| likeness(&plain_typed, &plain(name)).map(|rank| (rank, name)))
        .min()
        .map(|(_, name)| name)
}

/// What is said to someone who typed a name that is not among the `known`: the one that was meant, else all
/// of them if they are few, else the nearest and how many there are.
///
/// - `what`: what the names are, in the plural and with where they are known, as in `known keys here`.
pub fn guess<'a>(typed: &str, what: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(near) = did_you_mean(typed, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    if known.len() <= FEW_NAMES || typed.len() > LONGEST_TYPED {
        let shown: Vec<&str> = known.iter().copied().take(FEW_NAMES).collect();
        let more = if known.len() > shown.len() {
            format!(" and {} more", known.len() - shown.len())
        } else {
            String::new()
        };
        return format!("{what}: {}{more}", shown.join(", "));
    }
    let compared = known.iter().take(MOST_COMPARED).filter(|name| name.len() <= LONGEST_TYPED);
    let mut nearest: Vec<(usize, &str)> =
        compared.map(|name| (strsim::damerau_levenshtein(&plain(typed), &plain(name)), *name)).collect();
    nearest.sort_unstable();
    let nearest: Vec<&str> = nearest.into_iter().take(NEAREST).map(|(_, name)| name).collect();
    format!("none of the {} {what} is like it; the nearest are {}", known.len(), nearest.join(", "))
}

/// As all ways to write a name come out alike.
fn plain(name: &str) -> String {
    name.to_lowercase().replace(['-', ' '], "_")
}

/// How near two plain names are, lower is nearer: a class, then a distance; `None` for names that are not
/// alike.
fn likeness(typed: &str, name: &str) -> Option<(usize, usize)> {
    let distance = strsim::damerau_levenshtein(typed, name);
    if distance <= 1 + name.len().min(typed.len()) / 4 {
        return Some((0, distance));
    }
    let words = |text: &str| {
        text.split('_')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .take(MOST_WORDS)
            .collect::<Vec<_>>()
    };
    let (typed_words, name_words) = (words(typed), words(name));
    let initials: String = name_words.iter().filter_map(|word| word.chars().next()).collect();
    if name_words.len() > 1 && initials == typed {
        return Some((1, distance));
    }
    let same =
        |a: &str, b: &str| a == b || (a.len() > 3 && b.len() > 3 && strsim::damerau_levenshtein(a, b) <= 1);
    let shared = typed_words
        .iter()
        .filter(|word| word.len() >= 3 && name_words.iter().any(|other| same(word, other)))
        .count();
    let most = typed_words.len().max(name_words.len());
    (shared > 0 && 2 * shared >= most).then_some((1 + most - shared, distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_place_then_message_and_keeps_the_innermost_place() {
        let error = Error::new(ErrorKind::Config, "unknown key")
            .at_line("a.yaml", Some(3), Some("model.hiden"))
            .in_file("outer.yaml");
        assert_eq!(error.to_string(), "a.yaml:3:model.hiden: unknown key");
    }

    /// `/dev/full` takes no byte, as a disk without room.
    #[cfg(target_os = "linux")]
    #[test]
    #[allow(clippy::unwrap_used)]
    fn a_full_disk_is_called_full() {
        let cause = std::io::Write::write_all(
            &mut std::fs::File::options().write(true).open("/dev/full").unwrap(),
            b"text",
        )
        .unwrap_err();
        assert_eq!(Error::io("a.safetensors", cause).to_string(), "a.safetensors: the disk is full");
    }

    #[test]
    fn names_out_of_files_and_graphs_cannot_steer_a_terminal() {
        let evil = "a\u{1b}[31m\u{202e}\u{9b}b";
        let escaped = "a\\u{1b}[31m\\u{202e}\\u{9b}b";
        for error in [
            Error::new(ErrorKind::Bundle, format!("no `{evil}`")).in_graph(evil, Some(evil)),
            Error::new(ErrorKind::Bundle, format!("no `{evil}`")).at_line(evil, Some(1), Some(evil)),
        ] {
            let said = error.to_string();
            assert_eq!(
                (said.matches(escaped).count(), said.contains(printable::is_unprintable)),
                (3, false),
                "{said:?}"
            );
        }
    }

    #[test]
    fn an_error_shows_the_beginnings_of_names_and_messages_of_any_length() {
        let long = "n".repeat(100_000);
        for error in [
            Error::new(ErrorKind::Bundle, format!("no `{long}`")).in_graph("g.onnx", Some(&long)),
            Error::new(ErrorKind::Config, format!("no `{long}`")).at_line("a.yaml", Some(1), Some(&long)),
        ] {
            let said = error.to_string();
            assert!(
                said.len() < 9_000
                    && said.contains("n... (100000 bytes): no `n")
                    && said.ends_with("... (100005 bytes)"),
                "{said:?}"
            );
        }
    }

    #[test]
    fn proposals_for_foreign_names_cost_little() {
        let begin = std::time::Instant::now();
        let (long, names) = ("n".repeat(4096), vec!["m".repeat(4096); 20_000]);
        assert_eq!(did_you_mean(&long, names.iter().map(String::as_str)), None);
        assert_eq!(did_you_mean(&long[..100], names.iter().map(String::as_str)), None);
        assert!(begin.elapsed().as_secs() < 2, "{:?}", begin.elapsed());
    }

    #[test]
    fn a_near_name_is_proposed_and_a_far_one_is_not() {
        assert_eq!(did_you_mean("hiden", ["hidden", "layers"]), Some("hidden"));
        assert_eq!(did_you_mean("zebra", ["hidden", "layers"]), None);
    }

    #[test]
    fn a_name_is_found_by_its_words_its_first_letters_and_in_any_case() {
        let known =
            ["epochs", "batch_size", "learning_rate", "dropout", "label_smoothing", "hidden", "num_beams"];
        for (typed, meant) in [
            ("lr", "learning_rate"),
            ("Learning-Rate", "learning_rate"),
            ("hidden_size", "hidden"),
            ("dropout_rate", "dropout"),
            ("num_beam_size", "num_beams"),
            ("smoothing", "label_smoothing"),
            ("BATCH SIZE", "batch_size"),
        ] {
            assert_eq!(did_you_mean(typed, known), Some(meant), "{typed}");
        }
        assert_eq!(did_you_mean("a_b_c", known), None);
    }

    #[test]
    fn where_no_name_is_near_a_few_are_all_said_and_of_many_the_nearest() {
        assert_eq!(guess("zebra", "known keys here", ["cell", "layers"]), "known keys here: cell, layers");
        assert_eq!(guess("layer", "known keys here", ["cell", "layers"]), "did you mean `layers`?");
        let many: Vec<String> =
            (0..37).map(|i| format!("{}", (b'a' + i % 26) as char).repeat(20 + usize::from(i))).collect();
        let said = guess("zebra", "keys", many.iter().map(String::as_str));
        assert!(
            said.starts_with("none of the 37 keys is like it; the nearest are ")
                && said.matches(", ").count() == 2,
            "{said}"
        );
        let said = guess(&"z".repeat(4096), "keys", many.iter().map(String::as_str));
        assert!(said.len() < 400 && said.ends_with("and 29 more"), "{said}");
    }
}

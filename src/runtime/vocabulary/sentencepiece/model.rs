//! A model, checked as it is read, and texts as its pieces.

use std::collections::HashMap;
use std::ops::Range;

use prost::Message;

use super::super::trie::Trie;
use super::bpe::Bpe;
use super::charsmap::Charsmap;
use super::normaliser::Normaliser;
use super::proto::{ModelProto, NormalizerSpec, PieceProto, count};
use super::unigram::Unigram;
use crate::error::{Error, ErrorKind, Result};

/// A model.
#[derive(Clone, Debug)]
pub(in super::super) struct Model {
    pieces: Vec<(String, PieceType)>,
    ids: HashMap<String, u32>,
    normaliser: Normaliser,
    scheme: Scheme,
    unk: u32,
    /// The piece of each byte, where unknown characters become bytes.
    bytes: Option<Box<[u32; 256]>>,
}

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum PieceType {
    /// Text.
    Normal,
    /// What stands for text that no piece covers.
    Unknown,
    /// No text: the beginning or the end.
    Control,
    /// Text that is never part of another piece.
    UserDefined,
    /// Text that is not chosen.
    Unused,
    /// One byte.
    Byte,
}

#[derive(Clone, Debug)]
enum Scheme {
    Unigram(Unigram),
    Bpe(Bpe),
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Found {
    /// Where it stands in the normalised text; of several bytes of a character, the first has all of it.
    pub(in super::super) range: Range<usize>,
    /// Its number in the file.
    pub(in super::super) id: u32,
}

/// What an unknown character costs beyond the worst piece.
const UNK_PENALTY: f32 = 10.0;
/// Pieces of a model: the largest in use have a quarter of that.
const MOST_PIECES: usize = 1 << 20;
/// Bytes of a piece; SentencePiece makes none of more than 16 characters unless it is asked to.
const LONGEST_PIECE: usize = 1024;

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Bundle, message)
}

impl Model {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] with the field that is damaged or not understood.
    pub(in super::super) fn read(bytes: &[u8]) -> Result<Self> {
        const DAMAGED: &str = "the file is damaged, or is no model of SentencePiece";
        match count(bytes, 1) {
            None => return Err(wrong("these are no protobuf messages").help(DAMAGED)),
            Some(0) => return Err(wrong("there are no pieces").help(DAMAGED)),
            Some(pieces) if pieces > MOST_PIECES => {
                return Err(wrong(format!("{pieces} pieces; at most {MOST_PIECES} are read")).help(DAMAGED));
            }
            Some(_) => {}
        }
        let model = ModelProto::decode(bytes)
            .map_err(|e| wrong("this is no model of SentencePiece").caused_by(e).help(DAMAGED))?;
        let trainer = model.trainer_spec.unwrap_or_default();
        if trainer.treat_whitespace_as_suffix == Some(true) {
            return Err(wrong(
                "trainer_spec.treat_whitespace_as_suffix: pieces that end with their space are not \
                read",
            )
            .help("models with the space before each word are"));
        }
        if model.denormalizer_spec.is_some_and(|spec| !spec.precompiled_charsmap.is_empty()) {
            return Err(wrong("denormalizer_spec: rules for outputs are not read").help("models without are"));
        }
        let pieces = checked(model.pieces)?;
        let unk = pieces.iter().position(|(_, kind, _)| *kind == PieceType::Unknown);
        let Some(unk) = unk.and_then(|at| u32::try_from(at).ok()) else {
            return Err(wrong("pieces: none is of the type UNKNOWN").help(DAMAGED));
        };
        let of_bytes = bytes_of(&pieces)?;
        let bytes = trainer.byte_fallback.unwrap_or(false).then_some(of_bytes).map(|bytes| {
            bytes.ok_or_else(|| wrong("trainer_spec.byte_fallback: not every byte has a piece").help(DAMAGED))
        });
        let normaliser = normaliser(model.normalizer_spec.unwrap_or_default(), &pieces)?;
        let scheme = match trainer.model_type.unwrap_or(1) {
            1 => Scheme::Unigram(unigram(&pieces, unk)),
            2 => Scheme::Bpe(bpe(&pieces, unk)),
            other => {
                let name = match other {
                    3 => "WORD",
                    4 => "CHAR",
                    _ => "unknown",
                };
                return Err(wrong(format!("trainer_spec.model_type {other} ({name}) is not read"))
                    .help("UNIGRAM and BPE are"));
            }
        };
        let ids = pieces.iter().zip(0u32..).map(|((text, ..), id)| (text.clone(), id)).collect();
        let pieces = pieces.into_iter().map(|(text, kind, _)| (text, kind)).collect();
        Ok(Self { pieces, ids, normaliser, scheme, unk, bytes: bytes.transpose()? })
    }

    /// The same for texts that get no space before them.
    pub(in super::super) fn without_dummy_prefix(mut self) -> Self {
        self.normaliser.add_dummy_prefix = false;
        self
    }

    /// Spaces that its outputs do not begin with.
    pub(in super::super) fn leading_spaces(&self) -> usize {
        match (self.normaliser.remove_extra_whitespaces, self.normaliser.add_dummy_prefix) {
            (true, _) => usize::MAX,
            (false, dummy) => usize::from(dummy),
        }
    }

    /// Pieces and what they are; the position is the id.
    pub(in super::super) fn pieces(&self) -> &[(String, PieceType)] {
        &self.pieces
    }

    /// The id of a piece.
    pub(in super::super) fn id(&self, piece: &str) -> Option<u32> {
        self.ids.get(piece).copied()
    }

    /// The id of what no piece covers.
    pub(in super::super) fn unk(&self) -> u32 {
        self.unk
    }

    /// `text` after the normalisation, and its pieces; `None` if it has more than `most` characters then.
    /// Neighbours that no piece covers are one.
    pub(in super::super) fn split(&self, text: &str, most: usize) -> Option<(String, Vec<Found>)> {
        let normalised = self.normaliser.apply(text, most)?;
        let ends = match &self.scheme {
            Scheme::Unigram(unigram) => unigram.split(&normalised),
            Scheme::Bpe(bpe) => bpe.split(&normalised),
        };
        let mut found: Vec<Found> = Vec::with_capacity(ends.len());
        let mut start = 0;
        for (end, id) in ends {
            let range = std::mem::replace(&mut start, end)..end;
            match (&self.bytes, found.last_mut()) {
                _ if id != self.unk => found.push(Found { range, id }),
                (Some(bytes), _) => {
                    for (at, byte) in normalised.as_bytes()[range.clone()].iter().enumerate() {
                        let covered = if at == 0 { range.clone() } else { end..end };
                        found.push(Found { range: covered, id: bytes[usize::from(*byte)] });
                    }
                }
                (None, Some(last)) if last.id == id => last.range.end = end,
                (None, _) => found.push(Found { range, id }),
            }
        }
        Some((normalised, found))
    }
}

/// Text, type and score of each piece.
fn checked(pieces: Vec<PieceProto>) -> Result<Vec<(String, PieceType, f32)>> {
    let mut seen = std::collections::HashSet::with_capacity(pieces.len());
    for (id, piece) in pieces.iter().enumerate() {
        let message = match &piece.piece {
            text if text.is_empty() => format!("piece {id} is empty"),
            text if text.len() > LONGEST_PIECE => {
                format!("piece {id} has {} bytes; at most {LONGEST_PIECE} are read", text.len())
            }
            text if !seen.insert(text.as_str()) => format!("piece {id} is there twice"),
            _ if !piece.score.is_finite() => format!("the score of piece {id} is {}", piece.score),
            _ => continue,
        };
        return Err(wrong(message).help("the file is damaged: copy it again"));
    }
    drop(seen);
    let kind = |(id, piece): (usize, PieceProto)| {
        let kind = match piece.r#type.unwrap_or(1) {
            1 => PieceType::Normal,
            2 => PieceType::Unknown,
            3 => PieceType::Control,
            4 => PieceType::UserDefined,
            5 => PieceType::Unused,
            6 => PieceType::Byte,
            other => return Err(wrong(format!("piece {id} is of the type {other}")).help("1 to 6 are known")),
        };
        Ok((piece.piece, kind, piece.score))
    };
    pieces.into_iter().enumerate().map(kind).collect()
}

/// The value of a piece that stands for a byte: `<0x41>`.
pub(in super::super) fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// The pieces of all bytes, if each has one.
fn bytes_of(pieces: &[(String, PieceType, f32)]) -> Result<Option<Box<[u32; 256]>>> {
    let mut bytes = [None; 256];
    for ((text, _, _), id) in pieces.iter().zip(0u32..).filter(|((_, kind, _), _)| *kind == PieceType::Byte) {
        let byte = byte_of(text).ok_or_else(|| {
            wrong(format!("piece {id} is of the type BYTE, and is {text:?}")).help("a byte is written <0x41>")
        })?;
        bytes[usize::from(byte)] = Some(id);
    }
    if bytes.contains(&None) {
        return Ok(None);
    }
    Ok(Some(Box::new(bytes.map(Option::unwrap_or_default))))
}

fn user_defined(pieces: &[(String, PieceType, f32)]) -> Option<Trie> {
    let defined = || pieces.iter().zip(0u32..).filter(|((_, kind, _), _)| *kind == PieceType::UserDefined);
    defined().next().map(|_| Trie::new(defined().map(|((text, ..), id)| (text.as_str(), id))))
}

fn normaliser(spec: NormalizerSpec, pieces: &[(String, PieceType, f32)]) -> Result<Normaliser> {
    let rules = match spec.precompiled_charsmap.as_slice() {
        [] => None,
        bytes => Some(Charsmap::read(bytes)?),
    };
    Ok(Normaliser {
        rules,
        user_defined: user_defined(pieces),
        add_dummy_prefix: spec.add_dummy_prefix.unwrap_or(true),
        remove_extra_whitespaces: spec.remove_extra_whitespaces.unwrap_or(true),
        escape_whitespaces: spec.escape_whitespaces.unwrap_or(true),
    })
}

fn unigram(pieces: &[(String, PieceType, f32)], unk: u32) -> Unigram {
    let normal = || pieces.iter().filter(|(_, kind, _)| *kind == PieceType::Normal).map(|(.., score)| *score);
    // The largest begins at C's FLT_MIN, as in SentencePiece: scores are logarithms.
    let largest = normal().fold(f32::MIN_POSITIVE, f32::max);
    let smallest = normal().fold(f32::MAX, f32::min);
    let score = |(text, kind, score): &(String, PieceType, f32)| match kind {
        // Chosen wherever it stands.
        PieceType::UserDefined => f64::from(text.len() as f32 * largest) - 0.1,
        _ => f64::from(*score),
    };
    let chosen = pieces.iter().zip(0u32..);
    let chosen =
        chosen.filter(|((_, kind, _), _)| matches!(kind, PieceType::Normal | PieceType::UserDefined));
    Unigram {
        trie: Trie::new(chosen.map(|((text, ..), id)| (text.as_str(), id))),
        scores: pieces.iter().map(score).collect(),
        unk,
        unk_score: smallest - UNK_PENALTY,
    }
}

fn bpe(pieces: &[(String, PieceType, f32)], unk: u32) -> Bpe {
    let is_text = |kind| matches!(kind, PieceType::Normal | PieceType::UserDefined | PieceType::Unused);
    let texts = pieces.iter().zip(0u32..).filter(|((_, kind, _), _)| is_text(*kind));
    Bpe {
        pieces: texts.map(|((text, ..), id)| (text.clone(), id)).collect(),
        scores: pieces.iter().map(|(.., score)| *score).collect(),
        unused: pieces.iter().map(|(_, kind, _)| *kind == PieceType::Unused).collect(),
        user_defined: user_defined(pieces),
        unk,
        longest: pieces.iter().map(|(text, ..)| text.len()).max().unwrap_or(0),
    }
}

//! The messages of SentencePiece's files that are read here, as `prost` structs.
//!
//! Names, field numbers and defaults are those of `sentencepiece_model.proto` (google/sentencepiece 0.2).

use prost::Message;

/// A file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelProto {
    /// The position is the id.
    #[prost(message, repeated, tag = "1")]
    pub(super) pieces: Vec<PieceProto>,
    #[prost(message, optional, tag = "2")]
    pub(super) trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    pub(super) normalizer_spec: Option<NormalizerSpec>,
    #[prost(message, optional, tag = "5")]
    pub(super) denormalizer_spec: Option<NormalizerSpec>,
}

/// A piece.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PieceProto {
    #[prost(string, tag = "1")]
    pub(super) piece: String,
    #[prost(float, tag = "2")]
    pub(super) score: f32,
    #[prost(int32, optional, tag = "3")]
    pub(super) r#type: Option<i32>,
}

/// How the model was made.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TrainerSpec {
    /// 1 unigram, 2 BPE, 3 words, 4 characters.
    #[prost(int32, optional, tag = "3")]
    pub(super) model_type: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    pub(super) treat_whitespace_as_suffix: Option<bool>,
    #[prost(bool, optional, tag = "35")]
    pub(super) byte_fallback: Option<bool>,
}

/// What texts go through.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NormalizerSpec {
    #[prost(bytes = "vec", tag = "2")]
    pub(super) precompiled_charsmap: Vec<u8>,
    #[prost(bool, optional, tag = "3")]
    pub(super) add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(super) remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub(super) escape_whitespaces: Option<bool>,
}

/// The fields of a file's outermost message that have `number`, counted on the bytes as they are: two bytes
/// can stand for a piece that takes forty in memory. `None` if the bytes are no message.
pub(super) fn count(mut bytes: &[u8], number: u64) -> Option<usize> {
    let mut found = 0;
    while !bytes.is_empty() {
        let key = prost::encoding::decode_varint(&mut bytes).ok()?;
        let length = match key & 7 {
            0 => {
                prost::encoding::decode_varint(&mut bytes).ok()?;
                0
            }
            1 => 8,
            2 => prost::encoding::decode_varint(&mut bytes).ok()?,
            5 => 4,
            _ => return None,
        };
        bytes = bytes.get(usize::try_from(length).ok()?..)?;
        found += usize::from(key >> 3 == number);
    }
    Some(found)
}

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use prost::Message;

use super::proto::{ModelProto, NormalizerSpec, PieceProto, TrainerSpec};
use super::*;
use crate::error::ErrorKind;

/// Pieces with their scores and types, `<unk>` before them.
fn proto(pieces: &[(&str, f32, i32)], model_type: i32) -> ModelProto {
    let piece = |&(text, score, kind): &(&str, f32, i32)| PieceProto {
        piece: text.to_owned(),
        score,
        r#type: Some(kind),
    };
    let unk = ("<unk>", 0.0, 2);
    ModelProto {
        pieces: std::iter::once(&unk).chain(pieces).map(piece).collect(),
        trainer_spec: Some(TrainerSpec { model_type: Some(model_type), ..TrainerSpec::default() }),
        normalizer_spec: None,
        denormalizer_spec: None,
    }
}

fn split(model: &ModelProto, text: &str) -> Vec<(String, u32)> {
    let model = Model::read(&model.encode_to_vec()).unwrap();
    let (normalised, found) = model.split(text, usize::MAX).unwrap();
    found.into_iter().map(|piece| (normalised[piece.range].replace(SPACE, "_"), piece.id)).collect()
}

fn texts(model: &ModelProto, text: &str) -> String {
    split(model, text).iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join("|")
}

#[test]
fn the_pieces_with_the_best_sum_are_chosen_and_users_symbols_always() {
    let pieces =
        [("\u{2581}", -1.0, 1), ("a", -2.0, 1), ("b", -2.0, 1), ("ab", -3.0, 1), ("\u{2581}a", -9.0, 1)];
    let mut model = proto(&pieces, 1);
    assert_eq!(texts(&model, "abab"), "_|ab|ab");
    assert_eq!(split(&model, "a??b")[2], ("??".to_owned(), 0), "neighbours without a piece are one");
    let user = PieceProto { piece: "ba".to_owned(), score: 0.0, r#type: Some(4) };
    model.pieces.push(user);
    assert_eq!(texts(&model, "abab"), "_|a|ba|b");
    model.pieces[4].r#type = Some(5);
    assert_eq!(texts(&model, "ab"), "_|a|b", "what is unused is not chosen");
}

#[test]
fn pairs_are_merged_in_the_order_of_their_scores_and_unused_ones_are_taken_apart() {
    let pieces = [
        ("ab", -1.0, 1),
        ("bc", -2.0, 1),
        ("abc", -3.0, 5),
        ("a", -4.0, 1),
        ("b", -5.0, 1),
        ("c", -6.0, 1),
        ("\u{2581}", -7.0, 1),
    ];
    let mut model = proto(&pieces, 2);
    assert_eq!(texts(&model, "abc bc"), "_|ab|c|_|bc");
    model.pieces[3].r#type = Some(1);
    assert_eq!(texts(&model, "abc"), "_|abc");
    model.pieces[1].r#type = Some(4);
    assert_eq!(texts(&model, "abc"), "_|ab|c", "a user's symbol is no part of another");
}

#[test]
fn unknown_characters_become_bytes_where_every_byte_has_a_piece() {
    let bytes: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
    let mut pieces: Vec<(&str, f32, i32)> = bytes.iter().map(|byte| (byte.as_str(), 0.0, 6)).collect();
    pieces.push(("\u{2581}", -1.0, 1));
    let mut model = proto(&pieces, 1);
    model.trainer_spec.as_mut().unwrap().byte_fallback = Some(true);
    assert_eq!(
        split(&model, "\u{e9}").iter().map(|piece| piece.1).collect::<Vec<_>>(),
        [257, 1 + 0xc3, 1 + 0xa9]
    );
    model.pieces.remove(9);
    let error = Model::read(&model.encode_to_vec()).unwrap_err();
    assert!(error.message().contains("byte_fallback"), "{error}");
}

#[test]
fn spaces_are_kept_where_the_model_keeps_them() {
    let mut model = proto(&[("\u{2581}", -1.0, 1), ("a", -1.0, 1)], 1);
    assert_eq!(texts(&model, "  a  a "), "_|a|_|a");
    let spec = NormalizerSpec {
        add_dummy_prefix: Some(false),
        remove_extra_whitespaces: Some(false),
        ..NormalizerSpec::default()
    };
    model.normalizer_spec = Some(spec);
    assert_eq!(texts(&model, "  a  a "), "_|_|a|_|_|a|_");
}

#[test]
fn a_model_that_is_damaged_or_not_understood_is_refused_with_the_field() {
    let good = || proto(&[("a", 0.0, 1)], 1);
    let refused = |change: fn(&mut ModelProto), says: &str| {
        let mut model = good();
        change(&mut model);
        let error = Model::read(&model.encode_to_vec()).unwrap_err();
        assert!(error.message().contains(says), "{error} has no {says}");
        assert_eq!((error.kind(), error.help_text().is_some()), (ErrorKind::Bundle, true));
    };
    refused(|m| m.pieces.clear(), "no pieces");
    refused(|m| m.pieces[1].piece.clear(), "piece 1 is empty");
    refused(|m| m.pieces[1].piece = "a".repeat(1025), "piece 1 has 1025 bytes");
    refused(|m| m.pieces[1].piece = "<unk>".to_owned(), "piece 1 is there twice");
    refused(|m| m.pieces[1].score = f32::NAN, "score of piece 1");
    refused(|m| m.pieces[1].r#type = Some(7), "of the type 7");
    refused(|m| m.pieces[1].r#type = Some(6), "type BYTE");
    refused(|m| m.pieces[0].r#type = Some(1), "type UNKNOWN");
    refused(|m| m.trainer_spec.as_mut().unwrap().model_type = Some(4), "(CHAR)");
    refused(|m| m.trainer_spec.as_mut().unwrap().treat_whitespace_as_suffix = Some(true), "suffix");
    let rules = |precompiled_charsmap| {
        let spec = NormalizerSpec { precompiled_charsmap, ..NormalizerSpec::default() };
        Model::read(&ModelProto { normalizer_spec: Some(spec), ..good() }.encode_to_vec())
    };
    for bytes in [vec![1], vec![9, 0, 0, 0], vec![0, 0, 0, 0, 0xff], [&[0; 4][..], &[b'a'; 2000]].concat()] {
        assert!(rules(bytes.clone()).unwrap_err().message().contains("precompiled_charsmap"), "{bytes:?}");
    }
    let many = [0x0a, 0x00].repeat((1 << 20) + 1);
    assert!(Model::read(&many).unwrap_err().message().contains("1048577 pieces"));
    assert!(Model::read(b"\xff\xff").unwrap_err().message().contains("protobuf"));
}

proptest! {
    #[test]
    fn rules_of_any_bytes_stay_within_them(
        units in prop::collection::vec(any::<u32>(), 0..40), text in "\\PC{0,12}"
    ) {
        let length = (units.len() * 4) as u32;
        let units = units.iter().flat_map(|unit| unit.to_le_bytes());
        let bytes = length.to_le_bytes().into_iter().chain(units);
        let precompiled_charsmap = bytes.chain(*b"a\0\xc3\xa9\0").collect();
        let spec = NormalizerSpec { precompiled_charsmap, ..NormalizerSpec::default() };
        let model = ModelProto { normalizer_spec: Some(spec), ..proto(&[("a", 0.0, 1)], 1) };
        let model = Model::read(&model.encode_to_vec()).unwrap();
        prop_assert!(model.split(&text, 400).is_none_or(|(normalised, _)| normalised.chars().count() <= 401));
    }

    #[test]
    fn any_bytes_are_a_model_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(Model::read(&bytes));
    }

    #[test]
    fn the_pieces_of_a_text_are_the_text(text in "[ab\u{e9} ?]{0,20}", model_type in 1i32..3) {
        let scores = [("a", -1.0), ("ab", -1.5), ("ba", -1.7), ("aba", -2.0), ("\u{2581}a", -1.2), ("b", -3.0)];
        let pieces = scores.map(|(text, score)| (text, score, 1));
        let model = Model::read(&proto(&pieces, model_type).encode_to_vec()).unwrap();
        let (normalised, found) = model.split(&text, usize::MAX).unwrap();
        let all: String = found.iter().map(|piece| &normalised[piece.range.clone()]).collect();
        prop_assert_eq!(&all, &normalised);
        let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        let (all, words) = (all.replace(SPACE, " "), words.join(" "));
        prop_assert_eq!(all.trim(), words);
    }
}

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::decoding::tests::scripted::Scripted;
use crate::decoding::{
    DecodingOptions, FinishReason, OutputOptions, Strings, SymbolRef, Symbols, UnknownPolicy,
};
use crate::vocabulary::tests::Bytes;
use crate::vocabulary::{Normalisation, Tokeniser, Unit, Vocabulary};

/// Sources of a to f; targets of `unit` with four symbols.
fn translator(unit: Unit, seed: u64, attention: bool) -> Translator {
    let source = Vocabulary::build(Unit::Character, [Normalisation::Trim], ["abcdef"]);
    let target = Vocabulary::build(unit, [], [if unit == Unit::Token { "P Qu R é" } else { "PQRé" }]);
    let engine = Scripted { attention, ..Scripted::new(target.len(), seed) };
    Translator::from_parts(
        TextCoder::from_parts(Arc::new(source), Arc::new(target), DecodingOptions::default(), attention),
        Box::new(engine),
    )
}

fn exactly(tokens: usize) -> DecodingOptions {
    DecodingOptions {
        max_new_tokens: Some(tokens),
        min_new_tokens: Some(tokens),
        ..DecodingOptions::default()
    }
}

fn texts_of(pieces: impl Iterator<Item = crate::error::Result<Piece>>) -> (Vec<String>, Translation) {
    let (mut texts, mut done) = (Vec::new(), None);
    for piece in pieces {
        match piece.unwrap() {
            Piece::Text(text) => texts.push(text),
            Piece::Done(translation) => done = Some(*translation),
        }
    }
    (texts, done.unwrap())
}

proptest! {
    #[test]
    fn texts_keep_their_order_and_translate_as_they_do_alone_on_any_number_of_workers(
        seed: u64, texts in prop::collection::vec("[a-g ]{0,8}", 0..30), rows in 1usize..9, workers in 1usize..4
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let options = exactly(5);
        let mut single = translator(Unit::Character, seed, false);
        let expected: Vec<Translation> = texts.iter().map(|t| single.translate(&[t], &options).unwrap().remove(0)).collect();
        let mut pool = TranslatorPool::new(single.with_max_batch(rows), workers).unwrap();
        prop_assert_eq!(pool.workers(), workers);
        let found: Vec<Translation> = pool.translate_each(&texts, &options).unwrap().into_iter().map(|t| t.unwrap()).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn pieces_of_a_stream_are_the_text_whatever_the_options(
        seed: u64, text in "[a-h]{0,6}", token: bool, attention: bool, copy: bool, beams in 1usize..4, prefix: bool,
        stop in prop::option::of(prop::sample::select(vec!["P", "éP", "Q", "u R", " ", "R é"])),
    ) {
        let unit = if token { Unit::Token } else { Unit::Character };
        let mut translator = translator(unit, seed, attention);
        let options = DecodingOptions {
            unknown: copy.then_some(UnknownPolicy::Copy),
            replace_unknowns: Some(attention && copy),
            num_beams: Some(beams),
            target_prefix: prefix.then(|| if token { "P R".to_owned() } else { "PR".to_owned() }),
            stop_strings: stop.map(|s| Strings(vec![s.to_owned()])),
            max_new_tokens: Some(8),
            ..DecodingOptions::default()
        };
        let expected = translator.translate(&[&text], &options).unwrap().remove(0);
        let (pieces, done) = texts_of(translator.stream(&text, &options).unwrap());
        prop_assert_eq!(pieces.concat(), &*expected.text);
        prop_assert_eq!(&done, &expected);
        if prefix && !text.is_empty() {
            let prefix = if token { "P R" } else { "PR" };
            prop_assert!(done.text.starts_with(prefix));
            // What is copied may read as anything.
            if let Some(stop) = stop.filter(|_| !copy || done.unknown.is_empty()) {
                prop_assert!(!done.text[prefix.len()..].trim_start().contains(stop), "{:?}", done.text);
            }
        }
    }
}

proptest! {
    #[test]
    fn pieces_of_a_scheme_of_bytes_are_whole_characters_and_the_text(
        seed: u64, text in "[a-f]{1,6}", prefix: bool, replace: bool,
        stop in prop::option::of(prop::sample::select(vec!["\u{e9}", "a\u{e9}", " b", "\u{20ac}a"])),
    ) {
        let source = Vocabulary::build(Unit::Character, [], ["abcdef"]);
        let target = Bytes::new(&[b"a", b" b", b"\xc3", b"\xa9", b"\xe2\x82", b"\xac", "\u{e9}".as_bytes()]);
        let engine = Scripted { attention: true, ..Scripted::new(target.size(), seed) };
        let coder = TextCoder::from_parts(Arc::new(source), Arc::new(target), DecodingOptions::default(), true);
        let mut translator = Translator::from_parts(coder, Box::new(engine));
        let options = DecodingOptions {
            target_prefix: prefix.then(|| " b\u{e9}a".to_owned()),
            replace_unknowns: Some(replace),
            stop_strings: stop.map(|stop| Strings(vec![stop.to_owned()])),
            max_new_tokens: Some(24),
            disable_unk: Some(!replace),
            ..DecodingOptions::default()
        };
        let expected = translator.translate(&[&text], &options).unwrap().remove(0);
        let (pieces, done) = texts_of(translator.stream(&text, &options).unwrap());
        prop_assert_eq!(pieces.concat(), &*expected.text);
        prop_assert_eq!(&done, &expected);
        prop_assert!(!prefix || done.text.starts_with("b\u{e9}a"), "{:?}", done.text);
        let generated = done.text.strip_prefix(if prefix { "b\u{e9}a" } else { "" }).unwrap();
        // What is copied may read as anything.
        prop_assert!(replace || stop.is_none_or(|stop| !generated.contains(stop)), "{:?}", done.text);
        prop_assert_eq!(stop.is_some() && done.finish == FinishReason::Stop, done.finish == FinishReason::Stop);
    }
}

proptest! {
    #[test]
    fn a_score_is_what_decoding_reports_of_its_own_translation_in_any_company(
        seed: u64, texts in prop::collection::vec("[a-f]{1,6}", 1..12), rows in 1usize..5, attention: bool,
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut single = translator(Unit::Character, seed, attention);
        let output = OutputOptions { token_scores: Some(true), attention: attention.then_some(true), ..OutputOptions::default() };
        let options = DecodingOptions { output: Some(output), max_new_tokens: Some(12), ..DecodingOptions::default() };
        let decoded = single.translate(&texts, &options).unwrap();
        let pairs: Vec<(&str, &str)> = texts.iter().copied().zip(decoded.iter().map(|d| &*d.text)).collect();
        let mut pool = TranslatorPool::new(single.with_max_batch(rows), 2).unwrap();
        let scored = pool.score_each(&pairs, &options).unwrap();
        for (found, decoded) in scored.into_iter().zip(&decoded) {
            let found = found.unwrap();
            prop_assert_eq!(&found.text, &decoded.text);
            prop_assert_eq!(found.finish, FinishReason::Eos);
            let sum: f32 = found.token_scores.iter().sum();
            prop_assert!((found.score - sum).abs() < 1e-4);
            // One that was cut off did not say END.
            if decoded.finish == FinishReason::Eos {
                prop_assert_eq!(&found.token_scores, &decoded.token_scores);
                prop_assert_eq!(&found.attention, &decoded.attention);
                prop_assert_eq!(&found.tokens, &decoded.tokens);
            }
        }
    }
}

#[test]
fn what_cannot_be_scored_is_an_error_of_its_own() {
    let mut pool = TranslatorPool::new(translator(Unit::Character, 1, false), 1).unwrap();
    let pairs = [("", "P"), ("a", "P"), ("a", "ZZ")];
    let scored = pool.score_each(&pairs, &DecodingOptions::default()).unwrap();
    assert!(scored[0].as_ref().unwrap_err().message().contains("empty text"));
    assert_eq!(scored[1].as_ref().unwrap().token_scores.len(), 2);
    // What the vocabulary does not have is as probable as UNK.
    assert_eq!(scored[2].as_ref().unwrap().token_scores.len(), 3);
    let beams = DecodingOptions { num_beams: Some(0), ..DecodingOptions::default() };
    assert!(pool.score_each(&pairs, &beams).unwrap_err().message().contains("num_beams"));
}

#[test]
fn an_empty_text_has_an_empty_translation() {
    let found = translator(Unit::Character, 1, false).translate(&["", "a", "   "], &exactly(3)).unwrap();
    assert_eq!((&*found[0].text, found[0].generated_tokens, found[0].source_tokens), ("", 0, 0));
    assert_eq!(found[1].text.chars().count(), 3);
    assert_eq!(found[2].text, "");
}

#[test]
fn a_bad_text_fails_alone() {
    let options =
        DecodingOptions { unknown: Some(UnknownPolicy::Error), max_input_length: Some(4), ..exactly(3) };
    let mut translator = translator(Unit::Character, 1, false);
    let found = translator.translate_each(&["ab", "axb", "abcde", "ba"], &options).unwrap();
    assert!(found[0].is_ok() && found[3].is_ok());
    assert!(found[1].as_ref().unwrap_err().message().contains("\"x\""));
    assert!(found[2].as_ref().unwrap_err().message().contains("more than 4 tokens"));
    assert!(translator.translate(&["ab", "axb"], &options).is_err());
}

#[test]
fn unknown_symbols_are_reported_and_copied_in_their_order_without_attention() {
    // Only UNK may come.
    let only_unk = [2, 4, 5, 6, 7].map(SymbolRef::Id).into_iter().collect();
    let options = DecodingOptions {
        suppress_tokens: Some(only_unk),
        max_new_tokens: Some(3),
        ..DecodingOptions::default()
    };
    let mut translator = translator(Unit::Character, 1, false);
    let plain = translator.translate(&["axby"], &options).unwrap().remove(0);
    assert_eq!(
        (&*plain.text, &plain.unknown[..]),
        ("\u{fffd}\u{fffd}\u{fffd}", &["x".to_owned(), "y".to_owned()][..])
    );
    let copying = DecodingOptions { unknown: Some(UnknownPolicy::Copy), ..options };
    assert_eq!(translator.translate(&["axby"], &copying).unwrap()[0].text, "xy\u{fffd}");
}

#[test]
fn with_attention_an_unknown_becomes_the_source_symbol_most_attended() {
    let only_unk = [2, 4, 5, 6, 7].map(SymbolRef::Id).into_iter().collect();
    let options = DecodingOptions {
        suppress_tokens: Some(only_unk),
        max_new_tokens: Some(6),
        replace_unknowns: Some(true),
        output: Some(OutputOptions { attention: Some(true), ..OutputOptions::default() }),
        ..DecodingOptions::default()
    };
    let found = translator(Unit::Character, 1, true).translate(&["abcdef"], &options).unwrap().remove(0);
    let most_attended = |weights: &Vec<f32>| {
        (0..6).max_by(|&a, &b| weights[a].total_cmp(&weights[b])).map(|at| &"abcdef"[at..=at])
    };
    let expected: String = found.attention.iter().filter_map(most_attended).collect();
    assert_eq!(found.text, expected);
    assert_eq!(found.text.len(), 6);
}

#[test]
fn n_best_alternatives_come_with_falling_scores_and_token_scores() {
    let output =
        Some(OutputOptions { scores: Some(true), token_scores: Some(true), ..OutputOptions::default() });
    let options = DecodingOptions {
        num_beams: Some(4),
        num_return_sequences: Some(4),
        output,
        max_new_tokens: Some(4),
        ..DecodingOptions::default()
    };
    let found = translator(Unit::Token, 2, false).translate(&["abc"], &options).unwrap().remove(0);
    let all: Vec<&Alternative> = std::iter::once(&found.best).chain(&found.alternatives).collect();
    assert_eq!(all.len(), 4);
    assert!(all.windows(2).all(|pair| pair[0].score >= pair[1].score && pair[0].text != pair[1].text));
    for alternative in all {
        assert_eq!(alternative.token_scores.len(), alternative.generated_tokens);
        assert_eq!(alternative.tokens.join(" "), alternative.text);
        let sum: f32 = alternative.token_scores.iter().sum();
        assert!((alternative.score - sum / alternative.generated_tokens as f32).abs() < 1e-5);
    }
    let json = serde_json::to_value(&found).unwrap();
    assert!(
        json["text"].is_string()
            && json["alternatives"][2]["score"].is_number()
            && json["finish"].is_string()
    );
}

#[test]
fn a_text_ends_before_the_stop_string() {
    let mut translator = translator(Unit::Character, 3, false);
    let whole = translator.translate(&["abc"], &exactly(40)).unwrap().remove(0).best.text;
    let stop: String = whole.chars().skip(3).take(2).collect();
    let options = DecodingOptions {
        stop_strings: Some(Strings(vec![stop.clone(), "nothing".to_owned()])),
        ..exactly(40)
    };
    let found = translator.translate(&["abc"], &options).unwrap().remove(0);
    assert_eq!(found.finish, FinishReason::Stop);
    assert_eq!(Some(&*found.text), whole.split(&stop).next());
}

#[test]
fn a_cancelled_stream_ends_with_what_was_given() {
    let mut translator = translator(Unit::Character, 3, false);
    let mut stream = translator.stream("abc", &exactly(40)).unwrap();
    let first = stream.next().unwrap().unwrap();
    stream.cancel();
    let (rest, done) = texts_of(stream);
    let Piece::Text(first) = first else { panic!("{first:?}") };
    assert_eq!(done.finish, FinishReason::Cancelled);
    assert_eq!(first + &rest.concat(), done.text);
    assert!(done.text.chars().count() < 40);
}

#[test]
fn without_a_limit_outputs_may_be_as_long_as_the_longest_in_training_and_end() {
    let coder = translator(Unit::Character, 3, false).coder().clone();
    assert_eq!(coder.settings(&DecodingOptions::default()).unwrap().max_new_tokens, 5);
    assert_eq!(coder.settings(&exactly(9)).unwrap().max_new_tokens, 9);
}

#[test]
fn options_that_the_model_or_its_vocabulary_cannot_serve_are_errors_that_name_the_key() {
    let coder = translator(Unit::Character, 3, false).coder().clone();
    let prefix = DecodingOptions { target_prefix: Some("Px".to_owned()), ..DecodingOptions::default() };
    let suppressed = DecodingOptions {
        suppress_tokens: Some(Symbols(vec![SymbolRef::Text("x".to_owned())])),
        ..DecodingOptions::default()
    };
    let attention = DecodingOptions { replace_unknowns: Some(true), ..DecodingOptions::default() };
    for (options, key) in
        [(prefix, "target_prefix"), (suppressed, "suppress_tokens"), (attention, "replace_unknowns")]
    {
        let error = coder.settings(&options).unwrap_err();
        assert!(error.message().starts_with(&format!("`{key}`: ")), "{error}");
    }
}

proptest! {
    #[test]
    fn texts_that_come_to_a_loop_at_any_step_translate_as_they_do_alone(
        seed: u64, arrivals in prop::collection::vec(("[a-f]{0,6}", 0usize..6, any::<bool>()), 1..9),
        room in prop::option::of(1usize..4),
    ) {
        let mut alone = translator(Unit::Character, seed, false);
        let options = exactly(5);
        let settings = alone.coder().settings(&options).unwrap();
        let coder = alone.coder().clone();
        let mut texts = TextLoop::new(coder.clone(), Box::new(Scripted::new(coder.target().size(), seed)));
        if let Some(room) = room {
            texts = texts.with_room(room);
        }
        let (mut streamed, mut done) = (vec![String::new(); arrivals.len()], vec![None; arrivals.len()]);
        for step in 0.. {
            for (id, (text, _, stream)) in (0..).zip(&arrivals).filter(|(_, (_, at, _))| *at == step) {
                texts.admit(id, coder.encode(text, &settings).unwrap(), Arc::clone(&settings), *stream);
            }
            if texts.is_idle() && step > 5 {
                break;
            }
            for event in texts.step() {
                match event {
                    TextEvent::Token { id, token } => {
                        prop_assert!(done[id as usize].is_none());
                        streamed[id as usize].push_str(&token.text);
                    }
                    TextEvent::Done { id, translation } => {
                        prop_assert!(done[id as usize].replace(*translation).is_none());
                    }
                    TextEvent::Failed { error, .. } => return Err(TestCaseError::fail(error.to_string())),
                }
            }
        }
        for ((text, _, stream), (streamed, done)) in arrivals.iter().zip(streamed.iter().zip(done)) {
            let done = done.unwrap();
            prop_assert_eq!(&alone.translate(&[text], &options).unwrap()[0], &done);
            prop_assert_eq!(streamed, if *stream { &done.text } else { "" });
        }
    }
}

#[test]
fn a_loop_with_little_room_lets_texts_wait_and_ends_those_that_are_cancelled_meanwhile() {
    let coder = translator(Unit::Character, 1, false).coder().clone();
    let settings = coder.settings(&exactly(3)).unwrap();
    let mut texts =
        TextLoop::new(coder.clone(), Box::new(Scripted::new(coder.target().size(), 1))).with_room(1);
    assert!(texts.has_room());
    for (id, text) in [(7, "ab"), (8, "cd"), (9, "")] {
        texts.admit(id, coder.encode(text, &settings).unwrap(), Arc::clone(&settings), false);
    }
    assert!(!texts.has_room());
    texts.cancel(8);
    texts.cancel(99);
    let mut ended = Vec::new();
    while !texts.is_idle() {
        ended.extend(texts.step().into_iter().map(|event| match event {
            TextEvent::Done { id, translation } => (id, translation.finish, translation.generated_tokens),
            event => panic!("{event:?}"),
        }));
    }
    let expected = [(9, FinishReason::Eos, 0), (7, FinishReason::Length, 3), (8, FinishReason::Cancelled, 0)];
    assert_eq!(ended, expected);
    assert!(texts.has_room());
}

#[test]
fn a_text_that_the_engine_refuses_fails_alone() {
    let coder = translator(Unit::Character, 1, false).coder().clone();
    let settings = coder.settings(&exactly(3)).unwrap();
    let engine = Scripted { refused: Some(4), ..Scripted::new(coder.target().size(), 1) };
    let mut texts = TextLoop::new(coder.clone(), Box::new(engine));
    for (id, text) in [(0, "bc"), (1, "a"), (2, "f")] {
        texts.admit(id, coder.encode(text, &settings).unwrap(), Arc::clone(&settings), true);
    }
    let mut failed = Vec::new();
    while !texts.is_idle() {
        for event in texts.step() {
            match event {
                TextEvent::Failed { id, .. } => failed.push(id),
                TextEvent::Done { id, translation } => {
                    assert!(id != 1 && translation.finish == FinishReason::Length);
                }
                TextEvent::Token { id, token } => assert!(id != 1 && token.log_p.is_none()),
            }
        }
    }
    assert_eq!(failed, [1]);
}

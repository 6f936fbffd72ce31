//! YAML in, checked settings or errors out.

use super::*;
use crate::error::{Error, ErrorKind};

fn refused(yaml: &str) -> Error {
    let error = DecodingOptions::from_yaml(yaml, "d.yaml").and_then(|options| options.check()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error
}

#[test]
fn every_key_is_read_and_written_back() {
    let yaml = "unknown: copy\nmax_input_length: 9\ntruncate: left\nmax_new_tokens: 7\nmin_new_tokens: 2\nnum_beams: 4\nnum_return_sequences: 3\nlength_penalty: 0.5\n\
        length_penalty_type: gnmt\nearly_stopping: never\npatience: 2.0\ncoverage_penalty: 0.25\nrepetition_penalty: 1.5\nno_repeat_ngram_size: 3\n\
        suppress_tokens: [5, \"x\", \"7\"]\nbegin_suppress_tokens: [2]\nbad_words_ids: [[4], [5, 6]]\n\
        encoder_no_repeat_ngram_size: 4\nencoder_repetition_penalty: 1.25\n\
        exponential_decay_length_penalty: [3, 1.5]\neos_token_id: [2, 5]\nforced_bos_token_id: 4\n\
        forced_eos_token_id: 2\nrenormalize_logits: true\nsource_language: fr\ntarget_language: de\n\
        disable_unk: true\ntarget_prefix: ab\nstop_strings: [\"\\n\", end]\ndo_sample: false\ntemperature: 0.5\n\
        top_k: 5\ntop_p: 0.75\nmin_p: 0.5\nseed: 12345678901234567890\nreplace_unknowns: true\ntime_limit: 2.5\n\
        output: {scores: true, token_scores: true, attention: true}\n";
    let options = DecodingOptions::from_yaml(yaml, "d.yaml").unwrap();
    options.check().unwrap();
    assert_eq!(options.early_stopping, Some(EarlyStopping::Never));
    assert_eq!(options.suppress_tokens.as_ref().unwrap().0[2], SymbolRef::Text("7".to_owned()));
    let value = serde_json::to_value(&options).unwrap();
    let keys = value.as_object().unwrap().len();
    assert_eq!(keys, yaml.lines().count(), "every key was set: {value}");
    assert_eq!(serde_json::from_value::<DecodingOptions>(value).unwrap(), options);
    let written = serde_yaml::to_string(&options).unwrap();
    assert_eq!(DecodingOptions::from_yaml(&written, "d.yaml").unwrap(), options);
}

#[test]
fn an_empty_file_is_greedy() {
    for yaml in ["", "# nothing\n", "{}"] {
        let options = DecodingOptions::from_yaml(yaml, "d.yaml").unwrap();
        assert_eq!(options, DecodingOptions::default());
        let settings = Settings::new(&options).unwrap();
        assert_eq!(
            (settings.num_beams, settings.do_sample, settings.num_return_sequences, settings.suppress.len()),
            (1, false, 1, 0)
        );
    }
}

#[test]
fn names_of_ctranslate2_mean_the_same() {
    let theirs = "beam_size: 4\nmax_decoding_length: 9\nmin_decoding_length: 1\nnum_hypotheses: 2\nreturn_scores: true\nreturn_attention: true\nmax_time: 1\n";
    let ours = "num_beams: 4\nmax_new_tokens: 9\nmin_new_tokens: 1\nnum_return_sequences: 2\noutput:\n  scores: true\n  attention: true\ntime_limit: 1\n";
    let read = |yaml| DecodingOptions::layered([&DecodingOptions::from_yaml(yaml, "d.yaml").unwrap()]);
    assert_eq!(read(theirs), read(ours));
    let theirs = "do_sample: true\nsampling_topk: 4\nsampling_topp: 0.5\nsampling_temperature: 2\n";
    assert_eq!(read(theirs), read("do_sample: true\ntop_k: 4\ntop_p: 0.5\ntemperature: 2\n"));
}

#[test]
fn a_higher_layer_wins_key_by_key() {
    let read = |yaml| DecodingOptions::from_yaml(yaml, "d.yaml").unwrap();
    let bundle = read("num_beams: 4\nlength_penalty: 0.5\noutput: {scores: true, token_scores: true}");
    let file = read("num_beams: 2\nreturn_scores: false");
    let request = read("length_penalty: 2\nsampling_topk: 1");
    let merged = DecodingOptions::layered([&bundle, &file, &request]);
    assert_eq!(
        merged,
        read("num_beams: 2\nlength_penalty: 2\ntop_k: 1\noutput: {scores: false, token_scores: true}")
    );
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_right_one() {
    let error = refused("num_beams: 2\nlenght_penalty: 1\n");
    assert_eq!(error.to_string(), "d.yaml:2:lenght_penalty: unknown key `lenght_penalty`");
    assert_eq!(error.help_text(), Some("did you mean `length_penalty`?"));
    let nested = refused("output:\n  score: true\n");
    assert_eq!(nested.to_string(), "d.yaml:2:output.score: unknown key `score`");
    assert_eq!(nested.help_text(), Some("did you mean `scores`?"));
}

#[test]
fn wrong_types_and_values_are_named_with_line_and_key() {
    for (yaml, place) in [
        ("num_beams: four", "d.yaml:1:num_beams"),
        ("num_beams: -1", "d.yaml:1:num_beams"),
        ("seed: 1\ndisable_unk: yes", "d.yaml:2:disable_unk"),
        ("early_stopping: sometimes", "d.yaml:1:early_stopping"),
        ("length_penalty_type: mean", "d.yaml:1:length_penalty_type"),
        ("stop_strings: 5", "d.yaml:1:stop_strings"),
        ("num_beams: 2\nnum_beams: 3", "d.yaml:2"),
        ("seed: 1\ntemperature: 0", "d.yaml:2:temperature"),
        ("seed: 1\nsampling_temperature: -1", "d.yaml:2:temperature"),
        ("temperature: .nan", "d.yaml:1:temperature"),
        ("length_penalty: .inf", "d.yaml:1:length_penalty"),
        ("patience: .nan", "d.yaml:1:patience"),
        ("top_p: 1.5", "d.yaml:1:top_p"),
        ("min_p: -0.1", "d.yaml:1:min_p"),
        ("beam_size: 0", "d.yaml:1:num_beams"),
        ("num_beams: 100000", "d.yaml:1:num_beams"),
        ("max_new_tokens: 0", "d.yaml:1:max_new_tokens"),
        ("time_limit: -3", "d.yaml:1:time_limit"),
        ("repetition_penalty: 0", "d.yaml:1:repetition_penalty"),
        ("stop_strings: ['']", "d.yaml:1:stop_strings"),
        ("repetition_penalty: 1.0e-38", "d.yaml:1:repetition_penalty"),
        ("length_penalty: -7", "d.yaml:1:length_penalty"),
        ("patience: 17", "d.yaml:1:patience"),
        ("encoder_repetition_penalty: 0", "d.yaml:1:encoder_repetition_penalty"),
        ("seed: 1\nexponential_decay_length_penalty: [3, 0]", "d.yaml:2:exponential_decay_length_penalty"),
        ("exponential_decay_length_penalty: [3]", "d.yaml:1:exponential_decay_length_penalty"),
        ("eos_token_id: -1", "d.yaml:1:eos_token_id"),
        ("forced_bos_token_id: 4294967296", "d.yaml:1:forced_bos_token_id"),
        ("bad_words_ids: [[]]", "d.yaml:1:bad_words_ids"),
    ] {
        let error = refused(yaml);
        assert!(error.to_string().starts_with(place), "{yaml:?}: {error}");
    }
}

#[test]
fn lists_and_texts_are_counted_while_they_are_read() {
    let list = |item: &str, count: usize| format!("[{}]", vec![item; count].join(", "));
    for (key, item, most, what) in [
        ("stop_strings", "\"a\"", DecodingOptions::MOST_STOP_STRINGS, "at most 64 strings"),
        ("suppress_tokens", "7", DecodingOptions::MOST_SUPPRESSED, "at most 65536 symbols"),
        ("begin_suppress_tokens", "7", DecodingOptions::MOST_SUPPRESSED, "at most 65536 symbols"),
        ("bad_words_ids", "[7]", DecodingOptions::MOST_SUPPRESSED, "at most 65536 in all lists"),
        ("eos_token_id", "7", DecodingOptions::MOST_ENDS, "at most 64 ids"),
        ("forced_eos_token_id", "7", DecodingOptions::MOST_ENDS, "at most 64 ids"),
    ] {
        let read =
            |count| serde_json::from_str::<DecodingOptions>(&format!("{{\"{key}\": {}}}", list(item, count)));
        assert!(read(most).is_ok());
        let error = read(most + 1).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    for (key, most) in [
        ("stop_strings", DecodingOptions::MOST_STOP_CHARACTERS),
        ("target_prefix", DecodingOptions::MOST_PREFIX_CHARACTERS),
        ("target_language", DecodingOptions::MOST_LANGUAGE_CHARACTERS),
    ] {
        let yaml = |count: usize| format!("{key}: {}", "é".repeat(count));
        DecodingOptions::from_yaml(&yaml(most), "d.yaml").unwrap().check().unwrap();
        let error = refused(&yaml(most + 1));
        assert!(error.to_string().starts_with(&format!("d.yaml:1:{key}: ")), "{error}");
    }
}

#[test]
fn combinations_that_cannot_be_are_errors_that_name_the_key() {
    for (yaml, key) in [
        ("num_beams: 2\nnum_return_sequences: 3", "num_return_sequences"),
        ("num_return_sequences: 2", "num_return_sequences"),
        ("do_sample: true\nnum_beams: 2", "do_sample"),
        ("num_beams: 4\npatience: 0.25\nnum_return_sequences: 2", "patience"),
        ("max_new_tokens: 3\nmin_new_tokens: 4", "min_new_tokens"),
        ("temperature: 0.5", "temperature"),
        ("sampling_topk: 10", "top_k"),
        ("top_p: 0.5", "top_p"),
        ("min_p: 0.5", "min_p"),
    ] {
        let error = refused(yaml);
        assert!(error.message().starts_with(&format!("`{key}`: ")), "{yaml:?}: {error}");
    }
    DecodingOptions::from_yaml("do_sample: false\ntemperature: 0.5", "d.yaml").unwrap().check().unwrap();
    DecodingOptions::from_yaml("do_sample: true\nnum_return_sequences: 5", "d.yaml")
        .unwrap()
        .check()
        .unwrap();
}

#[test]
fn text_in_the_options_needs_a_vocabulary() {
    for yaml in [
        "target_prefix: a",
        "stop_strings: a",
        "suppress_tokens: [a]",
        "begin_suppress_tokens: [a]",
        "source_language: fr",
        "target_language: fr",
    ] {
        let options = DecodingOptions::from_yaml(yaml, "d.yaml").unwrap();
        options.check().unwrap();
        assert_eq!(Settings::for_ids(&options).unwrap_err().kind(), ErrorKind::Config);
    }
}

#[test]
fn a_hundred_thousand_brackets_are_refused_quickly() {
    let start = std::time::Instant::now();
    for prefix in ["", "stop_strings: ", "suppress_tokens: ", "output: "] {
        for bracket in ["[", "{a: ", "- "] {
            refused(&format!("{prefix}{}", bracket.repeat(100_000)));
        }
    }
    assert!(start.elapsed().as_secs() < 5, "took {:?}", start.elapsed());
}

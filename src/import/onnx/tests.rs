#![allow(clippy::unwrap_used)]

use s2s_runtime::contract::SpecialIds;
use s2s_runtime::graph_info::{BOOL, Dimension, FLOAT, GraphInfo, INT32, INT64, TensorInfo};
use s2s_runtime::manifest::{Io, MaskedOne, OutputForm, Wiring};
use s2s_runtime::onnx::{GraphProto, NodeProto};

use super::remarks::Remarks;
use super::symbols::{Special, around, read, spec, special_ids};
use super::wires::{Side, wiring};
use crate::error::Result;

/// A tensor whose axes are numbers or names.
fn tensor(name: &str, element_type: i32, axes: &[&str]) -> TensorInfo {
    let axis =
        |axis: &&str| axis.parse().map_or_else(|_| Dimension::Symbol((*axis).to_owned()), Dimension::Fixed);
    TensorInfo { name: name.to_owned(), element_type, shape: Some(axes.iter().map(axis).collect()) }
}

fn drafted(
    encoder: [Vec<TensorInfo>; 2],
    decoder: [Vec<TensorInfo>; 2],
    last: &str,
) -> Result<(Io, Wiring, Remarks)> {
    let info =
        |[inputs, outputs]: [Vec<TensorInfo>; 2]| GraphInfo { inputs, outputs, ..GraphInfo::default() };
    let (encoder, decoder) = (info(encoder), info(decoder));
    let node = NodeProto {
        op_type: last.to_owned(),
        input: vec!["x".to_owned()],
        output: vec![decoder.outputs[0].name.clone()],
        ..NodeProto::default()
    };
    let (none, graph) = (GraphProto::default(), GraphProto { node: vec![node], ..GraphProto::default() });
    let sides = [
        Side { name: "encoder.onnx", info: &encoder, graph: &none, symbols: 9 },
        Side { name: "decoder.onnx", info: &decoder, graph: &graph, symbols: 7 },
    ];
    let mut remarks = Remarks::default();
    let (io, wiring) = wiring(sides[0], sides[1], &mut remarks)?;
    Ok((io, wiring, remarks))
}

#[test]
fn states_whose_names_say_nothing_are_paired_by_their_order_and_that_is_said() {
    let state = |name: &str| tensor(name, FLOAT, &["batch", "4"]);
    let ids = tensor("x", INT32, &["batch", "time"]);
    let scores = tensor("y", FLOAT, &["batch", "1", "7"]);
    let (io, wiring, remarks) = drafted(
        [vec![ids], vec![state("Identity"), state("Identity_1")]],
        [
            vec![tensor("token", INT32, &["batch", "1"]), state("h"), state("c")],
            vec![scores, state("Identity_2"), state("Identity_3")],
        ],
        "Softmax",
    )
    .unwrap();
    let wires: Vec<[&str; 3]> = wiring
        .states
        .iter()
        .map(|state| [&*state.encoder_output, &*state.decoder_input, &*state.decoder_output])
        .collect();
    assert_eq!(wires, [["Identity", "h", "Identity_2"], ["Identity_1", "c", "Identity_3"]]);
    assert_eq!((io, wiring.output, wiring.decoder_prefix), (Io::Ids, OutputForm::Probabilities, false));
    let by_order = remarks.guessed.iter().filter(|sentence| sentence.contains("by their order")).count();
    assert_eq!(by_order, 4, "{remarks:?}");
    assert!(remarks.comments().contains("# - the decoder's output `Identity_3`"), "{}", remarks.comments());
}

#[test]
fn names_win_over_order_and_what_no_step_renews_is_memory() {
    let state = |name: &str| tensor(name, FLOAT, &["batch", "4"]);
    let memory = |name: &str| tensor(name, FLOAT, &["batch", "time", "4"]);
    let (_, wiring, remarks) = drafted(
        [
            vec![
                tensor("src", INT64, &["batch", "time"]),
                tensor("src_mask", BOOL, &["batch", "time"]),
                tensor("src_lengths", INT64, &["batch"]),
            ],
            vec![memory("annotations"), state("cell"), state("hidden")],
        ],
        [
            vec![
                tensor("memory_key_padding_mask", BOOL, &["batch", "time"]),
                state("hidden"),
                state("cell"),
                memory("annotations"),
                tensor("tgt", INT64, &["batch", "1"]),
            ],
            vec![
                tensor("log_probs", FLOAT, &["batch", "1", "7"]),
                state("next_cell"),
                state("next_hidden"),
                tensor("attention", FLOAT, &["batch", "time"]),
            ],
        ],
        "LogSoftmax",
    )
    .unwrap();
    assert!(remarks.guessed.is_empty(), "{remarks:?}");
    assert_eq!(wiring.encoder_inputs(), ["src", "src_mask", "src_lengths"]);
    assert_eq!(wiring.decoder_inputs(), ["tgt", "hidden", "cell", "annotations", "memory_key_padding_mask"]);
    assert_eq!(wiring.decoder_outputs(), ["log_probs", "next_hidden", "next_cell", "attention"]);
    assert_eq!(wiring.encoder_outputs(), ["hidden", "cell", "annotations"]);
    assert_eq!(wiring.output, OutputForm::LogProbabilities);
    let ones = [wiring.encoder_mask, wiring.decoder_mask].map(|mask| mask.unwrap().one);
    assert_eq!(ones, [MaskedOne::Token, MaskedOne::Padding]);
}

#[test]
fn a_decoder_without_states_reads_prefixes_and_states_without_a_first_value_begin_with_zeros_or_nothing() {
    let memory = || tensor("memory", FLOAT, &["batch", "time", "4"]);
    let encoder = || [vec![tensor("ids", INT64, &["batch", "time"])], vec![memory()]];
    let scores = |time: &str| tensor("logits", FLOAT, &["batch", time, "7"]);
    let tokens = tensor("tgt", INT64, &["batch", "target_time"]);
    let (_, wiring, _) =
        drafted(encoder(), [vec![tokens, memory()], vec![scores("target_time")]], "Gemm").unwrap();
    assert!(wiring.decoder_prefix && wiring.states.is_empty() && wiring.memory.len() == 1);
    let (_, wiring, remarks) = drafted(
        encoder(),
        [
            vec![
                tensor("token", INT64, &["batch", "1"]),
                tensor("past.0.key", FLOAT, &["batch", "2", "past", "3"]),
                tensor("h", FLOAT, &["batch", "5"]),
                memory(),
            ],
            vec![
                scores("1"),
                tensor("present.0.key", FLOAT, &["batch", "2", "present", "3"]),
                tensor("h2", FLOAT, &["batch", "5"]),
            ],
        ],
        "Gemm",
    )
    .unwrap();
    assert_eq!((&wiring.states[0].empty, wiring.states[0].grows), (&Some(vec![2, 0, 3]), Some(1)));
    assert_eq!(wiring.states[1].zeros, Some(vec![5]));
    assert_eq!(remarks.guessed.len(), 2, "{remarks:?}");
}

#[test]
fn what_nothing_can_feed_is_an_error_that_names_it() {
    let encoder =
        || [vec![tensor("ids", INT64, &["batch", "time"])], vec![tensor("h", FLOAT, &["batch", "4"])]];
    let scores = || tensor("logits", FLOAT, &["batch", "1", "7"]);
    let token = || tensor("token", INT64, &["batch", "1"]);
    let branch = tensor("use_cache_branch", BOOL, &[]);
    let error = drafted(encoder(), [vec![token(), branch], vec![scores()]], "Gemm").unwrap_err();
    assert!(error.to_string().starts_with("decoder.onnx:use_cache_branch: "), "{error}");
    let speaker = tensor("speaker", FLOAT, &["batch", "11"]);
    let error = drafted(encoder(), [vec![token(), speaker], vec![scores()]], "Gemm").unwrap_err();
    assert!(error.to_string().starts_with("decoder.onnx:speaker: no output of the encoder fits"), "{error}");
    let wide = tensor("logits", FLOAT, &["batch", "1", "8"]);
    let error = drafted(encoder(), [vec![token()], vec![wide]], "Gemm").unwrap_err();
    assert!(error.to_string().contains("no output has scores of 7 symbols"), "{error}");
}

#[test]
fn symbols_come_from_lines_lists_and_objects_and_special_ones_are_known_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path)
    };
    let lines = file("a.txt", "<pad>\n<s>\n</s>\n[UNK]\ns\n[\n").unwrap();
    assert_eq!(file("b.json", r#"["<pad>","<s>","</s>","[UNK]","s","["]"#).unwrap(), lines);
    let ids = r#"{"s": 4, "<pad>": 0, "<s>": 1, "</s>": 2, "[UNK]": 3, "[": 6}"#;
    assert_eq!(file("c.json", ids).unwrap()[4..], ["s", "<id 5>", "["]);
    for (name, text) in
        [("d.json", r#"{"a": -1}"#), ("e.json", "[1]"), ("f.json", r#"{"a": 1, "b": 1}"#), ("g.txt", "")]
    {
        assert!(file(name, text).is_err(), "{text}");
    }
    let mut remarks = Remarks::default();
    let found = special_ids([&lines, &lines], &Special::default(), &mut remarks).unwrap();
    assert_eq!((found, remarks.found.len()), (SpecialIds::default(), 4), "the letter s is no start");
    let symbols = spec("source", lines.clone(), found, &mut remarks).symbols;
    assert_eq!(symbols[..5], ["<pad>", "<start>", "<end>", "<unk>", "s"]);
    let given =
        Special { given: [None, Some("s".to_owned()), Some("5".to_owned()), None], ..Special::default() };
    let found = special_ids([&lines, &lines], &given, &mut remarks).unwrap();
    assert_eq!(found, SpecialIds { pad: 0, start: 4, end: 5, unk: 3 });
    let tags = Special { around: [Some("<s>".to_owned()), Some("2".to_owned())], ..Special::default() };
    assert_eq!(around(&lines, &tags).unwrap(), [Some(1), Some(2)]);
    let bare = ["a", "b"].map(str::to_owned);
    let error = special_ids([&bare, &bare], &Special::default(), &mut remarks).unwrap_err();
    assert!(error.help_text().unwrap().contains("--pad SYMBOL"), "{error}");
}

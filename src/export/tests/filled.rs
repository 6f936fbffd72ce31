//! Models that read padding: the graphs make it themselves, whoever runs them.

use s2s_runtime::contract::{DECODER_INPUT, DECODER_OUTPUT, DECODER_TARGET, ENCODER_INPUT, LOSS};
use s2s_runtime::engine::graph::{DataView, Tensor, TensorView};
use s2s_runtime::translator::Translator;
use s2s_runtime::vocabulary::{Padding, PaddingSide};

use super::*;

const LENGTH: usize = 6;
/// What the fillings have at least: nothing, or as many.
const LEAST: [usize; 2] = [0, 2];

/// A toy whose sources were filled up with `a` to six symbols when it was trained.
fn filled_toy(architecture: Architecture, side: PaddingSide) -> Toy {
    framed_toy(architecture, side, 0)
}

/// The same with as many of them around longer texts too.
fn framed_toy(architecture: Architecture, side: PaddingSide, least: usize) -> Toy {
    let toy = Toy::of(architecture, 11);
    let padding = Some(Padding { symbol: "a".to_owned(), length: LENGTH, least, side });
    let source = Vocabulary::from_spec(&VocabularySpec { padding, ..toy.source.spec().clone() }).unwrap();
    Toy { source, ..toy }
}

fn architectures() -> Vec<Architecture> {
    let embedded =
        Architecture { source_input: InputForm::Embedding(5), hidden: 12, ..Architecture::default() };
    vec![
        embedded.clone(),
        Architecture { source_input: InputForm::OneHot, layers: 2, ..embedded.clone() },
        Architecture { cell: Cell::Gru, bidirectional: true, ..embedded },
    ]
}

/// Texts shorter than the padding, as long, and longer.
fn texts() -> Vec<Vec<u32>> {
    let symbol = |row: usize, at: usize| UNK + ((7 * row + 5 * at) % 9) as u32;
    [1, 3, LENGTH, 2, LENGTH + 4, LENGTH - 1]
        .iter()
        .enumerate()
        .map(|(row, &n)| (0..n).map(|at| symbol(row, at)).collect())
        .collect()
}

fn engines() -> Vec<EngineKind> {
    let present = engine::available().into_iter().filter(|report| report.problem.is_none());
    present.map(|report| report.name.parse().unwrap()).collect()
}

/// The encoder's states of texts left-padded with 0 to `columns`, as a loop that knows nothing gives them.
fn encode(bundle: &Bundle, kind: EngineKind, texts: &[Vec<u32>], columns: usize) -> Vec<Tensor> {
    let wiring = &bundle.manifest().wiring;
    let mut graph = engine::load_graph(
        kind,
        "encoder.onnx",
        bundle.graph(Role::Encoder).unwrap(),
        &[&wiring.encoder_input],
        &wiring.encoder_outputs(),
    )
    .unwrap();
    let padded = |text: &Vec<u32>| {
        [vec![0; columns - text.len()], text.iter().map(|&id| i64::from(id)).collect()].concat()
    };
    let ids: Vec<i64> = texts.iter().flat_map(padded).collect();
    let mut states = Vec::new();
    graph
        .run(&[TensorView { shape: &[texts.len(), columns], data: DataView::I64(&ids) }], &mut states)
        .unwrap();
    states
}

fn largest_error(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn bundles_of_models_that_read_padding_pass_every_check_with_ids_and_rows_on_either_side() {
    for side in [PaddingSide::Left, PaddingSide::Right] {
        for architecture in architectures() {
            passes(
                &filled_toy(architecture.clone(), side),
                &VerifyOptions { random: 20, ..VerifyOptions::default() },
            );
            passes(
                &framed_toy(architecture, side, 2),
                &VerifyOptions { random: 20, ..VerifyOptions::default() },
            );
        }
    }
}

#[test]
fn padding_that_the_model_reads_is_made_in_the_graph_whatever_the_batch_and_however_long_the_text() {
    for (side, least, architecture) in [PaddingSide::Left, PaddingSide::Right]
        .into_iter()
        .flat_map(|side| LEAST.map(|least| (side, least)))
        .flat_map(|(side, least)| architectures().into_iter().map(move |a| (side, least, a)))
    {
        let toy = framed_toy(architecture, side, least);
        let bundle = toy.bundle();
        let (texts, start) = (texts(), vec![vec![START]; texts().len()]);
        // What the trainer computes of sources that are filled up before: `forward` of the run's own network
        // fills nothing.
        let whole: Vec<Vec<u32>> = texts
            .iter()
            .map(|text| {
                let mut ids = text.clone();
                toy.source.fill(&mut ids);
                ids
            })
            .collect();
        assert!(whole.iter().all(|ids| ids.len() >= LENGTH) && whole.iter().any(|ids| ids.len() > LENGTH));
        let expected = toy.network.forward(&toy.parameters, &whole, &start).states;
        for kind in engines() {
            // As long as the longest text, and with more padding than anybody needs.
            for columns in [LENGTH + 4, LENGTH + 17] {
                let states = encode(&bundle, kind, &texts, columns);
                for (state, (name, expected)) in states.iter().zip(&expected) {
                    assert!(largest_error(&state.data, expected) < 2e-6, "{kind} {side:?} {name} {columns}");
                }
            }
            for (row, text) in texts.iter().enumerate() {
                let alone = encode(&bundle, kind, std::slice::from_ref(text), text.len());
                // What is filled up already is not filled up again, but for what stands there anyway.
                let again = if least == 0 { &whole[row] } else { text };
                let filled = encode(&bundle, kind, std::slice::from_ref(again), again.len());
                for ((alone, filled), (name, expected)) in alone.iter().zip(&filled).zip(&expected) {
                    let expected = &expected[row * alone.data.len()..][..alone.data.len()];
                    assert!(
                        largest_error(&alone.data, expected) < 2e-6,
                        "{kind} {side:?} {name}, text {row} alone"
                    );
                    // Who fills up by the manifest of an older bundle is right here too.
                    assert!(
                        largest_error(&filled.data, expected) < 2e-6,
                        "{kind} {side:?} {name}, text {row} filled up before"
                    );
                }
            }
        }
    }
}

#[test]
fn what_stands_behind_each_source_is_attended_to_and_not_shown() {
    for attention in [AttentionScore::Dot, AttentionScore::General] {
        for bidirectional in [false, true] {
            let a = Architecture { attention, bidirectional, ..architectures().remove(0) };
            let toy = Toy::of(a, 11);
            let padding =
                Some(Padding { symbol: "a".to_owned(), length: 1, least: 1, side: PaddingSide::Right });
            let spec = VocabularySpec { padding, ..toy.source.spec().clone() };
            let toy = Toy { source: Vocabulary::from_spec(&spec).unwrap(), ..toy };
            passes(&toy, &VerifyOptions { random: 20, ..VerifyOptions::default() });
        }
    }
}

#[test]
fn the_training_graph_fills_up_sources_too() {
    let toy = filled_toy(architectures().remove(0), PaddingSide::Right);
    let bundle = toy.bundle();
    let whole = {
        let mut ids = vec![5, 6];
        toy.source.fill(&mut ids);
        ids
    };
    let expected = toy.network.forward(&toy.parameters, &[whole], &[vec![START, 4]]);
    for kind in engines() {
        let mut graph = engine::load_graph(
            kind,
            "training.onnx",
            bundle.graph(Role::Training).unwrap(),
            &[ENCODER_INPUT, DECODER_INPUT, DECODER_TARGET],
            &[DECODER_OUTPUT, LOSS],
        )
        .unwrap();
        let (shape, mut found) = ([1, 2], Vec::new());
        let view = |ids| TensorView { shape: &shape, data: DataView::I64(ids) };
        graph.run(&[view(&[5, 6]), view(&[1, 4]), view(&[4, 2])], &mut found).unwrap();
        assert!(largest_error(&found[0].data, &expected.logits) < 1e-5, "{kind}");
    }
}

#[test]
fn the_manifest_the_graphs_and_the_readme_say_that_there_is_nothing_to_fill_up() {
    let toy = filled_toy(architectures().remove(0), PaddingSide::Right);
    let files = toy.files(&ExportOptions::default());
    let bundle = Bundle::from_files("toy", files.clone()).unwrap();
    let source = bundle.source().spec();
    assert_eq!(
        (source.padding.as_ref(), source.graph_padding.as_ref()),
        (None, toy.source.spec().padding.as_ref())
    );
    assert_eq!(bundle.source().framed("bc").len(), 2, "the runtime leaves it to the graphs");
    for role in Role::ALL {
        let metadata = model(&files, role).metadata(metadata::SOURCE_VOCABULARY).unwrap().to_owned();
        assert!(metadata.contains("graph_padding") && !metadata.contains("\"padding\""), "{metadata}");
    }
    let readme = String::from_utf8(files[file::README].clone()).unwrap();
    assert!(readme.contains("The graphs make it themselves") && readme.contains("nothing to do"), "{readme}");
    assert!(!readme.contains("len(text)"), "the loop in it fills up nothing");
}

#[test]
fn an_older_bundle_whose_padding_is_outside_its_graphs_stays_right() {
    let toy = filled_toy(architectures().remove(0), PaddingSide::Right);
    let bare = Vocabulary::from_spec(&VocabularySpec { padding: None, ..toy.source.spec().clone() }).unwrap();
    let input = ExportInput { source: &bare, ..toy.input() };
    let mut files = bundle_files(&input, &ExportOptions::default()).unwrap();
    let mut manifest =
        Manifest::from_yaml(std::str::from_utf8(&files[file::MANIFEST]).unwrap(), "s2s.yaml").unwrap();
    manifest.source.padding.clone_from(&toy.source.spec().padding);
    manifest.format_version = "1.1".to_owned();
    files.insert(file::MANIFEST.to_owned(), manifest.to_yaml().unwrap().into_bytes());
    for role in Role::ALL {
        let mut graph = model(&files, role);
        let entry =
            graph.metadata_props.iter_mut().find(|entry| entry.key == metadata::SOURCE_VOCABULARY).unwrap();
        entry.value = toy.source.metadata_json();
        replace(&mut files, role, &graph);
    }
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [older, newer] = folders.each_ref().map(|folder| folder.path().join("toy"));
    write_bundle(&older, &files, &Replace::AnyBundle).unwrap();
    write_bundle(&newer, &toy.files(&ExportOptions::default()), &Replace::AnyBundle).unwrap();
    verify_path(&older, &VerifyOptions { random: 5, ..VerifyOptions::default() }, false)
        .unwrap()
        .check()
        .unwrap();
    for kind in engines() {
        let [older, newer] = [&older, &newer].map(|bundle| {
            let texts = ["b", "cdef", "hgfedcbahg", "", "ab"];
            let translations = Translator::open(bundle, kind)
                .unwrap()
                .translate(&texts, &DecodingOptions::default())
                .unwrap();
            translations.into_iter().map(|t| (t.best.text, t.source_tokens)).collect::<Vec<_>>()
        });
        assert_eq!(older, newer);
        assert_eq!(older.iter().map(|(_, tokens)| *tokens).collect::<Vec<_>>(), [1, 4, 10, 0, 2]);
    }
}

#[test]
fn attention_over_padding_that_is_read_is_refused() {
    let architecture = Architecture { attention: AttentionScore::Dot, ..architectures().remove(0) };
    let error = bundle_files(&filled_toy(architecture, PaddingSide::Left).input(), &ExportOptions::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
}

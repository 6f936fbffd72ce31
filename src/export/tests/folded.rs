//! The forms of encoder and decoder that engines make for many rows.

use s2s_runtime::checked::CheckedModel;
use s2s_runtime::engine::IdMatrix;
use s2s_runtime::engine::graph::{DataView, TensorView};

use super::*;

/// Ids (rows, columns) of the toy's sources, ragged, left-padded.
fn ragged(rows: usize, columns: usize, symbols: usize) -> Vec<i64> {
    let id = |row: usize, column: usize| (3 + (7 * row + 5 * column) % (symbols - 3)) as i64;
    let padding = |row: usize| row % columns;
    (0..rows)
        .flat_map(|row| {
            (0..columns).map(move |column| if column < padding(row) { 0 } else { id(row, column) })
        })
        .collect()
}

/// The engines that are here.
fn engines() -> Vec<EngineKind> {
    let present = engine::available().into_iter().filter(|report| report.problem.is_none());
    present.map(|report| report.name.parse().unwrap()).collect()
}

/// Both graphs give the same in every output, but for the order of their sums.
#[track_caller]
fn agree(
    kind: EngineKind,
    graphs: [&[u8]; 2],
    names: (&[&str], &[&str]),
    inputs: &[TensorView<'_>],
    tolerance: f32,
) {
    let [plain, other] = graphs.map(|bytes| {
        let mut given = Vec::new();
        engine::load_graph(kind, "graph", bytes, names.0, names.1).unwrap().run(inputs, &mut given).unwrap();
        given
    });
    assert_eq!(plain.len(), other.len());
    for (a, b) in plain.iter().zip(&other) {
        assert_eq!(a.shape, b.shape);
        let worst = a.data.iter().zip(&b.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= tolerance, "{kind}, {:?}: {worst}", inputs[0].shape);
    }
}

#[test]
fn a_folded_encoder_gives_what_the_encoder_gives() {
    let embedded =
        Architecture { source_input: InputForm::Embedding(5), hidden: 12, ..Architecture::default() };
    let forms = [
        embedded.clone(),
        Architecture { source_input: InputForm::OneHot, ..embedded.clone() },
        Architecture { bidirectional: true, ..embedded.clone() },
        Architecture {
            bidirectional: true,
            source_input: InputForm::OneHot,
            attention: AttentionScore::Dot,
            ..embedded.clone()
        },
    ];
    for architecture in forms {
        let toy = Toy::of(architecture, 5);
        let bundle = toy.bundle();
        let (model, wiring) = (bundle.graph(Role::Encoder).unwrap(), &bundle.manifest().wiring);
        let folded =
            engine::folded_encoder(bundle.shared_graph(Role::Encoder).unwrap(), toy.source.len()).unwrap();
        let operators = |bytes: &[u8], op: &str| {
            ModelProto::decode(bytes).unwrap().graph.unwrap().node.iter().filter(|n| n.is(op)).count()
        };
        assert_eq!((operators(&folded, "Scan"), operators(&folded, "LSTM")), (operators(model, "LSTM"), 0));
        for kind in engines() {
            for (rows, columns) in [(1, 1), (1, 6), (3, 5), (70, 9)] {
                let ids = ragged(rows, columns, toy.source.len());
                let input = [TensorView { shape: &[rows, columns], data: DataView::I64(&ids) }];
                // Sums of a dozen products in another order.
                agree(
                    kind,
                    [model, &folded],
                    (&[&wiring.encoder_input], &wiring.encoder_outputs()),
                    &input,
                    2e-6,
                );
            }
        }
    }
}

#[test]
fn encoders_of_others_of_gru_cells_and_of_several_layers_are_not_folded() {
    let embedded =
        Architecture { source_input: InputForm::Embedding(5), hidden: 12, ..Architecture::default() };
    for architecture in
        [Architecture { cell: Cell::Gru, ..embedded.clone() }, Architecture { layers: 2, ..embedded }]
    {
        let toy = Toy::of(architecture, 5);
        assert_eq!(
            engine::folded_encoder(toy.bundle().shared_graph(Role::Encoder).unwrap(), toy.source.len()),
            None
        );
    }
    let toy = Toy::embedded();
    let files = toy.files(&ExportOptions { io: Io::OneHot, ..ExportOptions::default() });
    let folded = |model: ModelProto| {
        engine::folded_encoder(&CheckedModel::new("encoder", model).unwrap(), toy.source.len())
    };
    assert_eq!(folded(model(&files, Role::Encoder)), None);
    let mut foreign = model(&toy.files(&ExportOptions::default()), Role::Encoder);
    assert!(folded(foreign.clone()).is_some());
    foreign.metadata_props.clear();
    assert_eq!(folded(foreign), None);
}

#[test]
fn a_busy_engine_goes_on_with_the_same_states() {
    let toy = Toy::new(InputForm::Embedding(5), InputForm::Embedding(6), 12, 1, 7);
    let bundle = toy.bundle();
    for kind in engines() {
        let mut engine = engine::open(&bundle, kind).unwrap();
        let source = IdMatrix { rows: 64, columns: 6, data: ragged(64, 6, toy.source.len()) };
        let mut states = || {
            let encoded = engine.encode(&source).unwrap();
            engine.clear();
            engine.join(&encoded, 0..64).unwrap();
            engine.states().unwrap()
        };
        let first = states();
        // Long enough for the form that pays with many rows to be made.
        for _ in 0..12 {
            for (a, b) in first.iter().zip(&states()) {
                assert!(a.data.iter().zip(&b.data).all(|(a, b)| (a - b).abs() <= 2e-6), "{kind}");
            }
        }
    }
}

#[test]
fn a_decoder_with_a_product_for_each_gate_gives_what_the_decoder_gives() {
    let embedded =
        Architecture { target_input: InputForm::Embedding(6), hidden: 12, ..Architecture::default() };
    let forms = [
        embedded.clone(),
        Architecture { target_input: InputForm::OneHot, layers: 2, ..embedded.clone() },
        Architecture { attention: AttentionScore::General, ..embedded.clone() },
    ];
    for architecture in forms {
        let toy = Toy::of(architecture, 5);
        let bundle = toy.bundle();
        let split = engine::split_decoder(bundle.shared_graph(Role::Decoder).unwrap()).unwrap();
        let products = |bytes: &[u8]| {
            ModelProto::decode(bytes).unwrap().graph.unwrap().node.iter().filter(|n| n.is("MatMul")).count()
        };
        assert_eq!(products(&split), products(bundle.graph(Role::Decoder).unwrap()) + 3);
        let wiring = &bundle.manifest().wiring;
        for kind in engines() {
            for rows in [1, 3, 70] {
                let encoder = bundle.graph(Role::Encoder).unwrap();
                let outputs = wiring.encoder_outputs();
                let mut encoder =
                    engine::load_graph(kind, "encoder", encoder, &wiring.encoder_inputs(), &outputs).unwrap();
                let ids = ragged(rows, 6, toy.source.len());
                let source = TensorView { shape: &[rows, 6], data: DataView::I64(&ids) };
                let mut states = Vec::new();
                encoder.run(&[source], &mut states).unwrap();
                let tokens: Vec<i64> =
                    (0..rows as i64).map(|row| 1 + row % (toy.target.len() as i64 - 1)).collect();
                let token_shape = [rows, 1];
                let mut inputs = vec![TensorView { shape: &token_shape, data: DataView::I64(&tokens) }];
                inputs.extend(
                    states.iter().map(|t| TensorView { shape: &t.shape, data: DataView::F32(&t.data) }),
                );
                let graphs = [bundle.graph(Role::Decoder).unwrap(), &split];
                agree(kind, graphs, (&wiring.decoder_inputs(), &wiring.decoder_outputs()), &inputs, 5e-6);
            }
        }
    }
    let gru = Toy::of(Architecture { cell: Cell::Gru, ..embedded }, 5);
    assert_eq!(engine::split_decoder(gru.bundle().shared_graph(Role::Decoder).unwrap()), None);
}

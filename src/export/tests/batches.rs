//! What a text becomes, whatever stands beside it.

use proptest::prelude::*;
use s2s_runtime::contract::{START, UNK};

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn what_a_text_becomes_does_not_depend_on_the_batch_that_it_is_in(
        seed in 0u64..1000,
        hidden in 1usize..20,
        layers in 1usize..3,
        one_hot in any::<bool>(),
        bidirectional in any::<bool>(),
        attention in prop::sample::select(vec![AttentionScore::None, AttentionScore::Dot, AttentionScore::General]),
        texts in prop::collection::vec(prop::collection::vec(UNK..12, 1..20), 2..12),
    ) {
        let form = |width| if one_hot { InputForm::OneHot } else { InputForm::Embedding(width) };
        let architecture = Architecture {
            source_input: form(4),
            target_input: form(3),
            hidden: 2 * hidden,
            layers,
            bidirectional,
            attention,
            ..Architecture::default()
        };
        let toy = Toy::of(architecture, seed);
        let bundle = Bundle::from_files("toy", toy.files(&ExportOptions { graphs_only: true, ..ExportOptions::default() })).unwrap();
        let mut engine = engine::open(&bundle, EngineKind::Tract).unwrap();
        // Often enough that tract makes a plan for this very batch.
        (0..20).for_each(|_| drop(logits(&mut *engine, &texts[..1])));
        let alone: Vec<_> = texts.iter().map(|t| logits(&mut *engine, std::slice::from_ref(t)).remove(0)).collect();
        let together = logits(&mut *engine, &texts);
        // Not a bit: a text that stands on a tie must not be turned by its neighbours.
        for (row, (alone, together)) in alone.iter().zip(&together).enumerate() {
            prop_assert_eq!(alone, together, "row {}", row);
        }
    }
}

/// Logits of the first three decoder steps, a row a text.
fn logits(engine: &mut dyn engine::Engine, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let source = engine::IdMatrix::left_padded(texts.iter().map(Vec::as_slice), 0);
    let encoded = engine.encode(&source).unwrap();
    engine.clear();
    engine.join(&encoded, 0..texts.len()).unwrap();
    let mut output = engine::StepOutput::default();
    let mut rows = vec![Vec::new(); texts.len()];
    for token in [START, UNK, UNK + 1] {
        engine.step(&vec![i64::from(token); texts.len()], &mut output).unwrap();
        for (row, logits) in rows.iter_mut().zip(output.logits.chunks_exact(engine.target_vocabulary())) {
            row.extend_from_slice(logits);
        }
    }
    rows
}

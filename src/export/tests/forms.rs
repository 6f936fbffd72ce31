//! Networks of every form: each passes every check in every engine.

use super::*;

#[test]
fn every_form_of_network_passes_every_check_in_every_engine_that_is_here() {
    let options = VerifyOptions { random: 40, ..VerifyOptions::default() };
    for (source, target, layers) in [
        (InputForm::Embedding(5), InputForm::Embedding(6), 1),
        (InputForm::OneHot, InputForm::OneHot, 1),
        (InputForm::Embedding(5), InputForm::OneHot, 2),
        (InputForm::OneHot, InputForm::Embedding(3), 3),
    ] {
        passes(&Toy::new(source, target, 12, layers, 7), &options);
    }
}

#[test]
fn every_cell_direction_and_attention_passes_every_check_in_every_engine_that_is_here() {
    let options = VerifyOptions { random: 40, ..VerifyOptions::default() };
    let embedded = Architecture {
        source_input: InputForm::Embedding(5),
        target_input: InputForm::Embedding(6),
        hidden: 12,
        ..Architecture::default()
    };
    for architecture in [
        Architecture { cell: Cell::Gru, ..embedded.clone() },
        Architecture { cell: Cell::GruResetBias, ..Architecture::default() },
        Architecture { cell: Cell::GruResetBias, layers: 2, bidirectional: true, ..embedded.clone() },
        Architecture {
            cell: Cell::Gru,
            layers: 2,
            source_input: InputForm::OneHot,
            target_input: InputForm::OneHot,
            ..embedded.clone()
        },
        Architecture { bidirectional: true, ..embedded.clone() },
        Architecture { bidirectional: true, layers: 2, source_input: InputForm::OneHot, ..embedded.clone() },
        Architecture { attention: AttentionScore::Dot, ..embedded.clone() },
        Architecture {
            attention: AttentionScore::General,
            bidirectional: true,
            layers: 2,
            ..embedded.clone()
        },
        Architecture {
            attention: AttentionScore::General,
            cell: Cell::Gru,
            bidirectional: true,
            ..embedded.clone()
        },
        Architecture { tied_embeddings: true, target_input: InputForm::Embedding(12), ..embedded },
    ] {
        passes(&Toy::of(architecture, 7), &options);
    }
}

/// What models of other programs have, but for what is fed.
fn foreign() -> Vec<Architecture> {
    let embedded = Architecture {
        source_input: InputForm::Embedding(5),
        target_input: InputForm::Embedding(6),
        hidden: 12,
        ..Architecture::default()
    };
    vec![
        Architecture {
            attention: AttentionScore::Additive,
            attention_bias: true,
            bidirectional: true,
            encoder_hidden: Some(20),
            bridge: Bridge::Tanh,
            ..embedded.clone()
        },
        Architecture {
            attention: AttentionScore::Additive,
            attention_width: Some(7),
            attention_output: AttentionOutput::Concatenated,
            cell: Cell::Gru,
            ..embedded.clone()
        },
        Architecture {
            attention: AttentionScore::General,
            attention_bias: true,
            attention_output: AttentionOutput::CombinedLinear,
            encoder_hidden: Some(9),
            bridge: Bridge::Relu,
            bridge_source: BridgeSource::Hidden,
            ..embedded.clone()
        },
        Architecture {
            layers: 2,
            decoder_layers: Some(1),
            hand_over: Some(vec![Some(1)]),
            ..embedded.clone()
        },
        Architecture {
            decoder_layers: Some(2),
            hand_over: Some(vec![None, Some(0)]),
            encoder_hidden: Some(9),
            bridge: Bridge::Linear,
            ..embedded.clone()
        },
        Architecture { cell: Cell::GruResetBefore, layers: 2, bidirectional: true, ..embedded.clone() },
        Architecture {
            gate_activation: GateActivation::HardSigmoidSixth,
            bidirectional: true,
            attention: AttentionScore::Dot,
            ..embedded.clone()
        },
        Architecture {
            cell: Cell::GruResetBias,
            gate_activation: GateActivation::HardSigmoidFifth,
            layers: 2,
            ..embedded
        },
    ]
}

#[test]
fn bridges_unequal_sides_and_additive_attention_pass_every_check_in_every_engine_that_is_here() {
    let options = VerifyOptions { random: 40, ..VerifyOptions::default() };
    for architecture in foreign() {
        passes(&Toy::of(architecture, 7), &options);
    }
}

#[test]
fn decoders_that_are_fed_pass_every_check_in_every_engine_that_is_here() {
    let options = VerifyOptions { random: 40, ..VerifyOptions::default() };
    let general = Architecture {
        source_input: InputForm::Embedding(5),
        target_input: InputForm::Embedding(6),
        hidden: 12,
        attention: AttentionScore::General,
        ..Architecture::default()
    };
    for architecture in [
        Architecture { layers: 2, feeding: Feeding::Output, ..general.clone() },
        Architecture {
            attention: AttentionScore::Additive,
            attention_output: AttentionOutput::State,
            feeding: Feeding::Context,
            encoder_hidden: Some(20),
            bidirectional: true,
            bridge: Bridge::Tanh,
            cell: Cell::GruResetBias,
            ..general
        },
    ] {
        passes(&Toy::of(architecture, 7), &options);
    }
}

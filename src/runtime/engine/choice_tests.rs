//! Which engine `auto` is, with graphs that tract is fast at or may be slow at.

#![allow(clippy::unwrap_used)]

use prost::Message as _;

use super::tests::{engines, files};
use super::*;
use crate::bundle::{Bundle, sha256};
use crate::contract::{DECODER_OUTPUT, file};
use crate::decoding::{DecodingOptions, decode_batch};
use crate::manifest::Role;
use crate::onnx::{AttributeProto, AttributeType, ModelProto, NodeProto};

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: output.to_owned(),
        op_type: op.to_owned(),
        ..NodeProto::default()
    }
}

/// The bundle whose scores go through `nodes`, from `plain_scores` to the decoder's output.
fn behind_scores(nodes: Vec<NodeProto>) -> Bundle {
    let mut files = files("ids");
    let old = files[Role::Decoder.file()].clone();
    let mut model = ModelProto::decode(old.as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    for output in graph.node.iter_mut().flat_map(|node| &mut node.output) {
        if output == DECODER_OUTPUT {
            "plain_scores".clone_into(output);
        }
    }
    graph.node.extend(nodes);
    let new = model.encode_to_vec();
    let manifest = String::from_utf8(files[file::MANIFEST].clone()).unwrap();
    let manifest = manifest.replace(&sha256(&old), &sha256(&new));
    files.insert(Role::Decoder.file().to_owned(), new);
    files.insert(file::MANIFEST.to_owned(), manifest.into_bytes());
    Bundle::from_files("other", files).unwrap()
}

fn ids(bundle: &Bundle, kind: EngineKind) -> Vec<Vec<u32>> {
    let options = DecodingOptions { max_new_tokens: Some(12), ..DecodingOptions::default() };
    let sources = [vec![4, 5], vec![6, 7, 8, 9], vec![11]];
    let found = decode_batch(&mut *open(bundle, kind).unwrap(), &sources, &options).unwrap();
    found.into_iter().map(|hypotheses| hypotheses[0].ids.clone()).collect()
}

#[test]
fn auto_is_tract_without_a_measurement_where_it_is_fast_at_every_operator() {
    let (kind, reason) = choice(&super::tests::bundle("ids")).unwrap();
    assert_eq!((kind, reason.as_str()), (EngineKind::Tract, "it is fast at every operator of both graphs"));
}

#[test]
fn auto_measures_where_tract_may_be_slow_and_says_the_same_whichever_it_takes() {
    if !engines().contains(&EngineKind::Ort) {
        return;
    }
    let equation = AttributeProto {
        name: "equation".to_owned(),
        s: b"bij->bij".to_vec(),
        r#type: AttributeType::String as i32,
        ..AttributeProto::default()
    };
    let einsum = NodeProto { attribute: vec![equation], ..node("Einsum", &["plain_scores"], DECODER_OUTPUT) };
    let bundle = behind_scores(vec![einsum]);
    let (_, reason) = choice(&bundle).unwrap();
    assert!(reason.starts_with("a step of 1 and 64 rows takes "), "{reason}");
    let expected = ids(&super::tests::bundle("ids"), EngineKind::Tract);
    for kind in [EngineKind::Auto, EngineKind::Tract, EngineKind::Ort] {
        assert_eq!(ids(&bundle, kind), expected, "{kind}");
    }
    assert!(measured(&bundle).iter().all(|engine| engine.problem.is_none() && engine.step_us[0] > 0.0));
}

//! Models with large weights, read by tract without further copies of these.
//!
//! tract reads a graph from its messages, and from there copies each weight twice. So it is given the messages
//! without the large weights, which stand there as inputs; what gives these inputs then becomes constants.

use std::collections::HashMap;

use prost::Message as _;
use tract_onnx::pb;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceModel, Tensor as TractTensor, TractResult, TypedFact,
};
use tract_onnx::tract_core::ops::konst::Const;

use crate::checked::CheckedModel;
use crate::onnx::{DataType, Dimension, DimensionProto, GraphProto, ModelProto, TensorProto, ValueInfoProto};

/// Bytes from which on a weight is worth the way around.
const LARGE: usize = 64 << 10;

/// Reads `model` as `onnx` does.
pub(super) fn read(onnx: &tract_onnx::Onnx, model: &CheckedModel) -> TractResult<InferenceModel> {
    let mut rest = ModelProto::clone(model);
    let weights = rest.graph.as_mut().map(taken).unwrap_or_default();
    let rest = pb::ModelProto::decode(&rest.encode_to_vec()[..])?;
    let mut read = onnx.model_for_proto_model(&rest)?;
    drop(rest);
    for node in &mut read.nodes {
        let Some(weight) = weights.get(&node.name).filter(|_| node.inputs.is_empty()) else { continue };
        let tensor = tensor(weight)?.into();
        node.outputs[0].fact = TypedFact::try_from(std::sync::Arc::clone(&tensor))?.into();
        node.op = Box::new(Const::new(tensor)?);
    }
    let is_input =
        |outlet: &tract_onnx::prelude::OutletId| !weights.contains_key(&read.nodes[outlet.node].name);
    read.inputs = read.inputs.iter().filter(|outlet| is_input(outlet)).copied().collect();
    Ok(read)
}

/// Takes the large weights out of a graph, and declares them as inputs.
fn taken(graph: &mut GraphProto) -> HashMap<String, TensorProto> {
    let inputs: Vec<String> = graph.input.iter().map(|input| input.name.clone()).collect();
    let is_large = |tensor: &mut TensorProto| {
        tensor.raw_data.len() >= LARGE
            && tensor.data_type == DataType::Float as i32
            && !inputs.contains(&tensor.name)
    };
    let weights: Vec<TensorProto> = graph.initializer.extract_if(.., is_large).collect();
    graph.input.extend(weights.iter().map(|weight| {
        let axis = |&length: &i64| DimensionProto { value: Some(Dimension::Value(length)) };
        ValueInfoProto::tensor(&weight.name, DataType::Float, weight.dims.iter().map(axis).collect())
    }));
    weights.into_iter().map(|weight| (weight.name.clone(), weight)).collect()
}

/// A weight as tract has it; a checked one has as many bytes as its axes say.
fn tensor(weight: &TensorProto) -> TractResult<TractTensor> {
    let shape = weight.shape().unwrap_or_default();
    let mut tensor = TractTensor::zero_dt(DatumType::F32, &shape)?;
    let (chunks, _) = weight.raw_data.as_chunks::<4>();
    for (x, bytes) in tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?.iter_mut().zip(chunks) {
        *x = f32::from_le_bytes(*bytes);
    }
    Ok(tensor)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::graph::{DataView, TensorView};
    use crate::engine::{EngineKind, load_graph};
    use crate::onnx::{NodeProto, OperatorSetIdProto};

    #[test]
    fn a_large_weight_is_what_the_file_says_beside_small_ones_and_beside_its_double() {
        let (rows, columns) = (96, 256);
        let weight = |at: usize| (at % 977) as f32 * 0.01 - 3.0;
        let values: Vec<f32> = (0..rows * columns).map(weight).collect();
        let node = |op: &str, input: [&str; 2], output: &str| NodeProto {
            op_type: op.to_owned(),
            input: input.map(str::to_owned).to_vec(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        };
        let tensor = |name: &str, dims: [usize; 2]| {
            let axes = dims.map(|length| DimensionProto { value: Some(Dimension::Value(length as i64)) });
            ValueInfoProto::tensor(name, DataType::Float, axes.to_vec())
        };
        let graph = GraphProto {
            node: vec![
                node("MatMul", ["x", "weight"], "product"),
                node("Add", ["product", "bias"], "sum"),
                node("MatMul", ["x", "double"], "again"),
                node("Sub", ["sum", "again"], "y"),
            ],
            initializer: vec![
                TensorProto::of_floats("weight", &[rows, columns], &values),
                TensorProto::of_floats("double", &[rows, columns], &values),
                TensorProto::of_floats("bias", &[columns], &values[..columns]),
            ],
            input: vec![tensor("x", [1, rows])],
            output: vec![tensor("sum", [1, columns]), tensor("y", [1, columns])],
            ..GraphProto::default()
        };
        assert!(graph.initializer[0].raw_data.len() >= LARGE && graph.initializer[2].raw_data.len() < LARGE);
        let model = ModelProto {
            ir_version: 8,
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            ..ModelProto::default()
        };
        let mut loaded =
            load_graph(EngineKind::Tract, "g", &model.encode_to_vec(), &["x"], &["sum", "y"]).unwrap();
        for row in [0, 1, rows - 1] {
            // Picks one row of the weight, exactly.
            let mut x = vec![0f32; rows];
            x[row] = 1.0;
            let mut outputs = Vec::new();
            let x = TensorView { shape: &[1, rows], data: DataView::F32(&x) };
            loaded.run(&[x], &mut outputs).unwrap();
            let bias = &values[..columns];
            let picked = values[row * columns..].iter().zip(bias).map(|(w, b)| w + b);
            assert_eq!(outputs[0].data, picked.collect::<Vec<f32>>());
            // Rounded as the sum was.
            assert!(outputs[1].data.iter().zip(bias).all(|(y, b)| (y - b).abs() <= 1e-6));
        }
    }
}

//! Shapes of all values of an ONNX graph, found from the operators, with symbolic axes kept by name.
//!
//! Enough operators for recurrent and dense networks; what is not known stays unknown instead of being
//! guessed.

use std::collections::HashMap;

use crate::checked::MOST_AXES;
use crate::onnx::{DataType, Dimension, DimensionProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};

mod arithmetic;
mod axis;

use arithmetic::{
    at, broadcast, concat, flatten, known_scalar, matmul, pad, recurrent, reduce, reshape, scaled, slice,
    split_size, squeeze, state, unsqueeze, with, wrap,
};
use axis::fixed;
pub use axis::{Axis, Shape, declared, display, least_elements};

/// Shapes by the name of the value.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    shapes: HashMap<String, Vec<Axis>>,
    /// Small integer tensors that are known, or known but for symbols: shapes under way.
    values: HashMap<String, Vec<Axis>>,
}

/// A small tensor of integers.
pub(crate) fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    let count = tensor
        .shape()?
        .iter()
        .try_fold(1usize, |n, &length| n.checked_mul(length))
        .filter(|&count| count <= MOST_AXES)?;
    const INT64: i32 = DataType::Int64 as i32;
    const INT32: i32 = DataType::Int32 as i32;
    let raw = &tensor.raw_data[..];
    match tensor.data_type {
        INT64 if raw.len() == 8 * count => {
            Some(raw.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
        }
        INT32 if raw.len() == 4 * count => {
            Some(raw.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect())
        }
        INT64 if tensor.int64_data.len() == count => Some(tensor.int64_data.clone()),
        INT32 if tensor.int32_data.len() == count => {
            Some(tensor.int32_data.iter().map(|&value| value.into()).collect())
        }
        _ => None,
    }
}

/// An attribute that lists axes; none where it is longer than any list of axes.
fn listed(node: &NodeProto, name: &str) -> Option<Vec<i64>> {
    node.attribute(name).map(|attribute| &attribute.ints).filter(|ints| ints.len() <= 2 * MOST_AXES).cloned()
}

impl Shapes {
    /// Walks the nodes in order; declared shapes of values in between fill what the operators leave unknown.
    pub fn of(graph: &GraphProto) -> Self {
        let mut found = Self::default();
        found.walk(graph, &mut |_, _, _| ());
        found
    }

    /// What is known before the walk: inputs, with 1 for each axis that is open.
    pub fn smallest(graph: &GraphProto) -> Self {
        let mut found = Self::default();
        for (input, shape) in graph.input.iter().filter_map(|input| Some((input, declared(input)?))) {
            let axes = shape
                .into_iter()
                .map(|axis| if matches!(axis, Axis::Fixed(_)) { axis } else { Axis::Fixed(1) });
            found.shapes.insert(input.name.clone(), axes.collect());
        }
        found
    }

    /// The same, bodies too, and tells `seen` of each node, with the shapes of its outputs and what is known
    /// so far.
    pub fn walk(&mut self, graph: &GraphProto, seen: &mut dyn FnMut(&NodeProto, &[Shape], &Self)) {
        for tensor in &graph.initializer {
            self.shapes.insert(tensor.name.clone(), tensor.dims.iter().map(|&d| Axis::Fixed(d)).collect());
            if let Some(values) = integers(tensor) {
                self.know(&tensor.name, values.into_iter().map(Axis::Fixed).collect());
            }
        }
        for input in &graph.input {
            if let Some(shape) = declared(input) {
                self.shapes.entry(input.name.clone()).or_insert(shape);
            }
        }
        let declared: HashMap<&str, Vec<Axis>> = graph
            .value_info
            .iter()
            .chain(&graph.output)
            .filter_map(|v| Some((v.name.as_str(), declared(v)?)))
            .collect();
        for node in &graph.node {
            // No name of the graph is written again in a body.
            node.bodies().for_each(|body| self.walk(body, seen));
            let mut shapes = self.infer(node);
            for shape in &mut shapes {
                if shape.as_ref().is_some_and(|axes| axes.len() > MOST_AXES) {
                    *shape = None;
                }
            }
            seen(node, &shapes, self);
            for (name, shape) in node.output.iter().zip(shapes) {
                let known = shape.as_ref().is_some_and(|axes| !axes.contains(&Axis::Unknown));
                let shape = if known { shape } else { declared.get(name.as_str()).cloned().or(shape) };
                if let Some(shape) = shape.filter(|_| !name.is_empty()) {
                    self.shapes.insert(name.clone(), shape);
                }
            }
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                if let Some(shape) = declared.get(name.as_str()) {
                    self.shapes.entry(name.clone()).or_insert_with(|| shape.clone());
                }
            }
        }
    }

    /// Keeps the values of a small tensor.
    fn know(&mut self, name: &str, values: Vec<Axis>) {
        if values.len() <= MOST_AXES {
            self.values.insert(name.to_owned(), values);
        }
    }

    /// Integers of two small tensors, element by element.
    fn calculated(node: &NodeProto, a: &[Axis], b: &[Axis]) -> Option<Vec<Axis>> {
        let operation: fn(i64, i64) -> Option<i64> = match node.op_type.as_str() {
            "Add" => i64::checked_add,
            "Sub" => i64::checked_sub,
            "Mul" => i64::checked_mul,
            "Div" => i64::checked_div,
            "Max" => |a, b| Some(a.max(b)),
            "Min" => |a, b| Some(a.min(b)),
            _ => return None,
        };
        let count = if a.len() == 1 { b.len() } else { a.len() };
        let at = |values: &[Axis], i: usize| values.get(if values.len() == 1 { 0 } else { i }).cloned();
        (0..count)
            .map(|i| match (at(a, i)?, at(b, i)?) {
                (Axis::Fixed(a), Axis::Fixed(b)) => Some(fixed(operation(a, b))),
                _ => Some(Axis::Unknown),
            })
            .collect()
    }

    /// The shape of the value called `name`.
    pub fn get(&self, name: &str) -> Shape {
        self.shapes.get(name).cloned()
    }

    /// The value called `name` as an input of another graph; its element type is not known.
    pub fn value_info(&self, name: &str) -> ValueInfoProto {
        let dimension = |axis: &Axis| DimensionProto {
            value: match axis {
                Axis::Fixed(length) => Some(Dimension::Value(*length)),
                Axis::Symbol(symbol) => Some(Dimension::Param(symbol.to_string())),
                Axis::Unknown => None,
            },
        };
        match self.shapes.get(name) {
            Some(axes) => {
                ValueInfoProto::tensor(name, DataType::Undefined, axes.iter().map(dimension).collect())
            }
            None => ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() },
        }
    }

    fn infer(&mut self, node: &NodeProto) -> Vec<Shape> {
        let input = |i: usize| node.input.get(i).and_then(|name| self.shapes.get(name)).cloned();
        let value = |i: usize| node.input.get(i).and_then(|name| self.values.get(name)).cloned();
        let known = |i: usize| {
            value(i).and_then(|v| {
                v.iter().map(|a| if let Axis::Fixed(n) = a { Some(*n) } else { None }).collect()
            })
        };
        let axes = || known(1).or_else(|| listed(node, "axes"));
        let all = |shape: Shape| vec![shape; node.output.len()];
        match node.op_type.as_str() {
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Mean" | "Sum" | "Greater"
            | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Equal" | "And" | "Or" | "Xor" | "Where"
            | "PRelu" | "Mod" => {
                let mut calculated = None;
                if let (Some(a), Some(b), Some(name)) = (value(0), value(1), node.output.first())
                    && let Some(values) = Self::calculated(node, &a, &b)
                {
                    calculated = Some((name, values));
                }
                let shape = (1..node.input.len()).fold(input(0), |shape, i| broadcast(shape, input(i)));
                if let Some((name, values)) = calculated {
                    self.know(name, values);
                }
                vec![shape]
            }
            "Abs" | "Cast" | "Ceil" | "Clip" | "CumSum" | "Dropout" | "Elu" | "Erf" | "Exp" | "Floor"
            | "Gelu" | "HardSigmoid" | "Identity" | "LayerNormalization" | "LeakyRelu" | "Log"
            | "LogSoftmax" | "Neg" | "Not" | "Reciprocal" | "Relu" | "Round" | "Selu" | "Sigmoid"
            | "Sign" | "Softmax" | "Softplus" | "Sqrt" | "Tanh" | "BatchNormalization"
            | "DequantizeLinear" | "QuantizeLinear" => {
                if let (Some(values), Some(name)) = (value(0), node.output.first())
                    && matches!(node.op_type.as_str(), "Cast" | "Identity")
                {
                    self.know(name, values);
                }
                all(node.input.first().and_then(|name| self.shapes.get(name)).cloned())
            }
            "Shape" => {
                let shape = input(0);
                if let (Some(shape), Some(name)) = (&shape, node.output.first()) {
                    self.know(name, shape.clone());
                }
                vec![shape.map(|s| vec![Axis::Fixed(s.len() as i64)])]
            }
            "Constant" => {
                let tensor = node.attribute("value").and_then(|a| a.t.as_ref());
                let (one, several) = (node.attribute("value_int"), node.attribute("value_ints"));
                let plain = one.map(|a| vec![a.i()]).or_else(|| several.map(|a| a.ints.clone()));
                if let (Some(values), Some(name)) = (plain, node.output.first()) {
                    let shape = if one.is_some() { vec![] } else { vec![Axis::Fixed(values.len() as i64)] };
                    if values.len() <= MOST_AXES {
                        self.know(name, values.into_iter().map(Axis::Fixed).collect());
                    }
                    return vec![Some(shape)];
                }
                if let (Some(values), Some(name)) = (tensor.and_then(integers), node.output.first()) {
                    self.know(name, values.into_iter().map(Axis::Fixed).collect());
                }
                vec![tensor.map(|t| t.dims.iter().map(|&d| Axis::Fixed(d)).collect())]
            }
            "ConstantOfShape" => vec![value(0)],
            "Expand" => vec![broadcast(input(0), value(1))],
            "Tile" => vec![input(0).zip(known(1)).map(|(shape, repeats)| scaled(&shape, &repeats))],
            "Range" => vec![
                known_scalar(&value(0)).zip(known_scalar(&value(1))).zip(known_scalar(&value(2))).map_or(
                    Some(vec![Axis::Unknown]),
                    |((start, limit), delta)| {
                        let steps = i128::from(limit) - i128::from(start) + i128::from(delta)
                            - i128::from(delta.signum());
                        let count = if delta == 0 {
                            None
                        } else {
                            i64::try_from((steps / i128::from(delta)).max(0)).ok()
                        };
                        Some(vec![fixed(count)])
                    },
                ),
            ],
            "RandomNormal" | "RandomUniform" => {
                vec![listed(node, "shape").map(|shape| shape.into_iter().map(Axis::Fixed).collect())]
            }
            "Resize" | "Upsample" => {
                vec![known(3).map(|sizes: Vec<i64>| sizes.into_iter().map(Axis::Fixed).collect())]
            }
            "HannWindow" | "HammingWindow" | "BlackmanWindow" => {
                vec![value(0).filter(|size| size.len() == 1)]
            }
            "Reshape" => vec![reshape(input(0), value(1))],
            "Flatten" => vec![input(0).map(|s| flatten(&s, node.int("axis", 1)))],
            "Transpose" => vec![input(0).map(|s| match node.attribute("perm") {
                Some(perm) => perm.ints.iter().map(|&p| at(&s, p)).collect(),
                None => s.into_iter().rev().collect(),
            })],
            "Unsqueeze" => {
                if let (Some(values), Some(name)) = (value(0), node.output.first()) {
                    self.know(name, values);
                }
                vec![self.shape_of(node, 0).zip(self.axes_of(node)).map(|(s, axes)| unsqueeze(&s, &axes))]
            }
            "Squeeze" => {
                if let (Some(values), Some(name)) = (value(0), node.output.first()) {
                    self.know(name, values);
                }
                vec![self.shape_of(node, 0).zip(self.axes_of(node)).map(|(s, axes)| squeeze(&s, &axes))]
            }
            "Concat" => {
                let parts: Option<Vec<Vec<Axis>>> = (0..node.input.len()).map(&input).collect();
                let values: Option<Vec<Vec<Axis>>> = (0..node.input.len()).map(&value).collect();
                if let (Some(values), Some(name)) = (values, node.output.first()) {
                    self.know(name, values.concat());
                }
                vec![parts.map(|parts| concat(&parts, node.int("axis", 0)))]
            }
            "Split" => {
                let n = node.output.len();
                let sizes = known(1).or_else(|| node.attribute("split").map(|a| a.ints.clone()));
                let Some(shape) = input(0) else { return vec![None; n] };
                let along = wrap(node.int("axis", 0), shape.len());
                (0..n)
                    .map(|i| Some(with(&shape, along, split_size(&shape, along, sizes.as_deref(), i, n))))
                    .collect()
            }
            "Gather" => {
                let along = node.int("axis", 0);
                let (data, indices) = (input(0), input(1));
                if let (Some(values), Some(picked), Some(name)) = (value(0), known(1), node.output.first()) {
                    let picked: Vec<i64> = picked;
                    self.know(name, picked.iter().map(|&i| at(&values, i)).collect());
                }
                vec![data.zip(indices).map(|(data, indices)| {
                    let along = wrap(along, data.len());
                    [&data[..along.min(data.len())], &indices, data.get(along + 1..).unwrap_or_default()]
                        .concat()
                })]
            }
            "GatherElements" | "ScatterElements" => {
                vec![input(usize::from(node.op_type == "GatherElements"))]
            }
            "OneHot" => {
                let depth = value(1).and_then(|v| v.first().cloned()).unwrap_or(Axis::Unknown);
                vec![input(0).map(|mut s| {
                    let place = node.int("axis", -1);
                    let place =
                        if place < 0 { (s.len() as i64 + 1 + place).max(0) as usize } else { place as usize };
                    s.insert(place.min(s.len()), depth);
                    s
                })]
            }
            "Pad" => {
                let pads: Option<Vec<i64>> = known(1).or_else(|| listed(node, "pads"));
                vec![input(0).map(|s| pad(&s, pads.as_deref()))]
            }
            "Slice" => vec![input(0).map(|s| slice(&s, known(1), known(2), known(3), known(4)))],
            "MatMul" => vec![input(0).zip(input(1)).and_then(|(a, b)| matmul(&a, &b))],
            "Gemm" => vec![input(0).zip(input(1)).map(|(a, b)| {
                let (ta, tb) = (node.int("transA", 0) != 0, node.int("transB", 0) != 0);
                vec![at(&a, i64::from(ta)), at(&b, i64::from(!tb))]
            })],
            "LSTM" | "GRU" | "RNN" => {
                vec![recurrent(node, input(0)), state(node, input(0)), state(node, input(0))]
            }
            op if op.starts_with("Reduce") => {
                let keep = node.int("keepdims", 1) != 0;
                vec![input(0).map(|s| reduce(&s, axes(), keep))]
            }
            "ArgMax" | "ArgMin" => {
                let keep = node.int("keepdims", 1) != 0;
                vec![input(0).map(|s| reduce(&s, Some(vec![node.int("axis", 0)]), keep))]
            }
            // What is carried keeps its shape; what a step gives is stacked.
            "Loop" => {
                let body = node.attribute("body").and_then(|a| a.g.as_ref());
                let carried = node.input.len().saturating_sub(2);
                let stacked = |i: usize| {
                    let one = declared(body?.output.get(i + 1)?)?;
                    Some(std::iter::once(Axis::Unknown).chain(one).collect())
                };
                (0..node.output.len()).map(|i| if i < carried { input(i + 2) } else { stacked(i) }).collect()
            }
            _ => vec![None; node.output.len()],
        }
    }

    fn shape_of(&self, node: &NodeProto, i: usize) -> Shape {
        self.shapes.get(node.input.get(i)?).cloned()
    }

    fn axes_of(&self, node: &NodeProto) -> Option<Vec<i64>> {
        let given = node.input.get(1).and_then(|name| self.values.get(name));
        let given = given
            .map(|v| v.iter().filter_map(|a| if let Axis::Fixed(n) = a { Some(*n) } else { None }).collect());
        given.or_else(|| listed(node, "axes"))
    }
}

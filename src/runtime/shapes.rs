//! Shapes of all values of an ONNX graph, found from the operators, with symbolic axes kept by name.
//!
//! Enough operators for recurrent and dense networks; what is not known stays unknown instead of being
//! guessed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::checked::MOST_AXES;
use crate::onnx::{DataType, Dimension, DimensionProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};

/// Characters of a symbol, and axes of a shape, that are shown: long ones would be repeated at every value.
const SHOWN: (usize, usize) = (60, 16);

/// The length of one axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Known.
    Fixed(i64),
    /// Known when the graph runs; equal wherever the name is equal.
    Symbol(Arc<str>),
    /// Not known.
    Unknown,
}

/// Axes, or `None` where not even their number is known.
pub type Shape = Option<Vec<Axis>>;

/// Shapes by the name of the value.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    shapes: HashMap<String, Vec<Axis>>,
    /// Small integer tensors that are known, or known but for symbols: shapes under way.
    values: HashMap<String, Vec<Axis>>,
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(length) => write!(f, "{length}"),
            Self::Symbol(name) => match name.char_indices().nth(SHOWN.0) {
                Some((end, _)) => write!(f, "{}...", &name[..end]),
                None => f.write_str(name),
            },
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// A shape as `(batch, 128)`; `?` where it is unknown.
pub fn display(shape: &Shape) -> String {
    let Some(axes) = shape else { return "?".to_owned() };
    let mut shown: Vec<String> = axes.iter().take(SHOWN.1).map(ToString::to_string).collect();
    if axes.len() > SHOWN.1 {
        shown.push("...".to_owned());
    }
    format!("({})", shown.join(", "))
}

/// Elements of a value where each axis that is not known is 1 long: as few as it can have. 2^64 - 1 for more
/// than fit.
pub fn least_elements(axes: &[Axis]) -> u64 {
    let length =
        |axis: &Axis| if let Axis::Fixed(length) = axis { u64::try_from(*length).unwrap_or(1) } else { 1 };
    if axes.contains(&Axis::Fixed(0)) { 0 } else { axes.iter().map(length).fold(1, u64::saturating_mul) }
}

/// A length that is known unless it does not fit.
fn fixed(length: Option<i64>) -> Axis {
    length.map_or(Axis::Unknown, Axis::Fixed)
}

/// The product of lengths, if all are known and it fits.
fn product(axes: &[Axis]) -> Option<i64> {
    axes.iter()
        .try_fold(1i64, |n, axis| if let Axis::Fixed(length) = axis { n.checked_mul(*length) } else { None })
}

fn axis(dim: &DimensionProto) -> Axis {
    match &dim.value {
        Some(Dimension::Value(length)) if *length >= 0 => Axis::Fixed(*length),
        Some(Dimension::Param(name)) if !name.is_empty() => Axis::Symbol(name.as_str().into()),
        _ => Axis::Unknown,
    }
}

/// The declared shape of an input or output.
pub fn declared(info: &ValueInfoProto) -> Shape {
    let tensor = info.r#type.as_ref()?.tensor_type.as_ref()?;
    Some(tensor.shape.as_ref()?.dim.iter().map(axis).collect())
}

/// A small tensor of integers.
fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    let count = tensor
        .shape()?
        .iter()
        .try_fold(1usize, |n, &length| n.checked_mul(length))
        .filter(|&count| count <= MOST_AXES)?;
    const INT64: i32 = DataType::Int64 as i32;
    const INT32: i32 = DataType::Int32 as i32;
    let raw = tensor.raw_data.as_slice();
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

fn wrap(axis: i64, rank: usize) -> usize {
    if axis < 0 { (rank as i64 + axis).max(0) as usize } else { axis as usize }
}

fn at(shape: &[Axis], axis: i64) -> Axis {
    shape.get(wrap(axis, shape.len())).cloned().unwrap_or(Axis::Unknown)
}

fn with(shape: &[Axis], axis: usize, length: Axis) -> Vec<Axis> {
    shape.iter().enumerate().map(|(i, a)| if i == axis { length.clone() } else { a.clone() }).collect()
}

/// numpy's rule: axes from the right, 1 stretches.
fn broadcast(a: Shape, b: Shape) -> Shape {
    let (a, b) = (a?, b?);
    let rank = a.len().max(b.len());
    let one = Axis::Fixed(1);
    let from = |s: &[Axis], i: usize| (i + s.len()).checked_sub(rank).map_or(one.clone(), |i| s[i].clone());
    let axis = |i| match (from(&a, i), from(&b, i)) {
        (x, y) if x == y || y == one => x,
        (x, y) if x == one => y,
        (Axis::Unknown, y) => y,
        (Axis::Symbol(_), Axis::Fixed(length)) if length > LARGE => Axis::Fixed(length),
        (x, _) => x,
    };
    Some((0..rank).map(axis).collect())
}

fn reshape(data: Shape, target: Option<Vec<Axis>>) -> Shape {
    let target = target?;
    let kept: Vec<Axis> = target
        .iter()
        .enumerate()
        .map(|(i, a)| {
            if *a == Axis::Fixed(0) {
                data.as_ref().and_then(|d| d.get(i)).cloned().unwrap_or(Axis::Unknown)
            } else {
                a.clone()
            }
        })
        .collect();
    let rest: Vec<Axis> = kept.iter().filter(|a| **a != Axis::Fixed(-1)).cloned().collect();
    let inferred = match (data.as_deref().and_then(product), product(&rest)) {
        (Some(all), Some(others)) if others > 0 => Axis::Fixed(all / others),
        _ => Axis::Unknown,
    };
    Some(kept.into_iter().map(|a| if a == Axis::Fixed(-1) { inferred.clone() } else { a }).collect())
}

fn flatten(shape: &[Axis], axis: i64) -> Vec<Axis> {
    let axis = wrap(axis, shape.len()).min(shape.len());
    let side = |part: &[Axis]| match part {
        [one] => one.clone(),
        part => fixed(product(part)),
    };
    vec![side(&shape[..axis]), side(&shape[axis..])]
}

fn unsqueeze(shape: &[Axis], axes: &[i64]) -> Vec<Axis> {
    let rank = shape.len() + axes.len();
    let new: Vec<usize> = axes.iter().map(|&a| wrap(a, rank)).collect();
    let mut old = shape.iter().cloned();
    (0..rank)
        .map(|i| if new.contains(&i) { Axis::Fixed(1) } else { old.next().unwrap_or(Axis::Unknown) })
        .collect()
}

fn squeeze(shape: &[Axis], axes: &[i64]) -> Vec<Axis> {
    let gone: Vec<usize> = axes.iter().map(|&a| wrap(a, shape.len())).collect();
    shape.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, a)| a.clone()).collect()
}

fn concat(parts: &[Vec<Axis>], axis: i64) -> Vec<Axis> {
    let Some(first) = parts.first() else { return Vec::new() };
    let along = wrap(axis, first.len());
    let sum = parts.iter().try_fold(0i64, |n, p| {
        if let Some(Axis::Fixed(m)) = p.get(along) { n.checked_add(*m) } else { None }
    });
    with(first, along, fixed(sum))
}

fn split_size(shape: &[Axis], along: usize, sizes: Option<&[i64]>, part: usize, parts: usize) -> Axis {
    match (sizes, shape.get(along)) {
        (Some(sizes), _) => sizes.get(part).map_or(Axis::Unknown, |&n| Axis::Fixed(n)),
        (None, Some(Axis::Fixed(n))) if n % parts as i64 == 0 => Axis::Fixed(n / parts as i64),
        _ => Axis::Unknown,
    }
}

fn pad(shape: &[Axis], pads: Option<&[i64]>) -> Vec<Axis> {
    let added = |i: usize| pads.and_then(|p| p.get(i)?.checked_add(*p.get(i + shape.len())?));
    shape
        .iter()
        .enumerate()
        .map(|(i, a)| match (a, added(i)) {
            (a, Some(0)) => a.clone(),
            (Axis::Fixed(n), Some(m)) => fixed(n.checked_add(m)),
            // However long the axis is, it becomes this long at least.
            (_, Some(m)) if m > LARGE => Axis::Fixed(m),
            _ => Axis::Unknown,
        })
        .collect()
}

/// Lengths beyond which an axis counts as known though only its least length is: see [`least_elements`].
const LARGE: i64 = 1 << 20;

/// Each axis so many times.
fn scaled(shape: &[Axis], times: &[i64]) -> Vec<Axis> {
    let axis = |(axis, times): (&Axis, &i64)| match axis {
        Axis::Fixed(length) => fixed(length.checked_mul(*times)),
        axis if *times == 1 => axis.clone(),
        _ if *times > LARGE => Axis::Fixed(*times),
        _ => Axis::Unknown,
    };
    shape.iter().zip(times).map(axis).collect()
}

fn known_scalar(values: &Shape) -> Option<i64> {
    match values.as_deref() {
        Some([Axis::Fixed(value)]) => Some(*value),
        _ => None,
    }
}

/// Elements of the longest part of an axis that is taken for a window of that length.
const LONGEST_WINDOW: i64 = 1 << 16;

fn slice(
    shape: &[Axis],
    starts: Option<Vec<i64>>,
    ends: Option<Vec<i64>>,
    axes: Option<Vec<i64>>,
    steps: Option<Vec<i64>>,
) -> Vec<Axis> {
    let unknown = || vec![Axis::Unknown; shape.len()];
    let (Some(starts), Some(ends)) = (starts, ends) else { return unknown() };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let mut out = shape.to_vec();
    for (i, (&start, &end)) in starts.iter().zip(&ends).enumerate() {
        let along = wrap(axes.get(i).copied().unwrap_or(0), shape.len());
        let step = steps.as_ref().and_then(|s| s.get(i)).copied().unwrap_or(1);
        let (Some(axis), true) = (out.get_mut(along), step > 0) else { return unknown() };
        *axis = match axis {
            Axis::Fixed(n) => {
                let clamp = |v: i64| if v < 0 { v.saturating_add(*n).max(0) } else { v.min(*n) };
                Axis::Fixed(clamp(end).saturating_sub(clamp(start)).max(0).saturating_add(step - 1) / step)
            }
            // A window of known length from one end; whether the axis is that long is known only when it
            // runs. Larger numbers stand for the end itself: TensorFlow's converter writes 2^31 - 1,
            // PyTorch's 2^63 - 1.
            _ if start >= 0 && end >= start && end - start <= LONGEST_WINDOW && step == 1 => {
                Axis::Fixed(end - start)
            }
            _ => Axis::Unknown,
        };
    }
    out
}

fn matmul(a: &[Axis], b: &[Axis]) -> Shape {
    match (a, b) {
        ([], _) | (_, []) => None,
        ([_], [_]) => Some(Vec::new()),
        ([batch @ .., rows, _], [_]) => Some([batch, std::slice::from_ref(rows)].concat()),
        ([_], [batch @ .., _, columns]) => Some([batch, std::slice::from_ref(columns)].concat()),
        ([batch_a @ .., rows, _], [batch_b @ .., _, columns]) => {
            let mut shape = broadcast(Some(batch_a.to_vec()), Some(batch_b.to_vec()))?;
            shape.extend([rows.clone(), columns.clone()]);
            Some(shape)
        }
    }
}

fn directions(node: &NodeProto) -> Axis {
    Axis::Fixed(if node.attribute("direction").is_some_and(|a| a.s == b"bidirectional") { 2 } else { 1 })
}

fn hidden(node: &NodeProto) -> Axis {
    node.attribute("hidden_size").map_or(Axis::Unknown, |a| Axis::Fixed(a.i()))
}

fn recurrent(node: &NodeProto, x: Shape) -> Shape {
    let x = x?;
    Some(vec![at(&x, 0), directions(node), at(&x, 1), hidden(node)])
}

fn state(node: &NodeProto, x: Shape) -> Shape {
    Some(vec![directions(node), at(&x?, 1), hidden(node)])
}

fn reduce(shape: &[Axis], axes: Option<Vec<i64>>, keep: bool) -> Vec<Axis> {
    let gone: Vec<usize> = match axes.as_deref() {
        None | Some([]) => (0..shape.len()).collect(),
        Some(axes) => axes.iter().map(|&a| wrap(a, shape.len())).collect(),
    };
    let axis = |(i, a): (usize, &Axis)| match (gone.contains(&i), keep) {
        (true, true) => Some(Axis::Fixed(1)),
        (true, false) => None,
        (false, _) => Some(a.clone()),
    };
    shape.iter().enumerate().filter_map(axis).collect()
}

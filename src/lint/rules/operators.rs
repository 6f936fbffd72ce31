//! Rules about other operators.

use super::rule::{Check, Found, Rule, one};
use crate::lint::view::{Site, View};
use crate::onnx::messages::{DataType, GraphProto, TensorProto};

/// The largest weight of 7 bits.
const SEVEN_BITS: i8 = 64;
/// Products with one matrix that make a cell that was written out step by step.
const FEWEST_STEPS: usize = 3;

/// Rules of this file.
pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "unrolled",
        about: "a recurrent cell is written out once a step, for one length of text",
        fix: "export the operator or a Scan, or one step and loop outside",
        operators: &[],
        check: Check::Model(unrolled),
    },
    Rule {
        id: "topk",
        about: "TopK in the graph",
        fix: "give the scores out and choose outside",
        operators: &["TopK"],
        check: Check::Node(|site| one(site.node.is("TopK").then(|| Found::new("TopK")))),
    },
    Rule {
        id: "log-softmax",
        about: "LogSoftmax",
        fix: "give logits out, or spell it out: x - max - log(sum(exp(x - max)))",
        operators: &["LogSoftmax"],
        check: Check::Node(|site| {
            let far = || Found::new("far logits").when("logits lie far apart");
            if site.node.is("LogSoftmax") { vec![Found::new("near logits"), far()] } else { Vec::new() }
        }),
    },
    Rule {
        id: "cross-entropy",
        about: "SoftmaxCrossEntropyLoss",
        fix: "spell it out: log-sum-exp less the target's logit (GatherElements), its mean",
        operators: &["SoftmaxCrossEntropyLoss"],
        check: Check::Node(|site| {
            let reduction = || match site.node.text("reduction") {
                said if said.is_empty() => "mean".to_owned(),
                said => said,
            };
            one(site.node.is("SoftmaxCrossEntropyLoss").then(|| Found::new(reduction())))
        }),
    },
    Rule {
        id: "scan",
        about: "Scan",
        fix: "use the LSTM or GRU operator, or export one step and loop outside",
        operators: &["Scan"],
        check: Check::Node(|site| {
            let scanned = site.node.int("num_scan_inputs", 1);
            let carried = usize::try_from(site.node.input.len() as i64 - scanned).unwrap_or(0);
            let reads_steps = (carried..site.node.output.len()).any(|output| site.is_read(output));
            let case = match (scanned, reads_steps) {
                (2.., _) => "masked",
                (_, true) => "all steps",
                (_, false) => "last state",
            };
            one(site.node.is("Scan").then(|| Found::new(case)))
        }),
    },
    Rule {
        id: "loop",
        about: "Loop",
        fix: "export one step and loop outside, which is as fast",
        operators: &["Loop"],
        check: Check::Node(|site| {
            let (node, body) = (site.node, site.node.bodies().next());
            let carried = node.input.len().saturating_sub(2);
            let case = if node.output.len() > carried {
                "all steps"
            } else if body.is_some_and(decides) {
                "condition"
            } else if node.input(0).is_some_and(|trips| site.is_constant(trips)) {
                "trips constant"
            } else {
                "trips from a shape"
            };
            one(node.is("Loop").then(|| Found::new(case)))
        }),
    },
    Rule {
        id: "if",
        about: "If",
        fix: "export each branch as a graph of its own and choose outside",
        operators: &["If"],
        check: Check::Node(|site| {
            let condition = site.node.input(0).is_some_and(|name| site.is_constant(name));
            let case = if condition { "constant condition" } else { "computed condition" };
            one(site.node.is("If").then(|| Found::new(case)))
        }),
    },
    Rule {
        id: "gather-nd",
        about: "GatherND",
        fix: "pad on the left, so that the last step is every text's last",
        operators: &["GatherND"],
        check: Check::Node(|site| one(site.node.is("GatherND").then(|| Found::new("last step")))),
    },
    Rule {
        id: "dequantize",
        about: "weights in 8 bits behind DequantizeLinear",
        fix: "store the weights as f16 behind Cast (an explicit cell), or as f32",
        operators: &[],
        check: Check::Node(|site| {
            let weights = dequantised(site, 0).filter(|_| site.node.is("Gather"));
            one(weights.map(|(name, kind)| Found::new(format!("Gather, {kind}")).saying(name)))
        }),
    },
    Rule {
        id: "dequantize-matmul",
        about: "a product with weights in 8 bits behind DequantizeLinear, which may be fused into an approximate kernel",
        fix: "set session.disable_quant_qdq=1, or store the weights as f16 behind Cast or as f32",
        operators: &[],
        check: Check::Node(|site| {
            let product = ["MatMul", "Gemm"].into_iter().find(|op| site.node.is(op));
            let weights = product.and_then(|_| dequantised(site, 1));
            let quantised = |at| {
                let from = site.producer(site.node.input(at)?)?;
                let before = site.producer(from.node.input(0)?)?;
                Some(from.node.is("DequantizeLinear") && before.node.is("QuantizeLinear"))
            };
            one(weights.filter(|_| quantised(0) != Some(true)).map(|(name, kind)| {
                let product = product.unwrap_or_default();
                if (product, kind) != ("MatMul", "int8") {
                    return Found::new(format!("{product}, {kind}")).saying(name);
                }
                let scale = site.producer(site.node.input(1).unwrap_or_default());
                let scale = scale.and_then(|from| from.tensor(from.node.input(1)?));
                let columns = scale.is_some_and(|scale| scale.dims.iter().product::<i64>() > 1);
                Found::new(if columns { "int8, a scale a column" } else { "int8" }).saying(name)
            }))
        }),
    },
    Rule {
        id: "qdq",
        about: "values between QuantizeLinear and DequantizeLinear are read by a product",
        fix: "quantize the weights alone, or keep f32",
        operators: &[],
        check: Check::Node(|site| {
            let product = ["MatMul", "Gemm"].into_iter().find(|op| site.node.is(op));
            let from = product.and_then(|_| site.producer(site.node.input(0)?));
            let from = from.filter(|from| from.node.is("DequantizeLinear"));
            let before = from.and_then(|from| {
                from.producer(from.node.input(0)?)?.node.is("QuantizeLinear").then_some(from)
            });
            one(product.zip(before).map(|(op, from)| Found::new(op).saying(from.place())))
        }),
    },
    Rule {
        id: "matmul-integer",
        about: "products of 8-bit integers (MatMulInteger)",
        fix: "quantize with reduce_range (7-bit weights), and keep f32 where they are slow",
        operators: &["MatMulInteger"],
        check: Check::Node(|site| {
            let weights = site.node.input(1).and_then(|name| site.tensor(name));
            let is_small = |tensor: &TensorProto| {
                let all_small = |x: &u8| (-SEVEN_BITS..=SEVEN_BITS).contains(&x.cast_signed());
                tensor.data_type == DataType::Int8 as i32
                    && !tensor.raw_data.is_empty()
                    && tensor.raw_data.iter().all(all_small)
            };
            let case = if weights.is_some_and(is_small) { "7 bits" } else { "8 bits" };
            one(site.node.is("MatMulInteger").then(|| Found::new(case)))
        }),
    },
    Rule {
        id: "shape-without-value",
        about: "ConstantOfShape without a value",
        fix: "write the value out: a tensor of one float32 zero",
        operators: &[],
        check: Check::Node(|site| {
            let applies = site.node.is("ConstantOfShape") && site.node.attribute("value").is_none();
            one(applies.then(|| Found::new("LSTM")))
        }),
    },
    Rule {
        id: "f16",
        about: "numbers in half width",
        fix: "export in f32",
        operators: &[],
        check: Check::Model(half),
    },
];

/// Whether the rules of this file, and not the usual graph of its operator, say what runtimes do with a node
/// that quantises or restores: weights in 8 bits, values between both nodes that a product reads, and what
/// products of integers read.
pub(super) fn is_about_quantising(site: &Site<'_, '_>) -> bool {
    let is_product = |site: &Site<'_, '_>| site.node.is("MatMul") || site.node.is("Gemm");
    let restores = |site: &Site<'_, '_>| {
        site.node.is("DequantizeLinear")
            && (site.node.input(0).is_some_and(|name| site.is_constant(name))
                || site.readers(0).any(|reader| is_product(&reader)))
    };
    let goes_into = |quantises: &str, reads: &dyn Fn(&Site<'_, '_>) -> bool| {
        site.node.is(quantises) && site.readers(0).any(|reader| reads(&reader))
    };
    restores(site)
        || goes_into("QuantizeLinear", &restores)
        || goes_into("DynamicQuantizeLinear", &|reader| reader.node.is("MatMulInteger"))
}

/// Weights in 8 bits that an input is restored from: their name and type.
fn dequantised<'a>(site: &Site<'a, '_>, input: usize) -> Option<(&'a str, &'static str)> {
    let from = site.producer(site.node.input(input)?).filter(|from| from.node.is("DequantizeLinear"))?;
    let name = from.node.input(0)?;
    let tensor = from.tensor(name)?;
    let kind = if tensor.data_type == DataType::Int8 as i32 { "int8" } else { "uint8" };
    Some((name, kind))
}

/// Whether the body of a Loop computes if it goes on.
fn decides(body: &GraphProto) -> bool {
    let (Some(given), Some(read)) = (body.output.first(), body.input.get(1)) else { return false };
    let mut name = given.name.as_str();
    while let Some(node) =
        body.node.iter().find(|node| node.is("Identity") && node.output.iter().any(|o| o == name))
    {
        name = node.input(0).unwrap_or_default();
    }
    let is_constant = body.initializer.iter().any(|tensor| tensor.name == name);
    name != read.name && !is_constant
}

/// Cells that were written out: the same matrix in one product a step, each of what the one before gave, and
/// functions of gates around it.
fn unrolled(view: &View<'_>) -> Vec<(String, Found)> {
    let mut found = Vec::new();
    for (scope, chain) in view.chains(FEWEST_STEPS) {
        let (matrix, shape) = (chain.matrix, chain.shape);
        let [rows, columns] = [shape[0].min(shape[1]), shape[0].max(shape[1])];
        let op = match columns.checked_div(rows) {
            Some(4) => "LSTM",
            Some(3) => "GRU",
            _ => "RNN",
        };
        let said = format!("{} products with {matrix}", chain.products);
        let case = |length: &str| Found::new(format!("{op}, {length} length")).saying(&*said);
        let place = view.place(scope, chain.first);
        found.push((place.clone(), case("its own")));
        found.push((place, case("another").when("texts are of another length than it was written for")));
    }
    found
}

fn half(view: &View<'_>) -> Vec<(String, Found)> {
    let is_half = |tensor: &TensorProto| tensor.data_type == DataType::Float16 as i32;
    let first = |wanted: bool| {
        view.tensors()
            .filter(|(_, _, tensor)| is_half(tensor))
            .find(|(scope, name, _)| view.is_read_by_cast_alone(*scope, name) == wanted)
            .map(|(scope, name, _)| view.place(scope, name))
    };
    let cases = [(true, "weights through Cast"), (false, "arithmetic")];
    cases.into_iter().filter_map(|(wanted, case)| Some((first(wanted)?, Found::new(case)))).collect()
}

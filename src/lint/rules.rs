//! The rules: what each runtime is known to refuse, to compute wrongly without saying so, or to be slow at.
//!
//! Every entry was seen on small graphs with batches of unequal texts, held against a float64 computation;
//! the versions are those of [`Runtime::version`]. A runtime that is not named with a rule gave the right
//! numbers.

use super::Effect::{Refuses, Slow, Wrong};
use super::Runtime::{Candle, EmxOnnxCgen, Iree, Mnn, OnnxRuntime, OpenCv, OpenVino, Reference, Rten, Tract};
use super::view::{Site, View};
use super::{Effect, Runtime};
use crate::onnx::messages::Dimension;

/// One thing that some runtime does not do.
pub struct Rule {
    /// Its name, for reports.
    pub id: &'static str,
    /// What is the matter, without a full stop.
    pub about: &'static str,
    /// What to do about it, without a full stop.
    pub fix: &'static str,
    /// What happens where.
    pub effects: &'static [(Runtime, Effect)],
    /// Finds every place of a model where the rule applies.
    pub check: Check,
}

/// How a rule looks at a model.
pub enum Check {
    /// At each node; more to say about it where the rule applies.
    Node(fn(&Site<'_, '_>) -> Option<String>),
    /// At the whole model: places, and more to say about each.
    Model(fn(&View<'_>) -> Vec<(String, String)>),
}

const LEFT: &str = "take the input away and pad on the left: give the LSTM no B, append a channel to X that \
    is 1 at tokens and 0 at \
     padding, and W's last column the bias, so that padding leaves a zero state at zero";
const FORWARD: &str = "use a second forward operator on the reversed sequence, its outputs reversed again";
const CELL: &str = "keep these weights as f32, or write the cell out (MatMul, Split, Sigmoid, Tanh), which \
    every runtime takes";

/// All rules, in the order of reports.
pub const RULES: &[Rule] = &[
    Rule {
        id: "sequence-lens",
        about: "lengths of the texts are an input of the recurrent operator",
        fix: LEFT,
        effects: &[
            (Rten, Wrong),
            (OpenVino, Wrong),
            (Mnn, Wrong),
            (Iree, Wrong),
            (Reference, Wrong),
            (Candle, Refuses),
            (OpenCv, Refuses),
        ],
        check: Check::Node(|site| {
            let lengths = site.node.input(4).filter(|_| site.node.is_recurrent())?;
            Some(format!("{lengths} is ignored, or right only where all texts are equally long"))
        }),
    },
    Rule {
        id: "sequence-lens-computed",
        about: "lengths of the texts are computed while the model runs",
        fix: LEFT,
        effects: &[(Tract, Refuses)],
        check: Check::Node(|site| {
            let lengths =
                site.node.input(4).filter(|name| site.node.is_recurrent() && !site.is_constant(name))?;
            Some(format!("{lengths} is no constant"))
        }),
    },
    Rule {
        id: "initial-state",
        about: "no initial state is wired, and the batch is not fixed",
        fix: "wire a state of zeros: Shape of X, Gather the batch, Concat with 1 and hidden_size, \
            ConstantOfShape with a value",
        effects: &[(Tract, Refuses)],
        check: Check::Node(|site| {
            let states: &[(usize, &str)] = if site.node.is("LSTM") {
                &[(5, "initial_h"), (6, "initial_c")]
            } else {
                &[(5, "initial_h")]
            };
            let missing: Vec<&str> = states
                .iter()
                .filter(|(at, _)| site.node.input(*at).is_none())
                .map(|(_, name)| *name)
                .collect();
            let applies = site.node.is_recurrent() && !missing.is_empty() && site.view().has_free_axes();
            applies.then(|| format!("{} left out", missing.join(" and ")))
        }),
    },
    Rule {
        id: "layout",
        about: "layout=1: the batch is the first axis",
        fix: "leave layout out and transpose before and after",
        effects: &[
            (OnnxRuntime, Refuses),
            (Tract, Refuses),
            (Rten, Refuses),
            (Candle, Refuses),
            (OpenCv, Refuses),
            (OpenVino, Wrong),
            (Mnn, Wrong),
        ],
        check: Check::Node(|site| {
            (site.node.is_recurrent() && site.node.int("layout", 0) == 1).then(String::new)
        }),
    },
    Rule {
        id: "direction-reverse",
        about: "direction=reverse",
        fix: FORWARD,
        effects: &[(Tract, Wrong), (Mnn, Wrong), (OpenCv, Wrong), (Iree, Refuses), (Candle, Refuses)],
        check: Check::Node(|site| {
            let said = "read forwards (tract: with fixed shapes, and refused else)".to_owned();
            (site.node.is_recurrent() && site.node.text("direction") == "reverse").then_some(said)
        }),
    },
    Rule {
        id: "bidirectional",
        about: "direction=bidirectional",
        fix: FORWARD,
        effects: &[(Iree, Wrong), (EmxOnnxCgen, Wrong), (Candle, Refuses)],
        check: Check::Node(|site| {
            (site.node.is_recurrent() && site.node.text("direction") == "bidirectional").then(String::new)
        }),
    },
    Rule {
        id: "gru",
        about: "a GRU operator",
        fix: "write the cell out step by step, or use an LSTM",
        effects: &[(Iree, Refuses), (Candle, Refuses)],
        check: Check::Node(|site| site.node.is("GRU").then(String::new)),
    },
    Rule {
        id: "gru-reset-before",
        about: "a GRU with linear_before_reset=0",
        fix: "train it with the reset gate after the product (Keras: reset_after=True; PyTorch always) and \
            set linear_before_reset=1",
        effects: &[(Rten, Refuses), (Mnn, Wrong)],
        check: Check::Node(|site| {
            (site.node.is("GRU") && site.node.int("linear_before_reset", 0) == 0).then(String::new)
        }),
    },
    Rule {
        id: "clip",
        about: "the recurrent operator clips its pre-activations",
        fix: "leave clip out if it never bites, or write the cell out with Clip",
        effects: &[(Tract, Wrong)],
        check: Check::Node(|site| {
            (site.node.is_recurrent() && site.node.attribute("clip").is_some())
                .then(|| "clip is ignored".to_owned())
        }),
    },
    Rule {
        id: "activations",
        about: "other activations than the operator's own",
        fix: "train it with tanh and sigmoid, or write the cell out",
        effects: &[(Tract, Wrong)],
        check: Check::Node(|site| {
            let given = || site.node.texts("activations").join(", ");
            site.node.has_other_activations().then(|| format!("{} are ignored", given()))
        }),
    },
    Rule {
        id: "input-forget",
        about: "input_forget=1: input and forget gate are coupled",
        fix: "write the cell out",
        effects: &[(Tract, Wrong)],
        check: Check::Node(|site| {
            (site.node.is("LSTM") && site.node.int("input_forget", 0) == 1)
                .then(|| "it is ignored".to_owned())
        }),
    },
    Rule {
        id: "lstm-sequence-output",
        about: "the outputs of all steps (Y) of the recurrent operator are read",
        fix: "read the last states Y_h and Y_c where they suffice",
        effects: &[(Candle, Wrong)],
        check: Check::Node(|site| {
            (site.node.is("LSTM") && site.is_read(0)).then(|| "wrong in batches of more than one".to_owned())
        }),
    },
    Rule {
        id: "weights-through-cast",
        about: "a recurrent operator reads what Cast or DequantizeLinear gives",
        fix: CELL,
        effects: &[(Mnn, Wrong)],
        check: Check::Node(|site| {
            let from = |at| {
                site.producer(site.node.input(at)?)
                    .filter(|from| from.node.is("Cast") || from.node.is("DequantizeLinear"))
            };
            let from = (0..4).find_map(from).filter(|_| site.node.is_recurrent())?;
            Some(format!("{} ({})", from.place(), from.node.op_type))
        }),
    },
    Rule {
        id: "concat-before-lstm",
        about: "a Concat stands directly in front of the first recurrent operator",
        fix: "add the channels up instead: Pad both to the full width and Add",
        effects: &[(Tract, Wrong)],
        check: Check::Node(|site| {
            let x = site.node.input(0).filter(|_| site.node.is_recurrent())?;
            let from = site.producer(x).filter(|from| from.node.is("Concat"))?;
            let first = !site.is_after_recurrent(x);
            first.then(|| format!("{}: its product is moved out of the loop", from.place()))
        }),
    },
    Rule {
        id: "topk",
        about: "TopK in the graph",
        fix: "give the scores out and choose outside: 4 to 12 times as fast",
        effects: &[(Tract, Slow)],
        check: Check::Node(|site| site.node.is("TopK").then(String::new)),
    },
    Rule {
        id: "log-softmax",
        about: "LogSoftmax, computed as the logarithm of a softmax",
        fix: "give logits out, or spell it out: x - max - log(sum(exp(x - max)))",
        effects: &[(Tract, Wrong)],
        check: Check::Node(|site| {
            site.node.is("LogSoftmax").then(|| "-inf where logits lie far apart".to_owned())
        }),
    },
    Rule {
        id: "cross-entropy",
        about: "SoftmaxCrossEntropyLoss",
        fix: "spell it out: log-sum-exp less the target's logit (GatherElements), its mean",
        effects: &[(Tract, Refuses), (Rten, Refuses)],
        check: Check::Node(|site| site.node.is("SoftmaxCrossEntropyLoss").then(String::new)),
    },
    Rule {
        id: "scan",
        about: "Scan",
        fix: "use the LSTM or GRU operator, or unroll to a fixed length",
        effects: &[(Rten, Refuses), (Mnn, Refuses), (Candle, Refuses), (OpenCv, Refuses)],
        check: Check::Node(|site| site.node.is("Scan").then(String::new)),
    },
    Rule {
        id: "loop",
        about: "Loop",
        fix: "export one step and loop outside, which is as fast",
        effects: &[(Tract, Refuses), (Iree, Refuses)],
        check: Check::Node(|site| site.node.is("Loop").then(String::new)),
    },
    Rule {
        id: "gather-nd",
        about: "GatherND",
        fix: "pad on the left, so that the last step is every text's last",
        effects: &[(Candle, Refuses)],
        check: Check::Node(|site| site.node.is("GatherND").then(String::new)),
    },
    Rule {
        id: "dequantize",
        about: "int8 weights behind DequantizeLinear",
        fix: "store the weights as f16 behind Cast (an explicit cell), or as f32",
        effects: &[(Reference, Refuses), (Candle, Refuses)],
        check: Check::Node(|site| {
            // The rule is about weights, which are constants.
            let weights = site
                .node
                .input(0)
                .filter(|name| site.node.is("DequantizeLinear") && site.is_constant(name))?;
            Some(weights.to_owned())
        }),
    },
    Rule {
        id: "dequantize-matmul",
        about: "MatMul on int8 weights behind DequantizeLinear, which is fused into an approximate kernel",
        fix: "set session.disable_quant_qdq=1, or store unsigned weights with zero point 128",
        effects: &[(OnnxRuntime, Wrong)],
        check: Check::Node(|site| {
            let weights = site.node.input(1).filter(|_| site.node.is("MatMul"))?;
            let from = site.producer(weights).filter(|from| from.node.is("DequantizeLinear"))?;
            from.node
                .input(0)
                .is_some_and(|name| site.view().signed_bytes.contains(name))
                .then(|| from.place())
        }),
    },
    Rule {
        id: "matmul-integer",
        about: "products of 8-bit integers (MatMulInteger)",
        fix: "quantize with reduce_range (7-bit weights), and use f32 for tract",
        effects: &[(Tract, Slow), (OnnxRuntime, Wrong), (Rten, Wrong)],
        check: Check::Node(|site| {
            let said = "100 times slower in tract; saturates on processors without VNNI".to_owned();
            site.node.is("MatMulInteger").then_some(said)
        }),
    },
    Rule {
        id: "shape-without-value",
        about: "ConstantOfShape without a value",
        fix: "write the value out: a tensor of one float32 zero",
        effects: &[(OpenCv, Refuses)],
        check: Check::Node(|site| {
            (site.node.is("ConstantOfShape") && site.node.attribute("value").is_none()).then(String::new)
        }),
    },
    Rule {
        id: "typed-data",
        about: "tensors keep their numbers in typed fields instead of raw_data",
        fix: "rewrite them: onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)",
        effects: &[(Candle, Refuses)],
        check: Check::Model(|view| {
            let typed = view.tensors().filter_map(|(scope, name, tensor)| {
                let lengths = [
                    tensor.float_data.len(),
                    tensor.int32_data.len(),
                    tensor.int64_data.len(),
                    tensor.double_data.len(),
                ];
                let field = ["float_data", "int32_data", "int64_data", "double_data"]
                    .into_iter()
                    .zip(lengths)
                    .find(|(_, n)| *n > 0)?
                    .0;
                Some((scope, name, field))
            });
            let typed: Vec<(usize, &str, &str)> = typed.collect();
            let more = match typed.len() {
                0 | 1 => String::new(),
                n => format!(" and {} more tensors", n - 1),
            };
            let first = typed.first();
            first
                .map(|(scope, name, field)| (view.place(*scope, name), format!("{field}{more}")))
                .into_iter()
                .collect()
        }),
    },
    Rule {
        id: "value-info",
        about: "types of values in between are written down with symbols for their axes",
        fix: "del model.graph.value_info[:]; every runtime finds them itself",
        effects: &[(Tract, Refuses)],
        check: Check::Model(|view| {
            let infos =
                view.scopes.iter().filter_map(|scope| scope.graph).flat_map(|graph| &graph.value_info);
            let mut symbolic = infos.filter(|info| {
                let shape =
                    info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).and_then(|t| t.shape.as_ref());
                shape.is_some_and(|shape| {
                    shape.dim.iter().any(|dim| matches!(dim.value, Some(Dimension::Param(_))))
                })
            });
            symbolic
                .next()
                .map(|info| (info.name.clone(), "stale as soon as shapes are fixed".to_owned()))
                .into_iter()
                .collect()
        }),
    },
    Rule {
        id: "opset",
        about: "the operator set or the file format is newer than releases that are still in use",
        fix: "export with a lower opset; 17 (IR 8) is read by everything of the last four years",
        effects: &[(OnnxRuntime, Refuses)],
        check: Check::Model(|view| {
            let (opset, ir) = (view.opset(), view.model.ir_version);
            // The first ONNX Runtime that reads it, from its table of versions.
            let since = match (opset, ir) {
                (..=17, ..=8) => return Vec::new(),
                (..=18, ..=8) => "1.14",
                (..=19, ..=9) => "1.15",
                (..=20, ..=9) => "1.17",
                (..=21, ..=10) => "1.18",
                _ => "a release after 1.19",
            };
            vec![(format!("opset {opset}, IR {ir}"), format!("needs {since}"))]
        }),
    },
];

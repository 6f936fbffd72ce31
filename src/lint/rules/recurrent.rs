//! Rules about the operators LSTM, GRU and RNN.

use super::rule::{Check, Found, Rule, one};
use crate::lint::view::Site;
use crate::onnx::messages::TensorProto;

const LEFT: &str = "take the input away and pad on the left: give the LSTM no B, append a channel to X that \
    is 1 at tokens and 0 at padding, and W's last column the bias, so that padding leaves a zero state at zero";
const FORWARD: &str = "use a second forward operator on the reversed sequence, its outputs reversed again";
const STEP: &str = "write the cell out step by step (MatMul, Split, Sigmoid, Tanh) and loop outside, which \
    every runtime takes; s2s export --encoder-form step does";
const CELL: &str = "keep these weights as f32, or write the cell out (MatMul, Split, Sigmoid, Tanh), which \
    every runtime takes";
/// When padding is fed.
const PADDED: &str = "texts of unequal length are padded";

/// The operator's name as cases begin with it, and what they add where all steps (Y) are read too.
fn with_steps(site: &Site<'_, '_>) -> String {
    let steps = if site.is_read(0) { ", all steps" } else { "" };
    format!("{}{steps}", site.node.op_type)
}

fn op(site: &Site<'_, '_>) -> Found {
    Found::new(&*site.node.op_type)
}

/// The operator as every graph has it, which a runtime has or has not.
fn plain(site: &Site<'_, '_>, operator: &str) -> Vec<Found> {
    let fed = || site.node.input(5).is_some_and(|state| site.is_fed(state));
    one(site
        .node
        .is(operator)
        .then(|| if fed() { Found::new(format!("{operator}, states fed")) } else { op(site) }))
}

/// Inputs with initial states, and what they are called.
fn states(site: &Site<'_, '_>) -> &'static [(usize, &'static str)] {
    if site.node.is("LSTM") { &[(5, "initial_h"), (6, "initial_c")] } else { &[(5, "initial_h")] }
}

/// Rules of this file.
pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "lstm",
        about: "an LSTM operator",
        fix: STEP,
        operators: &["LSTM"],
        check: Check::Node(|site| plain(site, "LSTM")),
    },
    Rule {
        id: "gru",
        about: "a GRU operator",
        fix: STEP,
        operators: &["GRU"],
        check: Check::Node(|site| plain(site, "GRU")),
    },
    Rule {
        id: "rnn",
        about: "an RNN operator",
        fix: STEP,
        operators: &["RNN"],
        check: Check::Node(|site| one(site.node.is("RNN").then(|| op(site)))),
    },
    Rule {
        id: "sequence-lens",
        about: "lengths of the texts are given to the recurrent operator",
        fix: LEFT,
        operators: &[],
        check: Check::Node(lengths),
    },
    Rule {
        id: "sequence-lens-computed",
        about: "lengths of the texts are computed while the model runs",
        fix: LEFT,
        operators: &[],
        check: Check::Node(|site| {
            let lengths = site
                .node
                .input(4)
                .filter(|name| site.node.is_recurrent() && !site.is_constant(name) && !site.is_fed(name));
            one(lengths.map(|name| Found::new(format!("{}, computed", site.node.op_type)).saying(name)))
        }),
    },
    Rule {
        id: "unmasked-padding",
        about: "nothing tells the recurrent operator which steps are padding",
        fix: LEFT,
        operators: &[],
        check: Check::Node(|site| {
            let is_open = site.node.is_recurrent() && site.node.input(4).is_none();
            // Without a bias an input of zeros leaves a state of zeros, if padding is that.
            let bias = site.node.input(3).filter(|name| {
                let zero = |tensor: &TensorProto| tensor.raw_data.iter().all(|&byte| byte == 0);
                !site.tensor(name).is_some_and(|tensor| zero(tensor) && tensor.float_data.is_empty())
            });
            one(bias.filter(|_| is_open).map(|_| op(site).when(PADDED)))
        }),
    },
    Rule {
        id: "initial-state",
        about: "no initial state is wired",
        fix: "wire a state of zeros: Shape of X, Gather the batch, Concat with 1 and hidden_size, \
            ConstantOfShape with a value",
        operators: &[],
        check: Check::Node(|site| {
            let missing = states(site).iter().filter(|(at, _)| site.node.input(*at).is_none());
            let missing: Vec<&str> = missing.map(|(_, name)| *name).collect();
            let found = match &missing[..] {
                [] => None,
                ["initial_c"] => Some(Found::new("LSTM, h alone")),
                ["initial_h"] if site.node.is("LSTM") => Some(Found::new("LSTM, c alone")),
                _ => Some(op(site)),
            };
            let said = format!("{} left out", missing.join(" and "));
            one(found.filter(|_| site.node.is_recurrent()).map(|found| found.saying(said)))
        }),
    },
    Rule {
        id: "state-of-batch-1",
        about: "an initial state is stored for one text",
        fix: "repeat it for the batch: Expand to (directions, batch, hidden_size), or give it in as an input",
        operators: &[],
        check: Check::Node(|site| {
            let is_one = |(at, _): &&(usize, &str)| {
                let tensor = site.node.input(*at).and_then(|name| site.tensor(name));
                let batch = site.node.int("layout", 0) != 1;
                tensor.is_some_and(|tensor| tensor.dims.get(usize::from(batch)) == Some(&1))
            };
            let found = states(site).iter().find(is_one).filter(|_| site.node.is_recurrent());
            // Right as long as one text is all that the graph takes.
            one(found.filter(|_| site.view().batch() != Some(1)).map(|(_, name)| op(site).saying(*name)))
        }),
    },
    Rule {
        id: "layout",
        about: "layout=1: the batch is the first axis",
        fix: "leave layout out and transpose before and after",
        operators: &[],
        check: Check::Node(|site| {
            let applies = site.node.is_recurrent() && site.node.int("layout", 0) == 1;
            one(applies.then(|| Found::new(with_steps(site))))
        }),
    },
    Rule {
        id: "direction-reverse",
        about: "direction=reverse",
        fix: FORWARD,
        operators: &[],
        check: Check::Node(|site| direction(site, "reverse")),
    },
    Rule {
        id: "bidirectional",
        about: "direction=bidirectional",
        fix: FORWARD,
        operators: &[],
        check: Check::Node(|site| direction(site, "bidirectional")),
    },
    Rule {
        id: "gru-reset-before",
        about: "a GRU with linear_before_reset=0",
        fix: "train it with the reset gate after the product (Keras: reset_after=True; PyTorch always) and \
            set linear_before_reset=1",
        operators: &[],
        check: Check::Node(|site| {
            let applies = site.node.is("GRU") && site.node.int("linear_before_reset", 0) == 0;
            one(applies.then(|| Found::new(with_steps(site))))
        }),
    },
    Rule {
        id: "clip",
        about: "the recurrent operator clips its pre-activations",
        fix: "leave clip out if it never bites, or write the cell out with Clip",
        operators: &[],
        check: Check::Node(|site| {
            one((site.node.is_recurrent() && site.node.attribute("clip").is_some()).then(|| op(site)))
        }),
    },
    Rule {
        id: "activations",
        about: "activations are spelled out",
        fix: "train it with tanh and sigmoid, or write the cell out; leave the operator's own unsaid",
        operators: &[],
        check: Check::Node(activations),
    },
    Rule {
        id: "input-forget",
        about: "input_forget=1: input and forget gate are coupled",
        fix: "write the cell out",
        operators: &[],
        check: Check::Node(|site| {
            one((site.node.is("LSTM") && site.node.int("input_forget", 0) == 1).then(|| op(site)))
        }),
    },
    Rule {
        id: "peephole",
        about: "peepholes: the gates see the cell's state",
        fix: "train it without, or write the cell out",
        operators: &[],
        check: Check::Node(|site| {
            one(site.node.input(7).filter(|_| site.node.is("LSTM")).map(|name| op(site).saying(name)))
        }),
    },
    Rule {
        id: "no-bias",
        about: "a recurrent operator without a bias",
        fix: "give it a B of zeros",
        operators: &[],
        check: Check::Node(|site| {
            one((site.node.is_recurrent() && site.node.input(3).is_none()).then(|| op(site)))
        }),
    },
    Rule {
        id: "lstm-sequence-output",
        about: "the outputs of all steps (Y) of an LSTM are read",
        fix: "read the last states Y_h and Y_c where they suffice",
        operators: &[],
        check: Check::Node(|site| one((site.node.is("LSTM") && site.is_read(0)).then(|| op(site)))),
    },
    Rule {
        id: "gru-sequence-output",
        about: "the outputs of all steps (Y) of a GRU are read",
        fix: "read the last state Y_h where it suffices",
        operators: &[],
        check: Check::Node(|site| one((site.node.is("GRU") && site.is_read(0)).then(|| op(site)))),
    },
    Rule {
        id: "weights-through-cast",
        about: "a recurrent operator reads what Cast or DequantizeLinear gives",
        fix: CELL,
        operators: &[],
        check: Check::Node(|site| {
            let from = |at| {
                site.producer(site.node.input(at)?)
                    .filter(|from| from.node.is("Cast") || from.node.is("DequantizeLinear"))
            };
            let from = (1..4).find_map(from).filter(|_| site.node.is_recurrent());
            one(from.map(|from| {
                Found::new(format!("{}, {}", site.node.op_type, from.node.op_type)).saying(from.place())
            }))
        }),
    },
    Rule {
        id: "concat-before-lstm",
        about: "a Concat stands directly in front of the first recurrent operator",
        fix: "add the channels up instead: Pad both to the full width and Add",
        operators: &[],
        check: Check::Node(|site| {
            let x = site.node.input(0).filter(|_| site.node.is_recurrent());
            let from = x.and_then(|x| site.producer(x).filter(|from| from.node.is("Concat")));
            let first = from.filter(|_| x.is_some_and(|x| !site.is_after_recurrent(x)));
            one(first.map(|from| op(site).saying(from.place())))
        }),
    },
];

fn lengths(site: &Site<'_, '_>) -> Vec<Found> {
    let Some(name) = site.node.input(4).filter(|_| site.node.is_recurrent()) else { return Vec::new() };
    let kind = if site.is_fed(name) {
        if site.is_read(0) { "input, all steps" } else { "input" }
    } else if site.is_constant(name) {
        match site.tensor(name).and_then(whole_numbers) {
            Some(numbers) if numbers.iter().all(|&n| n == numbers[0]) => "constant, all equal",
            _ => "constant",
        }
    } else {
        return Vec::new();
    };
    vec![Found::new(format!("{}, {kind}", site.node.op_type)).saying(name)]
}

/// Numbers of an int32 tensor.
fn whole_numbers(tensor: &TensorProto) -> Option<Vec<i32>> {
    let (chunks, _) = tensor.raw_data.as_chunks::<4>();
    let numbers = if chunks.is_empty() {
        tensor.int32_data.clone()
    } else {
        chunks.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect()
    };
    (!numbers.is_empty()).then_some(numbers)
}

fn direction(site: &Site<'_, '_>, direction: &str) -> Vec<Found> {
    let applies = site.node.is_recurrent() && site.node.text("direction") == direction;
    one(applies.then(|| Found::new(with_steps(site))))
}

/// By value: the operator's own, spelled out, are a case of their own.
fn activations(site: &Site<'_, '_>) -> Vec<Found> {
    let node = site.node;
    let given = node.texts("activations");
    if !node.is_recurrent() || given.is_empty() {
        return Vec::new();
    }
    if !node.has_other_activations() {
        return vec![Found::new(format!("{}, spelled-out defaults", node.op_type))];
    }
    let usual = ["sigmoid", "tanh"];
    let mut others: Vec<&str> = Vec::new();
    for name in given.iter().map(String::as_str) {
        if !usual.iter().any(|own| own.eq_ignore_ascii_case(name)) && !others.contains(&name) {
            others.push(name);
        }
    }
    let numbers = |name: &str| node.attribute(name).is_some_and(|attribute| !attribute.floats.is_empty());
    let with = match others[..] {
        ["HardSigmoid"] if numbers("activation_alpha") || numbers("activation_beta") => {
            " with alpha and beta"
        }
        _ => "",
    };
    // The usual ones in another order.
    let named = if others.is_empty() { given.join(" and ") } else { others.join(" and ") };
    vec![Found::new(format!("{}, {named}{with}", node.op_type)).saying(given.join(", "))]
}

//! Which tensor of the two graphs is what, and which output becomes which input.

use std::collections::HashMap;

use s2s_runtime::graph_info::{BOOL, Dimension, FLOAT, GraphInfo, INT32, INT64, TensorInfo};
use s2s_runtime::manifest::{Io, MaskWire, MaskedOne, MemoryWire, OutputForm, StateWire, Wiring};
use s2s_runtime::onnx::{GraphProto, NodeProto};

use super::names::{alike, has};
use super::remarks::Remarks;
use crate::error::{Error, ErrorKind, Result};

/// Names that are alike at least that much are the same tensor.
const SAME: f64 = 0.5;
/// Operators between the scores and what gives them, at most.
const DEEPEST: usize = 16;

/// One of the graphs.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    /// For errors.
    pub(super) name: &'a str,
    pub(super) info: &'a GraphInfo,
    pub(super) graph: &'a GraphProto,
    /// Symbols of its vocabulary.
    pub(super) symbols: usize,
}

/// What the inputs of a graph are.
#[derive(Default)]
struct Inputs<'a> {
    tokens: Vec<&'a TensorInfo>,
    masks: Vec<&'a TensorInfo>,
    lengths: Vec<&'a TensorInfo>,
    others: Vec<&'a TensorInfo>,
}

/// The wiring of the two graphs, and the form of their tokens.
///
/// # Errors
/// [`ErrorKind::Usage`] naming the graph and the tensor that nothing feeds or gives.
pub(super) fn wiring(encoder: Side<'_>, decoder: Side<'_>, remarks: &mut Remarks) -> Result<(Io, Wiring)> {
    let sources = Inputs::of(encoder);
    if let Some(other) = sources.others.first() {
        return Err(unfed(encoder, other));
    }
    let source =
        token(encoder, &sources.tokens, &["ids", "src", "source", "text", "input", "token"], remarks)?;
    let steps = Inputs::of(decoder);
    let token =
        token(decoder, &steps.tokens, &["ids", "token", "tok", "trg", "tgt", "target", "input"], remarks)?;
    let one_hot = [source, token].map(|tensor| tensor.element_type == FLOAT && rank(tensor) == Some(3));
    let io = match one_hot {
        [true, true] => Io::OneHot,
        [false, false] => Io::Ids,
        _ => {
            return Err(wrong(
                decoder,
                token,
                "the one graph takes ids and the other one-hot rows".to_owned(),
            )
            .help("a bundle has one form for both: export them alike"));
        }
    };
    let (scores, attention, outputs) = split_outputs(decoder, remarks)?;
    let mut wiring = Wiring {
        encoder_input: source.name.clone(),
        encoder_mask: mask(encoder, &sources.masks, remarks)?,
        encoder_lengths: one(encoder, &sources.lengths)?.map(|tensor| tensor.name.clone()),
        decoder_input: token.name.clone(),
        decoder_mask: mask(decoder, &steps.masks, remarks)?,
        decoder_output: scores.name.clone(),
        output: form(decoder, &scores.name, remarks),
        attention: attention.map(|tensor| tensor.name.clone()),
        ..Wiring::default()
    };
    if let Some(lengths) = steps.lengths.first() {
        return Err(unfed(decoder, lengths));
    }
    carry(encoder, decoder, &steps.others, &outputs, &mut wiring, remarks)?;
    let open = axes(token).get(1).is_some_and(|axis| *axis != Dimension::Fixed(1));
    if wiring.states.is_empty() {
        wiring.decoder_prefix = open;
        if open {
            remarks.found("the decoder has no states: it is fed the whole prefix at each step".to_owned());
        } else {
            remarks.guessed(
                "the decoder has no states and reads one token: it does not know what it said".to_owned(),
            );
        }
    }
    Ok((io, wiring))
}

impl<'a> Inputs<'a> {
    fn of(side: Side<'a>) -> Self {
        let mut inputs = Self::default();
        for tensor in &side.info.inputs {
            let rank = rank(tensor);
            let integer = [INT32, INT64].contains(&tensor.element_type);
            let one_hot = || {
                rank == Some(3)
                    && tensor.element_type == FLOAT
                    && axes(tensor).last() == Some(&Dimension::Fixed(side.symbols))
            };
            let is_mask = matches!(rank, Some(2) | None)
                && (tensor.element_type == BOOL || has(&tensor.name, &["mask", "padding"]));
            let list = if is_mask {
                &mut inputs.masks
            } else if integer && has(&tensor.name, &["len", "lens", "length", "size"]) {
                &mut inputs.lengths
            } else if integer && matches!(rank, Some(1 | 2) | None) || one_hot() {
                &mut inputs.tokens
            } else {
                &mut inputs.others
            };
            list.push(tensor);
        }
        // Ids as f32: where nothing else stands for tokens.
        if inputs.tokens.is_empty() {
            let named =
                |tensor: &&TensorInfo| rank(tensor) == Some(2) && has(&tensor.name, &["ids", "token", "tok"]);
            inputs.tokens = inputs.others.extract_if(.., |tensor| named(tensor)).collect();
        }
        inputs
    }
}

/// The input that reads tokens.
fn token<'a>(
    side: Side<'_>,
    candidates: &[&'a TensorInfo],
    names: &[&str],
    remarks: &mut Remarks,
) -> Result<&'a TensorInfo> {
    match candidates {
        [] => {
            let message = format!(
                "no input reads tokens: none is (batch, time) integers or one-hot rows of {}",
                side.symbols
            );
            Err(Error::new(ErrorKind::Usage, message).in_graph(side.name, None).help(
                "is the vocabulary the right one? `s2s inspect` shows the graph; examples/pytorch/README.md says \
                 what a manifest can have",
            ))
        }
        [token] => Ok(token),
        several => {
            let found = names
                .iter()
                .find_map(|name| several.iter().copied().find(|tensor| has(&tensor.name, &[name])));
            let token = found.unwrap_or(several[0]);
            let list = list(several);
            remarks
                .guessed(format!("of the inputs {list} of {}, `{}` reads the tokens", side.name, token.name));
            Ok(token)
        }
    }
}

fn one<'a>(side: Side<'_>, tensors: &[&'a TensorInfo]) -> Result<Option<&'a TensorInfo>> {
    match tensors {
        [] => Ok(None),
        [tensor] => Ok(Some(tensor)),
        [_, other, ..] => Err(unfed(side, other)),
    }
}

fn mask(side: Side<'_>, tensors: &[&TensorInfo], remarks: &mut Remarks) -> Result<Option<MaskWire>> {
    let Some(tensor) = one(side, tensors)? else { return Ok(None) };
    // PyTorch's masks of padding have ones there; everybody else's have them at tokens.
    let one = if has(&tensor.name, &["pad", "padding"]) { MaskedOne::Padding } else { MaskedOne::Token };
    remarks.found(format!("`{}` of {} is told where padding is", tensor.name, side.name));
    Ok(Some(MaskWire { input: tensor.name.clone(), one }))
}

/// The decoder's scores, its attention weights if there are any, and its other outputs.
fn split_outputs<'a>(
    decoder: Side<'a>,
    remarks: &mut Remarks,
) -> Result<(&'a TensorInfo, Option<&'a TensorInfo>, Vec<&'a TensorInfo>)> {
    let wide = |tensor: &&TensorInfo| axes(tensor).last() == Some(&Dimension::Fixed(decoder.symbols));
    let named = |tensor: &&TensorInfo| has(&tensor.name, &["logit", "logp", "prob", "score", "pred"]);
    let all: Vec<&TensorInfo> = decoder.info.outputs.iter().collect();
    let mut candidates: Vec<&TensorInfo> = all.iter().copied().filter(wide).collect();
    if candidates.is_empty() {
        // A graph that does not say how wide its scores are.
        let unsaid = |tensor: &&TensorInfo| !matches!(axes(tensor).last(), Some(Dimension::Fixed(_)));
        candidates = all.iter().copied().filter(unsaid).collect();
    }
    let scores = match candidates[..] {
        [] => {
            let message =
                format!("no output has scores of {} symbols: they are {}", decoder.symbols, list(&all));
            return Err(Error::new(ErrorKind::Usage, message)
                .in_graph(decoder.name, None)
                .help("is the target vocabulary the right one, with its special symbols?"));
        }
        [scores] => scores,
        _ => {
            let scores = candidates.iter().copied().find(named).unwrap_or(candidates[0]);
            remarks.guessed(format!(
                "of the outputs {}, `{}` has the scores",
                list(&candidates),
                scores.name
            ));
            scores
        }
    };
    let mut others: Vec<&TensorInfo> = all.into_iter().filter(|tensor| tensor.name != scores.name).collect();
    let weights = |tensor: &TensorInfo| {
        has(&tensor.name, &["att", "attn", "attention", "align", "weights"])
            && matches!(rank(tensor), Some(2 | 3) | None)
    };
    let attention = others.iter().position(|tensor| weights(tensor)).map(|at| others.remove(at));
    if let Some(attention) = attention {
        remarks.found(format!("`{}` has the attention weights", attention.name));
    }
    Ok((scores, attention, others))
}

/// States and memory.
fn carry(
    encoder: Side<'_>,
    decoder: Side<'_>,
    inputs: &[&TensorInfo],
    outputs: &[&TensorInfo],
    wiring: &mut Wiring,
    remarks: &mut Remarks,
) -> Result<()> {
    let given: Vec<&TensorInfo> = encoder.info.outputs.iter().collect();
    let next = pair(
        outputs,
        inputs,
        |output, input| format!("the decoder's output `{output}` is the next value of its input `{input}`"),
        remarks,
    );
    for (output, _) in outputs.iter().zip(&next).filter(|(_, input)| input.is_none()) {
        remarks.guessed(format!("nothing reads the decoder's output `{}`", output.name));
    }
    let first = pair(
        inputs,
        &given,
        |input, output| format!("the encoder's output `{output}` goes into the decoder's input `{input}`"),
        remarks,
    );
    for (at, input) in inputs.iter().enumerate() {
        let encoder_output = first[at].map(|output| given[output].name.clone());
        match next.iter().position(|input| *input == Some(at)) {
            Some(output) => {
                let mut state = StateWire {
                    decoder_input: input.name.clone(),
                    decoder_output: outputs[output].name.clone(),
                    ..StateWire::default()
                };
                match encoder_output {
                    Some(output) => state.encoder_output = output,
                    None => begin(decoder, input, &mut state, remarks)?,
                }
                wiring.states.push(state);
            }
            None => {
                let encoder_output = encoder_output.ok_or_else(|| {
                    let message = format!("no output of the encoder fits: they are {}", list(&given));
                    wrong(decoder, input, message).help(
                        "what a decoder reads comes from the encoder or from its own last step; export \
                         graphs whose tensors have the same axes, or write the manifest by hand \
                         (examples/pytorch/README.md)",
                    )
                })?;
                wiring.memory.push(MemoryWire { encoder_output, decoder_input: input.name.clone() });
            }
        }
    }
    for output in
        given.iter().enumerate().filter(|(at, _)| !first.contains(&Some(*at))).map(|(_, output)| output)
    {
        remarks.guessed(format!("nothing reads the encoder's output `{}`", output.name));
    }
    Ok(())
}

/// The first value of a state that the encoder does not give.
fn begin(decoder: Side<'_>, input: &TensorInfo, state: &mut StateWire, remarks: &mut Remarks) -> Result<()> {
    let shape = axes(input);
    let batch = shape.iter().position(|axis| !matches!(axis, Dimension::Fixed(_))).unwrap_or(0);
    let row: Vec<&Dimension> =
        shape.iter().enumerate().filter(|(at, _)| *at != batch).map(|(_, axis)| axis).collect();
    let fixed = |axis: &&Dimension| if let Dimension::Fixed(length) = axis { Some(*length) } else { None };
    let open: Vec<usize> = (0..row.len()).filter(|&at| fixed(&row[at]).is_none()).collect();
    let lengths = || row.iter().map(|axis| fixed(axis).unwrap_or(0)).collect();
    match open[..] {
        _ if shape.is_empty() => {
            return Err(wrong(
                decoder,
                input,
                "nothing says what it begins with, or how many axes it has".to_owned(),
            ));
        }
        [] => {
            state.zeros = Some(lengths());
            remarks.guessed(format!("the state `{}` begins with zeros", input.name));
        }
        [axis] => {
            (state.empty, state.grows) = (Some(lengths()), Some(axis));
            remarks.guessed(format!(
                "the state `{}` begins empty and grows along axis {axis} of a row",
                input.name
            ));
        }
        _ => {
            return Err(wrong(
                decoder,
                input,
                "nothing says what it begins with: several of its axes are open".to_owned(),
            )
            .help("let the encoder give it, or export it with axes that are fixed but for batch and time"));
        }
    }
    Ok(())
}

/// For each of `left` the one of `right` that belongs to it: by name, by shape where only one fits, else by
/// their order, which is said.
fn pair(
    left: &[&TensorInfo],
    right: &[&TensorInfo],
    sentence: impl Fn(&str, &str) -> String,
    remarks: &mut Remarks,
) -> Vec<Option<usize>> {
    let mut pairs: Vec<Option<usize>> = vec![None; left.len()];
    let mut scores: Vec<(f64, usize, usize)> = Vec::new();
    for (l, a) in left.iter().enumerate() {
        let fitting = right.iter().enumerate().filter(|(_, b)| fit(a, b));
        scores.extend(fitting.map(|(r, b)| (alike(&a.name, &b.name), l, r)));
    }
    scores.sort_by(|a, b| b.0.total_cmp(&a.0));
    for &(score, l, r) in scores.iter().take_while(|(score, ..)| *score >= SAME) {
        let rivals = scores.iter().filter(|&&(other, a, b)| {
            other == score && ((a == l) != (b == r)) && pairs[a].is_none() && !pairs.contains(&Some(b))
        });
        if pairs[l].is_none() && !pairs.contains(&Some(r)) && rivals.count() == 0 {
            pairs[l] = Some(r);
            remarks.found(sentence(&left[l].name, &right[r].name));
        }
    }
    let free = |l: usize, pairs: &[Option<usize>]| -> Vec<usize> {
        (0..right.len()).filter(|r| !pairs.contains(&Some(*r)) && fit(left[l], right[*r])).collect()
    };
    let open: Vec<usize> = (0..left.len()).filter(|&l| pairs[l].is_none()).collect();
    let by_name = pairs.clone();
    for &l in &open {
        let Some(&r) = free(l, &pairs).first() else { continue };
        let rivals = open.iter().filter(|&&other| other != l && fit(left[other], right[r]));
        pairs[l] = Some(r);
        let said = sentence(&left[l].name, &right[r].name);
        if free(l, &by_name).len() == 1 && rivals.count() == 0 {
            remarks.found(format!("{said}: no other has these axes"));
        } else {
            remarks.guessed(format!("{said}: by their order, as their names say nothing"));
        }
    }
    pairs
}

/// Whether two tensors may be the same one: the same fixed axes, and as many open ones.
fn fit(a: &TensorInfo, b: &TensorInfo) -> bool {
    let (Some(a_axes), Some(b_axes)) = (&a.shape, &b.shape) else { return true };
    let fixed = |axes: &[Dimension]| {
        let mut lengths: Vec<usize> = axes
            .iter()
            .filter_map(|axis| if let Dimension::Fixed(length) = axis { Some(*length) } else { None })
            .collect();
        lengths.sort_unstable();
        lengths
    };
    let both = [fixed(a_axes), fixed(b_axes)];
    let types = a.element_type == b.element_type || a.element_type == 0 || b.element_type == 0;
    types && a_axes.len() == b_axes.len() && both[0] == both[1]
}

/// What the scores are, by the operator that gives them.
fn form<'a>(decoder: Side<'a>, scores: &'a str, remarks: &mut Remarks) -> OutputForm {
    let mut givers: HashMap<&str, &NodeProto> = HashMap::new();
    for node in &decoder.graph.node {
        givers.extend(node.output.iter().map(|name| (name.as_str(), node)));
    }
    let last = giver(&givers, scores);
    let inner =
        last.filter(|node| node.op_type == "Log").and_then(|node| giver(&givers, node.input.first()?));
    let (form, what) = match (last, inner) {
        (_, Some(inner)) if inner.op_type == "Softmax" => (OutputForm::LogProbabilities, "log-probabilities"),
        (Some(node), _) if node.op_type == "LogSoftmax" => {
            (OutputForm::LogProbabilities, "log-probabilities")
        }
        (Some(node), _) if node.op_type == "Softmax" => (OutputForm::Probabilities, "probabilities"),
        _ => (OutputForm::Logits, "logits"),
    };
    let operator = last.map_or("nothing", |node| node.op_type.as_str());
    remarks.found(format!("the scores `{scores}` are {what}: {operator} gives them"));
    form
}

/// The node that computes a value, passing over those that only lay it out otherwise.
fn giver<'g>(givers: &HashMap<&str, &'g NodeProto>, mut name: &'g str) -> Option<&'g NodeProto> {
    const PASSED: [&str; 9] =
        ["Identity", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Cast", "Slice", "Gather", "Flatten"];
    for _ in 0..DEEPEST {
        let node = *givers.get(name)?;
        match node.input.first() {
            Some(input) if PASSED.contains(&node.op_type.as_str()) => name = input,
            _ => return Some(node),
        }
    }
    None
}

fn axes(tensor: &TensorInfo) -> &[Dimension] {
    tensor.shape.as_deref().unwrap_or_default()
}

fn rank(tensor: &TensorInfo) -> Option<usize> {
    tensor.shape.as_ref().map(Vec::len)
}

fn list(tensors: &[&TensorInfo]) -> String {
    tensors.iter().map(|tensor| format!("`{}`", tensor.name)).collect::<Vec<_>>().join(", ")
}

fn wrong(side: Side<'_>, tensor: &TensorInfo, message: String) -> Error {
    Error::new(ErrorKind::Usage, message).in_graph(side.name, Some(&tensor.name))
}

fn unfed(side: Side<'_>, tensor: &TensorInfo) -> Error {
    wrong(side, tensor, "an input that nothing here can feed".to_owned()).help(
        "encoders read ids or one-hot rows, a mask and lengths; decoders a token, states, memory and a mask; \
         export the graph without this input",
    )
}

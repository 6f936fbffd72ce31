//! The two graphs that are run: an encoder that gives the decoder's keys and values too, and a decoder of one
//! step whose first past is empty.
//!
//! A decoder with past that is given a past of no tokens computes what the decoder of the first step does, so
//! that one graph does all steps.

use super::external::MOST_ENDS;
use super::keys::{FirstStep, Keys};
use super::names::{
    CACHE_POSITION, DECODER_MASK, ENCODER_MASK, HIDDEN, IDS, LAST_HIDDEN, LOGITS, MASK, POSITION_IDS, Side,
    USE_CACHE, past, present_of,
};
use super::surgery::{inline, keep, node};
use crate::checked::CheckedModel;
use crate::error::{Error, ErrorKind, Result};
use crate::graph_info::{Dimension, FLOAT, TensorInfo};
use crate::manifest::{MaskWire, MaskedOne, MemoryWire, StateWire, Wiring};
use crate::onnx::{AttributeProto, DataType, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::vocabulary::PaddingSide;

/// ONNX's numbers of the half-width floats.
const FLOAT16: i32 = 10;
const BFLOAT16: i32 = 16;
/// What a value is called behind its conversion to f32.
const AS_FLOAT: &str = ".f32";

/// A decoder taken apart.
pub(super) struct Parts {
    /// Makes keys and values of what the encoder gives; none where the decoder computes them at each step.
    pub(super) keys: Option<Keys>,
    /// The step with past, or the graph that reads all tokens again.
    pub(super) step: ModelProto,
    /// Whether it is the latter.
    pub(super) is_whole: bool,
}

/// How a step is wired, before it is known what the encoder is called.
pub(super) struct Step {
    pub(super) states: Vec<StateWire>,
    pub(super) memory: Vec<MemoryWire>,
    pub(super) mask: Option<MaskWire>,
    /// Whether each step is fed all tokens so far.
    pub(super) is_whole: bool,
    /// The scores' name.
    pub(super) scores: String,
    /// The width of the scores, where the graph says it.
    pub(super) width: Option<usize>,
}

fn wrong(name: &str, node: Option<&str>, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Bundle, message).in_graph(name, node)
}

/// Takes a merged decoder apart.
///
/// # Errors
/// [`ErrorKind::Bundle`] if it is no decoder with a branch for its first step and one for the others.
pub(super) fn merged(name: &str, model: CheckedModel) -> Result<Parts> {
    let graph = model.graph();
    let is_choice = |node: &NodeProto| node.is("If") && node.input(0) == Some(USE_CACHE);
    let at = graph.node.iter().position(is_choice).ok_or_else(|| {
        wrong(name, None, format!("no If that reads {USE_CACHE}: this is no merged decoder"))
            .help("export it again, or name its file decoder_model.onnx or decoder_with_past_model.onnx")
    })?;
    if graph.node[at].output.len() > MOST_ENDS {
        return Err(wrong(
            name,
            Some(graph.node[at].label()),
            format!("an If of more than {MOST_ENDS} outputs"),
        ));
    }
    let first = graph.node[at].attribute("else_branch").and_then(|branch| branch.g.as_ref());
    let first =
        first.ok_or_else(|| wrong(name, Some(graph.node[at].label()), "this If has no else_branch"))?;
    let keys = FirstStep::of_branch(name, &model, at, first).keys()?;
    let mut step = model.into_model();
    inline(name, step.graph.get_or_insert_default(), at, "then_branch")?;
    Ok(Parts { keys, step, is_whole: false })
}

/// Makes a step of a decoder: what it reads is wired or computed, in f32.
///
/// - `is_whole`: it reads all tokens again; else it has a past.
///
/// # Errors
/// [`ErrorKind::Bundle`] naming an input or output that is not what such a decoder has.
pub(super) fn step(name: &str, model: &mut ModelProto, is_whole: bool) -> Result<Step> {
    let graph = model.graph.get_or_insert_default();
    let given: Vec<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    if !given.iter().any(|output| output == LOGITS) {
        return Err(wrong(name, None, format!("no output `{LOGITS}`"))
            .help(format!("its outputs are {}", given.join(", "))));
    }
    let caches = graph.input.iter().filter(|input| past(&input.name) == Some(Side::Decoder));
    let caches: Vec<String> = caches.map(|input| input.name.clone()).collect();
    if caches.len() > MOST_ENDS {
        return Err(wrong(name, None, format!("{} caches; at most {MOST_ENDS} are read", caches.len())));
    }
    let next: Vec<String> = caches.iter().map(|cache| present_of(cache)).collect();
    if let Some(missing) = next.iter().find(|next| !given.contains(next)) {
        return Err(wrong(name, None, format!("no output `{missing}`, which its input of that layer needs")));
    }
    if caches.is_empty() && !is_whole {
        return Err(wrong(name, None, "no inputs past_key_values.LAYER.decoder.{key,value}")
            .help("export with `--task text2text-generation-with-past`"));
    }
    keep(graph, &[vec![LOGITS.to_owned()], next].concat());
    few_inputs(name, graph)?;
    if let Some(cache) = caches.first() {
        compute_positions(graph, cache);
    }
    let (mut states, mut memory, mut mask) = (Vec::new(), Vec::new(), None);
    let inputs: Vec<TensorInfo> = graph.input.iter().map(TensorInfo::of).collect();
    for input in &inputs {
        match (input.name.as_str(), past(&input.name)) {
            (IDS, _) => {}
            (ENCODER_MASK, _) => mask = Some(MaskWire { input: input.name.clone(), one: MaskedOne::Token }),
            (HIDDEN, _) => memory.push(MemoryWire {
                encoder_output: HIDDEN.to_owned(),
                decoder_input: in_float(graph, input),
            }),
            (_, Some(Side::Encoder)) => memory.push(MemoryWire {
                encoder_output: present_of(&input.name),
                decoder_input: in_float(graph, input),
            }),
            (_, Some(Side::Decoder)) => states.push(StateWire {
                empty: Some(empty_row(name, input)?),
                grows: Some(1),
                decoder_input: in_float(graph, input),
                decoder_output: out_float(graph, &present_of(&input.name)),
                ..StateWire::default()
            }),
            (other, None) => {
                return Err(wrong(name, Some(other), "an input that nothing here knows").help(format!(
                    "known are {IDS}, {ENCODER_MASK}, {HIDDEN}, past_key_values.*, {POSITION_IDS}, \
                     {CACHE_POSITION} and {DECODER_MASK}"
                )));
            }
        }
    }
    let scores = out_float(graph, LOGITS);
    let width = graph.output.iter().find(|output| output.name == scores).map(TensorInfo::of);
    let width = match width.and_then(|info| info.shape?.pop()) {
        Some(Dimension::Fixed(width)) => Some(width),
        _ => None,
    };
    Ok(Step { states, memory, mask, is_whole, scores, width })
}

/// Makes the encoder of a step, and the wiring of both.
///
/// # Errors
/// [`ErrorKind::Bundle`] naming what one of the two graphs does not have.
pub(super) fn encoder(name: &str, model: &mut ModelProto, keys: Option<Keys>, step: Step) -> Result<Wiring> {
    let graph = model.graph.get_or_insert_default();
    let inputs: Vec<String> = graph.input.iter().map(|input| input.name.clone()).collect();
    let has = |wanted: &str| inputs.iter().any(|input| input == wanted);
    let outputs: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    if !has(IDS) || !outputs.contains(&LAST_HIDDEN) {
        return Err(wrong(name, None, format!("no input `{IDS}` or no output `{LAST_HIDDEN}`")).help(
            format!(
                "its inputs are {}, its outputs {}; only encoders of text are run",
                inputs.join(", "),
                outputs.join(", ")
            ),
        ));
    }
    let encoder_mask = has(MASK).then(|| MaskWire { input: MASK.to_owned(), one: MaskedOne::Token });
    if let Some(keys) = keys {
        keys.behind(model, LAST_HIDDEN, encoder_mask.as_ref().map(|mask| mask.input.as_str()))?;
    }
    let graph = model.graph.get_or_insert_default();
    let given = |memory: &MemoryWire| match memory.encoder_output.as_str() {
        HIDDEN => LAST_HIDDEN.to_owned(),
        other => other.to_owned(),
    };
    let wanted: Vec<String> = step.memory.iter().map(given).collect();
    if let Some(missing) = wanted.iter().find(|name| !graph.output.iter().any(|output| output.name == **name))
    {
        return Err(wrong(
            name,
            Some(missing),
            "the decoder reads this, and its first step does not give it",
        ));
    }
    keep(graph, &wanted);
    few_inputs(name, graph)?;
    if let Some(unknown) = graph.input.iter().find(|input| ![IDS, MASK].contains(&input.name.as_str())) {
        return Err(wrong(name, Some(&unknown.name), "an input that nothing here knows")
            .help(format!("known are {IDS} and {MASK}")));
    }
    name_axes(graph);
    let encoder_mask = encoder_mask.filter(|mask| graph.input.iter().any(|input| input.name == mask.input));
    let memory = step
        .memory
        .into_iter()
        .zip(wanted)
        .map(|(memory, output)| MemoryWire { encoder_output: out_float(graph, &output), ..memory });
    Ok(Wiring {
        encoder_input: IDS.to_owned(),
        memory: memory.collect(),
        encoder_mask,
        source_padding: Some(PaddingSide::Right),
        decoder_input: IDS.to_owned(),
        decoder_mask: step.mask,
        decoder_prefix: step.is_whole,
        decoder_output: step.scores,
        states: step.states,
        ..Wiring::default()
    })
}

/// Computes the inputs that only say how many tokens there are from the length of a cache.
fn compute_positions(graph: &mut GraphProto, cache: &str) {
    let known = [POSITION_IDS, CACHE_POSITION, DECODER_MASK];
    let inputs: Vec<TensorInfo> = graph.input.iter().map(TensorInfo::of).collect();
    let computed: Vec<&TensorInfo> =
        inputs.iter().filter(|input| known.contains(&input.name.as_str())).collect();
    if computed.is_empty() {
        return;
    }
    // No exporter writes names like these; if one does, the check of the result says so.
    let value = |name: &str| format!("positions/{name}");
    for (name, data) in [("zero", [0]), ("one", [1]), ("two", [2])] {
        graph.initializer.push(TensorProto::of_integers(&value(name), &[1], &data));
    }
    let (zero, one, two) = (value("zero"), value("one"), value("two"));
    let mut nodes = vec![
        node("Shape", &[cache], &value("shape"), []),
        node("Gather", &[&value("shape"), &two], &value("past"), []),
        node("Gather", &[&value("shape"), &zero], &value("rows"), []),
        node("Add", &[&value("past"), &one], &value("all"), []),
        node("Concat", &[&value("rows"), &one], &value("rows_1"), [AttributeProto::of_integer("axis", 0)]),
        node(
            "Concat",
            &[&value("rows"), &value("all")],
            &value("rows_all"),
            [AttributeProto::of_integer("axis", 0)],
        ),
    ];
    for input in &computed {
        let (from, shape) = match input.name.as_str() {
            CACHE_POSITION => (value("past"), one.clone()),
            POSITION_IDS => (value("past"), value("rows_1")),
            _ => (one.clone(), value("rows_all")),
        };
        let wide = value(&input.name);
        nodes.push(node("Expand", &[&from, &shape], &wide, []));
        nodes.push(node(
            "Cast",
            &[&wide],
            &input.name,
            [AttributeProto::of_integer("to", input.element_type.into())],
        ));
    }
    graph.input.retain(|input| !known.contains(&input.name.as_str()));
    graph.node.splice(0..0, nodes);
}

fn few_inputs(name: &str, graph: &GraphProto) -> Result<()> {
    match graph.input.len() {
        ..=MOST_ENDS => Ok(()),
        inputs => Err(wrong(name, None, format!("{inputs} inputs; at most {MOST_ENDS} are read"))),
    }
}

/// Calls rows and columns of what the encoder gives as its ids call them: keys come from another graph, which
/// may have other names, and by the names it is known where the time is.
fn name_axes(graph: &mut GraphProto) {
    let ids = graph.input.iter().find(|input| input.name == IDS).and_then(|input| input.tensor_type());
    let Some((_, [rows, columns])) = ids else { return };
    let (rows, columns) = (rows.clone(), columns.clone());
    let tensors = graph.output.iter_mut().filter_map(|output| output.r#type.as_mut()?.tensor_type.as_mut());
    for shape in tensors.filter_map(|tensor| tensor.shape.as_mut()) {
        // Hidden states are (rows, columns, width), keys and values (rows, heads, columns, width).
        if let Some(time) = shape.dim.len().checked_sub(2).filter(|&time| time > 0) {
            (shape.dim[0], shape.dim[time]) = (rows.clone(), columns.clone());
        }
    }
}

/// The axes of a row of an empty cache, (heads, 0, width).
fn empty_row(name: &str, input: &TensorInfo) -> Result<Vec<usize>> {
    match input.shape.as_deref() {
        Some(&[_, Dimension::Fixed(heads), _, Dimension::Fixed(width)]) => Ok(vec![heads, 0, width]),
        other => Err(wrong(
            name,
            Some(&input.name),
            format!("axes {other:?}; (batch, heads, time, width) with fixed heads and width are expected"),
        )),
    }
}

fn is_half(element_type: i32) -> bool {
    [FLOAT16, BFLOAT16].contains(&element_type)
}

/// An input of half-width floats comes as f32, which holds all of them. Gives the name that is fed.
pub(super) fn in_float(graph: &mut GraphProto, input: &TensorInfo) -> String {
    if !is_half(input.element_type) {
        return input.name.clone();
    }
    let wide = format!("{}{AS_FLOAT}", input.name);
    if let Some(declared) = graph.input.iter_mut().find(|declared| declared.name == input.name) {
        declared.name.clone_from(&wide);
        set_float(declared);
    }
    let to = AttributeProto::of_integer("to", input.element_type.into());
    graph.node.insert(0, node("Cast", &[&wide], &input.name, [to]));
    wide
}

/// An output of half-width floats is given as f32. Gives the name that is read.
pub(super) fn out_float(graph: &mut GraphProto, output: &str) -> String {
    let Some(declared) = graph.output.iter_mut().find(|declared| declared.name == output) else {
        return output.to_owned();
    };
    if !is_half(TensorInfo::of(declared).element_type) {
        return output.to_owned();
    }
    let wide = format!("{output}{AS_FLOAT}");
    declared.name.clone_from(&wide);
    set_float(declared);
    graph.node.push(node("Cast", &[output], &wide, [AttributeProto::of_integer("to", FLOAT.into())]));
    wide
}

fn set_float(value: &mut crate::onnx::ValueInfoProto) {
    if let Some(tensor) = value.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()) {
        tensor.elem_type = DataType::Float as i32;
    }
}

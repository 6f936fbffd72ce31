//! Small graphs made by hand for the tests: how they are wired is what they differ in, and what they say is
//! easily calculated.
//!
//! A target token has three numbers, a source token one for each target symbol. The logits are the sum of the
//! numbers of all tokens so far times a matrix, plus the sum of the sources' numbers.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::bundle::{Bundle, sha256};
use crate::contract::{SPECIAL_SYMBOLS, SpecialIds, file};
use crate::decoding::DecodingOptions;
use crate::error::Result;
use crate::manifest::{
    GraphFile, Io, Manifest, MaskWire, MaskedOne, MemoryWire, OutputForm, Role, StateWire, Wiring,
};
use crate::onnx::{
    AttributeProto, DataType, Dimension, DimensionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, ValueInfoProto,
};
use crate::vocabulary::{PaddingSide, Unit, VocabularySpec};

/// Symbols of the source and the target.
const SYMBOLS: [usize; 2] = [9, 8];
/// Numbers of a target token.
const WIDTH: usize = 3;
/// Tokens after which decoding stops.
pub(super) const LONGEST: usize = 8;

/// What the state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// The sum of the tokens so far, (1, batch, 3), zeros first.
    Sum,
    /// All of them, (batch, past, 3), none first.
    All,
    /// None: the decoder is fed all tokens, and sums up those before each.
    Prefix,
    /// None: the decoder is fed all tokens, and sums up all that it is fed.
    WholePrefix,
}

impl Past {
    fn is_prefix(self) -> bool {
        matches!(self, Self::Prefix | Self::WholePrefix)
    }
}

/// What the decoder is told of the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sources {
    /// Their sum, by an encoder that reads a mask.
    Masked,
    /// The numbers of the first column.
    First,
    /// Those of all columns, for a decoder that reads a mask.
    All,
}

/// A pair of graphs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Toy {
    pub(super) past: Past,
    pub(super) sources: Sources,
    pub(super) mask: DataType,
    pub(super) one: MaskedOne,
    pub(super) side: PaddingSide,
    /// START stands before each source and END behind it.
    pub(super) around: bool,
    /// The element type of ids.
    pub(super) id: DataType,
    pub(super) special: SpecialIds,
    /// The axis of the rows, as both graphs declare it: `batch`, or `1`.
    pub(super) batch: &'static str,
}

impl Default for Toy {
    fn default() -> Self {
        Self {
            past: Past::Sum,
            sources: Sources::Masked,
            mask: DataType::Int64,
            one: MaskedOne::Token,
            side: PaddingSide::Left,
            around: false,
            id: DataType::Int64,
            special: SpecialIds::default(),
            batch: "batch",
        }
    }
}

fn embedding(token: usize, at: usize) -> f32 {
    ((token * 7 + at * 5) % 11) as f32 - 5.0
}

fn weight(at: usize, symbol: usize) -> f32 {
    ((at * 3 + symbol * 5) % 7) as f32 - 3.0
}

fn source_number(token: usize, symbol: usize) -> f32 {
    ((token * 5 + symbol * 3) % 13) as f32 * 4.0 - 24.0
}

fn table(name: &str, shape: [usize; 2], value: fn(usize, usize) -> f32) -> TensorProto {
    let data: Vec<f32> = (0..shape[0]).flat_map(|i| (0..shape[1]).map(move |j| value(i, j))).collect();
    TensorProto::of_floats(name, &shape, &data)
}

pub(super) fn value(name: &str, kind: DataType, axes: &[&str]) -> ValueInfoProto {
    let axis = |axis: &&str| DimensionProto {
        value: Some(match axis.parse() {
            Ok(length) => Dimension::Value(length),
            Err(_) => Dimension::Param((*axis).to_owned()),
        }),
    };
    ValueInfoProto::tensor(name, kind, axes.iter().map(axis).collect())
}

/// Nodes as they come.
#[derive(Default)]
pub(super) struct Nodes(pub(super) Vec<NodeProto>, pub(super) Vec<TensorProto>);

impl Nodes {
    pub(super) fn add(&mut self, op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) {
        self.0.push(NodeProto {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: format!("{op}_{output}"),
            op_type: op.to_owned(),
            attribute,
            ..NodeProto::default()
        });
    }

    /// The sum of `columns` (batch, source_time, symbols) where the mask says that there is a token;
    /// `is_token` is (batch, source_time).
    fn masked_sum(&mut self, toy: &Toy, columns: &str, output: &str) {
        self.1.push(TensorProto::of_integers("axis_1", &[1], &[1]));
        self.1.push(TensorProto::of_integers("axis_2", &[1], &[2]));
        self.1.push(TensorProto::of_floats("one", &[1], &[1.0]));
        self.add("Cast", &["mask"], "ones", vec![AttributeProto::of_integer("to", DataType::Float as i64)]);
        match toy.one {
            MaskedOne::Token => self.add("Identity", &["ones"], "is_token", vec![]),
            MaskedOne::Padding => self.add("Sub", &["one", "ones"], "is_token", vec![]),
        }
        self.add("Unsqueeze", &["is_token", "axis_2"], "wide", vec![]);
        self.add("Mul", &[columns, "wide"], "kept", vec![]);
        self.add("ReduceSum", &["kept", "axis_1"], output, vec![AttributeProto::of_integer("keepdims", 0)]);
    }

    pub(super) fn model(self, input: Vec<ValueInfoProto>, output: Vec<ValueInfoProto>) -> Vec<u8> {
        let name = "toy".to_owned();
        let graph =
            GraphProto { name, node: self.0, initializer: self.1, input, output, ..GraphProto::default() };
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
        ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..ModelProto::default() }
            .encode_to_vec()
    }
}

impl Toy {
    fn encoder(&self) -> Vec<u8> {
        let mut nodes = Nodes::default();
        let symbols = SYMBOLS[1].to_string();
        let mut inputs = vec![value("ids", self.id, &[self.batch, "source_time"])];
        nodes.1.push(table("numbers", SYMBOLS, source_number));
        let columns = if self.sources == Sources::All { "source" } else { "columns" };
        nodes.add("Gather", &["numbers", "ids"], columns, vec![AttributeProto::of_integer("axis", 0)]);
        match self.sources {
            Sources::Masked => {
                inputs.push(value("mask", self.mask, &[self.batch, "source_time"]));
                nodes.masked_sum(self, "columns", "source");
            }
            Sources::First => {
                nodes.1.push(TensorProto::of_integers("zero", &[], &[0]));
                nodes.add(
                    "Gather",
                    &["columns", "zero"],
                    "source",
                    vec![AttributeProto::of_integer("axis", 1)],
                );
            }
            Sources::All => {}
        }
        let axes = [self.batch, "source_time", &symbols];
        let axes = if self.sources == Sources::All { &axes[..] } else { &[axes[0], axes[2]] };
        nodes.model(inputs, vec![value("source", DataType::Float, axes)])
    }

    fn decoder(&self) -> Vec<u8> {
        let mut nodes = Nodes::default();
        let symbols = SYMBOLS[1].to_string();
        nodes.1.push(table("embedding", [SYMBOLS[1], WIDTH], embedding));
        nodes.1.push(table("weight", [WIDTH, SYMBOLS[1]], weight));
        nodes.1.push(TensorProto::of_integers("first", &[1], &[0]));
        nodes.1.push(TensorProto::of_integers("second", &[1], &[1]));
        let time = if self.past.is_prefix() { "target_time" } else { "1" };
        let mut inputs = vec![value("token", self.id, &[self.batch, time])];
        let mut outputs = vec![value("logits", DataType::Float, &[self.batch, time, &symbols])];
        nodes.add("Gather", &["embedding", "token"], "now", vec![AttributeProto::of_integer("axis", 0)]);
        match self.past {
            Past::Sum => {
                inputs.push(value("past", DataType::Float, &["1", self.batch, "3"]));
                outputs.push(value("present", DataType::Float, &["1", self.batch, "3"]));

                nodes.add("Squeeze", &["now", "second"], "rows", vec![]);
                nodes.add("Unsqueeze", &["rows", "first"], "layers", vec![]);
                nodes.add("Add", &["past", "layers"], "present", vec![]);
                nodes.add("Squeeze", &["present", "first"], "sum", vec![]);
            }
            Past::All => {
                inputs.push(value("past", DataType::Float, &[self.batch, "past", "3"]));
                outputs.push(value("present", DataType::Float, &[self.batch, "present", "3"]));
                nodes.add("Concat", &["past", "now"], "present", vec![AttributeProto::of_integer("axis", 1)]);
                nodes.add(
                    "ReduceSum",
                    &["present", "second"],
                    "sum",
                    vec![AttributeProto::of_integer("keepdims", 0)],
                );
            }
            Past::Prefix => {
                nodes.1.push(TensorProto::of_integers("along", &[], &[1]));
                nodes.add("CumSum", &["now", "along"], "sum", vec![]);
            }
            Past::WholePrefix => {
                nodes.1.push(TensorProto::of_floats("nothing", &[1], &[0.0]));
                nodes.add(
                    "ReduceSum",
                    &["now", "second"],
                    "whole",
                    vec![AttributeProto::of_integer("keepdims", 1)],
                );
                nodes.add("Mul", &["now", "nothing"], "none", vec![]);
                nodes.add("Add", &["none", "whole"], "sum", vec![]);
            }
        }
        nodes.add("MatMul", &["sum", "weight"], "said", vec![]);
        let bias = if self.sources == Sources::All {
            inputs.push(value("source", DataType::Float, &[self.batch, "source_time", &symbols]));
            inputs.push(value("mask", self.mask, &[self.batch, "source_time"]));
            outputs.push(value("weights", DataType::Float, &[self.batch, "source_time"]));
            nodes.masked_sum(self, "source", "bias");
            nodes.add(
                "ReduceSum",
                &["is_token", "axis_1"],
                "tokens",
                vec![AttributeProto::of_integer("keepdims", 1)],
            );
            nodes.add("Div", &["is_token", "tokens"], "weights", vec![]);
            "bias"
        } else {
            inputs.push(value("source", DataType::Float, &[self.batch, &symbols]));
            "source"
        };
        if self.past.is_prefix() {
            nodes.add("Unsqueeze", &[bias, "second"], "each", vec![]);
            nodes.add("Add", &["said", "each"], "logits", vec![]);
        } else {
            nodes.add("Add", &["said", bias], "scores", vec![]);
            nodes.add("Unsqueeze", &["scores", "second"], "logits", vec![]);
        }
        nodes.model(inputs, outputs)
    }

    pub(super) fn wiring(&self) -> Wiring {
        let mask = MaskWire { input: "mask".to_owned(), one: self.one };
        let state = StateWire {
            zeros: (self.past == Past::Sum).then(|| vec![1, WIDTH]),
            empty: (self.past == Past::All).then(|| vec![0, WIDTH]),
            grows: (self.past == Past::All).then_some(0),
            decoder_input: "past".to_owned(),
            decoder_output: "present".to_owned(),
            ..StateWire::default()
        };
        Wiring {
            encoder_input: "ids".to_owned(),
            encoder_mask: (self.sources == Sources::Masked).then(|| mask.clone()),
            source_padding: Some(self.side).filter(|&side| side != PaddingSide::Left),
            source_start: self.around.then_some(self.special.start),
            source_end: self.around.then_some(self.special.end),
            decoder_input: "token".to_owned(),
            decoder_mask: (self.sources == Sources::All).then_some(mask),
            decoder_output: "logits".to_owned(),
            output: OutputForm::Logits,
            decoder_prefix: self.past.is_prefix(),
            states: if self.past.is_prefix() { vec![] } else { vec![state] },
            memory: vec![MemoryWire {
                encoder_output: "source".to_owned(),
                decoder_input: "source".to_owned(),
            }],
            attention: (self.sources == Sources::All).then(|| "weights".to_owned()),
            ..Wiring::default()
        }
    }

    fn vocabulary(&self, symbols: usize) -> VocabularySpec {
        let mut letters = ('a'..).map(|c| c.to_string());
        let special = self.special.all();
        let symbol = |id| match special.iter().position(|&special| special as usize == id) {
            Some(at) => SPECIAL_SYMBOLS[at].to_owned(),
            None => letters.next().unwrap_or_default(),
        };
        VocabularySpec {
            unit: Unit::Character,
            symbols: (0..symbols).map(symbol).collect(),
            ..VocabularySpec::default()
        }
    }

    /// The bundle, its manifest changed by `change`.
    pub(super) fn changed_bundle(&self, change: impl FnOnce(&mut Manifest)) -> Result<Bundle> {
        let graphs = [(Role::Encoder, self.encoder()), (Role::Decoder, self.decoder())];
        let listed = graphs
            .iter()
            .map(|(role, bytes)| (*role, GraphFile { file: role.file().to_owned(), sha256: sha256(bytes) }));
        let mut manifest = Manifest {
            format_version: "1.2".to_owned(),
            name: "toy".to_owned(),
            producer: "by hand".to_owned(),
            languages: None,
            io: Io::Ids,
            graphs: listed.collect(),
            files: BTreeMap::new(),
            weights_sha256: None,
            wiring: self.wiring(),
            special_ids: self.special,
            decoding: DecodingOptions { max_new_tokens: Some(LONGEST), ..DecodingOptions::default() },
            architecture: None,
            provenance: None,
            examples: Vec::new(),
            source: self.vocabulary(SYMBOLS[0]),
            target: self.vocabulary(SYMBOLS[1]),
        };
        change(&mut manifest);
        let mut files: BTreeMap<String, Vec<u8>> =
            graphs.into_iter().map(|(role, bytes)| (role.file().to_owned(), bytes)).collect();
        files.insert(file::MANIFEST.to_owned(), manifest.to_yaml()?.into_bytes());
        Bundle::from_files("toy", files)
    }

    pub(super) fn bundle(&self) -> Result<Bundle> {
        self.changed_bundle(|_| ())
    }

    /// What greedy decoding must say, END left out.
    pub(super) fn expected(&self, source: &[u32]) -> Vec<u32> {
        let SpecialIds { pad, start, end, .. } = self.special;
        let around = |id| self.around.then_some(id);
        let read: Vec<u32> =
            around(start).into_iter().chain(source.iter().copied()).chain(around(end)).collect();
        let read = if self.sources == Sources::First { &read[..1] } else { &read[..] };
        let bias = |symbol: usize| read.iter().map(|&id| source_number(id as usize, symbol)).sum::<f32>();
        let (mut sum, mut token, mut said) = ([0.0; WIDTH], start, Vec::new());
        while said.len() < LONGEST {
            sum.iter_mut().enumerate().for_each(|(at, sum)| *sum += embedding(token as usize, at));
            let logit = |symbol: usize| {
                sum.iter().enumerate().map(|(at, sum)| sum * weight(at, symbol)).sum::<f32>() + bias(symbol)
            };
            let open = (0..SYMBOLS[1]).filter(|&id| id != pad as usize && id != start as usize);
            let better = |best: usize, id: usize| if logit(id) > logit(best) { id } else { best };
            token = open.reduce(better).map_or(end, |id| u32::try_from(id).unwrap_or(end));
            if token == end {
                break;
            }
            said.push(token);
        }
        said
    }
}

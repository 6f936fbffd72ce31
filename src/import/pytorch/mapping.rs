//! Which tensor of a checkpoint is which part of an encoder-decoder: a short file, or one that comes with the
//! program.

use std::path::{Path, PathBuf};

use s2s_runtime::files::{self, FileKind};
use s2s_runtime::vocabulary::{Normalisation, Padding, Unit};
use s2s_runtime::yaml;
use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
use crate::network::GateActivation;

/// The mappings that come with the program: their names and texts.
pub const SHIPPED: &[(&str, &str)] = &[
    ("g2p-en", include_str!("mappings/g2p-en.yaml")),
    ("joeynmt", include_str!("mappings/joeynmt.yaml")),
    ("joeynmt-bahdanau", include_str!("mappings/joeynmt-bahdanau.yaml")),
    ("opennmt", include_str!("mappings/opennmt.yaml")),
    ("tutorial", include_str!("mappings/tutorial.yaml")),
    ("tutorial-attention", include_str!("mappings/tutorial-attention.yaml")),
];

/// A mapping as a file.
const FILE: FileKind = FileKind { name: "a mapping", limit: 1 << 20, error: ErrorKind::Config };

/// Names the parts of a model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mapping {
    pub(super) encoder: Encoder,
    pub(super) decoder: Decoder,
    pub(super) source: Texts,
    pub(super) target: Texts,
    /// The run's name.
    #[serde(default)]
    pub(super) name: Option<String>,
    /// Tokens after which decoding stops.
    #[serde(default)]
    pub(super) max_new_tokens: Option<usize>,
    /// Tensors that are no part of the model, `*` for any letters.
    #[serde(default)]
    pub(super) ignore: Vec<String>,
    /// What errors call it.
    #[serde(skip)]
    pub(super) path: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Encoder {
    pub(super) embedding: Table,
    pub(super) recurrent: Cells,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decoder {
    pub(super) embedding: Table,
    pub(super) recurrent: Cells,
    /// nn.Linear from the decoder's state to scores.
    pub(super) output: Dense,
    #[serde(default)]
    pub(super) attention: Option<Attention>,
    #[serde(default)]
    pub(super) bridge: Option<Bridge>,
    #[serde(default)]
    pub(super) starts_from: StartsFrom,
}

/// An embedding: its tensor (symbols, width), and what is done to each row; or no embedding.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Table {
    Name(String),
    Changed {
        weight: String,
        #[serde(default)]
        activation: Option<Activation>,
        /// What each row is multiplied by.
        #[serde(default)]
        scale: Option<Scale>,
    },
    /// One channel a symbol.
    Form {
        form: TableForm,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TableForm {
    OneHot,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Scale {
    Number(f32),
    Named(NamedScale),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum NamedScale {
    /// The square root of the width, as transformers have it.
    SqrtWidth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Activation {
    Relu,
}

/// Recurrent layers: the name of an nn.LSTM or nn.GRU, or the tensors one by one.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Cells {
    Name(String),
    Module {
        module: String,
        #[serde(default)]
        reset: Reset,
        #[serde(default)]
        gate_activation: GateActivation,
    },
    Tensors {
        weight_ih: String,
        weight_hh: String,
        #[serde(default)]
        bias_ih: Option<String>,
        #[serde(default)]
        bias_hh: Option<String>,
        /// Whether the weights are (inputs, gates).
        #[serde(default)]
        transposed: bool,
        /// The gates in the order of the tensors: i, f, g, o of an LSTM and r, z, n of a GRU, unless said.
        #[serde(default)]
        gates: Option<Vec<Gate>>,
        #[serde(default)]
        reset: Reset,
        #[serde(default)]
        gate_activation: GateActivation,
    },
}

/// Where a GRU resets its state: before the product with its weights, or behind it, as PyTorch has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reset {
    Before,
    #[default]
    After,
}

/// A gate of an LSTM (i, f, g, o) or GRU (r, z, n), by its letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Gate {
    I,
    F,
    G,
    O,
    R,
    Z,
    N,
}

/// A linear layer: the name of an nn.Linear, or its tensors.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Dense {
    Name(String),
    Tensors {
        weight: String,
        #[serde(default)]
        bias: Option<String>,
        /// Whether the weight is (inputs, outputs).
        #[serde(default)]
        transposed: bool,
    },
}

/// Attention over the encoder's outputs m with the decoder's state h.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attention {
    /// How a score is made.
    #[serde(default)]
    pub(super) score: Score,
    /// What the output layer reads.
    pub(super) output: Output,
    /// What enters the decoder's first layer beside the token.
    #[serde(default)]
    pub(super) feeding: Feeding,
    /// Where in the first layer's input it stands.
    #[serde(default)]
    pub(super) fed: Fed,
}

/// A score of attention.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Score {
    /// h . m.
    #[default]
    Dot,
    /// (h K) . m, K given as what maps h.
    General(Dense),
    /// h . (m K), K given as what maps m.
    GeneralOfMemory(Dense),
    /// v . tanh(h W + m U + b), the biases of W and U one; a bias of v changes nothing and is passed over.
    Additive(Additive),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Additive {
    /// W.
    pub(super) state: Dense,
    /// U.
    pub(super) memory: Dense,
    /// v.
    pub(super) energy: Dense,
}

/// What the output layer reads, with the context c.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Output {
    /// tanh of a linear layer over both.
    Tanh(Combine),
    /// A linear layer over both.
    Linear(Combine),
    /// Both as they are.
    Both(First),
    /// h alone.
    State,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Combine {
    pub(super) layer: Dense,
    /// What its input begins with.
    #[serde(default)]
    pub(super) first: First,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum First {
    #[default]
    Context,
    State,
}

/// What is fed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Feeding {
    #[default]
    None,
    /// What the output layer read before, zeros at first.
    Output,
    /// The context of the state before.
    Context,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fed {
    #[default]
    Behind,
    Before,
}

/// Linear layers between the encoder's last states and the decoder's first.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bridge {
    /// That of h.
    pub(super) h: Dense,
    /// That of an LSTM's c; without it c is what h is.
    #[serde(default)]
    pub(super) c: Option<Dense>,
    /// What that of c reads.
    #[serde(default)]
    pub(super) c_from: State,
    #[serde(default)]
    pub(super) activation: BridgeActivation,
    /// Whether the layers map the states of both directions one by one, as OpenNMT-py has it over one layer.
    #[serde(default)]
    pub(super) each_way: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BridgeActivation {
    #[default]
    None,
    Tanh,
    Relu,
}

/// A state of an LSTM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    H,
    #[default]
    C,
}

/// What the decoder's layers start from: a rule, or the encoder layer of each, null for zeros.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum StartsFrom {
    Rule(Start),
    Layers(Vec<Option<usize>>),
}

impl Default for StartsFrom {
    fn default() -> Self {
        Self::Rule(Start::Same)
    }
}

/// A rule for what the decoder's layers start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Start {
    /// Each from the encoder layer of its own number.
    #[default]
    Same,
    /// All from the encoder's last layer.
    Top,
    /// All from zeros.
    Zeros,
}

/// The texts of a side: what its rows stand for, and which of them are special.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Texts {
    #[serde(default)]
    pub(super) unit: Unit,
    #[serde(default)]
    pub(super) normalisation: Vec<Normalisation>,
    /// The symbols in the order of their rows.
    #[serde(default)]
    pub(super) symbols: Option<Vec<String>>,
    /// The file beside the mapping that has them: one a line, or JSON.
    #[serde(default)]
    pub(super) file: Option<String>,
    /// Where they stand in what `torch.save` wrote, as a dotted path.
    #[serde(default)]
    pub(super) saved_as: Option<String>,
    #[serde(default)]
    pub(super) pad: Option<String>,
    #[serde(default)]
    pub(super) unknown: Option<String>,
    /// What the decoder reads first (target only).
    #[serde(default)]
    pub(super) start: Option<String>,
    /// What ends an output; what stands behind each source.
    #[serde(default)]
    pub(super) end: Option<String>,
    /// How short sources are filled up, which the encoder reads (source only).
    #[serde(default)]
    pub(super) padding: Option<Padding>,
}

impl Mapping {
    /// Reads a mapping that comes with the program, by its name, or a file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for keys and values that it does not know, with file, line and key;
    /// [`ErrorKind::Usage`] for what is neither a name nor a file.
    pub(super) fn open(name: &str) -> Result<Self> {
        let shipped = SHIPPED.iter().find(|(known, _)| *known == name);
        if let Some((_, text)) = shipped {
            return Self::read(text, Path::new(name));
        }
        let path = Path::new(name);
        if !path.exists() {
            let known = SHIPPED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let message = format!("`{name}` is neither a file nor a mapping that comes with the program");
            return Err(Error::new(ErrorKind::Usage, message)
                .help(format!("name a file, or one of {known}; --show-mapping prints those")));
        }
        Self::read_file(path)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) fn read_file(path: &Path) -> Result<Self> {
        Self::read(&files::read_text(path, FILE)?, path)
    }

    pub(super) fn read(text: &str, path: &Path) -> Result<Self> {
        let mut mapping: Self = yaml::from_str(text, path, ErrorKind::Config)?;
        path.clone_into(&mut mapping.path);
        Ok(mapping)
    }

    /// Whether a tensor is said to be no part of the model.
    pub(super) fn ignores(&self, name: &str) -> bool {
        self.ignore.iter().any(|pattern| matches(pattern, name))
    }
}

impl Decoder {
    /// For each of `depth` layers the one of the encoder's `layers` that it starts from; `None` for zeros.
    pub(super) fn starts(&self, layers: usize, depth: usize) -> Vec<Option<usize>> {
        match &self.starts_from {
            StartsFrom::Rule(Start::Same) => (0..depth).map(Some).collect(),
            StartsFrom::Rule(Start::Top) => vec![Some(layers.saturating_sub(1)); depth],
            StartsFrom::Rule(Start::Zeros) => vec![None; depth],
            StartsFrom::Layers(starts) => starts.clone(),
        }
    }
}

impl Cells {
    /// The names of the tensors of layer `l` in a direction: weights of input and state, then their biases.
    pub(super) fn names(&self, l: usize, is_reverse: bool) -> [Option<String>; 4] {
        let suffix = if is_reverse { "_reverse" } else { "" };
        match self {
            Self::Name(name) | Self::Module { module: name, .. } => {
                ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
                    .map(|part| Some(format!("{name}.{part}_l{l}{suffix}")))
            }
            Self::Tensors { weight_ih, weight_hh, bias_ih, bias_hh, .. } => {
                [Some(weight_ih), Some(weight_hh), bias_ih.as_ref(), bias_hh.as_ref()].map(|name| {
                    name.filter(|name| l == 0 || name.contains(LAYER))
                        .map(|name| format!("{}{suffix}", name.replace(LAYER, &l.to_string())))
                })
            }
        }
    }
}

impl Cells {
    /// Whether tensors of the usual names may be missing.
    pub(super) fn is_module(&self) -> bool {
        matches!(self, Self::Name(_) | Self::Module { .. })
    }

    /// Where a GRU resets its state, and the activation of the gates.
    pub(super) fn kind(&self) -> (Reset, GateActivation) {
        match self {
            Self::Name(_) => (Reset::default(), GateActivation::default()),
            Self::Module { reset, gate_activation, .. } | Self::Tensors { reset, gate_activation, .. } => {
                (*reset, *gate_activation)
            }
        }
    }
}

/// What the number of a layer stands for in the names of its tensors.
const LAYER: &str = "{layer}";

impl Dense {
    /// The names of weight and bias, and whether the weight is (inputs, outputs).
    pub(super) fn names(&self) -> (String, Option<String>, bool) {
        match self {
            Self::Name(name) => (format!("{name}.weight"), Some(format!("{name}.bias")), false),
            Self::Tensors { weight, bias, transposed } => (weight.clone(), bias.clone(), *transposed),
        }
    }

    /// That of layer `l`, where the names say which one is meant.
    pub(super) fn of_layer(&self, l: usize) -> Self {
        let named = |name: &String| name.replace(LAYER, &l.to_string());
        match self {
            Self::Name(name) => Self::Name(named(name)),
            Self::Tensors { weight, bias, transposed } => Self::Tensors {
                weight: named(weight),
                bias: bias.as_ref().map(named),
                transposed: *transposed,
            },
        }
    }
}

/// Whether a name fits a pattern, in which `*` stands for any letters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    let mut is_open = false;
    while let Some(part) = parts.next() {
        is_open = true;
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    is_open || rest.is_empty()
}

#[cfg(test)]
mod tests;

//! A network as a module of PyTorch: code to read and to train, the weights in PyTorch's layouts, and the
//! mapping by which they come home.
//!
//! | file | what it holds |
//! |---|---|
//! | `model.py`, `layers.py`, `texts.py` | the network, its layers and its texts; the same for every model |
//! | `train.py` | training on one or several devices and machines |
//! | `config.json`, `source.json`, `target.json` | which network it is, and its symbols |
//! | `model.safetensors` | the weights, as `Seq2Seq.state_dict()` names them |
//! | `mapping.yaml` | which of them is what, for `s2s import pytorch` |

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use s2s_runtime::decoding::{DecodingOptions, Settings};
use s2s_runtime::files;
use s2s_runtime::vocabulary::VocabularySpec;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use super::folder::write_synced;
use super::input::ExportInput;
use super::staging::Staging;
use crate::error::{Error, ErrorKind, Result};
use crate::network::{
    Architecture, AttentionOutput, AttentionScore, Bridge, BridgeSource, Cell, Feeding, GateActivation,
    InputForm,
};

mod tensors;

/// Files that are the same for every model.
const CODE: [(&str, &str); 5] = [
    ("model.py", include_str!("pytorch/model.py")),
    ("layers.py", include_str!("pytorch/layers.py")),
    ("texts.py", include_str!("pytorch/texts.py")),
    ("train.py", include_str!("pytorch/train.py")),
    ("README.md", include_str!("pytorch/README.md")),
];
const CONFIG: &str = "config.json";
const MAPPING: &str = "mapping.yaml";
const WEIGHTS: &str = "model.safetensors";

/// Writes the folder `target`: beside its place, then renamed. One of the same model is replaced where
/// nothing else lies in it.
///
/// - `force`: replace any folder of the kind, with all that lies in it.
///
/// # Errors
/// [`ErrorKind::Usage`] if `target` is there and may not be replaced, or the network is none of recurrent
/// layers; [`ErrorKind::Io`].
pub fn write_pytorch(target: &Path, input: &ExportInput<'_>, force: bool) -> Result<()> {
    let target: std::path::PathBuf = target.components().collect();
    let files = pytorch_files(input)?;
    check_replaceable(&target, &files, input.name, force)?;
    let staging = Staging::beside(&target)?;
    for (name, bytes) in &files {
        write_synced(&staging.path().join(name), bytes)?;
    }
    staging.commit()
}

/// The files of the folder, by name.
///
/// # Errors
/// [`ErrorKind::Usage`] for a network that is none of recurrent layers.
pub fn pytorch_files(input: &ExportInput<'_>) -> Result<BTreeMap<String, Vec<u8>>> {
    let architecture = input.network.architecture_json()?;
    let a: Architecture = serde_json::from_value(architecture).map_err(|e| {
        Error::new(ErrorKind::Usage, "only networks of recurrent layers have a form for PyTorch").caused_by(e)
    })?;
    let (source, target) = (input.source.spec(), input.target.spec());
    let limit = most_new_tokens(&input.decoding, target);
    let config = json!({
        "name": input.name,
        "cell": a.cell,
        "gate_activation": a.gate_activation,
        "source_embedding": width(a.source_input),
        "target_embedding": width(a.target_input),
        "encoder_hidden": a.encoder_width(),
        "hidden": a.hidden,
        "layers": a.layers,
        "decoder_layers": a.decoder_depth(),
        "bidirectional": a.bidirectional,
        "hand_over": a.starts(),
        "bridge": a.bridge,
        "bridge_source": a.bridge_source,
        "attention": a.attention,
        "attention_width": a.score_width(),
        "attention_bias": a.attention_bias,
        "attention_output": a.attention_output,
        "feeding": a.feeding,
        "tied_embeddings": a.tied_embeddings,
        "max_new_tokens": limit,
        "source": texts(source)?,
        "target": texts(target)?,
    });
    let mapping = serde_yaml::to_string(&mapping(input.name, &a, [source, target], limit)?)
        .map_err(|e| Error::new(ErrorKind::Internal, "the mapping cannot be written as YAML").caused_by(e))?;
    let tensors = tensors::of(&a, &input.network.export_tensors(input.parameters))?;
    let mut files: BTreeMap<String, Vec<u8>> =
        CODE.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
    files.insert(CONFIG.to_owned(), pretty(&config)?);
    files.insert("source.json".to_owned(), pretty(&json!(source.symbols))?);
    files.insert("target.json".to_owned(), pretty(&json!(target.symbols))?);
    files.insert(MAPPING.to_owned(), format!("# Read by s2s import pytorch.\n{mapping}").into_bytes());
    files.insert(WEIGHTS.to_owned(), safetensors_of(&tensors)?);
    Ok(files)
}

fn check_replaceable(
    target: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    name: &str,
    force: bool,
) -> Result<()> {
    let Ok(entries) = fs::read_dir(target) else {
        return if target.exists() {
            Err(Error::new(ErrorKind::Usage, "there is a file of this name").in_file(target))
        } else {
            Ok(())
        };
    };
    let there: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let is_of_kind = [CONFIG, MAPPING, "model.py"].iter().all(|file| there.iter().any(|name| name == file));
    let is_same = || {
        let config = files::read_text(target.join(CONFIG), files::MANIFEST).ok();
        let config: Option<Value> = config.and_then(|text| serde_json::from_str(&text).ok());
        let is_named = config.is_some_and(|config| config["name"] == name);
        is_named && there.iter().all(|file| files.contains_key(file) || file == "__pycache__")
    };
    if there.is_empty() || (is_of_kind && (force || is_same())) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, format!("the folder is there and holds more than the module of {name}"))
        .in_file(target)
        .help(
            "name a new folder; --force replaces a module of another model, or one with files of yours in it",
        ))
}

/// Tokens after which decoding stops, as a bundle of the same run has it.
fn most_new_tokens(decoding: &DecodingOptions, target: &VocabularySpec) -> usize {
    let learnt = (target.longest > 0).then(|| (target.longest + 1).min(DecodingOptions::MOST_TOKENS));
    decoding.max_new_tokens.or(learnt).unwrap_or_else(|| Settings::default().max_new_tokens)
}

fn width(form: InputForm) -> Option<usize> {
    match form {
        InputForm::OneHot => None,
        InputForm::Embedding(width) => Some(width),
    }
}

/// How texts of a side become symbols.
fn texts(spec: &VocabularySpec) -> Result<Value> {
    if let Some(tokeniser) = &spec.tokeniser {
        let message = format!("a tokeniser of the kind {} has no form for PyTorch", tokeniser.kind.as_str());
        return Err(Error::new(ErrorKind::Usage, message));
    }
    let mut texts = json!({ "unit": spec.unit, "normalisation": spec.normalisation });
    if let Some(padding) = spec.padding.as_ref().or(spec.graph_padding.as_ref()) {
        let (symbol, side) = (&padding.symbol, padding.side);
        texts["padding"] =
            json!({ "symbol": symbol, "length": padding.length, "least": padding.least, "side": side });
    }
    Ok(texts)
}

/// What `s2s import pytorch` reads.
fn mapping(name: &str, a: &Architecture, specs: [&VocabularySpec; 2], limit: usize) -> Result<Value> {
    let table = |side: &str, form: InputForm| match form {
        InputForm::OneHot => json!({ "form": "one_hot" }),
        InputForm::Embedding(_) => json!(format!("{side}_embedding.weight")),
    };
    let recurrent = |side: &str| {
        let mut keys = json!({ "module": side });
        if a.cell == Cell::GruResetBefore {
            keys["reset"] = json!("before");
        }
        if a.gate_activation != GateActivation::Sigmoid {
            keys["gate_activation"] = json!(a.gate_activation);
        }
        if keys.as_object().is_some_and(|keys| keys.len() > 1) { keys } else { json!(side) }
    };
    let mut decoder = json!({
        "embedding": table("target", a.target_input),
        "recurrent": recurrent("decoder"),
        "output": if a.tied_embeddings {
            json!({ "weight": "target_embedding.weight", "bias": "output.bias" })
        } else {
            json!("output")
        },
    });
    if a.hand_over.is_some() {
        decoder["starts_from"] = json!(a.starts());
    }
    if a.bridge != Bridge::None {
        let activation = if a.bridge == Bridge::Linear { json!("none") } else { json!(a.bridge) };
        decoder["bridge"] = json!({ "h": "bridge.h_{layer}", "activation": activation });
        if a.cell == Cell::Lstm {
            decoder["bridge"]["c"] = json!("bridge.c_{layer}");
            if a.bridge_source == BridgeSource::Hidden {
                decoder["bridge"]["c_from"] = json!("h");
            }
        }
    }
    let score = match a.attention {
        AttentionScore::None => None,
        AttentionScore::Dot => Some(json!("dot")),
        AttentionScore::General => Some(json!({ "general": "attention_query" })),
        AttentionScore::Additive => Some(json!({ "additive": {
            "state": "attention_query", "memory": "attention_keys", "energy": "attention_score",
        } })),
    };
    if let Some(score) = score {
        let output = match a.attention_output {
            AttentionOutput::Combined => json!({ "tanh": { "layer": "combine" } }),
            AttentionOutput::CombinedLinear => json!({ "linear": { "layer": "combine" } }),
            AttentionOutput::Concatenated => json!({ "both": "context" }),
            AttentionOutput::State => json!("state"),
        };
        let feeding = if a.feeding == Feeding::None { json!("none") } else { json!(a.feeding) };
        decoder["attention"] = json!({ "score": score, "output": output, "feeding": feeding });
    }
    let (mut source, mut target) = (texts(specs[0])?, texts(specs[1])?);
    (source["file"], target["file"]) = (json!("source.json"), json!("target.json"));
    (source["pad"], source["unknown"]) = (json!("<pad>"), json!("<unk>"));
    for (key, symbol) in [("pad", "<pad>"), ("unknown", "<unk>"), ("start", "<start>"), ("end", "<end>")] {
        target[key] = json!(symbol);
    }
    Ok(json!({
        "name": name,
        "encoder": { "embedding": table("source", a.source_input), "recurrent": recurrent("encoder") },
        "decoder": decoder,
        "source": source,
        "target": target,
        "max_new_tokens": limit,
    }))
}

fn pretty(value: &Value) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::new(ErrorKind::Internal, "the config cannot be written").caused_by(e))?;
    text.push(b'\n');
    Ok(text)
}

fn safetensors_of(tensors: &[tensors::Tensor]) -> Result<Vec<u8>> {
    let unwritable = |e: safetensors::SafeTensorError| {
        Error::new(ErrorKind::Internal, "the tensors cannot be written").caused_by(e)
    };
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|t| t.values.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        Ok((tensor.name.clone(), TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?))
    });
    let views = views.collect::<std::result::Result<Vec<_>, _>>().map_err(unwritable)?;
    safetensors::serialize(views, None).map_err(unwritable)
}

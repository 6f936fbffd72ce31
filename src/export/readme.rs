//! The text for the reader of the folder.

use std::collections::BTreeMap;
use std::fmt::Write;

use s2s_runtime::contract::{
    DECODER_OUTPUT, FORMAT_VERSION, GENERATED_IDS, LOSS, MAX_NEW_TOKENS, SPECIAL_SYMBOLS, file,
};
use s2s_runtime::graph_info::{Dimension, INT64, TensorInfo};
use s2s_runtime::manifest::{Io, Manifest, Role};
use s2s_runtime::vocabulary::{PaddingSide, Unit, VocabularySpec};

use super::front_matter::front_matter;
use crate::onnx::messages::GraphProto;

/// The graphs of a bundle, without their nodes and weights.
pub(super) type Outsides = BTreeMap<Role, GraphProto>;

/// README.md of a bundle: what the files are, the tensors of this one, how to run it without s2s, whose data
/// it was.
///
/// - `tag`: what the network is called among the tags of model hubs.
pub(super) fn text(manifest: &Manifest, graphs: &Outsides, tag: &str, opset: i64) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, manifest, graphs, tag, opset);
    out
}

fn write(
    out: &mut String,
    manifest: &Manifest,
    graphs: &Outsides,
    tag: &str,
    opset: i64,
) -> std::fmt::Result {
    let tags = ["onnx", "seq2seq", tag];
    out.push_str(&front_matter(
        &manifest.name,
        manifest.languages.as_ref(),
        manifest.provenance.as_ref(),
        &tags,
        "translation",
    ));
    writeln!(out, "# {}\n", one_line(&manifest.name))?;
    writeln!(
        out,
        "A sequence-to-sequence model as ONNX graphs (opset {opset}), exported by {}. It reads {} and \
         writes {}.\n",
        manifest.producer,
        describe(&manifest.source),
        describe(&manifest.target)
    )?;
    writeln!(out, "| file | what it is |\n|---|---|")?;
    writeln!(out, "| `{}` | source text to the states that decoding starts from |", file::ENCODER)?;
    writeln!(
        out,
        "| `{}` | one decoding step: a token and the states to the scores of the next token and the next \
         states |",
        file::DECODER
    )?;
    writeln!(out, "| `{}` | the whole model under teacher forcing, with its loss |", file::TRAINING)?;
    if manifest.graphs.contains_key(&Role::EncoderStep) {
        writeln!(
            out,
            "| `{}` | the encoder one token a call, for runtimes without LSTM and GRU; \
             `wiring.encoder_step` in `{}` says how it is run |",
            file::ENCODER_STEP,
            file::MANIFEST
        )?;
    }
    if manifest.graphs.contains_key(&Role::Translate) {
        writeln!(
            out,
            "| `{}` | encoder and greedy decoding in one, for runtimes that have Loop (onnxruntime, \
             OpenVINO, rten, MNN, OpenCV; not tract or IREE) |",
            file::TRANSLATE
        )?;
    }
    writeln!(
        out,
        "| `{}` | manifest: hashes of the graphs, wiring, vocabularies, decoding defaults, origin |",
        file::MANIFEST
    )?;
    writeln!(out, "| `{}` | vectors that are checked whenever s2s opens the bundle |", file::SELF_TEST)?;
    writeln!(out, "| `{}` | what `s2s verify` measured, for each engine |", file::CONFORMANCE)?;
    writeln!(
        out,
        "\nAll graphs carry the same weights; each names role, vocabularies and the weights' hash in its \
         `metadata_props`."
    )?;
    writeln!(out, "Format version {FORMAT_VERSION}.\n\n## Use it\n")?;
    writeln!(out, "From this folder, with `s2s`:\n")?;
    writeln!(
        out,
        "```sh\ns2s translate . {}   # further texts as arguments, or lines on stdin",
        shell(&sample(manifest))
    )?;
    writeln!(out, "s2s verify . --no-write   # every graph in every engine that is here\n```\n")?;
    writeln!(out, "`s2s serve-local .` answers over HTTP and has a page to try it. Without s2s, in Python")?;
    writeln!(out, "(`pip install onnxruntime numpy pyyaml`), from this folder too:\n")?;
    writeln!(out, "```python\n{}```\n", python(manifest))?;

    writeln!(out, "## Tensors\n")?;
    writeln!(out, "| graph | input or output | name | type | axes |\n|---|---|---|---|---|")?;
    for (role, graph) in graphs {
        for (way, tensors) in [("in", &graph.input), ("out", &graph.output)] {
            for tensor in tensors.iter().map(TensorInfo::of) {
                writeln!(
                    out,
                    "| {role} | {way} | `{}` | {} | {} |",
                    tensor.name,
                    type_of(&tensor),
                    axes(&tensor)
                )?;
            }
        }
    }
    let fused = manifest.graphs.contains_key(&Role::Translate);
    let scores = match manifest.io {
        Io::Ids => "logits; their softmax gives probabilities",
        Io::OneHot => "probabilities",
    };
    writeln!(
        out,
        "\n`{DECODER_OUTPUT}` holds {scores}. `{LOSS}` is the mean cross-entropy a target token in nats, \
         padding left out."
    )?;
    if fused {
        writeln!(
            out,
            "`{}` decodes greedily until end or `{MAX_NEW_TOKENS}` tokens, end counted; nothing else of \
             the decoding options is in it.\n\
             `{GENERATED_IDS}` has neither start nor end and is padded on the right with 0.",
            file::TRANSLATE
        )?;
    }
    writeln!(
        out,
        "Ids: 0 padding, 1 start, 2 end, 3 unknown; then the symbols of the manifest. Sources are padded \
         on the LEFT with 0, and"
    )?;
    writeln!(
        out,
        "the result of a text does not depend on that padding; targets are padded on the right. One-hot \
         rows of padding are zero.\n"
    )?;
    if let Some(padding) = &manifest.source.graph_padding {
        let side = match padding.side {
            PaddingSide::Left => "before",
            PaddingSide::Right => "behind",
        };
        if padding.least > 0 {
            let (times, symbol) = (padding.least, &padding.symbol);
            writeln!(
                out,
                "The model learnt with sources {side} which the symbol `{symbol:?}` stands, at least {times} \
                 of it; shorter ones\nare filled up to {} symbols. The graphs put it there by themselves \
                 (`source.graph_padding` in `{}`): there is nothing\nto do about it.\n",
                padding.length,
                file::MANIFEST
            )?;
            return origin(out, manifest);
        }
        writeln!(
            out,
            "The model learnt with padding that it reads. The graphs make it themselves: a source of \
             fewer than {} symbols is read\nas if so many stood there, filled up {side} the text with \
             the symbol `{:?}` (`source.graph_padding` in `{}`). There is\nnothing to do about it, and \
             what a text becomes does not depend on what it is batched with.\n",
            padding.length,
            padding.symbol,
            file::MANIFEST
        )?;
    }
    origin(out, manifest)
}

fn type_of(tensor: &TensorInfo) -> &'static str {
    if tensor.element_type == INT64 { "int64" } else { "float32" }
}

/// The axes of a tensor in parentheses, `()` for a scalar.
fn axes(tensor: &TensorInfo) -> String {
    let axis = |axis: &Dimension| match axis {
        Dimension::Fixed(size) => size.to_string(),
        Dimension::Symbol(name) => name.clone(),
        Dimension::Unknown => "?".to_owned(),
    };
    let axes: Vec<String> = tensor.shape.iter().flatten().map(axis).collect();
    format!("({})", axes.join(", "))
}

fn origin(out: &mut String, manifest: &Manifest) -> std::fmt::Result {
    writeln!(out, "## Origin\n")?;
    let Some(provenance) = &manifest.provenance else {
        return writeln!(out, "The export names no training data.");
    };
    for data in &provenance.data {
        // A model that was imported is named too, and has no pairs.
        let pairs = if data.pairs > 0 { format!(": {} pairs", data.pairs) } else { String::new() };
        writeln!(out, "- `{}`{pairs}, sha256 `{}`", one_line(&data.file), data.sha256)?;
    }
    writeln!(
        out,
        "- Licence of the data: {}",
        one_line(provenance.licence.as_deref().unwrap_or("not stated"))
    )?;
    if let Some(attribution) = &provenance.attribution {
        writeln!(out, "- Attribution: {}", one_line(attribution))?;
    }
    if let Some(serde_json::Value::Object(scores)) = &provenance.scores {
        let scores: Vec<String> = scores.iter().map(|(name, value)| format!("{name} {value}")).collect();
        writeln!(out, "- Scores of these weights: {}", scores.join(", "))?;
    }
    writeln!(out, "- Training configuration: under `provenance` in `{}`", file::MANIFEST)
}

fn describe(vocabulary: &VocabularySpec) -> String {
    let unit = match vocabulary.unit {
        Unit::Character => "characters",
        Unit::Token => "tokens between spaces",
    };
    format!("{unit} ({} symbols, at most {} a text in training)", vocabulary.size(), vocabulary.longest)
}

/// A loop that works as it is pasted.
fn python(manifest: &Manifest) -> String {
    let (split, join) = units(manifest);
    let row = format!("[ids.get(s, 3) for s in {split}]");
    let (rows, source, token) = match manifest.io {
        Io::Ids => ("", format!("np.array([{row}], dtype=np.int64)"), "np.array([[token]], dtype=np.int64)"),
        Io::OneHot => (
            "rows, steps = (np.eye(len(m[side][\"symbols\"]), dtype=np.float32) for side in (\"source\", \
             \"target\"))\n",
            format!("rows[{row}][None]"),
            "steps[[[token]]]",
        ),
    };
    format!(
        r#"import re, unicodedata, numpy as np, onnxruntime as ort, yaml

m = yaml.safe_load(open("{MANIFEST}", encoding="utf-8"))
encoder, decoder = (ort.InferenceSession(m["graphs"][r]["file"]) for r in ("encoder", "decoder"))
ids, states = {{s: i for i, s in enumerate(m["source"]["symbols"])}}, m["wiring"]["states"]
wires = states + m["wiring"].get("memory", [])  # states change at each step, memory (with attention) stays
{rows}
def translate(text, longest={longest}):
{normalise}    source = {source}
    found = dict(zip([o.name for o in encoder.get_outputs()], encoder.run(None, {{"{encoder_input}": source}})))
    first = lambda w: np.zeros((1, *w["zeros"]), np.float32) if "zeros" in w else found[w["encoder_output"]]
    feed = {{w["decoder_input"]: first(w) for w in wires}}
    token, out = 1, []
    while len(out) < longest:
        feed["{decoder_input}"] = {token}
        scores, *new = decoder.run(["{decoder_output}"] + [s["decoder_output"] for s in states], feed)
        token = int(scores[0, 0, 2:].argmax()) + 2  # padding and start are never written
        if token == 2: break
        out.append(m["target"]["symbols"][token])
        feed.update(zip([s["decoder_input"] for s in states], new))
    return {join}

print(translate({sample}))
"#,
        MANIFEST = file::MANIFEST,
        longest = longest(manifest),
        normalise = normalise(manifest),
        encoder_input = manifest.wiring.encoder_input,
        decoder_input = manifest.wiring.decoder_input,
        decoder_output = manifest.wiring.decoder_output,
        // A string of JSON is one of Python.
        sample = serde_json::Value::from(sample(manifest)),
    )
}

/// A text to try: an example of the bundle that is no flag, or some symbols that the model knows, the
/// plainest of them.
fn sample(manifest: &Manifest) -> String {
    if let Some(example) =
        manifest.examples.iter().find(|text| !text.starts_with('-') && !text.chars().any(char::is_control))
    {
        return example.clone();
    }
    const SYMBOLS: usize = 6;
    let known = || manifest.source.symbols.iter().skip(SPECIAL_SYMBOLS.len()).map(String::as_str);
    let is = |symbol: &&str, kind: fn(char) -> bool| symbol.chars().all(kind) && !symbol.is_empty();
    let kinds: [fn(char) -> bool; 2] = [char::is_alphabetic, char::is_alphanumeric];
    let mut found = kinds
        .into_iter()
        .map(|kind| known().filter(|symbol| is(symbol, kind)).take(SYMBOLS).collect::<Vec<_>>());
    let symbols = found.find(|symbols| !symbols.is_empty()).unwrap_or_else(|| vec!["a"]);
    symbols.join(if manifest.source.unit == Unit::Token { " " } else { "" })
}

/// A text as one argument of a shell.
fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A name in a heading: no line of its own, no mark-up.
fn one_line(text: &str) -> String {
    let visible: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn units(manifest: &Manifest) -> (&'static str, &'static str) {
    let split = match manifest.source.unit {
        Unit::Character => "text",
        Unit::Token => "text.split()",
    };
    let join = match manifest.target.unit {
        Unit::Character => "\"\".join(out)",
        Unit::Token => "\" \".join(out)",
    };
    (split, join)
}

/// The longest training target and END; some limit if that is unknown.
fn longest(manifest: &Manifest) -> usize {
    match manifest.target.longest {
        0 => 256,
        longest => longest + 1,
    }
}

/// Python lines, indented, that normalise as the source vocabulary does.
fn normalise(manifest: &Manifest) -> String {
    use s2s_runtime::vocabulary::Normalisation as N;
    let step = |step: &N| match step {
        N::Nfc => "text = unicodedata.normalize(\"NFC\", text)",
        N::Nfd => "text = unicodedata.normalize(\"NFD\", text)",
        N::Nfkc => "text = unicodedata.normalize(\"NFKC\", text)",
        N::Nfkd => "text = unicodedata.normalize(\"NFKD\", text)",
        N::Lowercase => "text = text.lower()",
        N::Trim => "text = text.strip()",
        N::CollapseWhitespace => "text = re.sub(r\"\\s+\", \" \", text)",
    };
    manifest.source.normalisation.iter().map(|n| format!("    {}\n", step(n))).collect()
}

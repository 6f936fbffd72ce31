//! The files of a bundle, in memory.

use std::collections::BTreeMap;

use prost::Message;
use s2s_runtime::bundle::sha256;
use s2s_runtime::contract::{
    FORMAT_VERSION, MANIFEST_VERSION, file,
    metadata::{
        DATA_ATTRIBUTION, DATA_LICENCE, FORMAT_VERSION as VERSION_KEY, ROLE, SOURCE_VOCABULARY, SPECIAL_IDS,
        TARGET_VOCABULARY, WEIGHTS_SHA256,
    },
};
use s2s_runtime::manifest::{GraphFile, Languages, Manifest, Provenance, Role, SpecialIds, Wiring};
use s2s_runtime::vocabulary::Vocabulary;
use sha2::{Digest, Sha256};

use super::compression::{Compressor, Dtype};
use super::input::{EncoderForm, ExportInput, ExportOptions, check_opset};
use super::{readme, self_test};
use crate::error::{Error, ErrorKind, Result};
use crate::network::Parameters;
use crate::network::sequence::{Need, SequenceNetwork};
use crate::onnx::messages::{GraphProto, ModelProto};
use crate::onnx::{GraphBuilder, ir_version};

/// All files of the bundle, by name: graphs, manifest, and unless `graphs_only` is set also self test and
/// README.
///
/// # Errors
/// [`ErrorKind::Usage`] for an operator set that cannot be written; [`ErrorKind::Internal`] if vocabularies
/// and network do not fit; [`ErrorKind::Data`] if a weight is not finite.
pub fn bundle_files(input: &ExportInput<'_>, options: &ExportOptions) -> Result<BTreeMap<String, Vec<u8>>> {
    check(input, options)?;
    let mut compressor = Compressor::new(options.dtype);
    let rounded = rounded(input, options, &mut compressor)?;
    let source = graph_padded(input.source)?;
    let network = input.network.reading(&source);
    let parameters = rounded.as_ref().unwrap_or(input.parameters);
    let input = &ExportInput { network: &*network, parameters, source: &source, ..input.clone() };
    let weights = weights_sha256(input.parameters);
    let mut files = BTreeMap::new();
    let (mut graphs, mut outsides) = (BTreeMap::new(), readme::Outsides::new());
    for role in roles(options) {
        let mut model =
            graph(input.network, input.parameters, role, options, &metadata(input, role, &weights)?);
        if let Some(graph) = &mut model.graph {
            if is_compressed(role) {
                compressor.compress(graph);
            }
            let (input, output) = (graph.input.clone(), graph.output.clone());
            outsides.insert(role, GraphProto { input, output, ..GraphProto::default() });
        }
        let bytes = model.encode_to_vec();
        graphs.insert(role, GraphFile { file: role.file().to_owned(), sha256: sha256(&bytes) });
        files.insert(role.file().to_owned(), bytes);
    }
    let mut manifest = manifest(input, options, graphs, weights)?;
    if !options.graphs_only {
        let test = match options.dtype {
            Dtype::F32 => self_test::vectors(input, options)?,
            // The trainer knows nothing of tables that were rounded after they were computed.
            _ => self_test::recorded(input, &files, &manifest)?,
        };
        files.insert(file::SELF_TEST.to_owned(), test);
        manifest.examples.clone_from(&options.examples);
        let readme = readme::text(&manifest, &outsides, input.network.tag(), options.opset);
        files.insert(file::README.to_owned(), readme.into_bytes());
        MANIFEST_VERSION.clone_into(&mut manifest.format_version);
        manifest.files =
            [file::SELF_TEST, file::README].map(|name| (name.to_owned(), sha256(&files[name]))).into();
    }
    files.insert(file::MANIFEST.to_owned(), manifest.to_yaml()?.into_bytes());
    Ok(files)
}

/// The source vocabulary of the bundle: what a run fills up before the network, the graphs fill up by
/// themselves.
fn graph_padded(source: &Vocabulary) -> Result<Vocabulary> {
    let mut spec = source.spec().clone();
    spec.graph_padding = spec.padding.take().or(spec.graph_padding);
    Vocabulary::from_spec(&spec)
}

/// The weights as graphs of this type compute with them; `None` if those are the ones there are.
fn rounded(
    input: &ExportInput<'_>,
    options: &ExportOptions,
    compressor: &mut Compressor,
) -> Result<Option<Parameters<f32>>> {
    if options.dtype == Dtype::F32 {
        return Ok(None);
    }
    for role in roles(options).into_iter().filter(|&role| is_compressed(role)) {
        if let Some(graph) = &mut graph(input.network, input.parameters, role, options, &[]).graph {
            compressor.compress(graph);
        }
    }
    let weights = input.network.export_tensors(input.parameters);
    // Tables that are computed from weights will be computed from the rounded ones.
    compressor.keep(&weights.iter().map(|(name, ..)| name.clone()).collect());
    let mut find = |name: &str| {
        let (_, shape, values) = weights.iter().find(|(known, ..)| known == name)?;
        Some((shape.clone(), compressor.restored(name).unwrap_or(values).to_vec()))
    };
    input.network.import_tensors(&mut find).map(Some)
}

/// The graphs that are written.
fn roles(options: &ExportOptions) -> Vec<Role> {
    let is_written = |role: &Role| match role {
        Role::Encoder | Role::Decoder => true,
        Role::Training => !options.graphs_only,
        Role::Translate => options.fused && !options.graphs_only,
        Role::EncoderStep => options.encoder_form == EncoderForm::Step && !options.graphs_only,
    };
    Role::WITH_OPTIONAL.into_iter().filter(is_written).collect()
}

/// Whether a graph has its weights as the options say: the training graph always has them in f32.
fn is_compressed(role: Role) -> bool {
    role != Role::Training
}

/// One graph of the network, finished.
pub(super) fn graph(
    network: &dyn SequenceNetwork,
    parameters: &Parameters<f32>,
    role: Role,
    options: &ExportOptions,
    metadata: &[(String, String)],
) -> ModelProto {
    let mut builder = GraphBuilder::new(role.as_str());
    network.emit(role, parameters, &mut builder, options.io);
    builder.finish(options.opset, ir_version(options.opset), metadata)
}

/// sha256 of all weights: of each tensor in order its name, its axes and its values, the texts ended by a
/// zero byte, numbers as 64-bit and values as 32-bit little endian.
pub fn weights_sha256(parameters: &Parameters<f32>) -> String {
    let mut hash = Sha256::new();
    for (entry, values) in parameters.iter() {
        hash.update(entry.name.as_bytes());
        hash.update([0]);
        hash.update((entry.shape.len() as u64).to_le_bytes());
        entry.shape.iter().for_each(|&axis| hash.update((axis as u64).to_le_bytes()));
        for values in values.chunks(1024) {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            hash.update(bytes);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(input: &ExportInput<'_>, options: &ExportOptions) -> Result<()> {
    check_opset(options.opset)?;
    let [source, target] = input.network.vocabularies();
    for (side, symbols, expected) in
        [("source", input.source.len(), source), ("target", input.target.len(), target)]
    {
        if symbols != expected {
            let message = format!("the {side} vocabulary has {symbols} symbols, the network {expected}");
            return Err(Error::new(ErrorKind::Internal, message));
        }
    }
    // Behind each source there may stand as much as stands behind every other.
    let padding = input.source.spec().padding.as_ref();
    let is_uneven = padding.is_some_and(|padding| padding.even() == 0);
    if is_uneven && input.network.needs().contains(&Need::Attention) {
        let message = "attention over sources that are filled up with a symbol cannot be exported";
        return Err(
            Error::new(ErrorKind::Usage, message).help("take `padding` out of the run's source vocabulary")
        );
    }
    if options.fused && !input.network.roles().contains(&Role::Translate) {
        let message = "this network has no graph that decodes by itself";
        return Err(Error::new(ErrorKind::Usage, message).help(Need::Loop.instead()));
    }
    if options.encoder_form == EncoderForm::Step
        && let Err(why) = input.network.encoder_step()
    {
        return Err(Error::new(ErrorKind::Usage, why).help("leave --encoder-form out"));
    }
    for (entry, values) in input.parameters.iter() {
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            let message = format!("value {at} of {} is {}: the training diverged", entry.name, values[at]);
            return Err(Error::new(ErrorKind::Data, message)
                .help("train again with a lower learning rate, or export another checkpoint"));
        }
    }
    Ok(())
}

fn metadata(input: &ExportInput<'_>, role: Role, weights: &str) -> Result<Vec<(String, String)>> {
    let special = serde_json::to_string(&SpecialIds::default()).map_err(|e| unwritable("special ids", e))?;
    let mut entries = vec![
        (VERSION_KEY, FORMAT_VERSION.to_owned()),
        (ROLE, role.as_str().to_owned()),
        (SOURCE_VOCABULARY, input.source.metadata_json()),
        (TARGET_VOCABULARY, input.target.metadata_json()),
        (SPECIAL_IDS, special),
        (WEIGHTS_SHA256, weights.to_owned()),
    ];
    if let Some(provenance) = &input.provenance {
        let texts = [(DATA_LICENCE, &provenance.licence), (DATA_ATTRIBUTION, &provenance.attribution)];
        entries.extend(texts.into_iter().filter_map(|(key, text)| Some((key, text.clone()?))));
    }
    Ok(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn manifest(
    input: &ExportInput<'_>,
    options: &ExportOptions,
    graphs: BTreeMap<Role, GraphFile>,
    weights_sha256: String,
) -> Result<Manifest> {
    let encoder_step =
        graphs.contains_key(&Role::EncoderStep).then(|| input.network.encoder_step().ok()).flatten();
    Ok(Manifest {
        format_version: FORMAT_VERSION.to_owned(),
        name: input.name.to_owned(),
        producer: format!("s2s {}", env!("CARGO_PKG_VERSION")),
        languages: languages(input.provenance.as_ref()),
        io: options.io,
        graphs,
        files: BTreeMap::new(),
        weights_sha256: Some(weights_sha256),
        wiring: Wiring { encoder_step, ..input.network.wiring(options.io) },
        special_ids: SpecialIds::default(),
        decoding: input.decoding.clone(),
        architecture: Some(input.network.architecture_json()?),
        provenance: input.provenance.clone(),
        examples: Vec::new(),
        source: input.source.spec().clone(),
        target: input.target.spec().clone(),
    })
}

/// What the training config says in `data.source.language` and `data.target.language`.
fn languages(provenance: Option<&Provenance>) -> Option<Languages> {
    let data = provenance?.config.as_ref()?.get("data")?;
    let code = |side: &str| Some(data.get(side)?.get("language")?.as_str()?.to_owned());
    let found = Languages { source: code("source"), target: code("target") };
    (found != Languages::default()).then_some(found)
}

fn unwritable(what: &str, cause: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("the {what} cannot be written")).caused_by(cause)
}

//! From a folder to a manifest and two graphs.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message as _;

use super::config::Config;
use super::external;
use super::graphs::{self, Parts};
use super::keys::FirstStep;
use super::layout::{CONFIG, Decoder, GENERATION_CONFIG, Layout, required};
use crate::bundle::files::Files;
use crate::contract::{MANIFEST_VERSION, SpecialIds};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{GRAPH, SIDE_FILE, sha256};
use crate::manifest::{GraphFile, Io, MOST_SYMBOLS, Manifest, Role};
use crate::onnx::ModelProto;
use crate::vocabulary::{TokeniserKind, TokeniserSpec, VocabularySpec};

/// What is made of a folder: a bundle in all but its place.
#[derive(Debug)]
pub(crate) struct Synthesis {
    pub(crate) manifest: Manifest,
    /// The graphs and the files of tokenisers, as the manifest names them.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// What the folder asks for and is not honoured.
    pub(crate) remarks: Vec<String>,
}

/// Makes a manifest and two graphs of the Optimum folder `path`.
///
/// # Errors
/// [`ErrorKind::Bundle`] naming the file, and the key, node or input in it, that is not as it should be; what
/// reading gives.
pub(crate) fn synthesise(path: &Path, files: &mut dyn Files) -> Result<Synthesis> {
    let names = files.names();
    let layout = Layout::of(path, &names)?;
    let (config_path, generation_path) = (files.path(CONFIG), files.path(GENERATION_CONFIG));
    let config = required(files, CONFIG, SIDE_FILE)?;
    let generation = files.read(GENERATION_CONFIG, SIDE_FILE)?;
    let generation = generation.as_deref().map(|bytes| (generation_path.as_path(), bytes));
    let config = Config::read((&config_path, &config), generation)?;

    let (decoder_file, Parts { keys, mut step }) = parts(files, &layout)?;
    let wires = graphs::step(&decoder_file, &mut step)?;
    let producer = produced_by(&step);
    let width = wires.width.or(config.sizes[1]).filter(|width| (1..=MOST_SYMBOLS).contains(width));
    let width = width.ok_or_else(|| {
        Error::new(
            ErrorKind::Bundle,
            "neither the decoder's scores nor vocab_size say how many ids there are",
        )
        .at_line(&config_path, None, Some("vocab_size"))
    })?;
    let mut made = BTreeMap::new();
    let decoder = written(&decoder_file, Role::Decoder, step, &mut made)?;
    let mut encoder = external::read(files, &layout.encoder)?.into_model();
    let wiring = graphs::encoder(&layout.encoder, &mut encoder, keys, wires)?;
    let encoder = written(&layout.encoder, Role::Encoder, encoder, &mut made)?;

    let special = SpecialIds { pad: config.pad, start: config.start, end: config.end, unk: config.end };
    let [source, target] = sides(&config, width);
    let mut remarks = config.remarks;
    for (key, id) in
        [("pad_token_id", config.pad), ("decoder_start_token_id", config.start), ("eos_token_id", config.end)]
    {
        if id as usize >= width {
            return Err(Error::new(
                ErrorKind::Bundle,
                format!("id {id}, and the decoder's scores are {width} wide"),
            )
            .at_line(&config_path, None, Some(key)));
        }
    }
    remarks.sort();
    // A zip is called as its folder was.
    let is_zip = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip"));
    let name = if is_zip { path.file_stem() } else { path.file_name() };
    let name = name.map_or_else(|| config.model_type.clone(), |name| name.to_string_lossy().into());
    let manifest = Manifest {
        format_version: MANIFEST_VERSION.to_owned(),
        name,
        producer,
        languages: None,
        io: Io::Ids,
        graphs: [(Role::Encoder, encoder), (Role::Decoder, decoder)].into(),
        files: BTreeMap::new(),
        weights_sha256: None,
        wiring,
        special_ids: special,
        decoding: config.decoding,
        architecture: None,
        provenance: None,
        examples: Vec::new(),
        source,
        target,
    };
    Ok(Synthesis { manifest, files: made, remarks })
}

fn sides(config: &Config, width: usize) -> [VocabularySpec; 2] {
    let spec = |size: usize| VocabularySpec {
        tokeniser: Some(TokeniserSpec { kind: TokeniserKind::Bytes, model: None, ids: None, config: None }),
        size: Some(size),
        ..VocabularySpec::default()
    };
    [spec(config.sizes[0].unwrap_or(width)), spec(width)]
}

/// The decoder taken apart, and the file that its steps come from.
fn parts(files: &mut dyn Files, layout: &Layout) -> Result<(String, Parts)> {
    match &layout.decoder {
        Decoder::Two { first, with_past } => {
            // The first step is gone from memory before the other graph is read.
            let model = external::read(files, first)?;
            let keys = FirstStep::of_model(first, &model).keys()?;
            drop(model);
            Ok((with_past.clone(), Parts { keys, step: external::read(files, with_past)?.into_model() }))
        }
        Decoder::Merged(file) => {
            let model = external::read(files, file)?;
            Ok((file.clone(), graphs::merged(file, model)?))
        }
        Decoder::Whole(file) => Err(Error::new(ErrorKind::Bundle, "a decoder without past")
            .in_graph(file, None)
            .help("export with `--task text2text-generation-with-past`")),
    }
}

/// Writes a graph among `files` under the name that bundles have for it.
fn written(
    file: &str,
    role: Role,
    model: ModelProto,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<GraphFile> {
    let bytes = model.encode_to_vec();
    drop(model);
    if bytes.len() as u64 > GRAPH.limit {
        return Err(Error::new(ErrorKind::Bundle, "longer than 2 GiB as one file").in_graph(file, None));
    }
    let sha256 = sha256(&bytes);
    files.insert(role.file().to_owned(), bytes);
    Ok(GraphFile { file: role.file().to_owned(), sha256 })
}

/// What wrote a graph, with its version.
fn produced_by(model: &ModelProto) -> String {
    let own = [model.producer_name.as_str(), model.producer_version.as_str()];
    let own: Vec<&str> = own.into_iter().filter(|text| !text.is_empty() && text.len() < 100).collect();
    if own.is_empty() { "Optimum".to_owned() } else { format!("Optimum, {}", own.join(" ")) }
}

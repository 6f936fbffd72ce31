//! From a folder to a manifest and two graphs.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message as _;
use prost::bytes::Bytes;

use super::config::Config;
use super::external;
use super::graphs::{self, Parts};
use super::keys::FirstStep;
use super::layout::{CONFIG, Decoder, GENERATION_CONFIG, Layout, required};
use crate::bundle::files::Files;
use crate::checked::{CheckedModel, SharedModel};
use crate::contract::{MANIFEST_VERSION, SpecialIds};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{GRAPH, SIDE_FILE, TOKENISER};
use crate::graph_info::GraphInfo;
use crate::manifest::{GraphFile, Io, MOST_SYMBOLS, Manifest, Role};
use crate::onnx::ModelProto;
use crate::vocabulary::{FOLDER_FILES, FolderTokenisers, NamedFiles, TokeniserSpec, of_folder};

/// What is made of a folder: a bundle in all but its place.
#[derive(Debug)]
pub(crate) struct Synthesis {
    /// Without hashes of the graphs, which are not written down yet.
    pub(crate) manifest: Manifest,
    /// The files of tokenisers, as the manifest names them.
    pub(crate) files: BTreeMap<String, Bytes>,
    pub(crate) graphs: BTreeMap<Role, SharedModel>,
    /// The outsides of the graphs.
    pub(crate) infos: BTreeMap<Role, GraphInfo>,
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

    let (decoder_file, Parts { keys, mut step, is_whole }) = parts(files, &layout)?;
    let wires = graphs::step(&decoder_file, &mut step, is_whole)?;
    let producer = produced_by(&step);
    let width = wires.width.or(config.sizes[1]).filter(|width| (1..=MOST_SYMBOLS).contains(width));
    let width = width.ok_or_else(|| {
        Error::new(
            ErrorKind::Bundle,
            "neither the decoder's scores nor vocab_size say how many ids there are",
        )
        .at_line(&config_path, None, Some("vocab_size"))
    })?;
    let mut made = Made::default();
    let decoder = made.keep(&decoder_file, Role::Decoder, step)?;
    let mut encoder = external::read(files, &layout.encoder)?.into_model();
    let wiring = graphs::encoder(&layout.encoder, &mut encoder, keys, wires)?;
    let encoder = made.keep(&layout.encoder, Role::Encoder, encoder)?;

    let tokenisers = tokenisers(path, files, &names, &config, [config.sizes[0].unwrap_or(width), width])?;
    let (FolderTokenisers { source, target, unk }, tokeniser_files) = tokenisers;
    let special = SpecialIds {
        pad: config.pad,
        start: config.start,
        end: config.end,
        // Asked for by those who have text without a piece; a model with a piece for everything has no such.
        unk: unk.unwrap_or(config.end),
    };
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
    Ok(Synthesis { manifest, files: tokeniser_files, graphs: made.graphs, infos: made.infos, remarks })
}

/// The tokenisers of a folder, and the files that they are read from.
fn tokenisers(
    path: &Path,
    files: &mut dyn Files,
    names: &[String],
    config: &Config,
    sizes: [usize; 2],
) -> Result<(FolderTokenisers, BTreeMap<String, Bytes>)> {
    let mut read = BTreeMap::new();
    for name in FOLDER_FILES.into_iter().filter(|known| names.iter().any(|name| name == known)) {
        if let Some(bytes) = files.read(name, TOKENISER)? {
            read.insert(name.to_owned(), Bytes::from(bytes));
        }
    }
    let found = of_folder(NamedFiles { folder: path, files: &read }, &config.config, sizes)?;
    let sides = [&found.source, &found.target].map(|side| side.tokeniser.clone());
    let used: Vec<String> =
        sides.iter().flatten().flat_map(TokeniserSpec::files).map(str::to_owned).collect();
    read.retain(|name, _| used.contains(name));
    Ok((found, read))
}

/// The decoder taken apart, and the file that its steps come from.
fn parts(files: &mut dyn Files, layout: &Layout) -> Result<(String, Parts)> {
    match &layout.decoder {
        Decoder::Two { first, with_past } => {
            // The first step is gone from memory before the other graph is read.
            let model = external::read(files, first)?;
            let keys = FirstStep::of_model(first, &model).keys()?;
            drop(model);
            let step = external::read(files, with_past)?.into_model();
            Ok((with_past.clone(), Parts { keys, step, is_whole: false }))
        }
        Decoder::Merged(file) => {
            let model = external::read(files, file)?;
            Ok((file.clone(), graphs::merged(file, model)?))
        }
        Decoder::Whole(file) => {
            let step = external::read(files, file)?.into_model();
            Ok((file.clone(), Parts { keys: None, step, is_whole: true }))
        }
    }
}

/// Graphs under the names that bundles have for them.
#[derive(Default)]
struct Made {
    graphs: BTreeMap<Role, SharedModel>,
    infos: BTreeMap<Role, GraphInfo>,
}

impl Made {
    /// Checks a graph and keeps it.
    ///
    /// - `file`: where it comes from, for errors.
    fn keep(&mut self, file: &str, role: Role, model: ModelProto) -> Result<GraphFile> {
        let model = CheckedModel::new(file, model)?;
        self.infos.insert(role, GraphInfo::of(&model));
        if model.encoded_len() as u64 > GRAPH.limit {
            return Err(Error::new(ErrorKind::Bundle, "longer than 2 GiB as one file").in_graph(file, None));
        }
        self.graphs.insert(role, model.into());
        Ok(GraphFile { file: role.file().to_owned(), sha256: String::new() })
    }
}

/// What wrote a graph, with its version.
fn produced_by(model: &ModelProto) -> String {
    let own = [model.producer_name.as_str(), model.producer_version.as_str()];
    let own: Vec<&str> = own.into_iter().filter(|text| !text.is_empty() && text.len() < 100).collect();
    if own.is_empty() { "Optimum".to_owned() } else { format!("Optimum, {}", own.join(" ")) }
}

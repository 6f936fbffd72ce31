//! Two graphs and two vocabularies as a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use s2s_runtime::bundle::{Bundle, sha256};
use s2s_runtime::checked::{CheckedModel, External};
use s2s_runtime::contract::{MANIFEST_VERSION, SpecialIds, file};
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{self, Engine, EngineKind, Lengths};
use s2s_runtime::files;
use s2s_runtime::graph_info::GraphInfo;
use s2s_runtime::manifest::{GraphFile, Manifest, MaskedOne, Role, Wiring};
use s2s_runtime::self_test::SelfTest;
use s2s_runtime::vocabulary::PaddingSide;

use super::remarks::Remarks;
use super::symbols::{self, Special};
use super::wires::{self, Side};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{Replace, write_bundle};

/// What is imported, and how it is to be understood.
#[derive(Clone, Debug)]
pub struct Options {
    /// The encoder's ONNX file.
    pub encoder: PathBuf,
    /// The decoder's.
    pub decoder: PathBuf,
    /// Symbols of source and target by id.
    pub vocabularies: [PathBuf; 2],
    /// Which of them are special.
    pub special: Special,
    /// The model's name; by default that of the folder.
    pub name: Option<String>,
    /// Tokens after which decoding stops.
    pub max_new_tokens: Option<usize>,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The bundle's folder.
    pub folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// What was found out and what was guessed.
    pub remarks: Remarks,
}

/// Sources of the self test: lengths that make padding matter.
const LENGTHS: [usize; 4] = [9, 1, 4, 3];
/// Ids of an output of the self test.
const LONGEST: usize = 24;

/// Drafts a manifest, tries it, and writes the bundle to `output`.
///
/// # Errors
/// [`ErrorKind::Usage`] for what neither graphs nor flags decide; [`ErrorKind::Bundle`] for graphs that are
/// none; [`ErrorKind::Engine`] if no engine runs them.
pub fn import(options: &Options, output: &Path, force: bool) -> Result<Imported> {
    let name = options.name.clone().unwrap_or_else(|| {
        output.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
    });
    let mut remarks = Remarks::default();
    let (mut manifest, mut files) = drafted(options, name.clone(), &mut remarks)?;
    let mut engine = tried(&mut manifest, &files, &mut remarks)?;
    let sources = sources(&manifest);
    let test = SelfTest::record(&mut *engine, &manifest.wiring, &sources, LONGEST)?.to_json()?;
    manifest.files.insert(file::SELF_TEST.to_owned(), sha256(&test));
    files.insert(file::SELF_TEST.to_owned(), test);
    files.insert(file::MANIFEST.to_owned(), (remarks.comments() + &manifest.to_yaml()?).into_bytes());
    // Whatever is written can be opened.
    Bundle::from_files(output, files.clone())?;
    let replace = if force { Replace::AnyBundle } else { Replace::OlderOf(name) };
    write_bundle(output, &files, &replace)?;
    Ok(Imported { folder: output.to_owned(), manifest, remarks })
}

/// The manifest as names and shapes say, and the files that it lists.
fn drafted(
    options: &Options,
    name: String,
    remarks: &mut Remarks,
) -> Result<(Manifest, BTreeMap<String, Vec<u8>>)> {
    let [source, target] = options.vocabularies.each_ref().map(|path| symbols::read(path));
    let (source, target) = (source?, target?);
    let special = symbols::special_ids([&source, &target], &options.special, remarks)?;
    let (mut graphs, mut files, mut listed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut read = |role: Role, path: &Path| -> Result<CheckedModel> {
        let bytes = files::read(path, files::GRAPH)?;
        let mut file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if files.contains_key(&file) || file == file::MANIFEST {
            role.file().clone_into(&mut file);
        }
        let model = with_weights(path, &file, &bytes, &mut files, &mut listed)?;
        graphs.insert(role, GraphFile { file: file.clone(), sha256: sha256(&bytes) });
        files.insert(file, bytes);
        Ok(model)
    };
    let models = [read(Role::Encoder, &options.encoder)?, read(Role::Decoder, &options.decoder)?];
    let infos = models.each_ref().map(GraphInfo::of);
    let names = [Role::Encoder, Role::Decoder].map(|role| graphs[&role].file.clone());
    let side = |at: usize, symbols: usize| Side {
        name: &names[at],
        info: &infos[at],
        graph: models[at].graph(),
        symbols,
    };
    let (io, mut wiring) = wires::wiring(side(0, source.len()), side(1, target.len()), remarks)?;
    [wiring.source_start, wiring.source_end] = symbols::around(&source, &options.special)?;
    for (name, info) in names.iter().zip(&infos) {
        for input in &info.unread {
            remarks.guessed(format!(
                "no node of {name} reads its input `{input}`: what it is fed changes nothing"
            ));
        }
    }
    let max_new_tokens = options.max_new_tokens;
    let manifest = Manifest {
        format_version: MANIFEST_VERSION.to_owned(),
        name,
        producer: format!("s2s {}", env!("CARGO_PKG_VERSION")),
        languages: None,
        io,
        graphs,
        files: listed,
        weights_sha256: None,
        wiring,
        special_ids: special,
        decoding: DecodingOptions { max_new_tokens, ..DecodingOptions::default() },
        architecture: None,
        provenance: None,
        examples: Vec::new(),
        source: symbols::spec("source", source, special, remarks),
        target: symbols::spec("target", target, special, remarks),
    };
    Ok((manifest, files))
}

/// A graph, and the files beside it that have its weights.
fn with_weights(
    path: &Path,
    name: &str,
    bytes: &[u8],
    files: &mut BTreeMap<String, Vec<u8>>,
    listed: &mut BTreeMap<String, String>,
) -> Result<CheckedModel> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut own, mut copied): (BTreeMap<String, Vec<u8>>, u64) = (BTreeMap::new(), 0);
    let model = CheckedModel::read_with(name, bytes.to_vec().into(), &mut |tensor: External<'_>| {
        let location = tensor.location.strip_prefix("./").unwrap_or(tensor.location);
        let wrong = |message: String| {
            Error::new(ErrorKind::Bundle, message)
                .help("export both graphs into one folder, each with a file of weights of its own")
        };
        if location.contains(['/', '\\', ':', '\0']) || ["", ".", ".."].contains(&location) {
            return Err(wrong(format!("its values lie in {location:?}, which is no file beside the graph")));
        }
        // Several tensors may name the same bytes.
        copied = copied.saturating_add(tensor.length);
        if copied > files::GRAPH.limit {
            return Err(wrong("with its weights the graph is longer than 2 GiB".to_owned()));
        }
        if !own.contains_key(location) {
            own.insert(location.to_owned(), files::read(folder.join(location), files::WEIGHTS)?);
        }
        let data = &own[location];
        let part = usize::try_from(tensor.offset).ok().zip(usize::try_from(tensor.length).ok());
        let values = part.and_then(|(from, length)| data.get(from..from.checked_add(length)?));
        let short = || wrong(format!("{location} is too short for it: {} bytes", data.len()));
        values.map(|values| values.to_vec().into()).ok_or_else(short)
    })?;
    for (location, data) in own {
        let hash = sha256(&data);
        if listed.get(&location).is_some_and(|other| *other != hash) {
            let message = format!("both graphs have weights in files called {location}, which differ");
            return Err(Error::new(ErrorKind::Bundle, message)
                .in_graph(name, None)
                .help("export both graphs into one folder"));
        }
        listed.insert(location.clone(), hash);
        files.insert(location, data);
    }
    Ok(model)
}

/// Opens the draft with each way in which padding may be told, and keeps the first that changes nothing.
fn tried(
    manifest: &mut Manifest,
    files: &BTreeMap<String, Vec<u8>>,
    remarks: &mut Remarks,
) -> Result<Box<dyn Engine>> {
    let mut first: Option<(Wiring, Box<dyn Engine>)> = None;
    for (at, wiring) in ways(&manifest.wiring).into_iter().enumerate() {
        manifest.wiring = wiring;
        let engine = match opened(manifest, files) {
            Ok(engine) => engine,
            Err(error) if at == 0 => return Err(error),
            Err(_) => continue,
        };
        if engine.lengths() == Lengths::Any {
            let side = manifest.wiring.source_padding.unwrap_or(PaddingSide::Left);
            let side = if side == PaddingSide::Left { "left" } else { "right" };
            let masks = manifest.wiring.encoder_mask.iter().chain(&manifest.wiring.decoder_mask);
            let ones = masks.map(|mask| {
                let one = if mask.one == MaskedOne::Token { "a token" } else { "padding" };
                format!(", 1 of `{}` is {one}", mask.input)
            });
            let ones: String = ones.collect();
            remarks.found(format!("padding on the {side}{ones}: tried, and it changes nothing"));
            return Ok(engine);
        }
        first.get_or_insert((manifest.wiring.clone(), engine));
    }
    let (wiring, engine) = first.ok_or_else(|| Error::new(ErrorKind::Internal, "a wiring in no way"))?;
    manifest.wiring = wiring;
    remarks.guessed(engine.remark().unwrap_or("padding changes what the graphs give").to_owned());
    Ok(engine)
}

/// The wiring with sources filled up on either side, and masks of either meaning.
fn ways(wiring: &Wiring) -> Vec<Wiring> {
    let flipped = |one| if one == MaskedOne::Token { MaskedOne::Padding } else { MaskedOne::Token };
    // Graphs that are told lengths have their tokens at the beginning.
    let sides = if wiring.encoder_lengths.is_some() {
        [PaddingSide::Right; 2]
    } else {
        [PaddingSide::Left, PaddingSide::Right]
    };
    let flips = [[false, false], [true, true], [true, false], [false, true]];
    let (in_encoder, in_decoder) = (wiring.encoder_mask.is_some(), wiring.decoder_mask.is_some());
    let mut ways: Vec<Wiring> = Vec::new();
    for [encoder, decoder] in flips {
        for side in sides {
            let mut way = wiring.clone();
            way.source_padding = Some(side).filter(|&side| side != PaddingSide::Left);
            for (mask, flip) in [
                (&mut way.encoder_mask, encoder && in_encoder),
                (&mut way.decoder_mask, decoder && in_decoder),
            ] {
                if let Some(mask) = mask.as_mut().filter(|_| flip) {
                    mask.one = flipped(mask.one);
                }
            }
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
    }
    ways
}

/// The draft in the first engine that runs it.
fn opened(manifest: &Manifest, files: &BTreeMap<String, Vec<u8>>) -> Result<Box<dyn Engine>> {
    let mut files = files.clone();
    files.insert(file::MANIFEST.to_owned(), manifest.to_yaml()?.into_bytes());
    let bundle = Bundle::from_files(&manifest.name, files)?;
    let mut refusal = None;
    for &kind in EngineKind::COMPILED {
        match engine::open_silently(&bundle, kind) {
            Ok(engine) => return Ok(engine),
            Err(error) => drop(refusal.get_or_insert(error)),
        }
    }
    Err(refusal.unwrap_or_else(|| Error::new(ErrorKind::Internal, "no engine is compiled in")))
}

/// Sources of ordinary symbols, the same for the same vocabulary.
fn sources(manifest: &Manifest) -> Vec<Vec<u32>> {
    let special: SpecialIds = manifest.special_ids;
    let symbols = u32::try_from(manifest.source.symbols.len()).unwrap_or(u32::MAX);
    let ordinary: Vec<u32> = (0..symbols).filter(|id| !special.all().contains(id)).collect();
    let ordinary = if ordinary.is_empty() { vec![special.unk] } else { ordinary };
    let symbol = |at: usize| ordinary[at * 7 % ordinary.len()];
    LENGTHS.map(|length| (0..length).map(|at| symbol(at + length)).collect()).into()
}

//! A bundle: the manifest and the graphs, opened from a folder, a zip of it, or memory, and held against each
//! other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use prost::bytes::Bytes;

use crate::checked::{External, SharedModel};
use crate::contract::{file, metadata};
use crate::error::{Error, ErrorKind, Result, did_you_mean};
use crate::files::{GRAPH, MANIFEST, SIDE_FILE, TOKENISER};
use crate::graph_info::GraphInfo;
use crate::manifest::{Io, Manifest, Role, SIDE_FILES, SpecialIds, check_version, is_plain_name};
use crate::optimum;
use crate::vocabulary::{NamedFiles, Side, Tokeniser, Vocabulary, VocabularyMetadata, VocabularySpec};

mod archive;
pub(crate) mod files;
mod weights;

use self::files::{Files, Folder, Memory};
pub use self::files::{NO_BUNDLE, NO_FOLDER};
use self::weights::Weights;
pub use crate::files::sha256;
pub use crate::optimum::Stateless;

/// An opened bundle: everything in memory, checked.
#[derive(Clone, Debug)]
pub struct Bundle {
    path: PathBuf,
    manifest: Manifest,
    sides: [Side; 2],
    source: Arc<dyn Tokeniser>,
    target: Arc<dyn Tokeniser>,
    /// As they were read; graphs that were made in memory are not among them.
    files: BTreeMap<String, Bytes>,
    /// With their weights, wherever those lie.
    graphs: BTreeMap<Role, Arc<SharedModel>>,
    infos: BTreeMap<Role, GraphInfo>,
    remarks: Vec<String>,
    is_made: bool,
    /// The manifest of what was made in memory, written down when somebody asks for it.
    written: OnceLock<Option<Bytes>>,
}

/// What was read of the graphs.
#[derive(Default)]
struct Graphs {
    models: BTreeMap<Role, Arc<SharedModel>>,
    infos: BTreeMap<Role, GraphInfo>,
}

/// Whether [`Bundle::open`] takes the folder `path` for a bundle: it has a manifest, or Optimum wrote it.
pub fn is_bundle_folder(path: &Path) -> bool {
    path.join(file::MANIFEST).is_file()
        || (path.join(optimum::CONFIG).is_file() && optimum::is_optimum(&Folder(path).names()))
}

/// Reads a graph that is no bundle's, with weights that lie in files beside it, and gives the names of those.
///
/// - `name`: what the graph is called in errors.
///
/// # Errors
/// [`ErrorKind::Bundle`] if a file of weights is missing, lies elsewhere, is too short or too long; as
/// [`SharedModel::read`].
pub fn graph_beside_weights(path: &Path, name: &str) -> Result<(SharedModel, Vec<String>)> {
    let bytes = crate::files::read(path, GRAPH)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let (model, beside) = optimum::with_weights(&mut Folder(folder), name, &file, bytes.into())?;
    Ok((model.into(), beside))
}

impl Bundle {
    /// Opens a folder, or a zip of one.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if a file is missing or damaged, the version is unknown, or the graphs do not
    /// belong together; [`ErrorKind::Io`] if reading fails.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::with_files(path.as_ref(), Self::read)
    }

    /// Gives the files that lie at `path` to `read`.
    fn with_files<T>(path: &Path, read: impl FnOnce(&Path, &mut dyn Files) -> Result<T>) -> Result<T> {
        let data = std::fs::metadata(path).map_err(|e| {
            Error::io(path, e).help("give the folder that `s2s export` wrote, or a zip of it")
        })?;
        if data.is_dir() {
            return read(path, &mut Folder(path));
        }
        // A user may point at the manifest itself.
        if path.file_name().is_some_and(|name| name == file::MANIFEST) {
            let folder = path.parent().unwrap_or(Path::new(""));
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            return read(folder, &mut Folder(folder));
        }
        read(path, &mut archive::Archive::open(path)?)
    }

    /// A file that lies beside those of the bundle and is none of them; none for bundles in memory.
    ///
    /// # Errors
    /// Of reading, and if it is longer than a side file may be.
    pub fn beside(&self, name: &str) -> Result<Option<Vec<u8>>> {
        if !self.path.exists() || !is_plain_name(name) {
            return Ok(None);
        }
        Self::with_files(&self.path, |_, files| files.read(name, SIDE_FILE))
    }

    /// The graphs of an Optimum folder that keep no state, where it has them: what the ones that do are held
    /// against.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if one is damaged; of reading.
    pub fn stateless(&self) -> Result<Option<Stateless>> {
        // What was imported has left them behind.
        if !self.path.exists() || self.path.join(file::MANIFEST).exists() {
            return Ok(None);
        }
        Self::with_files(&self.path, |path, files| {
            if optimum::is_optimum(&files.names()) { Stateless::read(path, files) } else { Ok(None) }
        })
    }

    /// Opens a bundle that is in memory: file name to bytes, the manifest among them.
    ///
    /// - `name`: how the bundle is called in errors.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_files(name: impl AsRef<Path>, files: BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let name = name.as_ref();
        let mut bundle = Self::read(name, &mut Memory { name, files: &files })?;
        for (file, bytes) in files {
            if bundle.file(&file).is_none() {
                bundle.files.insert(file, bytes.into());
            }
        }
        Ok(bundle)
    }

    fn read(path: &Path, files: &mut dyn Files) -> Result<Self> {
        let manifest_path = files.path(file::MANIFEST);
        let Some(text) = files.read(file::MANIFEST, MANIFEST)? else {
            if optimum::is_optimum(&files.names()) {
                return Self::made_of(path, files);
            }
            return Err(Error::new(
                ErrorKind::Bundle,
                format!("{NO_BUNDLE}: there is no {}", file::MANIFEST),
            )
            .in_file(path)
            .help(
                "a bundle is the folder that `s2s export` wrote, or a zip of it; a folder that \
                 `optimum-cli export onnx` wrote is taken too",
            ));
        };
        let text = String::from_utf8(text)
            .map_err(|e| Error::new(ErrorKind::Bundle, "not UTF-8").in_file(&manifest_path).caused_by(e))?;
        let manifest = Manifest::from_yaml(&text, &manifest_path)?;
        let mut kept = BTreeMap::from([(file::MANIFEST.to_owned(), Bytes::from(text.into_bytes()))]);
        for (&role, graph) in &manifest.graphs {
            let bytes = files.read(&graph.file, GRAPH)?.ok_or_else(|| missing(role, &graph.file, files))?;
            let found = sha256(&bytes);
            if !found.eq_ignore_ascii_case(&graph.sha256) {
                return Err(Error::new(
                    ErrorKind::Bundle,
                    format!(
                        "damaged, or from another export: its sha256 is {found}, the manifest says \
                        {}",
                        graph.sha256
                    ),
                )
                .in_file(files.path(&graph.file))
                .help(
                    "copy the whole bundle again, or export it again; files of several exports cannot be \
                    mixed",
                ));
            }
            kept.insert(graph.file.clone(), Bytes::from(bytes));
        }
        for name in [file::SELF_TEST, file::CONFORMANCE, file::README] {
            if let Some(bytes) = files.read(name, SIDE_FILE)? {
                kept.insert(name.to_owned(), bytes.into());
            }
        }
        for name in manifest.tokeniser_files() {
            if !kept.contains_key(name)
                && let Some(bytes) = files.read(name, TOKENISER)?
            {
                kept.insert(name.to_owned(), bytes.into());
            }
        }
        let mut graphs = Graphs::default();
        let mut weights = Weights::new(&manifest.files, files);
        for (&role, graph) in &manifest.graphs {
            weights.next_graph();
            let fetch = &mut |tensor: External<'_>| weights.fetch(tensor);
            let model = SharedModel::read_with(&graph.file, kept[&graph.file].clone(), fetch)?;
            graphs.infos.insert(role, GraphInfo::of(&model));
            graphs.models.insert(role, Arc::new(model));
        }
        kept.extend(weights.read);
        check_side_files(&manifest, &kept, files)?;
        Self::with(path, manifest, kept, graphs, Vec::new())
    }

    /// Opens an Optimum folder: its manifest and its graphs are made in memory.
    fn made_of(path: &Path, files: &mut dyn Files) -> Result<Self> {
        let optimum::Synthesis { manifest, files, graphs, infos, remarks } =
            optimum::synthesise(path, files)?;
        for remark in &remarks {
            tracing::warn!("{}: {remark}", path.display());
        }
        let models = graphs.into_iter().map(|(role, model)| (role, Arc::new(model))).collect();
        let made = Self::with(path, manifest, files, Graphs { models, infos }, remarks)?;
        Ok(Self { is_made: true, ..made })
    }

    /// Holds the parts of a bundle against each other.
    fn with(
        path: &Path,
        manifest: Manifest,
        kept: BTreeMap<String, Bytes>,
        graphs: Graphs,
        remarks: Vec<String>,
    ) -> Result<Self> {
        let Graphs { models, infos } = graphs;
        check_metadata(&manifest, &infos)?;
        check_wiring(&manifest, &infos)?;
        let named = NamedFiles { folder: path, files: &kept };
        let side = |spec| Side::open(spec, manifest.special_ids, named);
        let source = side(&manifest.source)?;
        let is_shared = manifest.source == manifest.target;
        let target = if is_shared { source.clone() } else { side(&manifest.target)? };
        let sides = [source, target];
        let [source, target] = sides.each_ref().map(Side::tokeniser);
        Ok(Self {
            path: path.to_owned(),
            manifest,
            sides,
            source,
            target,
            files: kept,
            graphs: models,
            infos,
            remarks,
            is_made: false,
            written: OnceLock::new(),
        })
    }

    /// Whether manifest and graphs were made in memory, of a folder of another program.
    pub fn is_made(&self) -> bool {
        self.is_made
    }

    /// What the folder asks for and is not done, a sentence each; only folders of other programs ask for such
    /// things.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest; of a bundle that was made in memory without hashes of its graphs, which are not written
    /// down unless somebody [asks](Self::hashed_manifest).
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest with the hashes of all graphs.
    pub fn hashed_manifest(&self) -> Manifest {
        let mut manifest = self.manifest.clone();
        for (role, graph) in manifest.graphs.iter_mut().filter(|(_, graph)| graph.sha256.is_empty()) {
            graph.sha256 = self.graphs.get(role).map_or_else(String::new, |model| sha256(model.bytes()));
        }
        manifest
    }

    /// Source text to ids.
    pub fn source(&self) -> &Arc<dyn Tokeniser> {
        &self.source
    }

    /// Ids to target text.
    pub fn target(&self) -> &Arc<dyn Tokeniser> {
        &self.target
    }

    /// The lists of symbols of source and target, for what only they have; `None` for a side whose ids are
    /// made by another scheme.
    pub fn vocabularies(&self) -> [Option<&Vocabulary>; 2] {
        self.sides.each_ref().map(Side::vocabulary)
    }

    /// The ONNX bytes of a graph, its weights among them wherever they lie.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if the bundle has no such graph (only the training graph may be absent).
    pub fn graph(&self, role: Role) -> Result<&[u8]> {
        self.shared_graph(role).map(|model| &model.bytes()[..])
    }

    /// The same as a model, which may live longer than the bundle.
    ///
    /// # Errors
    /// As [`graph`](Self::graph).
    pub fn shared_graph(&self, role: Role) -> Result<&Arc<SharedModel>> {
        self.graphs.get(&role).ok_or_else(|| no_graph(&self.path, role))
    }

    /// The file name of a graph, for errors.
    pub fn graph_name(&self, role: Role) -> &str {
        self.manifest.graphs.get(&role).map_or_else(|| role.file(), |graph| &graph.file)
    }

    /// Inputs, outputs and metadata of a graph.
    ///
    /// # Errors
    /// As [`graph`](Self::graph).
    pub fn graph_info(&self, role: Role) -> Result<&GraphInfo> {
        self.infos.get(&role).ok_or_else(|| no_graph(&self.path, role))
    }

    /// Any file of the bundle: manifest, graphs, self test, conformance record, README.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        if let Some(bytes) = self.files.get(name) {
            return Some(bytes);
        }
        if self.is_made && name == file::MANIFEST {
            let write = || self.hashed_manifest().to_yaml().ok().map(|text| text.into_bytes().into());
            return self.written.get_or_init(write).as_deref();
        }
        let (role, _) = self.manifest.graphs.iter().find(|(_, graph)| graph.file == name)?;
        self.graph(*role).ok()
    }
}

/// What the manifest lists is there and is what was written: a self test that is gone would otherwise not be
/// missed.
fn check_side_files(manifest: &Manifest, kept: &BTreeMap<String, Bytes>, files: &dyn Files) -> Result<()> {
    for (name, listed) in &manifest.files {
        let found = kept.get(name).map(|bytes| sha256(bytes));
        let message = match found {
            Some(found) if found.eq_ignore_ascii_case(listed) => continue,
            Some(found) => {
                format!("changed since the export: its sha256 is {found}, the manifest says {listed}")
            }
            None if SIDE_FILES.contains(&name.as_str())
                || manifest.tokeniser_files().any(|file| file == name) =>
            {
                "missing, and the manifest lists it".to_owned()
            }
            // A newer version may list what this one does not read.
            None if check_version(&manifest.format_version).unwrap_or(true) => continue,
            None => "no graph has weights in this file, and the manifest lists it".to_owned(),
        };
        return Err(Error::new(ErrorKind::Bundle, message).in_file(files.path(name)).help(format!(
            "copy the whole bundle again, or export it again; who changed it on purpose takes it out of \
             `files` in {}",
            file::MANIFEST
        )));
    }
    Ok(())
}

fn no_graph(path: &Path, role: Role) -> Error {
    Error::new(ErrorKind::Bundle, format!("the bundle has no {role} graph"))
        .in_file(path)
        .help("export the bundle again, with all graphs")
}

fn missing(role: Role, name: &str, files: &dyn Files) -> Error {
    let names = files.names();
    let near = did_you_mean(name, names.iter().map(String::as_str));
    let help = near.map_or_else(
        || "copy the whole bundle again, or export it again".to_owned(),
        |near| format!("there is a file {near:?}: was it renamed?"),
    );
    Error::new(ErrorKind::Bundle, format!("the {role} graph is missing")).in_file(files.path(name)).help(help)
}

/// Holds what each graph says about itself against the manifest; graphs without metadata say nothing.
fn check_metadata(manifest: &Manifest, infos: &BTreeMap<Role, GraphInfo>) -> Result<()> {
    const MIXED: &str =
        "the files come from several exports: copy the whole bundle again, or export it again";
    let mut weights = manifest.weights_sha256.as_deref().map(|hash| (hash, file::MANIFEST));
    for (&role, info) in infos {
        let graph = manifest.graphs[&role].file.as_str();
        let wrong =
            |message: String| Error::new(ErrorKind::Bundle, message).in_graph(graph, None).help(MIXED);
        let get = |key: &str| info.metadata.get(key).map(String::as_str);
        if let Some(version) = get(metadata::FORMAT_VERSION) {
            check_version(version).map_err(|error| error.in_graph(graph, None))?;
        }
        if let Some(found) = get(metadata::ROLE).filter(|&found| found != role.as_str()) {
            return Err(wrong(format!("this is the {found} graph, and the manifest lists it as {role}"))
                .help("the files were swapped or renamed: copy the whole bundle again, or export it again"));
        }
        if let Some(hash) = get(metadata::WEIGHTS_SHA256) {
            let (first, place) = *weights.get_or_insert((hash, graph));
            if first != hash {
                return Err(wrong(format!(
                    "its weights are {}, those of {place} are {}",
                    short(hash),
                    short(first)
                )));
            }
        }
        for (key, side, spec) in [
            (metadata::SOURCE_VOCABULARY, "source", &manifest.source),
            (metadata::TARGET_VOCABULARY, "target", &manifest.target),
        ] {
            if let Some(json) = get(key) {
                check_vocabulary(json, side, spec).map_err(wrong)?;
            }
        }
        if let Some(json) = get(metadata::SPECIAL_IDS) {
            let found: SpecialIds = serde_json::from_str(json)
                .map_err(|e| wrong(format!("its {} cannot be read: {e}", metadata::SPECIAL_IDS)))?;
            if found != manifest.special_ids {
                return Err(wrong(format!(
                    "its special ids are {found:?}, those of the manifest {:?}",
                    manifest.special_ids
                )));
            }
        }
    }
    Ok(())
}

fn check_vocabulary(json: &str, side: &str, spec: &VocabularySpec) -> Result<(), String> {
    let found: VocabularyMetadata<'_> =
        serde_json::from_str(json).map_err(|e| format!("its {side} vocabulary cannot be read: {e}"))?;
    match spec.differs_from(&found) {
        Some(difference) => Err(format!(
            "its {side} vocabulary is not the manifest's: {difference} (manifest: here, graph: there)"
        )),
        None => Ok(()),
    }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// Every name in the wiring must be an input or output of its graph.
fn check_wiring(manifest: &Manifest, infos: &BTreeMap<Role, GraphInfo>) -> Result<()> {
    let wiring = &manifest.wiring;
    let step = wiring.encoder_step.iter().map(|step| (Role::EncoderStep, step.inputs(), step.outputs()));
    let sides = [
        (Role::Encoder, wiring.encoder_inputs(), wiring.encoder_outputs()),
        (Role::Decoder, wiring.decoder_inputs(), wiring.decoder_outputs()),
    ];
    for (role, inputs, outputs) in sides.into_iter().chain(step) {
        let (info, graph) = (&infos[&role], manifest.graphs[&role].file.as_str());
        for (what, wanted, present) in [("input", inputs, &info.inputs), ("output", outputs, &info.outputs)] {
            let names: Vec<&str> = present.iter().map(|tensor| tensor.name.as_str()).collect();
            if let Some(name) = wanted.into_iter().find(|name| !names.contains(name)) {
                let near = did_you_mean(name, names.iter().copied())
                    .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                return Err(Error::new(
                    ErrorKind::Bundle,
                    format!("the manifest's wiring names the {what} `{name}`, which the graph does not have"),
                )
                .in_graph(graph, Some(name))
                .help(format!("the graph's {what}s are {}{near}", names.join(", "))));
            }
        }
    }
    check_sizes(manifest, infos)
}

/// Sizes that the graphs fix must be those of the vocabularies.
fn check_sizes(manifest: &Manifest, infos: &BTreeMap<Role, GraphInfo>) -> Result<()> {
    use crate::graph_info::{Dimension, TensorInfo};
    let wiring = &manifest.wiring;
    let (encoder, decoder) = (&infos[&Role::Encoder], &infos[&Role::Decoder]);
    let (source, target) = (manifest.source.size(), manifest.target.size());
    let mut widths = vec![(Role::Decoder, decoder.output(&wiring.decoder_output), target, "target")];
    if manifest.io == Io::OneHot {
        widths.push((Role::Encoder, encoder.input(&wiring.encoder_input), source, "source"));
        widths.push((Role::Decoder, decoder.input(&wiring.decoder_input), target, "target"));
    }
    for (role, tensor, symbols, side) in widths {
        let Some(TensorInfo { name, shape: Some(shape), .. }) = tensor else { continue };
        if let Some(Dimension::Fixed(width)) = shape.last()
            && *width != symbols
        {
            return Err(Error::new(
                ErrorKind::Bundle,
                format!("{width} symbols wide, but the {side} vocabulary has {symbols}"),
            )
            .in_graph(&manifest.graphs[&role].file, Some(name))
            .help("the graphs and the manifest come from several exports: export the bundle again"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

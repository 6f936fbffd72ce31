//! The bundle of a network from features to scores: one graph, `model.onnx`, with a manifest beside it.

use std::path::{Path, PathBuf};

use s2s_runtime::bundle::sha256;
use s2s_runtime::checked::CheckedModel;
use s2s_runtime::contract::file;
use s2s_runtime::engine::graph::{DataView, Graph, TensorView};
use s2s_runtime::engine::{self, EngineKind};
use s2s_runtime::files;
use s2s_runtime::manifest::{GraphFile, Provenance};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bundle::weights_sha256;
use crate::error::{Error, ErrorKind, Result};
use crate::network::features::FeatureNetwork;
use crate::network::ground::limits::check_stored;
use crate::network::{Network, Parameters};

const AGAIN: &str = "export the bundle again";

/// `s2s.yaml` of such a bundle, with the architecture of its family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureManifest<A> {
    /// Version of the contract.
    pub format_version: String,
    /// The family, as [`FeatureNetwork::KIND`] has it.
    pub kind: String,
    /// The name of the model, as its run has it.
    pub name: String,
    /// The program that wrote it, with its version.
    pub producer: String,
    /// The file of the graph, and its hash.
    pub graph: GraphFile,
    /// sha256 of all weights.
    pub weights_sha256: String,
    /// Sizes and options of the network.
    pub architecture: A,
    /// Where the weights come from.
    pub provenance: Option<Provenance>,
}

/// An opened bundle of a network of the family `N`.
#[derive(Clone, Debug)]
pub struct FeatureBundle<N: Network> {
    /// The manifest, as `s2s.yaml` has it.
    pub manifest: FeatureManifest<N::Architecture>,
    /// The bytes of the graph.
    pub model: Vec<u8>,
    network: N,
    folder: PathBuf,
}

/// Reads the family of the bundle in `folder`, damaged or not; `None` for a bundle from texts to texts, and
/// for what is no bundle.
pub fn feature_kind(folder: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Head {
        kind: String,
    }
    let text = files::read_text(folder.join(file::MANIFEST), files::MANIFEST).ok()?;
    serde_yaml::from_str::<Head>(&text).ok().map(|head| head.kind)
}

/// Reads manifest and graph of a folder, and checks the hash of the graph. With
/// [`Value`](serde_json::Value) for the architecture it reads those of any family.
///
/// # Errors
/// [`ErrorKind::Bundle`] if it is damaged.
pub fn read_features<A: DeserializeOwned>(folder: &Path) -> Result<(FeatureManifest<A>, Vec<u8>)> {
    let path = folder.join(file::MANIFEST);
    let text = files::read_text(&path, files::MANIFEST)?;
    let wrong =
        |path: &Path, message: String| Error::new(ErrorKind::Bundle, message).in_file(path).help(AGAIN);
    let manifest: FeatureManifest<A> =
        serde_yaml::from_str(&text).map_err(|e| wrong(&path, format!("not a manifest: {e}")))?;
    if manifest.graph.file.contains(['/', '\\']) {
        return Err(wrong(&path, "the graph is not in the folder".to_owned()));
    }
    let path = folder.join(&manifest.graph.file);
    let model = files::read(&path, files::GRAPH)?;
    if sha256(&model) != manifest.graph.sha256 {
        let message = "the file is not the one that the manifest names: its sha256 differs";
        return Err(wrong(&path, message.to_owned()));
    }
    Ok((manifest, model))
}

/// Says what is wrong with an architecture, with the key of the manifest that holds it.
fn impossible(error: &Error, folder: &Path) -> Error {
    Error::new(ErrorKind::Bundle, error.message())
        .at_line(folder.join(file::MANIFEST), None, Some("architecture"))
        .help(AGAIN)
}

impl<N: FeatureNetwork> FeatureBundle<N> {
    /// Whether `folder` holds such a bundle, damaged or not.
    pub fn exists(folder: &Path) -> bool {
        feature_kind(folder).is_some_and(|kind| kind == N::KIND)
    }

    /// Opens a folder, checks the hash of the graph, and lays out the network.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if it is damaged or of another family.
    pub fn open(folder: &Path) -> Result<Self> {
        let (manifest, model) = read_features::<N::Architecture>(folder)?;
        if manifest.kind != N::KIND {
            let message = format!("`kind` is `{}` and not `{}`", manifest.kind, N::KIND);
            return Err(Error::new(ErrorKind::Bundle, message).in_file(folder.join(file::MANIFEST)));
        }
        let network = N::new(manifest.architecture.clone()).map_err(|e| impossible(&e, folder))?;
        Ok(Self { manifest, model, network, folder: folder.to_owned() })
    }

    /// Returns the network, whose weights [`parameters`](Self::parameters) reads.
    pub fn network(&self) -> &N {
        &self.network
    }

    /// Reads the weights that the graph carries.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if graph and manifest do not fit.
    pub fn parameters(&self) -> Result<Parameters<f32>> {
        let name = &self.manifest.graph.file;
        // Asked before memory for the weights is: a small file cannot ask for much.
        check_stored(self.network.layout(), self.model.len(), 1).map_err(|e| impossible(&e, &self.folder))?;
        let model = CheckedModel::read(name, &self.model)?;
        let tensors = &model.graph().initializer;
        let parameters = self.network.import(|name| {
            tensors.iter().find(|t| t.name == name).and_then(|t| Some((t.shape()?, t.floats()?)))
        })?;
        if weights_sha256(&parameters) != self.manifest.weights_sha256 {
            let message = "the weights are not those that the manifest names";
            return Err(Error::new(ErrorKind::Bundle, message).in_graph(name, None).help(AGAIN));
        }
        Ok(parameters)
    }

    /// Loads the graph in an engine.
    ///
    /// # Errors
    /// As [`engine::load_graph`].
    pub fn load(&self, kind: EngineKind) -> Result<Box<dyn Graph>> {
        let outputs: Vec<&str> = self.network.outputs().iter().map(|(port, _)| port.name).collect();
        engine::load_graph(
            kind,
            &self.manifest.graph.file,
            &self.model,
            &[self.network.input().name],
            &outputs,
        )
    }

    /// Runs the loaded graph over rows of features, end to end; gives each output of the network, (rows,
    /// width) and row-major.
    ///
    /// # Errors
    /// As the engine gives them; [`ErrorKind::Parity`] if an output has another number of values.
    pub fn run(&self, graph: &mut dyn Graph, features: &[f32]) -> Result<Vec<Vec<f32>>> {
        let width = self.network.input().width;
        let shape = [features.len() / width.max(1), width];
        let mut tensors = Vec::new();
        graph.run(&[TensorView { shape: &shape, data: DataView::F32(features) }], &mut tensors)?;
        let found: Vec<Vec<f32>> = tensors.into_iter().map(|tensor| tensor.data).collect();
        let ports = self.network.outputs();
        let misfit = ports
            .iter()
            .zip(found.iter().map(Vec::len).chain(std::iter::repeat(0)))
            .find(|((port, _), values)| *values != shape[0] * port.width);
        match misfit {
            None => Ok(found),
            Some(((port, _), _)) => {
                let error = Error::new(ErrorKind::Parity, "the outputs have another number of values");
                Err(error.in_graph(&self.manifest.graph.file, Some(port.name)))
            }
        }
    }
}

/// Finds the position of the largest value of each row of `classes`; of equal ones the first.
pub fn best(rows: &[f32], classes: usize) -> Vec<usize> {
    rows.chunks_exact(classes)
        .map(|row| (0..classes).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0))
        .collect()
}

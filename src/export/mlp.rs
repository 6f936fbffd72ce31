//! A perceptron's bundle: one graph, `model.onnx`, with a manifest beside it; and the proof that it computes
//! what the trainer computes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message as _;
use s2s_runtime::bundle::sha256;
use s2s_runtime::checked::CheckedModel;
use s2s_runtime::contract::{FORMAT_VERSION, file};
use s2s_runtime::engine::{self, EngineKind, graph::DataView, graph::Graph, graph::TensorView};
use s2s_runtime::files;
use s2s_runtime::manifest::{GraphFile, Provenance};
use serde::{Deserialize, Serialize};

use super::bundle::weights_sha256;
use super::folder::{Replace, stage};
use super::verify::report::{Check, EngineEntry, Outcome};
use super::verify::{Report, VerifyOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::files::write_atomically;
use crate::network::ground::limits::check_stored;
use crate::network::perceptron::{FEATURES, LOGITS, Mlp, MlpArchitecture, PROBABILITIES};
use crate::network::{Network, Parameters};
use crate::onnx::{GraphBuilder, OPSETS, ir_version};
use s2s_kernels::random::Random;

/// The graph's file.
pub const MODEL: &str = "model.onnx";

/// `s2s.yaml` of a perceptron.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpManifest {
    /// Version of the contract.
    pub format_version: String,
    /// What it is.
    pub kind: MlpKind,
    /// The model's name.
    pub name: String,
    /// Who wrote it.
    pub producer: String,
    /// The graph: [`FEATURES`] in, [`LOGITS`] and [`PROBABILITIES`] out.
    pub graph: GraphFile,
    /// sha256 of all weights.
    pub weights_sha256: String,
    /// Sizes.
    pub architecture: MlpArchitecture,
    /// Where the weights come from.
    pub provenance: Option<Provenance>,
}

/// The kind of bundle, spelled in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MlpKind {
    /// One graph from features to classes.
    Mlp,
}

/// An opened bundle of a perceptron.
#[derive(Clone, Debug)]
pub struct MlpBundle {
    /// `s2s.yaml`.
    pub manifest: MlpManifest,
    /// `model.onnx`.
    pub model: Vec<u8>,
    path: PathBuf,
}

/// What is wrong with an architecture, with the key of the manifest that holds it.
fn impossible<T>(checked: Result<T>, folder: &Path) -> Result<T> {
    checked.map_err(|e| {
        let error = Error::new(ErrorKind::Bundle, e.message()).at_line(
            folder.join(file::MANIFEST),
            None,
            Some("architecture"),
        );
        error.help("export the bundle again")
    })
}

impl MlpBundle {
    /// Whether `folder` holds such a bundle, damaged or not.
    pub fn exists(folder: &Path) -> bool {
        #[derive(Deserialize)]
        struct Head {
            kind: String,
        }
        let text = files::read_text(folder.join(file::MANIFEST), files::MANIFEST).unwrap_or_default();
        serde_yaml::from_str::<Head>(&text).is_ok_and(|head| head.kind == "mlp")
    }

    /// Opens a folder and checks the hash of the graph.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if it is damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(file::MANIFEST);
        let text = files::read_text(&path, files::MANIFEST)?;
        let wrong = |path: &Path, message: String| {
            Error::new(ErrorKind::Bundle, message).in_file(path).help("export the bundle again")
        };
        let manifest: MlpManifest =
            serde_yaml::from_str(&text).map_err(|e| wrong(&path, format!("not a manifest: {e}")))?;
        if manifest.graph.file.contains(['/', '\\']) {
            return Err(wrong(&path, "the graph is not in the folder".to_owned()));
        }
        impossible(manifest.architecture.check(), folder)?;
        let path = folder.join(&manifest.graph.file);
        let model = files::read(&path, files::GRAPH)?;
        if sha256(&model) != manifest.graph.sha256 {
            return Err(wrong(
                &path,
                "the file is not the one that the manifest names: its sha256 differs".to_owned(),
            ));
        }
        Ok(Self { manifest, model, path: folder.to_owned() })
    }

    /// The network, with the weights that the graph carries.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if graph and manifest do not fit.
    pub fn rebuild(&self) -> Result<(Mlp, Parameters<f32>)> {
        let name = &self.manifest.graph.file;
        let wrong = |message: &str| {
            Error::new(ErrorKind::Bundle, message).in_graph(name, None).help("export the bundle again")
        };
        let network = impossible(Mlp::new(self.manifest.architecture.clone()), &self.path)?;
        impossible(check_stored(network.layout(), self.model.len(), 1), &self.path)?;
        let model = CheckedModel::read(name, &self.model)?;
        let tensors = &model.graph().initializer;
        let find = |name: &str| {
            tensors.iter().find(|t| t.name == name).and_then(|t| Some((t.shape()?, t.floats()?)))
        };
        let parameters = network.import(find)?;
        if weights_sha256(&parameters) != self.manifest.weights_sha256 {
            return Err(wrong("the weights are not those that the manifest names"));
        }
        Ok((network, parameters))
    }

    /// The graph in an engine.
    ///
    /// # Errors
    /// As [`engine::load_graph`].
    pub fn load(&self, kind: EngineKind) -> Result<Box<dyn Graph>> {
        engine::load_graph(
            kind,
            &self.manifest.graph.file,
            &self.model,
            &[FEATURES],
            &[LOGITS, PROBABILITIES],
        )
    }
}

/// Logits and probabilities (rows, classes) of features (rows, inputs).
///
/// # Errors
/// As the engine gives them.
pub fn predict(graph: &mut dyn Graph, features: &[f32], inputs: usize) -> Result<[Vec<f32>; 2]> {
    let shape = [features.len() / inputs.max(1), inputs];
    let mut outputs = Vec::new();
    graph.run(&[TensorView { shape: &shape, data: DataView::F32(features) }], &mut outputs)?;
    let mut outputs = outputs.into_iter().map(|t| t.data);
    Ok([outputs.next().unwrap_or_default(), outputs.next().unwrap_or_default()])
}

/// The position of the largest value of each row of `classes`.
pub fn best(rows: &[f32], classes: usize) -> Vec<usize> {
    rows.chunks_exact(classes)
        .map(|row| (0..classes).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0))
        .collect()
}

/// Exports to the folder `target`: written beside it, verified there, and moved to its place only if every
/// check passed.
///
/// # Errors
/// [`ErrorKind::Parity`] if a check failed; as [`stage`]. In each case `target` is as it was.
#[allow(clippy::too_many_arguments)] // Each is another kind of thing.
pub fn export_mlp(
    network: &Mlp,
    parameters: &Parameters<f32>,
    name: &str,
    provenance: Provenance,
    opset: i64,
    verification: &VerifyOptions,
    target: &Path,
    replace: &Replace,
) -> Result<Report> {
    if !OPSETS.contains(&opset) {
        let message = format!("operator set {opset} cannot be written");
        return Err(Error::new(ErrorKind::Usage, message).help(format!(
            "choose one from {} to {}",
            OPSETS.start(),
            OPSETS.end()
        )));
    }
    let weights = weights_sha256(parameters);
    let mut builder = GraphBuilder::new("mlp");
    network.emit(parameters, &mut builder);
    let metadata =
        [("s2s.format_version", FORMAT_VERSION), ("s2s.kind", "mlp"), ("s2s.weights_sha256", &weights)];
    let metadata: Vec<(String, String)> = metadata.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let model = builder.finish(opset, ir_version(opset), &metadata).encode_to_vec();
    let manifest = MlpManifest {
        format_version: FORMAT_VERSION.to_owned(),
        kind: MlpKind::Mlp,
        name: name.to_owned(),
        producer: format!("s2s {}", env!("CARGO_PKG_VERSION")),
        graph: GraphFile { file: MODEL.to_owned(), sha256: sha256(&model) },
        weights_sha256: weights,
        architecture: network.architecture().clone(),
        provenance: Some(provenance),
    };
    let yaml = serde_yaml::to_string(&manifest);
    let yaml =
        yaml.map_err(|e| Error::new(ErrorKind::Internal, "the manifest cannot be written").caused_by(e))?;
    let files = BTreeMap::from([(MODEL.to_owned(), model), (file::MANIFEST.to_owned(), yaml.into_bytes())]);
    let staged = stage(target, &files, replace)?;
    let report = verify_mlp(staged.path(), verification, true)?;
    report.check()?;
    staged.commit()?;
    Ok(report)
}

/// Holds the graph in every engine against the trainer's own pass.
///
/// # Errors
/// As [`MlpBundle::open`]; [`ErrorKind::Engine`] if an engine is required and missing, or none is there.
pub fn verify_mlp(folder: &Path, options: &VerifyOptions, write: bool) -> Result<Report> {
    let bundle = MlpBundle::open(folder)?;
    let (network, parameters) = bundle.rebuild()?;
    let available = engine::available();
    let engines: Vec<EngineEntry> = available
        .iter()
        .map(|e| EngineEntry {
            name: e.name.to_owned(),
            version: e.version.clone(),
            available: e.problem.is_none(),
        })
        .collect();
    for kind in &options.require {
        if !engines.iter().any(|e| e.name == kind.as_str() && e.available) {
            let error =
                Error::new(ErrorKind::Engine, format!("the engine {kind} is required and not available"));
            return Err(error.help("`s2s doctor` shows where it was looked for"));
        }
    }
    let mut report = Report {
        name: bundle.manifest.name.clone(),
        weights_sha256: Some(bundle.manifest.weights_sha256.clone()),
        s2s: env!("CARGO_PKG_VERSION").to_owned(),
        passed: true,
        engines,
        sources: 0,
        sources_from: format!("random features, seed {}", options.seed),
        dtype: super::Dtype::F32,
        tolerances: options.tolerances(),
        rounding: None,
        checks: vec![Check::new(file::MANIFEST, "hashes and weights", None, Outcome::Passed)],
    };
    let usable = EngineKind::COMPILED
        .iter()
        .filter(|kind| report.engines.iter().any(|e| e.available && e.name == kind.as_str()));
    let usable: Vec<EngineKind> = usable.copied().collect();
    if usable.is_empty() {
        return Err(Error::new(ErrorKind::Engine, "no engine is available")
            .help("`s2s doctor` shows what was looked for"));
    }
    for kind in usable {
        let checks = check_engine(&bundle, &network, &parameters, kind, options);
        report.push(MODEL, "run on every size", Some(kind.as_str()), checks);
    }
    for engine in report.engines.clone().iter().filter(|e| !e.available) {
        report.checks.push(
            Check::new(MODEL, "all checks", Some(&engine.name), Outcome::Skipped).detail("not available"),
        );
    }
    if write {
        write_atomically(&folder.join(file::CONFORMANCE), report.to_json()?.as_bytes())?;
    }
    Ok(report)
}

/// Batches of 1, 2, 7 and 64 against the trainer, and each row alone against its batch.
fn check_engine(
    bundle: &MlpBundle,
    network: &Mlp,
    p: &Parameters<f32>,
    kind: EngineKind,
    options: &VerifyOptions,
) -> Result<Vec<Check>> {
    let a = network.architecture();
    let mut graph = bundle.load(kind)?;
    let mut random = Random::new(options.seed, 0);
    let (mut of_logits, mut of_probabilities, mut differing, mut alone) = (0.0f64, 0.0f64, 0usize, 0usize);
    for batch in [1, 2, 7, 64] {
        let features: Vec<f32> =
            (0..batch * a.inputs).map(|_| (random.unit() * f64::from(a.scale)) as f32).collect();
        let rows: Vec<&[f32]> = features.chunks_exact(a.inputs).collect();
        let expected: Vec<f64> = network.forward(&p.map(f64::from), &rows);
        let [logits, probabilities] = predict(&mut *graph, &features, a.inputs)?;
        if logits.len() != expected.len() || probabilities.len() != expected.len() {
            return Err(Error::new(ErrorKind::Parity, "the outputs have another number of values")
                .in_graph(MODEL, Some(LOGITS)));
        }
        for (row, (logits, probabilities)) in expected
            .chunks_exact(a.classes)
            .zip(logits.chunks_exact(a.classes).zip(probabilities.chunks_exact(a.classes)))
        {
            let highest = row.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = row.iter().map(|x| (x - highest).exp()).sum();
            for ((&expected, &logit), &probability) in row.iter().zip(logits).zip(probabilities) {
                of_logits = of_logits.max((f64::from(logit) - expected).abs() / expected.abs().max(1.0));
                of_probabilities =
                    of_probabilities.max((f64::from(probability) - (expected - highest).exp() / sum).abs());
            }
        }
        let narrowed: Vec<f32> = expected.iter().map(|&x| x as f32).collect();
        let together = best(&logits, a.classes);
        differing += together.iter().zip(best(&narrowed, a.classes)).filter(|(x, y)| **x != *y).count();
        for (row, &class) in rows.iter().zip(&together) {
            let [single, _] = predict(&mut *graph, row, a.inputs)?;
            alone += usize::from(best(&single, a.classes) != [class]);
        }
    }
    let (name, t) = (Some(kind.as_str()), &options.tolerances());
    Ok(vec![
        Check::measured(MODEL, "logits against the trainer", name, of_logits, t.logits),
        Check::measured(MODEL, "probabilities against the trainer", name, of_probabilities, t.probabilities),
        Check::measured(MODEL, "classes that differ from the trainer's", name, differing as f64, 0.0),
        Check::measured(MODEL, "classes that depend on the batch", name, alone as f64, 0.0),
    ])
}

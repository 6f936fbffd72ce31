//! From a network between features and scores to its bundle.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message as _;
use s2s_runtime::bundle::sha256;
use s2s_runtime::contract::file::{MANIFEST, MODEL};
use s2s_runtime::contract::{FORMAT_VERSION, metadata};
use s2s_runtime::manifest::{GraphFile, Provenance};

use super::bundle::weights_sha256;
use super::feature_bundle::FeatureManifest;
use super::folder::Replace;
use super::input::check_opset;
use super::verified::write_verified;
use super::verify::{Report, VerifyOptions, verify_features};
use crate::error::{Error, ErrorKind, Result};
use crate::network::Parameters;
use crate::network::features::FeatureNetwork;
use crate::onnx::{GraphBuilder, ir_version};

/// Holds all that goes into such a bundle.
#[derive(Clone, Debug)]
pub struct FeatureInput<'a, N> {
    /// The network that the graph is cut from.
    pub network: &'a N,
    /// The weights of the network.
    pub parameters: &'a Parameters<f32>,
    /// The name of the model in the manifest.
    pub name: &'a str,
    /// Where the weights come from.
    pub provenance: Option<Provenance>,
}

/// Makes the files of the bundle, by name: the graph and the manifest.
///
/// # Errors
/// [`ErrorKind::Usage`] for an operator set that cannot be written.
pub fn feature_files<N: FeatureNetwork>(
    input: &FeatureInput<'_, N>,
    opset: i64,
) -> Result<BTreeMap<String, Vec<u8>>> {
    check_opset(opset)?;
    let weights = weights_sha256(input.parameters);
    let mut builder = GraphBuilder::new(N::KIND);
    input.network.emit(input.parameters, &mut builder);
    let metadata = [
        (metadata::FORMAT_VERSION, FORMAT_VERSION),
        (metadata::KIND, N::KIND),
        (metadata::WEIGHTS_SHA256, &weights),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let model = builder.finish(opset, ir_version(opset), &metadata).encode_to_vec();
    let manifest = FeatureManifest {
        format_version: FORMAT_VERSION.to_owned(),
        kind: N::KIND.to_owned(),
        name: input.name.to_owned(),
        producer: format!("s2s {}", env!("CARGO_PKG_VERSION")),
        graph: GraphFile { file: MODEL.to_owned(), sha256: sha256(&model) },
        weights_sha256: weights,
        architecture: input.network.architecture().clone(),
        provenance: input.provenance.clone(),
    };
    let yaml = serde_yaml::to_string(&manifest)
        .map_err(|e| Error::new(ErrorKind::Internal, "the manifest cannot be written").caused_by(e))?;
    Ok(BTreeMap::from([(MODEL.to_owned(), model), (MANIFEST.to_owned(), yaml.into_bytes())]))
}

/// Exports to the folder `target`: written beside it, verified there, and moved to its place only if every
/// check passed.
///
/// # Errors
/// [`ErrorKind::Parity`] if a check failed; as [`feature_files`], [`stage`](super::stage) and
/// [`verify_features`]. In each case `target` is as it was.
pub fn export_features<N: FeatureNetwork>(
    input: &FeatureInput<'_, N>,
    opset: i64,
    verification: &VerifyOptions,
    target: &Path,
    replace: &Replace,
) -> Result<Report> {
    let files = feature_files(input, opset)?;
    write_verified(&files, target, replace, |folder| verify_features::<N>(folder, verification, true))
}

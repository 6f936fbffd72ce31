//! The weights that the graphs carry, held against each other and against the manifest.

use std::collections::{BTreeMap, HashMap};

use s2s_runtime::bundle::Bundle;
use s2s_runtime::checked::CheckedModel;
use s2s_runtime::contract::file;
use s2s_runtime::manifest::Role;

use super::super::bundle::{graph, weights_sha256};
use super::super::compression::restored_tensors;
use super::super::input::ExportOptions;
use super::super::tolerances::Tolerances;
use super::error::Largest;
use super::report::{Check, Outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::network::ground::limits::check_stored;
use crate::network::rebuild::sequence_network;
use crate::network::{Parameters, SequenceNetwork};
use crate::onnx::OPSETS;
use crate::onnx::messages::{ModelProto, TensorProto};

/// The network of a bundle, with the weights that its training graph carries.
pub(super) struct Rebuilt {
    pub(super) network: Box<dyn SequenceNetwork>,
    pub(super) parameters: Parameters<f32>,
}

/// Tensors by name, as the graph computes with them.
type Tensors = HashMap<String, TensorProto>;

/// The messages of all graphs.
pub(super) fn decode(bundle: &Bundle) -> Result<BTreeMap<Role, ModelProto>> {
    bundle
        .manifest()
        .graphs
        .keys()
        .map(|&role| {
            let model = CheckedModel::read(bundle.graph_name(role), bundle.graph(role)?)?;
            Ok((role, model.into_model()))
        })
        .collect()
}

fn tensors(model: &ModelProto) -> Tensors {
    model.graph.iter().flat_map(restored_tensors).map(|tensor| (tensor.name.clone(), tensor)).collect()
}

/// The network out of the manifest's architecture and the training graph's initialisers.
///
/// # Errors
/// [`ErrorKind::Bundle`] if they do not fit each other.
pub(super) fn rebuild(bundle: &Bundle, models: &BTreeMap<Role, ModelProto>) -> Result<Option<Rebuilt>> {
    let (Some(training), Some(architecture)) = (models.get(&Role::Training), &bundle.manifest().architecture)
    else {
        return Ok(None);
    };
    let wrong = |message: String| Error::new(ErrorKind::Bundle, message).help("export the bundle again");
    // The report shows the message alone.
    let impossible = |e: Error| wrong(format!("{}:architecture: {}", file::MANIFEST, e.message()));
    let network = sequence_network(architecture).map_err(|e| match e.kind() {
        ErrorKind::Bundle => wrong(e.message().to_owned()),
        _ => impossible(e),
    })?;
    // Weights may be stored in one byte each.
    check_stored(network.parameter_layout(), bundle.graph(Role::Training)?.len(), 1).map_err(impossible)?;
    let [source, target] = network.vocabularies();
    for (side, found, expected) in
        [("source", bundle.source().size(), source), ("target", bundle.target().size(), target)]
    {
        if found != expected {
            return Err(wrong(format!(
                "the {side} vocabulary has {found} symbols, the architecture says {expected}"
            )));
        }
    }
    let tensors = tensors(training);
    let parameters = network
        .import_tensors(&mut |name| {
            let tensor = tensors.get(name)?;
            Some((tensor.shape()?, tensor.floats()?))
        })
        .map_err(|error| error.in_graph(bundle.graph_name(Role::Training), None))?;
    let Some(source) = bundle.vocabularies()[0] else {
        return Err(wrong(
            "networks of the trainer read lists of symbols, and the source has none".to_owned(),
        ));
    };
    Ok(Some(Rebuilt { network: network.reading(source), parameters }))
}

/// Hash, shared weights, derived tensors.
pub(super) fn check(
    bundle: &Bundle,
    models: &BTreeMap<Role, ModelProto>,
    rebuilt: &Rebuilt,
    tolerances: &Tolerances,
) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    let hash = weights_sha256(&rebuilt.parameters);
    let expected = bundle.manifest().weights_sha256.as_deref();
    let check = |outcome| {
        Check::new(bundle.graph_name(Role::Training), "weights have the manifest's sha256", None, outcome)
    };
    checks.push(match expected {
        None => check(Outcome::Skipped).detail("the manifest has no weights_sha256"),
        Some(expected) if expected == hash => check(Outcome::Passed),
        Some(expected) => check(Outcome::Failed).detail(format!("{hash} instead of {expected}")),
    });
    let weights = rebuilt.network.export_tensors(&rebuilt.parameters);
    let training = tensors(&models[&Role::Training]);
    for (&role, model) in models {
        let name = bundle.graph_name(role);
        let own = tensors(model);
        let shared: Vec<&str> =
            weights.iter().map(|(name, ..)| name.as_str()).filter(|&name| own.contains_key(name)).collect();
        if role != Role::Training {
            let differing: Vec<&str> =
                shared.iter().copied().filter(|&name| own.get(name) != training.get(name)).collect();
            let outcome = if differing.is_empty() { Outcome::Passed } else { Outcome::Failed };
            let detail = if differing.is_empty() {
                format!("{} tensors", shared.len())
            } else {
                format!("differing: {}", differing.join(", "))
            };
            checks.push(Check::new(name, "same weights as the training graph", None, outcome).detail(detail));
        }
        checks.push(derived(bundle, role, model, rebuilt, &shared, tolerances));
    }
    Ok(checks)
}

/// Writes the graph again from the weights: tensors that are no weights must come out the same.
fn derived(
    bundle: &Bundle,
    role: Role,
    model: &ModelProto,
    rebuilt: &Rebuilt,
    shared: &[&str],
    tolerances: &Tolerances,
) -> Check {
    const WHAT: &str = "other tensors follow from the weights";
    let name = bundle.graph_name(role);
    let opset = model.opset_import.iter().find(|set| set.domain.is_empty()).map_or(0, |set| set.version);
    if !OPSETS.contains(&opset) {
        return Check::new(name, WHAT, None, Outcome::Skipped)
            .detail(format!("operator set {opset} is not written by this version"));
    }
    let options = ExportOptions { io: bundle.manifest().io, opset, ..ExportOptions::default() };
    let again = graph(&*rebuilt.network, &rebuilt.parameters, role, &options, &[]);
    let (found, expected) = (tensors(model), tensors(&again));
    let mut largest = 0.0f64;
    let mut worst = "";
    let mut names: Vec<&str> =
        found.keys().map(String::as_str).filter(|name| !shared.contains(name)).collect();
    names.sort_unstable();
    for &tensor in &names {
        let Some(expected) = expected.get(tensor) else {
            return Check::new(name, WHAT, None, Outcome::Failed)
                .detail(format!("{tensor} is in no graph that this version writes"));
        };
        if found[tensor] == *expected {
            continue;
        }
        let error = match (found[tensor].floats(), expected.floats()) {
            (Some(a), Some(b)) if found[tensor].dims == expected.dims => {
                let mut error = Largest::default();
                error.relative(&a, &b);
                error.0
            }
            _ => f64::INFINITY,
        };
        if error > largest {
            (largest, worst) = (error, tensor);
        }
    }
    let check = Check::measured(name, WHAT, None, largest, tolerances.derived);
    if check.outcome == Outcome::Passed {
        check.detail(format!("{} tensors", names.len()))
    } else {
        check.detail(worst)
    }
}

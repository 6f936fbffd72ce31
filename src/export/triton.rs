//! A bundle as a model repository of Triton Inference Server, which KServe mounts too.
//!
//! ```text
//! DIR/s2s.yaml                        vocabularies and wiring, for the client
//! DIR/NAME.encoder/config.pbtxt       one model a graph, run by Triton's ONNX backend
//! DIR/NAME.encoder/1/model.onnx
//! ```
//!
//! The models have the names that `s2s serve-local` gives to graphs, so that a client of one works with the
//! other.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::{axis, file};
use s2s_runtime::graph_info::{Dimension, FLOAT, GraphInfo, INT64, TensorInfo};
use s2s_runtime::manifest::Role;

use super::folder::write_synced;
use super::staging::{Staging, sync};
use crate::error::{Error, ErrorKind, Result};

/// Rows that Triton may join where the batch is the first axis of every tensor.
const MAX_BATCH: usize = 64;

/// Writes the repository: beside its place, then renamed. A repository of a bundle of the same name is
/// replaced.
///
/// - `force`: replace any repository of ours.
///
/// # Errors
/// [`ErrorKind::Usage`] if `target` is there and is not such a repository; [`ErrorKind::Io`].
pub fn write_repository(target: &Path, bundle: &Bundle, force: bool) -> Result<()> {
    let target: std::path::PathBuf = target.components().collect();
    let name = &bundle.manifest().name;
    check_replaceable(&target, name, force)?;
    let staging = Staging::beside(&target)?;
    let repository = staging.path();
    write_synced(&repository.join(file::MANIFEST), bundle.file(file::MANIFEST).unwrap_or_default())?;
    for &role in bundle.manifest().graphs.keys() {
        let model = format!("{name}.{role}");
        let folder = repository.join(&model);
        let version = folder.join("1");
        fs::create_dir_all(&version).map_err(|e| Error::io(&version, e))?;
        write_synced(&folder.join("config.pbtxt"), config(&model, bundle.graph_info(role)?)?.as_bytes())?;
        write_synced(&version.join("model.onnx"), bundle.graph(role)?)?;
        [&version, &folder].into_iter().try_for_each(|folder| sync(folder))?;
    }
    staging.commit()
}

fn check_replaceable(target: &Path, name: &str, force: bool) -> Result<()> {
    let Ok(mut entries) = fs::read_dir(target) else {
        return if target.exists() {
            Err(Error::new(ErrorKind::Usage, "there is a file of this name").in_file(target))
        } else {
            Ok(())
        };
    };
    let is_ours = target.join(format!("{name}.{}", Role::Encoder)).join("config.pbtxt").is_file();
    let is_any = force && target.join(file::MANIFEST).is_file() && !target.join(file::ENCODER).exists();
    let is_empty = entries.next().is_none();
    if is_ours || is_any || is_empty {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, format!("the folder is there and holds no Triton repository of {name}"))
        .in_file(target)
        .help("name a new folder; --force replaces a repository of another model"))
}

/// The configuration of one model.
fn config(model: &str, graph: &GraphInfo) -> Result<String> {
    let is_batched = |tensor: &TensorInfo| {
        let first = tensor.shape.as_ref().and_then(|shape| shape.first());
        matches!(first, Some(Dimension::Symbol(symbol)) if symbol == axis::BATCH)
    };
    let batched = graph.inputs.iter().chain(&graph.outputs).all(is_batched);
    let mut text = format!(
        "name: \"{model}\"\nbackend: \"onnxruntime\"\nmax_batch_size: {}\n",
        if batched { MAX_BATCH } else { 0 }
    );
    for (side, tensors) in [("input", &graph.inputs), ("output", &graph.outputs)] {
        for tensor in tensors {
            let data_type = match tensor.element_type {
                FLOAT => "TYPE_FP32",
                INT64 => "TYPE_INT64",
                other => {
                    let message = format!("element type {other} (ONNX's number) has no form here");
                    return Err(Error::new(ErrorKind::Bundle, message).in_graph(model, Some(&tensor.name)));
                }
            };
            // Where Triton joins rows, the batch axis is its own and is left out.
            let axes = tensor.shape.iter().flatten().skip(usize::from(batched));
            let axes: Vec<String> = axes
                .map(|axis| match axis {
                    Dimension::Fixed(size) => size.to_string(),
                    Dimension::Symbol(_) | Dimension::Unknown => "-1".to_owned(),
                })
                .collect();
            // Writing into a String cannot fail.
            let _ = write!(
                text,
                "{side} [\n  {{\n    name: \"{}\"\n    data_type: {data_type}\n    dims: [ {} ]\n  }}\n]\n",
                tensor.name,
                axes.join(", ")
            );
        }
    }
    if batched {
        text.push_str("dynamic_batching { }\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, element_type: i32, shape: &[Dimension]) -> TensorInfo {
        TensorInfo { name: name.to_owned(), element_type, shape: Some(shape.to_vec()) }
    }

    #[test]
    fn a_graph_whose_tensors_all_begin_with_the_batch_is_batched_by_triton() -> Result<()> {
        let batch = || Dimension::Symbol(axis::BATCH.to_owned());
        let time = || Dimension::Symbol(axis::SOURCE_TIME.to_owned());
        let mut graph = GraphInfo {
            inputs: vec![tensor("encoder_input", INT64, &[batch(), time()])],
            outputs: vec![tensor("state_h_0", FLOAT, &[batch(), Dimension::Fixed(8)])],
            ..GraphInfo::default()
        };
        let expected = "name: \"m.encoder\"\nbackend: \"onnxruntime\"\nmax_batch_size: 64\n\
                        input [\n  {\n    name: \"encoder_input\"\n    data_type: TYPE_INT64\n    dims: [ -1 \
                        ]\n  }\n]\n\
                        output [\n  {\n    name: \"state_h_0\"\n    data_type: TYPE_FP32\n    dims: [ 8 \
                        ]\n  }\n]\n\
                        dynamic_batching { }\n";
        assert_eq!(config("m.encoder", &graph)?, expected);
        graph.outputs.push(tensor("loss", FLOAT, &[]));
        let unbatched = config("m.training", &graph)?;
        assert!(
            unbatched.contains("max_batch_size: 0\n")
                && unbatched.contains("dims: [ -1, -1 ]")
                && !unbatched.contains("dynamic_batching")
        );
        Ok(())
    }
}

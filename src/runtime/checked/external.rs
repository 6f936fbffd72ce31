//! Tensors whose values lie in another file: read into the model before it is checked.

use prost::bytes::Bytes;

use super::elements::bytes_of;
use crate::error::{Error, ErrorKind, Result};
use crate::onnx::{GraphProto, ModelProto, TensorProto};

/// Where a tensor says that its values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct External<'a> {
    /// The file, as the model names it: nothing says that it lies in the model's folder.
    pub location: &'a str,
    /// The first byte there.
    pub offset: u64,
    /// How many bytes the tensor's axes and element type need.
    pub length: u64,
}

/// Gives the bytes of a tensor, as many as it needs.
pub(super) type Fetch<'f> = dyn FnMut(External<'_>) -> Result<Bytes> + 'f;

/// Puts what `fetch` gives into the tensors of `model`. Those of functions and sparse ones stay as they are,
/// and are refused later.
pub(super) fn fetch_all(name: &str, model: &mut ModelProto, fetch: &mut Fetch<'_>) -> Result<()> {
    model.graph.iter_mut().try_for_each(|graph| in_graph(name, graph, fetch))
}

fn in_graph(name: &str, graph: &mut GraphProto, fetch: &mut Fetch<'_>) -> Result<()> {
    graph.initializer.iter_mut().try_for_each(|tensor| in_tensor(name, tensor, fetch))?;
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            let tensors = attribute.t.iter_mut().chain(&mut attribute.tensors);
            tensors.into_iter().try_for_each(|tensor| in_tensor(name, tensor, fetch))?;
            // Recursion is bounded by the depth to which messages are decoded.
            let bodies = attribute.g.iter_mut().chain(&mut attribute.graphs);
            bodies.into_iter().try_for_each(|body| in_graph(name, body, fetch))?;
        }
    }
    Ok(())
}

fn in_tensor(name: &str, tensor: &mut TensorProto, fetch: &mut Fetch<'_>) -> Result<()> {
    if tensor.data_location == 0 && tensor.external_data.is_empty() {
        return Ok(());
    }
    let place: String = tensor.name.chars().take(200).collect();
    let fault = |message: String| {
        Error::new(ErrorKind::Bundle, message)
            .in_graph(name, Some(&place))
            .help("the file is damaged: export the model again")
    };
    let mut found = External { location: "", offset: 0, length: 0 };
    let mut length = None;
    for entry in &tensor.external_data {
        let number = || {
            let problem = || fault(format!("{} {:?} of its values in another file", entry.key, entry.value));
            entry.value.parse::<u64>().map_err(|_| problem())
        };
        match entry.key.as_str() {
            "location" => found.location = &entry.value,
            "offset" => found.offset = number()?,
            "length" => length = Some(number()?),
            // A checksum, which is optional, and what runtimes add for themselves.
            _ => {}
        }
    }
    let needed = bytes_of(&tensor.dims, tensor.data_type).ok_or_else(|| {
        fault(format!("a tensor with the axes {:?}, which no tensor can have", tensor.dims))
    })?;
    if let Some(length) = length.filter(|&length| length != needed) {
        return Err(fault(format!(
            "the tensor has {length} bytes in {:?}, where its axes {:?} and its type need {needed}",
            found.location, tensor.dims
        )));
    }
    found.length = needed;
    let bytes = fetch(found).map_err(|error| error.in_graph(name, Some(&place)))?;
    tensor.raw_data = bytes;
    tensor.external_data.clear();
    tensor.data_location = 0;
    Ok(())
}

//! Weights that lie beside their graph (`*.onnx_data`), made part of the graph in memory.

use std::collections::BTreeMap;

use prost::bytes::Bytes;

use crate::bundle::files::Files;
use crate::checked::{CheckedModel, External};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{FileKind, GRAPH};
use crate::manifest::is_plain_name;

use super::layout::required;

/// Inputs and outputs of a graph, of which a layer has four: they are looked for one by one.
pub(super) const MOST_ENDS: usize = 4096;

/// Reads a graph of a folder, with what lies in other files of that folder.
///
/// All of it together must fit into one ONNX file, which holds at most 2 GiB: engines take graphs in that
/// form.
///
/// # Errors
/// [`ErrorKind::Bundle`] for a file that is missing, lies elsewhere or is too short; as
/// [`CheckedModel::read`].
pub(super) fn read(files: &mut dyn Files, file: &str) -> Result<CheckedModel> {
    let bytes = Bytes::from(required(files, file, GRAPH)?);
    let (model, _) = with_weights(files, file, file, bytes)?;
    let outputs = model.graph().output.len();
    if outputs > MOST_ENDS {
        let message = format!("{outputs} outputs; at most {MOST_ENDS} are read");
        return Err(Error::new(ErrorKind::Bundle, message).in_graph(file, None));
    }
    Ok(model)
}

/// The graph whose bytes these are, with what lies in other files of its folder, and the names of those.
///
/// - `name`: what the graph is called in errors.
///
/// # Errors
/// As [`read`].
pub(crate) fn with_weights(
    files: &mut dyn Files,
    name: &str,
    file: &str,
    bytes: Bytes,
) -> Result<(CheckedModel, Vec<String>)> {
    let mut left = GRAPH.limit.saturating_sub(bytes.len() as u64);
    // Each file is read once, and all of them together are no longer than one may be.
    let (mut open, mut room) = (BTreeMap::<String, Bytes>::new(), GRAPH.limit);
    let mut fetch = |External { location, offset, length }: External<'_>| {
        let wrong = |message: String| Error::new(ErrorKind::Bundle, message).in_graph(name, None);
        if !is_plain_name(location) {
            return Err(wrong(format!(
                "its values are in {location:?}, which is no file of the graph's folder"
            ))
            .help("external data is read from files beside the graph, and named without folders"));
        }
        left = left.checked_sub(length).ok_or_else(|| {
            wrong("with the values that lie in other files it is longer than 2 GiB".to_owned())
                .help("export the model in int8 or f16")
        })?;
        if !open.contains_key(location) {
            if files.leads_out(location, file) {
                return Err(Error::new(ErrorKind::Bundle, "a link that leads out of the folder")
                    .in_file(files.path(location))
                    .help("copy the file itself into the folder"));
            }
            let data = required(files, location, FileKind { limit: room, ..GRAPH })?;
            room -= data.len() as u64;
            open.insert(location.to_owned(), data.into());
        }
        let data = open.get(location).cloned().unwrap_or_default();
        let part = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        let part = part.and_then(|(from, length)| {
            let part = from..from.checked_add(length)?;
            (part.end <= data.len()).then(|| data.slice(part))
        });
        part.ok_or_else(|| {
            wrong(format!(
                "its values are {length} bytes from {offset} on in {location:?}, which has {}",
                data.len()
            ))
            .help("the file is truncated, or of another export: copy the whole folder again")
        })
    };
    let model = CheckedModel::read_with(name, bytes, &mut fetch)?;
    Ok((model, open.into_keys().collect()))
}

//! What any network may be in size, asked wherever sizes are read.

use std::ops::RangeInclusive;

use super::parameters::Layout;
use crate::error::{Error, ErrorKind, Result};

/// Most recurrent (or, of a perceptron, hidden) layers of one side.
pub const MOST_LAYERS: usize = 64;
/// Widest hidden state or embedding.
pub const WIDEST: usize = 65_536;
/// Most symbols of a vocabulary.
pub const MOST_SYMBOLS: usize = 10_000_000;
/// Most parameters: 2 GiB of f32, as much as one ONNX file can hold.
pub const MOST_PARAMETERS: usize = 1 << 29;

/// Whether an option of an architecture lies in its range.
pub(in crate::network) fn within(name: &str, value: usize, range: RangeInclusive<usize>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    let error = Error::new(ErrorKind::Config, format!("`{name}` is {value}, and can be {least} to {most}"));
    Err(error.help("no network of such sizes can be trained here; is the file damaged?"))
}

/// Whether so many parameters can be trained and exported.
pub(in crate::network) fn check_count(layout: &Layout) -> Result<()> {
    if layout.len() <= MOST_PARAMETERS {
        return Ok(());
    }
    let message =
        format!("a network of these sizes has {} parameters, and can have {MOST_PARAMETERS}", layout.len());
    Err(Error::new(ErrorKind::Config, message)
        .help("that is what one ONNX file holds; choose smaller `hidden`, `layers` or embeddings"))
}

/// Whether a file of so many `bytes` can hold the values of `layout`, each in at least `width` bytes: asked
/// before memory is, so that a small file cannot ask for much.
///
/// # Errors
/// [`ErrorKind::Data`] without a place.
pub fn check_stored(layout: &Layout, bytes: usize, width: usize) -> Result<()> {
    if layout.len().saturating_mul(width) <= bytes {
        return Ok(());
    }
    let message =
        format!("the architecture asks for {} parameters, and the file has {bytes} bytes", layout.len());
    Err(Error::new(ErrorKind::Data, message))
}

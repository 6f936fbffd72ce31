//! The lengths of a value's axes, as far as they are known.

use std::fmt;
use std::sync::Arc;

use crate::onnx::{Dimension, DimensionProto, ValueInfoProto};

/// Characters of a symbol, and axes of a shape, that are shown: long ones would be repeated at every value.
const SHOWN: (usize, usize) = (60, 16);

/// The length of one axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Known.
    Fixed(i64),
    /// Known when the graph runs; equal wherever the name is equal.
    Symbol(Arc<str>),
    /// Not known.
    Unknown,
}

/// Axes, or `None` where not even their number is known.
pub type Shape = Option<Vec<Axis>>;

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(length) => write!(f, "{length}"),
            Self::Symbol(name) => match name.char_indices().nth(SHOWN.0) {
                Some((end, _)) => write!(f, "{}...", &name[..end]),
                None => f.write_str(name),
            },
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// A shape as `(batch, 128)`; `?` where it is unknown.
pub fn display(shape: &Shape) -> String {
    let Some(axes) = shape else { return "?".to_owned() };
    let mut shown: Vec<String> = axes.iter().take(SHOWN.1).map(ToString::to_string).collect();
    if axes.len() > SHOWN.1 {
        shown.push("...".to_owned());
    }
    format!("({})", shown.join(", "))
}

/// Elements of a value where each axis that is not known is 1 long: as few as it can have. 2^64 - 1 for more
/// than fit.
pub fn least_elements(axes: &[Axis]) -> u64 {
    let length =
        |axis: &Axis| if let Axis::Fixed(length) = axis { u64::try_from(*length).unwrap_or(1) } else { 1 };
    if axes.contains(&Axis::Fixed(0)) { 0 } else { axes.iter().map(length).fold(1, u64::saturating_mul) }
}

/// A length that is known unless it does not fit.
pub(super) fn fixed(length: Option<i64>) -> Axis {
    length.map_or(Axis::Unknown, Axis::Fixed)
}

/// The product of lengths, if all are known and it fits.
pub(super) fn product(axes: &[Axis]) -> Option<i64> {
    axes.iter()
        .try_fold(1i64, |n, axis| if let Axis::Fixed(length) = axis { n.checked_mul(*length) } else { None })
}

fn axis(dim: &DimensionProto) -> Axis {
    match &dim.value {
        Some(Dimension::Value(length)) if *length >= 0 => Axis::Fixed(*length),
        Some(Dimension::Param(name)) if !name.is_empty() => Axis::Symbol(name.as_str().into()),
        _ => Axis::Unknown,
    }
}

/// The declared shape of an input or output.
pub fn declared(info: &ValueInfoProto) -> Shape {
    let tensor = info.r#type.as_ref()?.tensor_type.as_ref()?;
    Some(tensor.shape.as_ref()?.dim.iter().map(axis).collect())
}

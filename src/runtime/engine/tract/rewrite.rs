//! Rewrites tract's plan so that its hot operators are our own.

use tract_onnx::prelude::{TractResult, TypedModel};

use super::cell_pattern::with_cells;
use super::recurrent_table::with_tables;

/// The same model with our recurrent operators; `model` is as it was read, because tract cuts products apart
/// where it declutters.
pub(super) fn with_recurrence(model: TypedModel) -> TractResult<TypedModel> {
    with_cells(with_tables(model)?)
}

/// The same model with our operators where they fit; `model` is decluttered, its weights are constants.
pub(super) fn faster(model: TypedModel) -> TractResult<TypedModel> {
    Ok(model)
}

//! Rewrites tract's plan so that its hot operators are our own.

use tract_onnx::prelude::{TractResult, TypedModel};
use tract_onnx::tract_core::model::Rewriter;

use super::cell_pattern::with_cells;
use super::recurrent_table::with_tables;
use super::{attention, constants, elementwise, linear, norm, product, scatter, softmax, twins};

/// The same model with our recurrent operators; `model` is as it was read, because tract cuts products apart
/// where it declutters.
pub(super) fn with_recurrence(model: TypedModel) -> TractResult<TypedModel> {
    with_cells(with_tables(twins::merged(model)?)?)
}

/// The same model with our operators where they fit; `model` is decluttered, its weights are constants.
pub(super) fn faster(model: TypedModel) -> TractResult<TypedModel> {
    let mut model = constants::fold(model)?;
    // A rule that finds a larger pattern comes before those that replace its parts.
    Rewriter::default()
        .with_rule_for("attention", attention::fused)
        .with_rule_for("centred norm", norm::centred)
        .with_rule_for("scaled norm", norm::scaled_or_shifted)
        .with_rule_for("logarithm of a softmax", softmax::logarithm)
        .with_rule_for("spelled-out gelu", elementwise::spelled_out_gelu)
        .rewrite(&(), &mut model)?;
    Rewriter::default()
        .with_rule_for("activation", elementwise::applied)
        .with_rule_for("product with a constant", linear::product_with_constant)
        .with_rule_for("bias", linear::bias)
        .with_rule_for("activated product", linear::activated)
        .with_rule_for("product of two computed operands", product::of_computed)
        .with_rule_for("softmax", softmax::along_the_last_axis)
        .with_rule_for("scatter", scatter::overwritten)
        .rewrite(&(), &mut model)?;
    Rewriter::default().with_rule_for("residual", linear::residual).rewrite(&(), &mut model)?;
    Rewriter::default().with_rule_for("arithmetic", elementwise::combined).rewrite(&(), &mut model)?;
    Ok(model)
}

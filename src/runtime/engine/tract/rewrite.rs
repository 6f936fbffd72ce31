//! Rewrites tract's plan so that its hot operators are our own.

use tract_onnx::prelude::{TractResult, TypedModel};
use tract_onnx::tract_core::model::Rewriter;

use super::{attention, linear, norm, product};

/// The same model with our operators where they fit; `model` is decluttered, its weights are constants.
pub(super) fn faster(mut model: TypedModel) -> TractResult<TypedModel> {
    // What a larger pattern is made of comes after it.
    Rewriter::default()
        .with_rule_for("attention", attention::fused)
        .with_rule_for("centred norm", norm::centred)
        .with_rule_for("scaled norm", norm::scaled_or_shifted)
        .rewrite(&(), &mut model)?;
    Rewriter::default()
        .with_rule_for("product with a constant", linear::product_with_constant)
        .with_rule_for("bias", linear::bias)
        .with_rule_for("activated product", linear::activated)
        .with_rule_for("product of two computed operands", product::of_computed)
        .rewrite(&(), &mut model)?;
    Rewriter::default().with_rule_for("residual", linear::residual).rewrite(&(), &mut model)?;
    Ok(model)
}

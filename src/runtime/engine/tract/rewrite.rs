//! Rewrites tract's plan so that its hot operators are our own.

use tract_onnx::prelude::{TractResult, TypedModel};
use tract_onnx::tract_core::model::Rewriter;

use super::linear;

/// The same model with our operators where they fit; `model` is decluttered, its weights are constants.
pub(super) fn faster(mut model: TypedModel) -> TractResult<TypedModel> {
    Rewriter::default()
        .with_rule_for("product with a constant", linear::product_with_constant)
        .with_rule_for("bias", linear::bias)
        .with_rule_for("activated product", linear::activated)
        .rewrite(&(), &mut model)?;
    Ok(model)
}

//! Merges nodes that compute the same from the same inputs.
//!
//! Exported graphs compute a state twice where inner nodes and an output of the graph both want it; a pattern
//! that replaces one of the two would leave the other's whole chain in place.

use tract_onnx::prelude::{OutletId, TractResult, TypedModel, TypedModelPatch};

/// The same model with each computation once.
pub(super) fn merged(mut model: TypedModel) -> TractResult<TypedModel> {
    for id in model.eval_order()? {
        for slot in 0..model.node(id).outputs.len() {
            while let Some((kept, other)) = twins(&model, OutletId::new(id, slot)) {
                let mut patch = TypedModelPatch::default();
                for slot in 0..model.node(other).outputs.len() {
                    let tap = patch.tap_model(&model, OutletId::new(kept, slot))?;
                    patch.shunt_outside(&model, OutletId::new(other, slot), tap)?;
                }
                patch.obliterate(other)?;
                patch.apply(&mut model)?;
            }
        }
    }
    Ok(model)
}

/// Two readers of an outlet that are the same operator of the same inputs.
fn twins(model: &TypedModel, outlet: OutletId) -> Option<(usize, usize)> {
    let mut readers: Vec<usize> = model.outlet_successors(outlet).iter().map(|inlet| inlet.node).collect();
    readers.sort_unstable();
    readers.dedup();
    // A value that very many nodes read (a mask, say) is no state: pairs of its readers are not worth finding.
    const MOST_READERS: usize = 16;
    readers.truncate(MOST_READERS);
    readers.iter().enumerate().find_map(|(at, &a)| {
        let is_output = |node: usize| model.outputs.iter().any(|outlet| outlet.node == node);
        let is_twin =
            |b: &&usize| !(is_output(a) && is_output(**b)) && model.node(a).same_as(model.node(**b));
        readers[at + 1..].iter().find(is_twin).map(|&b| (a, b))
    })
}

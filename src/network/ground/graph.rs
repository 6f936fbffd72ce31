//! What the layers' ONNX forms share, and the door through which parameters reach a graph.

use s2s_runtime::contract::PAD;

use super::parameters::{ParameterId, Parameters};
use crate::onnx::builder::{GraphBuilder, Value};

pub use s2s_runtime::manifest::Io;

/// One side (source or target) of a graph over whole texts.
#[derive(Clone, Debug)]
pub struct GraphSide {
    /// Whether texts come as ids or as one-hot rows.
    pub io: Io,
    /// Ids (time, batch), or rows (time, batch, vocabulary).
    pub input: Value,
    /// 1 at tokens, 0 at padding; f32 (time, batch, 1).
    pub mask: Value,
}

/// Gives the sizes of the parts of a Split, its second input.
pub(in crate::network) fn split_sizes(g: &mut GraphBuilder, sizes: &[usize]) -> Value {
    let sizes: Vec<i64> = sizes.iter().map(|&n| n as i64).collect();
    g.int64(&[sizes.len()], &sizes)
}

/// Adds a parameter as an initialiser of the same name: with [`emit_folded`] the door through which
/// parameters reach a graph.
pub(in crate::network) fn emit_parameter(
    p: &Parameters<f32>,
    id: ParameterId,
    g: &mut GraphBuilder,
) -> Value {
    let (shape, values) = p.exported(id);
    g.initializer(&p.entry(id).name, &shape, &values)
}

/// Adds what was worked out from parameters beforehand, as a graph of one step wants it, as an initialiser of
/// a name of its own.
pub(in crate::network) fn emit_folded(
    g: &mut GraphBuilder,
    name: &str,
    shape: &[usize],
    values: &[f32],
) -> Value {
    g.initializer(name, shape, values)
}

/// Adds zeros where an operator wants a parameter that the network does not have.
pub(in crate::network) fn emit_zeros(g: &mut GraphBuilder, shape: &[usize]) -> Value {
    let length = shape.iter().product();
    g.initializer(&format!("constant.zeros_{length}"), shape, &vec![0.0; length])
}

/// Takes away an axis of length 1.
pub(in crate::network) fn squeeze(g: &mut GraphBuilder, value: &Value, axis: i64) -> Value {
    let axes = g.int64(&[1], &[axis]);
    g.node("Squeeze", &[value, &axes], &[])
}

/// Adds an axis of length 1.
pub(in crate::network) fn unsqueeze(g: &mut GraphBuilder, value: &Value, axis: i64) -> Value {
    let axes = g.int64(&[1], &[axis]);
    g.node("Unsqueeze", &[value, &axes], &[])
}

/// Gives 1 at tokens and 0 at padding, f32 with an axis of length 1 behind those of the ids.
///
/// Looked up, because some runtimes compare no integers, and a common converter to float16 leaves a Cast of
/// truth values to f32 as it is.
///
/// - `vocabulary`: number of symbols.
pub(in crate::network) fn emit_mask(g: &mut GraphBuilder, ids: &Value, vocabulary: usize) -> Value {
    let table = emit_mask_table(g, vocabulary);
    g.node("Gather", &[&table, ids], &[])
}

/// Gives 1 for each symbol, 0 for PAD, (vocabulary, 1).
pub(in crate::network) fn emit_mask_table(g: &mut GraphBuilder, vocabulary: usize) -> Value {
    let is_token: Vec<f32> = (0..vocabulary).map(|id| if id == PAD as usize { 0.0 } else { 1.0 }).collect();
    g.float(&[vocabulary, 1], &is_token)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::{Path, PathBuf};

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn parameters_reach_a_graph_through_one_door() {
        let network = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/network");
        let door = network.join("ground/graph.rs");
        for path in sources(&network).into_iter().filter(|path| *path != door) {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains(".initializer("), "{} adds an initialiser by itself", path.display());
        }
    }
}

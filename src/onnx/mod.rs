//! Writing and reading ONNX files. A leaf: it knows operators and tensors, and no network.

pub mod builder;
/// The messages of an ONNX file; the runtime has them because its engines rewrite graphs.
pub use s2s_runtime::onnx as messages;

pub use builder::{Attribute, Axis, GraphBuilder, Value};
pub use messages::DataType;

/// The smallest and the largest operator set that the exporter can write.
pub const OPSETS: std::ops::RangeInclusive<i64> = 13..=21;

/// The operator set written unless the user says otherwise: every engine of the last four years reads it.
pub const DEFAULT_OPSET: i64 = 17;

/// The smallest IR version that may carry `opset` (the table of released versions in onnx's `Versioning.md`).
pub fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        _ => 10,
    }
}

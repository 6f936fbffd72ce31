//! How much of anything a graph may have.

/// Nodes of a model, bodies counted and functions expanded. An unrolled network of a thousand steps has
/// 20,000; tract and ONNX Runtime take minutes for a million.
pub const MOST_NODES: usize = 100_000;
/// Tensors of a model.
pub const MOST_TENSORS: usize = 100_000;
/// Attributes, types, axes and texts of a model: ten for each node.
pub const MOST_PARTS: usize = 1_000_000;
/// Bytes of a name. PyTorch's longest have some 300; pictures and paths of bodies repeat them.
pub const LONGEST_NAME: usize = 4096;
/// Axes of a value; runtimes take 8 to 64.
pub const MOST_AXES: usize = 64;
/// Elements that the fixed axes of a declared input or output may have together: what no machine here can
/// feed.
pub const MOST_DECLARED: u64 = 1 << 33;

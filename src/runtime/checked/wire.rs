//! Counts what decoding would allocate, on the bytes as they are: two bytes can stand for a message of two
//! hundred.

use super::limits::{MOST_NODES, MOST_PARTS, MOST_TENSORS};

/// Why bytes are not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// They are no protobuf messages, or are nested deeper than protobuf's own limit.
    Malformed,
    /// More of these than this.
    TooMany(&'static str, usize),
}

/// Nesting that protobuf's readers allow.
const DEEPEST: usize = 100;

/// The messages of [`onnx`](crate::onnx) that have others within.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Function,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// One without further messages.
    Leaf,
}

impl Kind {
    /// The message in a field, as onnx.proto numbers them.
    fn child(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Self::Tensor,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::Sparse,
            (Self::Graph, 11..=13) => Self::ValueInfo,
            (Self::ValueInfo, 2) => Self::Type,
            (Self::Type, 1) => Self::TensorType,
            (Self::TensorType, 2) => Self::Shape,
            (Self::Shape, 1) | (Self::Model, 8 | 14 | 20) | (Self::Tensor, 13) => Self::Leaf,
            _ => return None,
        })
    }
}

#[derive(Default)]
struct Counts {
    nodes: usize,
    tensors: usize,
    parts: usize,
}

/// Counts the messages of an ONNX model; reads each byte of them once, and none of the weights.
pub(super) fn count(bytes: &[u8]) -> Result<(), Fault> {
    walk(Kind::Model, bytes, 0, &mut Counts::default())
}

fn walk(kind: Kind, mut bytes: &[u8], depth: usize, counts: &mut Counts) -> Result<(), Fault> {
    if depth > DEEPEST {
        return Err(Fault::Malformed);
    }
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => drop(varint(&mut bytes)?),
            1 => drop(take(&mut bytes, 8)?),
            5 => drop(take(&mut bytes, 4)?),
            2 => {
                let length = varint(&mut bytes)?;
                let inner = take(&mut bytes, length)?;
                if let Some(child) = kind.child(key >> 3) {
                    let (count, what, most) = match child {
                        Kind::Node => (&mut counts.nodes, "nodes", MOST_NODES),
                        Kind::Tensor => (&mut counts.tensors, "tensors", MOST_TENSORS),
                        _ => (&mut counts.parts, "attributes, types, axes and texts", MOST_PARTS),
                    };
                    *count += 1;
                    if *count > most {
                        return Err(Fault::TooMany(what, most));
                    }
                    walk(child, inner, depth + 1, counts)?;
                }
            }
            // Groups, which ONNX does not have.
            _ => return Err(Fault::Malformed),
        }
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0u64;
    for at in 0..10 {
        let byte = *bytes.get(at).ok_or(Fault::Malformed)?;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *bytes = &bytes[at + 1..];
            return Ok(value);
        }
    }
    Err(Fault::Malformed)
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Fault> {
    let length = usize::try_from(length).map_err(|_| Fault::Malformed)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Fault::Malformed)?;
    *bytes = rest;
    Ok(taken)
}

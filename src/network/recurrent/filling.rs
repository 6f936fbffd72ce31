//! Padding that the model reads: short sources are filled up with an ordinary symbol, inside the graph.
//!
//! Padding with id 0 leaves a state as it is. A model that learnt with padding that it did read (Keras
//! without a mask) must read as much of it again. The graphs make it themselves, so that whoever runs them
//! pads on the left with 0 as for any other bundle and knows nothing of it: a text of n tokens is read as one
//! of max(n + least, length).

use s2s_runtime::vocabulary::{Padding, PaddingSide, Vocabulary};

use crate::network::ground::graph::{GraphSide, Io, emit_mask};
use crate::onnx::builder::{Attribute, GraphBuilder};
use crate::onnx::messages::DataType;

/// How sources are filled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filling {
    /// The id that a text is filled up with.
    pub id: u32,
    /// Tokens of a text that is filled; longer texts stay as they are.
    pub length: usize,
    /// How many stand there however long the text is.
    pub least: usize,
    /// Where it is filled.
    pub side: PaddingSide,
}

impl Filling {
    /// Tells what the graphs of this vocabulary do, if they do anything.
    pub fn of(source: &Vocabulary) -> Option<Self> {
        let padding = source.spec().graph_padding.as_ref()?;
        let Padding { symbol, length, least, side } = padding;
        Some(Self { id: source.id(symbol)?, length: *length, least: *least, side: *side })
    }

    /// Gives a text as the encoder reads it; an empty one becomes filling alone.
    pub fn fill(&self, ids: &[u32]) -> Vec<u32> {
        let missing = self.length.saturating_sub(ids.len()).max(self.least);
        let filling = std::iter::repeat_n(self.id, missing);
        match self.side {
            PaddingSide::Left => filling.chain(ids.iter().copied()).collect(),
            PaddingSide::Right => ids.iter().copied().chain(filling).collect(),
        }
    }

    /// Writes the way from the source, (time, batch, ...) left-padded, to the filled one, (max(time + least,
    /// length), batch, ...) left-padded.
    ///
    /// All of it in f32, where ids are exact: not every engine pads and gathers integers. With `distance` the
    /// number of tokens behind a position, and `missing` = max(length - n, least) for a text of n tokens:
    ///
    /// - left: positions with `distance` < n + `missing` that are padding become filling;
    /// - right: position j takes what stood at j + missing, and filling where `distance` < missing.
    pub(super) fn emit(&self, g: &mut GraphBuilder, side: &GraphSide, vocabulary: usize) -> GraphSide {
        let (length, least) = (self.length as i64, self.least as i64);
        let at_front = |n: i64| [n, 0, 0, 0, 0, 0];
        let to = |kind: DataType| [("to", Attribute::Int(kind as i64))];
        let time = g.int64(&[1], &[0]);
        let (rows, symbol) = match side.io {
            Io::Ids => {
                let channel = g.int64(&[1], &[2]);
                let ids = g.node("Unsqueeze", &[&side.input, &channel], &[]);
                (g.node("Cast", &[&ids], &to(DataType::Float)), g.float(&[1], &[self.id as f32]))
            }
            Io::OneHot => {
                let mut row = vec![0.0; vocabulary];
                row[self.id as usize] = 1.0;
                (side.input.clone(), g.float(&[vocabulary], &row))
            }
        };
        // Where all texts get as much behind them, nothing moves.
        let is_even = self.side == PaddingSide::Right && self.length <= self.least;
        // max(time + least, length) rows: `length + least` more in front, of which min(time + least, length)
        // go again.
        let longer = if is_even { [0, 0, 0, least, 0, 0] } else { at_front(length + least) };
        let longer = g.int64(&[6], &longer);
        let [mut rows, mut mask] = [&rows, &side.mask].map(|value| g.node("Pad", &[value, &longer], &[]));
        if !is_even {
            let shape = g.node("Shape", &[&side.mask], &[]);
            let mut steps = g.node("Gather", &[&shape, &time], &[]);
            if least > 0 {
                let least = g.int64(&[1], &[least]);
                steps = g.node("Add", &[&steps, &least], &[]);
            }
            let most = g.int64(&[1], &[length]);
            let from = g.node("Min", &[&steps, &most], &[]);
            let end = g.int64(&[1], &[i64::MAX]);
            [rows, mask] = [&rows, &mask].map(|value| g.node("Slice", &[value, &from, &end, &time], &[]));
        }

        let (zero, one) = (g.float(&[], &[0.0]), g.float(&[], &[1.0]));
        let nothing = g.node("Mul", &[&mask, &zero], &[]);
        let ones = g.node("Add", &[&nothing, &one], &[]);
        let axis = g.int64(&[], &[0]);
        let counted = g.node("CumSum", &[&ones, &axis], &[]);
        let keep = [("keepdims", Attribute::Int(1))];
        let all = g.node("ReduceSum", &[&ones, &time], &keep);
        let distance = g.node("Sub", &[&all, &counted], &[]);
        let wanted = g.float(&[], &[self.length as f32]);
        let least = (self.least > 0).then(|| g.float(&[], &[self.least as f32]));
        let (rows, fills) = match self.side {
            PaddingSide::Right if is_even => {
                let wanted = g.float(&[], &[self.least as f32]);
                let fills = g.node("Greater", &[&wanted, &distance], &[]);
                (rows, g.node("Cast", &[&fills], &to(DataType::Float)))
            }
            PaddingSide::Left => {
                let wanted = match &least {
                    None => wanted,
                    Some(least) => {
                        let tokens = g.node("ReduceSum", &[&mask, &time], &keep);
                        let whole = g.node("Add", &[&tokens, least], &[]);
                        g.node("Max", &[&whole, &wanted], &[])
                    }
                };
                let near = g.node("Greater", &[&wanted, &distance], &[]);
                let near = g.node("Cast", &[&near], &to(DataType::Float));
                let empty = g.node("Sub", &[&one, &mask], &[]);
                (rows, g.node("Mul", &[&near, &empty], &[]))
            }
            PaddingSide::Right => {
                let tokens = g.node("ReduceSum", &[&mask, &time], &keep);
                let missing = g.node("Sub", &[&wanted, &tokens], &[]);
                let missing = match &least {
                    None => g.node("Relu", &[&missing], &[]),
                    Some(least) => g.node("Max", &[&missing, least], &[]),
                };
                let position = g.node("Sub", &[&counted, &one], &[]);
                let index = g.node("Add", &[&position, &missing], &[]);
                let mut index = g.node("Cast", &[&index], &to(DataType::Int64));
                let behind = g.int64(&[6], &[0, 0, 0, length.max(self.least as i64), 0, 0]);
                let rows = g.node("Pad", &[&rows, &behind], &[]);
                if side.io == Io::OneHot {
                    // The index as wide as the rows; as long as it is, not as they are.
                    let width = g.float(&[vocabulary], &vec![0.0; vocabulary]);
                    let wide = g.node("Add", &[&mask, &width], &[]);
                    let shape = g.node("Shape", &[&wide], &[]);
                    index = g.node("Expand", &[&index, &shape], &[]);
                }
                let moved = g.node("GatherElements", &[&rows, &index], &[("axis", Attribute::Int(0))]);
                let fills = g.node("Greater", &[&missing, &distance], &[]);
                (moved, g.node("Cast", &[&fills], &to(DataType::Float)))
            }
        };
        let filling = g.node("Mul", &[&fills, &symbol], &[]);
        let filled = g.node("Add", &[&rows, &filling], &[]);
        match side.io {
            Io::Ids => {
                let ids = g.node("Cast", &[&filled], &to(DataType::Int64));
                let channel = g.int64(&[1], &[2]);
                let input = g.node("Squeeze", &[&ids, &channel], &[]);
                let mask = emit_mask(g, &input, vocabulary);
                GraphSide { io: Io::Ids, input, mask }
            }
            Io::OneHot => {
                let channel = g.int64(&[1], &[2]);
                let mask = g.node("ReduceSum", &[&filled, &channel], &keep);
                GraphSide { io: Io::OneHot, input: filled, mask }
            }
        }
    }
}

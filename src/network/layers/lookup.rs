//! How a decoder state finds its context among the encoder's outputs: scores, softmax, weighted sum.

use super::kinds::{AttentionOutput, AttentionScore};
use crate::network::ground::gradients::{Summand, Summands};
use crate::network::ground::graph::{emit_parameter, squeeze, unsqueeze};
use crate::network::ground::parameters::{Layout, ParameterId, Parameters};
use crate::network::ground::pass::Pass;
use crate::network::ground::shard::Alignment;
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use s2s_kernels::random::Random;
use s2s_kernels::{
    MatRef, Packed, Real, Store, add_assign, add_column_sums, additive_scores, additive_scores_backward,
    matmul, matmul_packed, softmax,
};

/// Sizes and options of attention over the encoder's outputs.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Width of the decoder's states.
    pub hidden: usize,
    /// Width of the encoder's outputs.
    pub memory: usize,
    /// Width of additive scores before they are summed.
    pub width: usize,
    /// Whether additive scores and the combining layer have a bias.
    pub has_bias: bool,
    /// The score.
    pub score: AttentionScore,
    /// What the output layer reads.
    pub output: AttentionOutput,
}

/// Scores of decoder states (tokens, hidden) against encoder outputs (tokens, memory), and the contexts.
///
/// Parameters: `decoder.attention.key` K (hidden, memory) for general scores; for additive ones
/// `decoder.attention.query` W (hidden, width), `decoder.attention.memory` U (memory, width), with a bias
/// `decoder.attention.score_bias` b (width), and `decoder.attention.score` v (width).
#[derive(Clone, Debug)]
pub struct Lookup {
    hidden: usize,
    memory: usize,
    /// K or W, and its columns.
    query: Option<(ParameterId, usize)>,
    additive: Option<Additive>,
}

/// The parameters of additive scores alone.
#[derive(Clone, Copy, Debug)]
struct Additive {
    width: usize,
    memory: ParameterId,
    bias: Option<ParameterId>,
    score: ParameterId,
}

/// [`Lookup`] laid out for the products of one optimiser step; shared by all shards.
#[derive(Clone, Debug, Default)]
pub struct PreparedLookup<R> {
    /// K or W, and its transpose.
    query: Option<[Packed<R>; 2]>,
    /// U and its transpose.
    memory: Option<[Packed<R>; 2]>,
}

/// The encoder's outputs text by text, and the gradients that lookups add.
#[derive(Clone, Debug, Default)]
pub struct MemoryTape<R> {
    /// (source tokens, memory).
    rows: Vec<R>,
    /// m U of additive scores (source tokens, width).
    keys: Vec<R>,
    d_rows: Vec<R>,
    d_keys: Vec<R>,
}

/// What one forward pass leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct LookupTape<R> {
    /// The contexts (target tokens, memory), in the packing's order.
    pub context: Vec<R>,
    /// Their gradient.
    pub d_context: Vec<R>,
    /// h, and what the scores are made of: h K, h W + b or h itself; text by text.
    h: Vec<R>,
    queries: Vec<R>,
    d_queries: Vec<R>,
    /// a, text by text (target tokens of the text, source tokens of the text).
    weights: Vec<R>,
    /// Gradients of b and v.
    d_bias: Vec<R>,
    d_score: Vec<R>,
    buffer: Vec<R>,
    tanhs: Vec<R>,
}

impl Lookup {
    /// Registers the parameters; `None` where there is no attention.
    pub fn new(p: &mut Layout, shape: &AttentionShape) -> Option<Self> {
        let &AttentionShape { hidden, memory, width, has_bias, score, .. } = shape;
        let (query, additive) = match score {
            AttentionScore::None => return None,
            AttentionScore::Dot => (None, None),
            AttentionScore::General => {
                (Some((p.add("decoder.attention.key", &[hidden, memory]), memory)), None)
            }
            AttentionScore::Additive => {
                let query = p.add("decoder.attention.query", &[hidden, width]);
                let additive = Additive {
                    width,
                    memory: p.add("decoder.attention.memory", &[memory, width]),
                    bias: has_bias.then(|| p.add("decoder.attention.score_bias", &[width])),
                    score: p.add("decoder.attention.score", &[width]),
                };
                (Some((query, width)), Some(additive))
            }
        };
        Some(Self { hidden, memory, query, additive })
    }

    /// Draws Glorot-uniform weights; a bias stays zero.
    pub fn initialise(&self, p: &mut Parameters<f32>, random: &mut Random) {
        let query = self.query.map(|(id, width)| (id, self.hidden + width));
        let additive = self.additive.map(|a| [(a.memory, self.memory + a.width), (a.score, a.width + 1)]);
        for (id, sizes) in query.into_iter().chain(additive.into_iter().flatten()) {
            let limit = (6.0 / sizes as f64).sqrt();
            p.get_mut(id).iter_mut().for_each(|x| *x = random.symmetric(limit));
        }
    }

    /// Packs the weights into the memory of `old`.
    pub fn prepare<R: Real>(&self, p: &Parameters<R>, old: PreparedLookup<R>) -> PreparedLookup<R> {
        let both = |[a, b]: [Packed<R>; 2], m: MatRef<'_, R>| [a.repacked(m), b.repacked(m.transposed())];
        PreparedLookup {
            query: self.query.map(|(id, width)| {
                both(old.query.unwrap_or_default(), MatRef::new(p.get(id), self.hidden, width))
            }),
            memory: self.additive.map(|a| {
                both(old.memory.unwrap_or_default(), MatRef::new(p.get(a.memory), self.memory, a.width))
            }),
        }
    }

    /// Lays out the encoder's outputs, packed rows (source tokens, memory), for lookups.
    pub fn read<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedLookup<R>,
        alignment: &Alignment,
        rows: &[R],
        tape: &mut MemoryTape<R>,
    ) {
        gather(rows, self.memory, &alignment.source_rows, &mut tape.rows);
        tape.d_rows.clear();
        tape.d_rows.resize(rows.len(), R::ZERO);
        if let (Some(additive), Some([memory, _])) = (&self.additive, &prepared.memory) {
            let tokens = rows.len() / self.memory;
            tape.keys.resize(tokens * additive.width, R::ZERO);
            tape.d_keys.clear();
            tape.d_keys.resize(tokens * additive.width, R::ZERO);
            let rows = MatRef::new(&tape.rows, tokens, self.memory);
            matmul_packed(&mut tape.keys, Store::Overwrite, rows, memory, pass.scratch);
        }
    }

    /// Goes back through [`read`](Self::read): overwrites `d_memory` with the gradient of the encoder's
    /// outputs, packed rows (source tokens, memory).
    pub fn read_backward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedLookup<R>,
        alignment: &Alignment,
        tape: &mut MemoryTape<R>,
        d_memory: &mut Vec<R>,
    ) {
        if let (Some(additive), Some([_, transposed])) = (&self.additive, &prepared.memory) {
            let tokens = tape.rows.len() / self.memory;
            let d_keys = MatRef::new(&tape.d_keys, tokens, additive.width);
            matmul_packed(&mut tape.d_rows, Store::Add, d_keys, transposed, pass.scratch);
        }
        d_memory.resize(tape.d_rows.len(), R::ZERO);
        for (d, &row) in tape.d_rows.chunks_exact(self.memory).zip(&alignment.source_rows) {
            d_memory[row * self.memory..][..self.memory].copy_from_slice(d);
        }
    }

    /// Finds the contexts of `h` (target tokens, hidden), packed rows; `alignment` says which texts they are
    /// of.
    pub fn forward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedLookup<R>,
        alignment: &Alignment,
        h: &[R],
        memory: &MemoryTape<R>,
        tape: &mut LookupTape<R>,
    ) {
        let (scratch, p) = (&mut *pass.scratch, pass.parameters);
        let tokens = h.len() / self.hidden;
        let width = self.query.map_or(self.hidden, |(_, width)| width);
        match &prepared.query {
            Some([query, _]) => {
                gather(h, self.hidden, &alignment.target_rows, &mut tape.h);
                tape.queries.resize(tokens * width, R::ZERO);
                let bias = self.additive.and_then(|a| a.bias);
                let store = bias.map_or(Store::Overwrite, |bias| Store::Bias(p.get(bias)));
                let h = MatRef::new(&tape.h, tokens, self.hidden);
                matmul_packed(&mut tape.queries, store, h, query, scratch);
            }
            None => gather(h, self.hidden, &alignment.target_rows, &mut tape.queries),
        }
        tape.weights.resize(alignment.cells, R::ZERO);
        tape.buffer.resize(tokens * self.memory, R::ZERO);
        for text in &alignment.texts {
            let weights = &mut tape.weights[text.cells.clone()];
            let (targets, sources) = (text.targets.len(), text.sources.len());
            let context = &mut tape.buffer[text.targets.start * self.memory..text.targets.end * self.memory];
            if sources == 0 {
                context.fill(R::ZERO);
                continue;
            }
            let rows = &memory.rows[text.sources.start * self.memory..text.sources.end * self.memory];
            let rows = MatRef::new(rows, sources, self.memory);
            let queries = &tape.queries[text.targets.start * width..text.targets.end * width];
            match &self.additive {
                Some(a) => {
                    tape.tanhs.resize(sources * width, R::ZERO);
                    let keys = &memory.keys[text.sources.start * width..text.sources.end * width];
                    for (query, scores) in queries.chunks_exact(width).zip(weights.chunks_exact_mut(sources))
                    {
                        additive_scores(query, keys, p.get(a.score), &mut tape.tanhs, scores);
                    }
                }
                None => {
                    let queries = MatRef::new(queries, targets, width);
                    matmul(weights, Store::Overwrite, queries, rows.transposed(), scratch);
                }
            }
            weights.chunks_exact_mut(sources).for_each(softmax);
            matmul(context, Store::Overwrite, MatRef::new(weights, targets, sources), rows, scratch);
        }
        tape.context.resize(tokens * self.memory, R::ZERO);
        for (context, &row) in tape.buffer.chunks_exact(self.memory).zip(&alignment.target_rows) {
            tape.context[row * self.memory..][..self.memory].copy_from_slice(context);
        }
    }

    /// Goes back from the gradient of the contexts in the tape: adds that of h to `d_h` (target tokens,
    /// hidden), packed rows, and that of the encoder's outputs to `memory`'s.
    pub fn backward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedLookup<R>,
        alignment: &Alignment,
        memory: &mut MemoryTape<R>,
        tape: &mut LookupTape<R>,
        d_h: &mut [R],
    ) {
        let (scratch, p) = (&mut *pass.scratch, pass.parameters);
        let tokens = d_h.len() / self.hidden;
        let width = self.query.map_or(self.hidden, |(_, width)| width);
        tape.d_queries.clear();
        tape.d_queries.resize(tokens * width, R::ZERO);
        tape.d_score.clear();
        tape.d_score.resize(self.additive.map_or(0, |a| a.width), R::ZERO);
        gather(&tape.d_context, self.memory, &alignment.target_rows, &mut tape.buffer);
        let mut d_weights = Vec::new();
        for text in &alignment.texts {
            let (targets, sources) = (text.targets.len(), text.sources.len());
            if sources == 0 {
                continue;
            }
            let of_rows = text.sources.start * self.memory..text.sources.end * self.memory;
            let of_queries = text.targets.start * width..text.targets.end * width;
            let d_context = &tape.buffer[text.targets.start * self.memory..text.targets.end * self.memory];
            let d_context = MatRef::new(d_context, targets, self.memory);
            let rows = MatRef::new(&memory.rows[of_rows.clone()], sources, self.memory);
            let weights = &tape.weights[text.cells.clone()];
            let d_rows = &mut memory.d_rows[of_rows];
            let by_source = MatRef::new(weights, targets, sources).transposed();
            matmul(d_rows, Store::Add, by_source, d_context, scratch);
            d_weights.resize(targets * sources, R::ZERO);
            matmul(&mut d_weights, Store::Overwrite, d_context, rows.transposed(), scratch);
            for (d, a) in d_weights.chunks_exact_mut(sources).zip(weights.chunks_exact(sources)) {
                let mean = d.iter().zip(a).fold(R::ZERO, |sum, (&d, &a)| sum + d * a);
                d.iter_mut().zip(a).for_each(|(d, &a)| *d = a * (*d - mean));
            }
            let (queries, d_queries) = (&tape.queries[of_queries.clone()], &mut tape.d_queries[of_queries]);
            match &self.additive {
                Some(a) => {
                    let of_keys = text.sources.start * width..text.sources.end * width;
                    let (keys, d_keys) = (&memory.keys[of_keys.clone()], &mut memory.d_keys[of_keys]);
                    let score = p.get(a.score);
                    tape.tanhs.resize(sources * width, R::ZERO);
                    let mut scores = vec![R::ZERO; sources];
                    for ((query, d_query), d) in queries
                        .chunks_exact(width)
                        .zip(d_queries.chunks_exact_mut(width))
                        .zip(d_weights.chunks_exact(sources))
                    {
                        // Made again: kept, they would be as many values as pairs of tokens times the width.
                        additive_scores(query, keys, score, &mut tape.tanhs, &mut scores);
                        additive_scores_backward(d, score, &tape.tanhs, d_query, d_keys, &mut tape.d_score);
                    }
                }
                None => {
                    let d_scores = MatRef::new(&d_weights, targets, sources);
                    let queries = MatRef::new(queries, targets, width);
                    matmul(d_rows, Store::Add, d_scores.transposed(), queries, scratch);
                    matmul(d_queries, Store::Overwrite, d_scores, rows, scratch);
                }
            }
        }
        // Back through the query's weights, to h in the packing's order.
        let by_text: &[R] = match &prepared.query {
            Some([_, transposed]) => {
                let d_queries = MatRef::new(&tape.d_queries, tokens, width);
                tape.buffer.resize(tokens * self.hidden, R::ZERO);
                matmul_packed(&mut tape.buffer, Store::Overwrite, d_queries, transposed, scratch);
                &tape.buffer
            }
            None => &tape.d_queries,
        };
        for (d, &row) in by_text.chunks_exact(self.hidden).zip(&alignment.target_rows) {
            add_assign(&mut d_h[row * self.hidden..][..self.hidden], d);
        }
        if self.additive.is_some_and(|a| a.bias.is_some()) {
            tape.d_bias.clear();
            tape.d_bias.resize(width, R::ZERO);
            add_column_sums(&mut tape.d_bias, &tape.d_queries);
        }
    }

    /// Lists what [`backward`](Self::backward) found as gradients of the parameters.
    pub fn summands<'a, R: Real>(&self, tape: &'a LookupTape<R>, out: &mut Summands<'a, R>) {
        if let Some((query, width)) = self.query {
            let tokens = tape.d_queries.len() / width;
            let d_queries = MatRef::new(&tape.d_queries, tokens, width);
            out.push((query, Summand::over_rows(MatRef::new(&tape.h, tokens, self.hidden), d_queries)));
        }
        if let Some(additive) = self.additive {
            out.push((additive.score, Summand::Row { at: 0, values: &tape.d_score }));
            if let Some(bias) = additive.bias {
                out.push((bias, Summand::Row { at: 0, values: &tape.d_bias }));
            }
        }
    }

    /// Lists what [`read_backward`](Self::read_backward) found.
    pub fn read_summands<'a, R: Real>(&self, tape: &'a MemoryTape<R>, out: &mut Summands<'a, R>) {
        let Some(additive) = self.additive else { return };
        let tokens = tape.rows.len() / self.memory;
        let (rows, d_keys) =
            (MatRef::new(&tape.rows, tokens, self.memory), MatRef::new(&tape.d_keys, tokens, additive.width));
        out.push((additive.memory, Summand::over_rows(rows, d_keys)));
    }

    /// Width of the [keys](Self::emit_keys) that the encoder makes for the decoder, where there are any.
    pub fn keys_width(&self) -> Option<usize> {
        self.additive.map(|additive| additive.width)
    }

    /// Writes m U (batch, source_time, width) of the encoder's outputs (batch, source_time, memory): it is
    /// the same for all steps. `None` where the scores have none.
    pub fn emit_keys(&self, p: &Parameters<f32>, g: &mut GraphBuilder, rows: &Value) -> Option<Value> {
        let additive = self.additive?;
        g.scope("decoder.attention");
        let memory = emit_parameter(p, additive.memory, g);
        Some(g.node("MatMul", &[rows, &memory], &[]))
    }

    /// Writes the lookups of any number of decoder steps.
    ///
    /// - `h` (batch, target_time, hidden); `memory`: the encoder's outputs (batch, source_time, memory), the
    ///   mask (batch, source_time) and, where the scores have them, the keys (batch, source_time, width);
    /// - `is_step`: whether target_time is 1.
    ///
    /// Returns the contexts (batch, target_time, memory) and the weights (batch, target_time, source_time).
    pub fn emit(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        h: &Value,
        memory: &[Value],
        is_step: bool,
    ) -> [Value; 2] {
        g.scope("decoder.attention");
        let mut queries = h.clone();
        if let Some((query, _)) = self.query {
            let query = emit_parameter(p, query, g);
            queries = g.node("MatMul", &[h, &query], &[]);
        }
        let (rows, mask) = (&memory[0], &memory[1]);
        let swap = [("perm", Attribute::Ints(vec![0, 2, 1]))];
        let scores = match (&self.additive, memory.get(2)) {
            (Some(additive), Some(keys)) => {
                if let Some(bias) = additive.bias {
                    let bias = emit_parameter(p, bias, g);
                    queries = g.node("Add", &[&queries, &bias], &[]);
                }
                let score = emit_parameter(p, additive.score, g);
                let score = unsqueeze(g, &score, 1);
                if is_step {
                    let sum = g.node("Add", &[keys, &queries], &[]);
                    let tanh = g.node("Tanh", &[&sum], &[]);
                    let scores = g.node("MatMul", &[&tanh, &score], &[]);
                    g.node("Transpose", &[&scores], &swap)
                } else {
                    let (queries, keys) = (unsqueeze(g, &queries, 2), unsqueeze(g, keys, 1));
                    let sum = g.node("Add", &[&queries, &keys], &[]);
                    let tanh = g.node("Tanh", &[&sum], &[]);
                    let scores = g.node("MatMul", &[&tanh, &score], &[]);
                    squeeze(g, &scores, 3)
                }
            }
            _ => {
                let keys = g.node("Transpose", &[rows], &swap);
                g.node("MatMul", &[&queries, &keys], &[])
            }
        };
        // Padding gets -1e9: e^-1e9 is exactly 0 in f32, and a text of padding alone still sums to 1 instead
        // of 0 / 0.
        let one = g.float(&[], &[1.0]);
        let far = g.float(&[], &[1e9]);
        let missing = g.node("Sub", &[mask, &one], &[]);
        let penalty = g.node("Mul", &[&missing, &far], &[]);
        let time = g.int64(&[1], &[1]);
        let penalty = g.node("Unsqueeze", &[&penalty, &time], &[]);
        let scores = g.node("Add", &[&scores, &penalty], &[]);
        let weights = g.node("Softmax", &[&scores], &[("axis", Attribute::Int(-1))]);
        [g.node("MatMul", &[&weights, rows], &[]), weights]
    }
}

/// Copies rows of `width`: `out[i] = rows[order[i]]`.
fn gather<R: Real>(rows: &[R], width: usize, order: &[usize], out: &mut Vec<R>) {
    out.clear();
    order.iter().for_each(|&row| out.extend_from_slice(&rows[row * width..][..width]));
}

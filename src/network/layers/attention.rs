//! Luong's global attention (arXiv 1508.04025): dot and general scores, padding masked, no input feeding.
//!
//! With h the top decoder state and m_s the encoder's outputs: score_s = h . m_s (dot) or (h K) . m_s
//! (general); a = softmax(score) over the source's own tokens; h' = tanh([sum_s a_s m_s, h] C).

use crate::network::ground::gradients::{Summand, Summands};
use crate::network::ground::graph::emit_parameter;
use crate::network::ground::parameters::{Layout, ParameterId, Parameters};
use crate::network::ground::pass::Pass;
use crate::network::ground::shard::Alignment;
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use s2s_kernels::random::Random;
use s2s_kernels::{MatRef, Packed, Real, Store, matmul, matmul_packed, softmax, tanh_each};

/// The layer between the top decoder state and the output layer.
///
/// Parameters: `decoder.attention.key` K (hidden, hidden), general scores only; `decoder.attention.combine` C
/// (2 hidden, hidden).
#[derive(Clone, Debug)]
pub struct Attention {
    hidden: usize,
    key: Option<ParameterId>,
    combine: ParameterId,
}

/// [`Attention`] laid out for the products of one optimiser step; shared by all shards.
#[derive(Clone, Debug, Default)]
pub struct PreparedAttention<R> {
    key: Option<[Packed<R>; 2]>,
    /// C and its transpose.
    combine: [Packed<R>; 2],
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct AttentionTape<R> {
    /// h' (target tokens, hidden): the layer's output.
    pub output: Vec<R>,
    /// h K, text by text (target tokens, hidden); h itself with dot scores.
    queries: Vec<R>,
    /// Encoder outputs, text by text (source tokens, hidden).
    memory: Vec<R>,
    /// a, text by text (target tokens of the text, source tokens of the text).
    weights: Vec<R>,
    /// [context, h] (target tokens, 2 hidden), in the packing's order.
    both: Vec<R>,
    buffer: Vec<R>,
    /// Gradient of [context, h] C (target tokens, hidden).
    d_sum: Vec<R>,
    /// h, and the gradient of h K, text by text (target tokens, hidden).
    h: Vec<R>,
    d_queries: Vec<R>,
}

impl Attention {
    /// Registers the parameters; `general` asks for general scores instead of dot products.
    pub fn new(p: &mut Layout, hidden: usize, general: bool) -> Self {
        let key = general.then(|| p.add("decoder.attention.key", &[hidden, hidden]));
        Self { hidden, key, combine: p.add("decoder.attention.combine", &[2 * hidden, hidden]) }
    }

    /// Draws Glorot-uniform weights.
    pub fn initialise(&self, p: &mut Parameters<f32>, random: &mut Random) {
        for (id, inputs) in
            self.key.map(|id| (id, self.hidden)).into_iter().chain([(self.combine, 2 * self.hidden)])
        {
            let limit = (6.0 / (inputs + self.hidden) as f64).sqrt();
            p.get_mut(id).iter_mut().for_each(|x| *x = random.symmetric(limit));
        }
    }

    /// Packs the weights into the memory of `old`.
    pub fn prepare<R: Real>(&self, p: &Parameters<R>, old: PreparedAttention<R>) -> PreparedAttention<R> {
        let both = |[a, b]: [Packed<R>; 2], m: MatRef<'_, R>| [a.repacked(m), b.repacked(m.transposed())];
        PreparedAttention {
            key: self.key.map(|id| {
                both(old.key.unwrap_or_default(), MatRef::new(p.get(id), self.hidden, self.hidden))
            }),
            combine: both(old.combine, MatRef::new(p.get(self.combine), 2 * self.hidden, self.hidden)),
        }
    }

    /// Fills `tape.output` with h'.
    ///
    /// - `h` (target tokens, hidden), `memory` (source tokens, hidden): packed rows; `alignment` says which
    ///   belong together.
    pub fn forward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedAttention<R>,
        alignment: &Alignment,
        h: &[R],
        memory: &[R],
        tape: &mut AttentionTape<R>,
    ) {
        let scratch = &mut *pass.scratch;
        let width = self.hidden;
        let tokens = h.len() / width;
        gather(memory, width, &alignment.source_rows, &mut tape.memory);
        gather(h, width, &alignment.target_rows, &mut tape.buffer);
        match &prepared.key {
            Some([key, _]) => {
                tape.queries.resize(h.len(), R::ZERO);
                let h = MatRef::new(&tape.buffer, tokens, width);
                matmul_packed(&mut tape.queries, Store::Overwrite, h, key, scratch);
            }
            None => tape.queries.clone_from(&tape.buffer),
        }
        tape.weights.resize(alignment.cells, R::ZERO);
        tape.both.resize(tokens * 2 * width, R::ZERO);
        for text in &alignment.texts {
            let weights = &mut tape.weights[text.cells.clone()];
            let (targets, sources) = (text.targets.len(), text.sources.len());
            let context = &mut tape.buffer[text.targets.start * width..text.targets.end * width];
            if sources == 0 {
                context.fill(R::ZERO);
                continue;
            }
            let memory = MatRef::new(
                &tape.memory[text.sources.start * width..text.sources.end * width],
                sources,
                width,
            );
            let queries = MatRef::new(
                &tape.queries[text.targets.start * width..text.targets.end * width],
                targets,
                width,
            );
            matmul(weights, Store::Overwrite, queries, memory.transposed(), scratch);
            weights.chunks_exact_mut(sources).for_each(softmax);
            matmul(context, Store::Overwrite, MatRef::new(weights, targets, sources), memory, scratch);
        }
        for (context, &row) in tape.buffer.chunks_exact(width).zip(&alignment.target_rows) {
            tape.both[row * 2 * width..][..width].copy_from_slice(context);
        }
        for (both, h) in tape.both.chunks_exact_mut(2 * width).zip(h.chunks_exact(width)) {
            both[width..].copy_from_slice(h);
        }
        tape.output.resize(h.len(), R::ZERO);
        let both = MatRef::new(&tape.both, tokens, 2 * width);
        matmul_packed(&mut tape.output, Store::Overwrite, both, &prepared.combine[0], scratch);
        tanh_each(&mut tape.output);
    }

    /// Goes back from `d_output` (target tokens, hidden), the gradient of h', which is overwritten with that
    /// of h; `d_memory` (source tokens, hidden) is overwritten with that of the packed encoder outputs.
    pub fn backward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedAttention<R>,
        alignment: &Alignment,
        tape: &mut AttentionTape<R>,
        d_output: &mut [R],
        d_memory: &mut Vec<R>,
    ) {
        let scratch = &mut *pass.scratch;
        let width = self.hidden;
        let tokens = d_output.len() / width;
        tape.d_sum.clear();
        tape.d_sum.extend(d_output.iter().zip(&tape.output).map(|(&d, &y)| d * (R::ONE - y * y)));
        let d_sum = MatRef::new(&tape.d_sum, tokens, width);
        let mut d_both = vec![R::ZERO; tokens * 2 * width];
        matmul_packed(&mut d_both, Store::Overwrite, d_sum, &prepared.combine[1], scratch);

        let mut d_memory_by_text = vec![R::ZERO; tape.memory.len()];
        tape.d_queries.clear();
        tape.d_queries.resize(d_output.len(), R::ZERO);
        let mut d_context = Vec::new();
        let mut d_weights = Vec::new();
        for text in &alignment.texts {
            let (targets, sources) = (text.targets.len(), text.sources.len());
            if sources == 0 {
                continue;
            }
            let source_range = text.sources.start * width..text.sources.end * width;
            let target_range = text.targets.start * width..text.targets.end * width;
            d_context.clear();
            for &row in &alignment.target_rows[text.targets.clone()] {
                d_context.extend_from_slice(&d_both[row * 2 * width..][..width]);
            }
            let d_context = MatRef::new(&d_context, targets, width);
            let memory = MatRef::new(&tape.memory[source_range.clone()], sources, width);
            let weights = &tape.weights[text.cells.clone()];
            let d_memory = &mut d_memory_by_text[source_range];
            let by_source = MatRef::new(weights, targets, sources).transposed();
            matmul(d_memory, Store::Overwrite, by_source, d_context, scratch);
            d_weights.resize(targets * sources, R::ZERO);
            matmul(&mut d_weights, Store::Overwrite, d_context, memory.transposed(), scratch);
            for (d, a) in d_weights.chunks_exact_mut(sources).zip(weights.chunks_exact(sources)) {
                let mean = d.iter().zip(a).fold(R::ZERO, |sum, (&d, &a)| sum + d * a);
                d.iter_mut().zip(a).for_each(|(d, &a)| *d = a * (*d - mean));
            }
            let d_scores = MatRef::new(&d_weights, targets, sources);
            let queries = MatRef::new(&tape.queries[target_range.clone()], targets, width);
            matmul(d_memory, Store::Add, d_scores.transposed(), queries, scratch);
            matmul(&mut tape.d_queries[target_range], Store::Overwrite, d_scores, memory, scratch);
        }
        // Back through the key, to h in the packing's order.
        let d_h: &[R] = match &prepared.key {
            Some([_, transposed]) => {
                let d_queries = MatRef::new(&tape.d_queries, tokens, width);
                tape.buffer.resize(tokens * width, R::ZERO);
                matmul_packed(&mut tape.buffer, Store::Overwrite, d_queries, transposed, scratch);
                tape.h.clear();
                alignment
                    .target_rows
                    .iter()
                    .for_each(|&row| tape.h.extend_from_slice(&tape.both[(row * 2 + 1) * width..][..width]));
                &tape.buffer
            }
            None => &tape.d_queries,
        };
        for (d, both) in d_output.chunks_exact_mut(width).zip(d_both.chunks_exact(2 * width)) {
            d.copy_from_slice(&both[width..]);
        }
        for (d, &row) in d_h.chunks_exact(width).zip(&alignment.target_rows) {
            d_output[row * width..][..width].iter_mut().zip(d).for_each(|(x, &d)| *x += d);
        }
        d_memory.resize(d_memory_by_text.len(), R::ZERO);
        for (d, &row) in d_memory_by_text.chunks_exact(width).zip(&alignment.source_rows) {
            d_memory[row * width..][..width].copy_from_slice(d);
        }
    }

    /// Lists what [`backward`](Self::backward) found as gradients of the parameters.
    pub fn summands<'a, R: Real>(&self, tape: &'a AttentionTape<R>, out: &mut Summands<'a, R>) {
        let width = self.hidden;
        let tokens = tape.d_sum.len() / width;
        let rows = |values: &'a [R]| MatRef::new(values, tokens, width);
        out.push((
            self.combine,
            Summand::over_rows(MatRef::new(&tape.both, tokens, 2 * width), rows(&tape.d_sum)),
        ));
        if let Some(key) = self.key {
            out.push((key, Summand::over_rows(rows(&tape.h), rows(&tape.d_queries))));
        }
    }

    /// Writes the layer over any number of decoder steps.
    ///
    /// - `h` (batch, target_time, hidden), `memory` (batch, source_time, hidden), `mask` (batch,
    ///   source_time).
    ///
    /// Returns h' (batch, target_time, hidden) and the weights (batch, target_time, source_time).
    pub fn emit(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        h: &Value,
        memory: &Value,
        mask: &Value,
    ) -> [Value; 2] {
        g.scope("decoder.attention");
        let queries = match self.key {
            Some(key) => {
                let key = emit_parameter(p, key, g);
                g.node("MatMul", &[h, &key], &[])
            }
            None => h.clone(),
        };
        let keys = g.node("Transpose", &[memory], &[("perm", Attribute::Ints(vec![0, 2, 1]))]);
        let scores = g.node("MatMul", &[&queries, &keys], &[]);
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
        let context = g.node("MatMul", &[&weights, memory], &[]);
        let both = g.node("Concat", &[&context, h], &[("axis", Attribute::Int(2))]);
        let combine = emit_parameter(p, self.combine, g);
        let sum = g.node("MatMul", &[&both, &combine], &[]);
        [g.node("Tanh", &[&sum], &[]), weights]
    }
}

/// Copies rows of `width`: `out[i] = rows[order[i]]`.
fn gather<R: Real>(rows: &[R], width: usize, order: &[usize], out: &mut Vec<R>) {
    out.clear();
    order.iter().for_each(|&row| out.extend_from_slice(&rows[row * width..][..width]));
}

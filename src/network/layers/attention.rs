//! Attention over the encoder's outputs, padding masked: Luong's dot and general scores (arXiv 1508.04025)
//! and Bahdanau's additive ones (arXiv 1409.0473).
//!
//! With h a decoder state and m_s the encoder's outputs: score_s = h . m_s (dot), (h K) . m_s (general) or
//! v . tanh(h W + m_s U + b) (additive); a = softmax(score) over the source's own tokens; the context is
//! c = sum_s a_s m_s. The output layer reads tanh([c, h] C + d), the same without the tanh, [c, h], or h
//! alone.

use super::kinds::AttentionOutput;
use super::lookup::{AttentionShape, Lookup, LookupTape, MemoryTape, PreparedLookup};
use crate::network::ground::gradients::{Summand, Summands};
use crate::network::ground::graph::emit_parameter;
use crate::network::ground::parameters::{Layout, ParameterId, Parameters};
use crate::network::ground::pass::Pass;
use crate::network::ground::shard::Alignment;
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use s2s_kernels::random::Random;
use s2s_kernels::{MatRef, Packed, Real, Store, add_assign, add_column_sums, matmul_packed, tanh_each};

/// What lies between the top decoder state and the output layer.
///
/// Parameters: those of its [`Lookup`]; `decoder.attention.combine` C (memory + hidden, hidden) and, with a
/// bias, `decoder.attention.combine_bias` d (hidden), where it combines.
#[derive(Clone, Debug)]
pub struct Attention {
    /// How the context is found.
    pub lookup: Lookup,
    hidden: usize,
    memory: usize,
    output: AttentionOutput,
    combine: Option<ParameterId>,
    bias: Option<ParameterId>,
}

/// [`Attention`] laid out for the products of one optimiser step; shared by all shards.
#[derive(Clone, Debug, Default)]
pub struct PreparedAttention<R> {
    /// That of [`Attention::lookup`].
    pub lookup: PreparedLookup<R>,
    /// C and its transpose.
    combine: Option<[Packed<R>; 2]>,
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct AttentionTape<R> {
    /// That of [`Attention::lookup`].
    pub lookup: LookupTape<R>,
    /// [c, h] (target tokens, memory + hidden), in the packing's order.
    both: Vec<R>,
    /// What the combining layer gives (target tokens, hidden).
    output: Vec<R>,
    /// Gradient of [c, h] C + d (target tokens, hidden), and its sum over the tokens.
    d_sum: Vec<R>,
    d_bias: Vec<R>,
}

impl Attention {
    /// Registers the parameters; `None` where there is no attention.
    pub fn new(p: &mut Layout, shape: AttentionShape) -> Option<Self> {
        let AttentionShape { hidden, memory, has_bias, output, .. } = shape;
        let lookup = Lookup::new(p, &shape)?;
        let combines = matches!(output, AttentionOutput::Combined | AttentionOutput::CombinedLinear);
        let combine = combines.then(|| p.add("decoder.attention.combine", &[memory + hidden, hidden]));
        let bias = (combines && has_bias).then(|| p.add("decoder.attention.combine_bias", &[hidden]));
        Some(Self { lookup, hidden, memory, output, combine, bias })
    }

    /// Draws Glorot-uniform weights; biases stay zero.
    pub fn initialise(&self, p: &mut Parameters<f32>, random: &mut Random) {
        self.lookup.initialise(p, random);
        if let Some(combine) = self.combine {
            let limit = (6.0 / (self.memory + 2 * self.hidden) as f64).sqrt();
            p.get_mut(combine).iter_mut().for_each(|x| *x = random.symmetric(limit));
        }
    }

    /// Packs the weights into the memory of `old`.
    pub fn prepare<R: Real>(&self, p: &Parameters<R>, old: PreparedAttention<R>) -> PreparedAttention<R> {
        PreparedAttention {
            lookup: self.lookup.prepare(p, old.lookup),
            combine: self.combine.map(|id| {
                let m = MatRef::new(p.get(id), self.memory + self.hidden, self.hidden);
                let [forward, backward] = old.combine.unwrap_or_default();
                [forward.repacked(m), backward.repacked(m.transposed())]
            }),
        }
    }

    /// What the output layer reads, (target tokens, width); `h` (target tokens, hidden) is the top layer's.
    pub fn output<'a, R>(&self, tape: &'a AttentionTape<R>, h: &'a [R]) -> &'a [R] {
        match self.output {
            AttentionOutput::Combined | AttentionOutput::CombinedLinear => &tape.output,
            AttentionOutput::Concatenated => &tape.both,
            AttentionOutput::State => h,
        }
    }

    /// Finds the contexts of all target tokens, and makes of them what the output layer reads.
    ///
    /// - `h` (target tokens, hidden): packed rows; `alignment` says which belong together.
    pub fn forward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedAttention<R>,
        alignment: &Alignment,
        h: &[R],
        memory: &MemoryTape<R>,
        tape: &mut AttentionTape<R>,
    ) {
        self.lookup.forward(pass, &prepared.lookup, alignment, h, memory, &mut tape.lookup);
        self.combine(pass, prepared, h, tape);
    }

    /// Makes of the contexts in the tape, and of `h` (target tokens, hidden), what the output layer reads.
    pub fn combine<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedAttention<R>,
        h: &[R],
        tape: &mut AttentionTape<R>,
    ) {
        if self.output == AttentionOutput::State {
            return;
        }
        let (memory, width) = (self.memory, self.memory + self.hidden);
        let tokens = h.len() / self.hidden;
        tape.both.resize(tokens * width, R::ZERO);
        for ((both, c), h) in tape
            .both
            .chunks_exact_mut(width)
            .zip(tape.lookup.context.chunks_exact(memory))
            .zip(h.chunks_exact(self.hidden))
        {
            both[..memory].copy_from_slice(c);
            both[memory..].copy_from_slice(h);
        }
        let Some([combine, _]) = &prepared.combine else { return };
        tape.output.resize(h.len(), R::ZERO);
        let store = self.bias.map_or(Store::Overwrite, |bias| Store::Bias(pass.parameters.get(bias)));
        let both = MatRef::new(&tape.both, tokens, width);
        matmul_packed(&mut tape.output, store, both, combine, pass.scratch);
        if self.output == AttentionOutput::Combined {
            tanh_each(&mut tape.output);
        }
    }

    /// Goes back from `d_output`, the gradient of what the output layer read, which is overwritten with that
    /// of h (target tokens, hidden); that of the encoder's outputs is added to `memory`'s.
    pub fn backward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedAttention<R>,
        alignment: &Alignment,
        memory: &mut MemoryTape<R>,
        tape: &mut AttentionTape<R>,
        d_output: &mut Vec<R>,
    ) {
        self.combine_backward(pass, prepared, tape, d_output);
        self.lookup.backward(pass, &prepared.lookup, alignment, memory, &mut tape.lookup, d_output);
    }

    /// Goes back through [`combine`](Self::combine): `d_output` becomes the gradient of h, and the tape has
    /// that of the contexts.
    pub fn combine_backward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedAttention<R>,
        tape: &mut AttentionTape<R>,
        d_output: &mut Vec<R>,
    ) {
        let (memory, width) = (self.memory, self.memory + self.hidden);
        let d_context = &mut tape.lookup.d_context;
        if self.output == AttentionOutput::State {
            d_context.clear();
            d_context.resize(d_output.len() / self.hidden * memory, R::ZERO);
            return;
        }
        if let Some([_, combine]) = &prepared.combine {
            let tokens = d_output.len() / self.hidden;
            tape.d_sum.clone_from(d_output);
            if self.output == AttentionOutput::Combined {
                tape.d_sum.iter_mut().zip(&tape.output).for_each(|(d, &y)| *d *= R::ONE - y * y);
            }
            if self.bias.is_some() {
                tape.d_bias.clear();
                tape.d_bias.resize(self.hidden, R::ZERO);
                add_column_sums(&mut tape.d_bias, &tape.d_sum);
            }
            d_output.resize(tokens * width, R::ZERO);
            let d_sum = MatRef::new(&tape.d_sum, tokens, self.hidden);
            matmul_packed(d_output, Store::Overwrite, d_sum, combine, pass.scratch);
        }
        d_context.clear();
        let tokens = d_output.len() / width;
        for row in 0..tokens {
            d_context.extend_from_slice(&d_output[row * width..][..memory]);
            d_output.copy_within(row * width + memory..(row + 1) * width, row * self.hidden);
        }
        d_output.truncate(tokens * self.hidden);
    }

    /// Lists what the way back found as gradients of the parameters, but for those that the encoder's outputs
    /// are projected with.
    pub fn summands<'a, R: Real>(&self, tape: &'a AttentionTape<R>, out: &mut Summands<'a, R>) {
        if let Some(combine) = self.combine {
            let tokens = tape.d_sum.len() / self.hidden;
            let both = MatRef::new(&tape.both, tokens, self.memory + self.hidden);
            out.push((combine, Summand::over_rows(both, MatRef::new(&tape.d_sum, tokens, self.hidden))));
        }
        if let Some(bias) = self.bias {
            out.push((bias, Summand::Row { at: 0, values: &tape.d_bias }));
        }
        self.lookup.summands(&tape.lookup, out);
    }

    /// Writes what the output layer reads of contexts (batch, target_time, memory) and states `h` (batch,
    /// target_time, hidden).
    pub fn emit_combine(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        context: &Value,
        h: &Value,
    ) -> Value {
        if self.output == AttentionOutput::State {
            return h.clone();
        }
        g.scope("decoder.attention");
        let both = g.node("Concat", &[context, h], &[("axis", Attribute::Int(2))]);
        let Some(combine) = self.combine else { return both };
        let combine = emit_parameter(p, combine, g);
        let mut sum = g.node("MatMul", &[&both, &combine], &[]);
        if let Some(bias) = self.bias {
            let bias = emit_parameter(p, bias, g);
            sum = g.node("Add", &[&sum, &bias], &[]);
        }
        if self.output == AttentionOutput::Combined { g.node("Tanh", &[&sum], &[]) } else { sum }
    }
}

impl<R: Real> AttentionTape<R> {
    /// Adds to the gradient of the contexts.
    pub fn add_to_context(&mut self, d_context: &[R]) {
        add_assign(&mut self.lookup.d_context, d_context);
    }
}

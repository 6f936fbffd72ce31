//! The output layer: hidden states to logits, fused with softmax cross-entropy in training.

use crate::network::ground::gradients::{Summand, Summands};
use crate::network::ground::graph::emit_parameter;
use crate::network::ground::objective::Sums;
use crate::network::ground::parameters::{Layout, ParameterId, Parameters};
use crate::network::ground::pass::Pass;
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use s2s_kernels::random::Random;
use s2s_kernels::{
    MatRef, Packed, Real, Scratch, Store, add_column_sums, matmul, matmul_packed, softmax_cross_entropy,
};

/// logits = h `weight` + `bias`; `weight` (hidden, vocabulary), `bias` (vocabulary).
///
/// Tied, the weight is the transpose of the target embedding (vocabulary, hidden).
#[derive(Clone, Debug)]
pub struct Dense {
    inputs: usize,
    outputs: usize,
    weight: ParameterId,
    tied: bool,
    bias: ParameterId,
}

/// [`Dense`] laid out for the products of one optimiser step; shared by all shards.
#[derive(Clone, Debug, Default)]
pub struct PreparedDense<R> {
    forward: Packed<R>,
    backward: Packed<R>,
}

/// What the backward pass of the output layer needs.
#[derive(Debug)]
pub struct DenseBackward<'a, R> {
    /// Factor of each token's loss.
    pub scale: R,
    /// Probability spread evenly over all symbols instead of the target (Szegedy et al., arXiv 1512.00567).
    pub smoothing: R,
    /// Overwritten with the gradient of the hidden states (rows, hidden).
    pub d_h: &'a mut Vec<R>,
}

/// What the passes leave for the gradients of the parameters; the caller keeps it and its memory is reused.
#[derive(Clone, Debug, Default)]
pub struct DenseTape<R> {
    /// Outputs of some rows, then their gradients; after a backward pass those of the last rows.
    outputs: Vec<R>,
    /// The first of those rows.
    first: usize,
    /// Gradient of the weight, like it, from the rows before the first; empty where there are none.
    d_weight: Vec<R>,
    /// Gradient of the bias, from all rows.
    d_bias: Vec<R>,
}

/// Rows whose logits are made before their softmax is taken: few enough that these are still in the cache,
/// enough that a weight read from memory is used often.
const BLOCK: usize = 128;
/// Most gradients of logits that are kept for one product with all rows (16 MiB in f32).
const KEPT: usize = 4 << 20;

impl Dense {
    /// Registers `{name}.bias` and, unless `tied` names the embedding to use, `{name}.weight`.
    pub fn new(p: &mut Layout, name: &str, inputs: usize, outputs: usize, tied: Option<ParameterId>) -> Self {
        let weight = tied.unwrap_or_else(|| p.add(format!("{name}.weight"), &[inputs, outputs]));
        let bias = p.add(format!("{name}.bias"), &[outputs]);
        Self { inputs, outputs, weight, tied: tied.is_some(), bias }
    }

    /// Draws Glorot-uniform weights and leaves the bias zero; a tied weight is the embedding's to draw.
    pub fn initialise(&self, p: &mut Parameters<f32>, random: &mut Random) {
        if self.tied {
            return;
        }
        let limit = (6.0 / (self.inputs + self.outputs) as f64).sqrt();
        p.get_mut(self.weight).iter_mut().for_each(|x| *x = random.symmetric(limit));
    }

    /// Packs the weights into the memory of `old`.
    pub fn prepare<R: Real>(&self, p: &Parameters<R>, old: PreparedDense<R>) -> PreparedDense<R> {
        let weight = self.weight(p);
        PreparedDense {
            forward: old.forward.repacked(weight),
            backward: old.backward.repacked(weight.transposed()),
        }
    }

    fn weight<'a, R: Real>(&self, p: &'a Parameters<R>) -> MatRef<'a, R> {
        match self.tied {
            false => MatRef::new(p.get(self.weight), self.inputs, self.outputs),
            true => MatRef::new(p.get(self.weight), self.outputs, self.inputs).transposed(),
        }
    }

    /// Computes the logits (rows, vocabulary) of hidden states (rows, hidden).
    pub fn logits<R: Real>(&self, pass: &mut Pass<'_, R>, prepared: &PreparedDense<R>, h: &[R]) -> Vec<R> {
        let rows = h.len() / self.inputs;
        let mut logits = vec![R::ZERO; rows * self.outputs];
        let bias = Store::Bias(pass.parameters.get(self.bias));
        let h = MatRef::new(h, rows, self.inputs);
        matmul_packed(&mut logits, bias, h, &prepared.forward, pass.scratch);
        logits
    }

    /// Computes the loss of hidden states `h` (rows, hidden) against `targets` (rows), and with `backward`
    /// the gradient of `h`.
    pub fn loss<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedDense<R>,
        h: &[R],
        targets: &[u32],
        tape: &mut DenseTape<R>,
        mut backward: Option<DenseBackward<'_, R>>,
    ) -> Sums {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let mut sums = Sums::default();
        let (scale, smoothing) = backward.as_ref().map_or((R::ZERO, R::ZERO), |b| (b.scale, b.smoothing));
        let bias = Store::Bias(pass.parameters.get(self.bias));
        let mut kept = BLOCK;
        if let Some(b) = &mut backward {
            b.d_h.resize(h.len(), R::ZERO);
            tape.d_bias.clear();
            tape.d_bias.resize(outputs, R::ZERO);
            tape.d_weight.clear();
            kept = (KEPT / outputs).next_multiple_of(BLOCK);
        }
        tape.outputs.resize(kept.min(targets.len()) * outputs, R::ZERO);
        for first in (0..targets.len()).step_by(BLOCK) {
            let rows = BLOCK.min(targets.len() - first);
            if first % kept == 0 {
                if first > 0 && backward.is_some() {
                    self.add_to_weight(&h[tape.first * inputs..first * inputs], tape, pass.scratch);
                }
                tape.first = first;
            }
            let logits = &mut tape.outputs[(first - tape.first) * outputs..][..rows * outputs];
            let h = MatRef::new(&h[first * inputs..], rows, inputs);
            matmul_packed(logits, bias, h, &prepared.forward, pass.scratch);
            for (logits, &target) in logits.chunks_exact_mut(outputs).zip(&targets[first..]) {
                let loss = softmax_cross_entropy(logits, target as usize, scale, smoothing);
                sums.nats += loss.nats;
                sums.tokens += 1;
                sums.correct += usize::from(loss.correct);
            }
            if let Some(DenseBackward { d_h, .. }) = &mut backward {
                let d_h = &mut d_h[first * inputs..][..rows * inputs];
                let d_logits = MatRef::new(logits, rows, outputs);
                matmul_packed(d_h, Store::Overwrite, d_logits, &prepared.backward, pass.scratch);
                add_column_sums(&mut tape.d_bias, logits);
            }
        }
        sums
    }

    /// Adds the weight's gradient from the rows whose logits' gradients are kept, to make room for more.
    fn add_to_weight<R: Real>(&self, h: &[R], tape: &mut DenseTape<R>, scratch: &mut Scratch<R>) {
        let store = if tape.d_weight.is_empty() { Store::Overwrite } else { Store::Add };
        tape.d_weight.resize(self.inputs * self.outputs, R::ZERO);
        let (a, b) = self.weight_product(h, &tape.outputs);
        matmul(&mut tape.d_weight, store, a, b, scratch);
        if self.tied {
            tape.d_weight[..self.inputs].fill(R::ZERO);
        }
    }

    /// Goes back from the gradients of the outputs, `d_rows` (rows, outputs), to those of the inputs (rows,
    /// inputs), which overwrite `d_x`.
    pub fn backward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedDense<R>,
        d_rows: &[R],
        tape: &mut DenseTape<R>,
        d_x: Option<&mut Vec<R>>,
    ) {
        tape.outputs.clear();
        tape.outputs.extend_from_slice(d_rows);
        (tape.first, tape.d_weight) = (0, Vec::new());
        tape.d_bias.clear();
        tape.d_bias.resize(self.outputs, R::ZERO);
        add_column_sums(&mut tape.d_bias, d_rows);
        if let Some(d_x) = d_x {
            let rows = d_rows.len() / self.outputs;
            d_x.resize(rows * self.inputs, R::ZERO);
            let d_rows = MatRef::new(d_rows, rows, self.outputs);
            matmul_packed(d_x, Store::Overwrite, d_rows, &prepared.backward, pass.scratch);
        }
    }

    /// Lists what [`loss`](Self::loss) or [`backward`](Self::backward) found as gradients of the parameters;
    /// `x` (rows, inputs) is what the layer read.
    pub fn summands<'a, R: Real>(&self, x: &'a [R], tape: &'a DenseTape<R>, out: &mut Summands<'a, R>) {
        let (a, b) = self.weight_product(&x[tape.first * self.inputs..], &tape.outputs);
        // The row of PAD in an embedding is zero and stays zero.
        let (first_row, a) = if self.tied { (1, a.block(1..self.outputs, 0..a.shape().1)) } else { (0, a) };
        out.push((self.weight, Summand::Product { first_row, a, b }));
        out.push((self.bias, Summand::Row { at: 0, values: &tape.d_bias }));
        if !tape.d_weight.is_empty() {
            let (rows, columns) =
                if self.tied { (self.outputs, self.inputs) } else { (self.inputs, self.outputs) };
            out.push((self.weight, Summand::Matrix(MatRef::new(&tape.d_weight, rows, columns))));
        }
    }

    /// Gives the factors of the weight's gradient, shaped like the weight, from `x` (rows, inputs) and the
    /// gradients of the outputs (at least rows, outputs).
    fn weight_product<'a, R: Real>(&self, x: &'a [R], d: &'a [R]) -> (MatRef<'a, R>, MatRef<'a, R>) {
        let rows = x.len() / self.inputs;
        let (x, d) = (MatRef::new(x, rows, self.inputs), MatRef::new(d, rows, self.outputs));
        if self.tied { (d.transposed(), x) } else { (x.transposed(), d) }
    }

    /// Writes the logits (..., vocabulary) of `h` (..., hidden).
    pub fn emit(&self, p: &Parameters<f32>, g: &mut GraphBuilder, h: &Value) -> Value {
        let mut weight = emit_parameter(p, self.weight, g);
        if self.tied {
            weight = g.node("Transpose", &[&weight], &[("perm", Attribute::Ints(vec![1, 0]))]);
        }
        let bias = emit_parameter(p, self.bias, g);
        let product = g.node("MatMul", &[h, &weight], &[]);
        g.node("Add", &[&product, &bias], &[])
    }
}

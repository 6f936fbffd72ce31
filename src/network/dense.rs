//! The output layer: hidden states to logits, fused with softmax cross-entropy in training.

use super::gradients::Gradients;
use super::parameters::{ParameterId, Parameters};
use super::symbols::emit_parameter;
use crate::kernels::{MatRef, Packed, Real, Scratch, Store, add_column_sums, matmul, matmul_packed, softmax_cross_entropy};
use crate::network::Sums;
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use crate::random::Random;

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
    /// Added to.
    pub gradients: &'a mut Gradients<R>,
}

/// Fewest and most rows whose logits are kept at once.
const SHORTEST_CHUNK: usize = 32;
const LONGEST_CHUNK: usize = 512;
/// Logits that are kept at once (1.25 MiB): they are read by two more products, and should then still be in the cache.
const CHUNK_LOGITS: usize = 320 << 10;
/// Rows whose logits are made before their softmax is taken: few enough that these are still in the cache, enough that a
/// weight read from memory is used often.
const BLOCK: usize = 128;

impl Dense {
    /// Registers `{name}.bias` and, unless `tied` names the embedding to use, `{name}.weight`.
    pub fn new<R: Real>(p: &mut Parameters<R>, name: &str, inputs: usize, outputs: usize, tied: Option<ParameterId>) -> Self {
        let weight = tied.unwrap_or_else(|| p.add(format!("{name}.weight"), &[inputs, outputs]));
        let bias = p.add(format!("{name}.bias"), &[outputs]);
        Self { inputs, outputs, weight, tied: tied.is_some(), bias }
    }

    /// Glorot-uniform weights, zero bias; a tied weight is the embedding's to draw.
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
        PreparedDense { forward: old.forward.repacked(weight), backward: old.backward.repacked(weight.transposed()) }
    }

    fn weight<'a, R: Real>(&self, p: &'a Parameters<R>) -> MatRef<'a, R> {
        match self.tied {
            false => MatRef::new(p.get(self.weight), self.inputs, self.outputs),
            true => MatRef::new(p.get(self.weight), self.outputs, self.inputs).transposed(),
        }
    }

    /// Logits (rows, vocabulary) of hidden states (rows, hidden).
    pub fn logits<R: Real>(&self, p: &Parameters<R>, prepared: &PreparedDense<R>, h: &[R], scratch: &mut Scratch<R>) -> Vec<R> {
        let rows = h.len() / self.inputs;
        let mut logits = vec![R::ZERO; rows * self.outputs];
        matmul_packed(
            &mut logits,
            self.outputs,
            Store::Bias(p.get(self.bias)),
            MatRef::new(h, rows, self.inputs),
            &prepared.forward,
            scratch,
        );
        logits
    }

    /// The loss of hidden states `h` (rows, hidden) against `targets` (rows), and with `backward` the gradients.
    ///
    /// `backward`: the factor of each token's loss, the label smoothing, the gradient of `h` (overwritten), and the
    /// gradients to add to.
    #[allow(clippy::too_many_arguments)]
    pub fn loss<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &PreparedDense<R>,
        h: &[R],
        targets: &[u32],
        logits: &mut Vec<R>,
        scratch: &mut Scratch<R>,
        mut backward: Option<DenseBackward<'_, R>>,
    ) -> Sums {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let mut sums = Sums::default();
        let (scale, smoothing) = backward.as_ref().map_or((R::ZERO, R::ZERO), |b| (b.scale, b.smoothing));
        let bias = p.get(self.bias);
        if let Some(b) = &mut backward {
            b.d_h.resize(h.len(), R::ZERO);
        }
        let longest = (CHUNK_LOGITS / outputs / SHORTEST_CHUNK * SHORTEST_CHUNK).clamp(SHORTEST_CHUNK, LONGEST_CHUNK);
        let block = longest.min(BLOCK);
        for (chunk, (h, targets)) in h.chunks(longest * inputs).zip(targets.chunks(longest)).enumerate() {
            let rows = targets.len();
            logits.resize(rows * outputs, R::ZERO);
            let blocks = logits[..rows * outputs].chunks_mut(block * outputs);
            for ((logits, h), targets) in blocks.zip(h.chunks(block * inputs)).zip(targets.chunks(block)) {
                let h = MatRef::new(h, targets.len(), inputs);
                matmul_packed(logits, outputs, Store::Bias(bias), h, &prepared.forward, scratch);
                for (logits, &target) in logits.chunks_exact_mut(outputs).zip(targets) {
                    let loss = softmax_cross_entropy(logits, target as usize, scale, smoothing);
                    sums.nats += loss.nats;
                    sums.tokens += 1;
                    sums.correct += usize::from(loss.correct);
                }
            }
            if let Some(DenseBackward { d_h, gradients, .. }) = &mut backward {
                let d_logits = MatRef::new(logits, rows, outputs);
                let d_h = &mut d_h[chunk * longest * inputs..][..rows * inputs];
                matmul_packed(d_h, inputs, Store::Overwrite, d_logits, &prepared.backward, scratch);
                let ((d_weight, store), h) = (gradients.product_mut(self.weight), MatRef::new(h, rows, inputs));
                if self.tied {
                    matmul(d_weight, inputs, store, d_logits.transposed(), h, scratch);
                    // The row of PAD is zero and stays zero.
                    d_weight[..inputs].fill(R::ZERO);
                } else {
                    matmul(d_weight, outputs, store, h.transposed(), d_logits, scratch);
                }
                add_column_sums(gradients.get_mut(self.bias), &logits[..rows * outputs]);
            }
        }
        sums
    }

    /// The gradients behind rows whose own are `d_rows` (rows, outputs): the parameters' are added, that of `x` (rows,
    /// inputs) overwrites `d_x`.
    pub fn backward<R: Real>(
        &self,
        prepared: &PreparedDense<R>,
        x: &[R],
        d_rows: &[R],
        d_x: Option<&mut Vec<R>>,
        scratch: &mut Scratch<R>,
        gradients: &mut Gradients<R>,
    ) {
        let rows = x.len() / self.inputs;
        let d = MatRef::new(d_rows, rows, self.outputs);
        if let Some(d_x) = d_x {
            d_x.resize(x.len(), R::ZERO);
            matmul_packed(d_x, self.inputs, Store::Overwrite, d, &prepared.backward, scratch);
        }
        let x = MatRef::new(x, rows, self.inputs).transposed();
        let (d_weight, store) = gradients.product_mut(self.weight);
        matmul(d_weight, self.outputs, store, x, d, scratch);
        add_column_sums(gradients.get_mut(self.bias), d_rows);
    }

    /// ONNX: logits (..., vocabulary) of `h` (..., hidden).
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

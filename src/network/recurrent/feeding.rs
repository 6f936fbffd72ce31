//! The decoder whose steps read what attention gave before: all layers of a step, then the next step.

use super::seq2seq::Seq2Seq;
use crate::network::Summands;
use crate::network::ground::packing::Packing;
use crate::network::ground::parameters::Parameters;
use crate::network::ground::pass::Pass;
use crate::network::ground::shard::{AlignedText, Alignment, Shard};
use crate::network::layers::attention::{Attention, AttentionTape, PreparedAttention};
use crate::network::layers::kinds::Feeding;
use crate::network::layers::lookup::MemoryTape;
use crate::network::layers::projection::Input;
use crate::network::layers::recurrent::{PreparedRecurrent, RecurrentBackward, Tape};
use s2s_kernels::{Real, add_assign};

/// Streams of [`Dropout`](crate::network::Dropout) within a step: two a layer of the encoder, then the
/// decoder's.
pub(super) const DECODER_STREAM: u64 = 24;

/// What the forward pass leaves for the backward pass; its memory is reused.
#[derive(Clone, Debug, Default)]
pub(super) struct FeedingTape<R> {
    /// What the output layer reads (target tokens, width), packed.
    pub(super) top: Vec<R>,
    steps: Vec<StepTape<R>>,
}

/// One step: its texts are rows of a packing of their own.
#[derive(Clone, Debug)]
struct StepTape<R> {
    packing: Packing,
    alignment: Alignment,
    layers: Vec<Tape<R>>,
    attention: AttentionTape<R>,
}

/// What a pass over a decoder that is fed needs of the weights.
#[derive(Debug)]
pub(super) struct PreparedFeeding<'a, R> {
    pub(super) attention: &'a Attention,
    pub(super) prepared: &'a PreparedAttention<R>,
    pub(super) decoder: &'a [PreparedRecurrent<R>],
}

impl<R: Real> StepTape<R> {
    /// The `n` texts that still run at a step.
    fn new(n: usize, alignment: &Alignment, layers: usize) -> Self {
        let mut step = Alignment { target_rows: (0..n).collect(), ..Alignment::default() };
        for (row, text) in alignment.texts[..n].iter().enumerate() {
            let cells = step.cells..step.cells + text.sources.len();
            step.cells = cells.end;
            step.texts.push(AlignedText { sources: text.sources.clone(), targets: row..row + 1, cells });
        }
        Self {
            packing: Packing::new(&vec![1; n]),
            alignment: step,
            layers: vec![Tape::default(); layers],
            attention: AttentionTape::default(),
        }
    }
}

impl Seq2Seq {
    /// Runs over all steps from the first states of `decoder`.
    pub(super) fn run_fed<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        weights: &PreparedFeeding<'_, R>,
        (shard, alignment): (&Shard, &Alignment),
        memory: &MemoryTape<R>,
        (decoder, tape): (&[Tape<R>], &mut FeedingTape<R>),
    ) {
        let PreparedFeeding { attention, prepared, .. } = *weights;
        let (a, depth) = (&self.architecture, self.decoder.len());
        let mut states: Vec<Vec<Vec<R>>> = decoder.iter().map(|layer| layer.initial.clone()).collect();
        let width = a.fed_width().unwrap_or_default();
        let mut fed = vec![R::ZERO; shard.target.batch() * width];
        tape.top.clear();
        tape.steps.clear();
        for (t, (&n, &first)) in shard.target.sizes.iter().zip(&shard.target.offsets).enumerate() {
            let mut step = StepTape::new(n, alignment, depth);
            if a.feeding == Feeding::Context {
                let before = &states[depth - 1][0][..n * a.hidden];
                let lookup = &mut step.attention.lookup;
                attention.lookup.forward(pass, &prepared.lookup, &step.alignment, before, memory, lookup);
                fed.clone_from(&lookup.context);
            }
            fed.truncate(n * width);
            let mut pass = pass.of_step(t as u64);
            for (l, layer) in self.decoder.iter().enumerate() {
                let (below, tapes) = step.layers.split_at_mut(l);
                let layer_tape = &mut tapes[0];
                layer_tape.initial = states[l].iter().map(|state| state[..n * a.hidden].to_vec()).collect();
                let input = match below.last() {
                    Some(below) => Input::Rows(&below.h),
                    None => {
                        layer_tape.fed.clone_from(&fed);
                        Input::Ids(&shard.decoder_ids[first..first + n])
                    }
                };
                let mut pass = pass.of_layer(DECODER_STREAM + l as u64);
                layer.forward(&mut pass, &weights.decoder[l], &step.packing, input, layer_tape);
                states[l] = layer.final_states(&step.packing, layer_tape);
            }
            let h = &step.layers[depth - 1].h;
            match a.feeding {
                Feeding::Context => attention.combine(&mut pass, prepared, h, &mut step.attention),
                _ => {
                    let (alignment, tape) = (&step.alignment, &mut step.attention);
                    attention.forward(&mut pass, prepared, alignment, h, memory, tape);
                }
            }
            let output = attention.output(&step.attention, h);
            tape.top.extend_from_slice(output);
            if a.feeding == Feeding::Output {
                fed.clear();
                fed.extend_from_slice(output);
            }
            tape.steps.push(step);
        }
    }

    /// Goes back from `d_top` (target tokens, width), the gradient of what the output layer read: adds to
    /// that of the memory, and gives those of the first states, (layer, state; each (batch, hidden)).
    pub(super) fn run_fed_backward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        weights: &PreparedFeeding<'_, R>,
        shard: &Shard,
        memory: &mut MemoryTape<R>,
        tape: &mut FeedingTape<R>,
        d_top: &[R],
    ) -> Vec<Vec<Vec<R>>> {
        let PreparedFeeding { attention, prepared, .. } = *weights;
        let (a, depth) = (&self.architecture, self.decoder.len());
        let width = a.output_width();
        let zeros = vec![R::ZERO; shard.target.batch() * a.hidden];
        let mut d_states: Vec<Vec<Vec<R>>> =
            self.decoder.iter().map(|layer| vec![zeros.clone(); layer.states()]).collect();
        let (mut d_fed, mut d_below): (Vec<R>, Vec<R>) = (Vec::new(), Vec::new());
        let steps = tape.steps.iter_mut().zip(shard.target.sizes.iter().zip(&shard.target.offsets));
        for (step, (&n, &first)) in steps.rev() {
            let len = n * a.hidden;
            let mut d_rows = d_top[first * width..(first + n) * width].to_vec();
            if a.feeding == Feeding::Output {
                // Texts that ended here fed nothing on.
                add_assign(&mut d_rows[..d_fed.len()], &d_fed);
                let (alignment, tape) = (&step.alignment, &mut step.attention);
                attention.backward(pass, prepared, alignment, memory, tape, &mut d_rows);
            } else {
                attention.combine_backward(pass, prepared, &mut step.attention, &mut d_rows);
            }
            for (l, layer) in self.decoder.iter().enumerate().rev() {
                let (below, tapes) = step.layers.split_at_mut(l);
                let ids = Input::Ids(&shard.decoder_ids[first..first + n]);
                let input = below.last().map_or(ids, |below| Input::Rows(&below.h));
                let mut of_step: Vec<Vec<R>> = d_states[l].iter().map(|d| d[..len].to_vec()).collect();
                let gradients = RecurrentBackward {
                    d_rows: Some(&d_rows),
                    d_states: &mut of_step,
                    d_input: &mut d_below,
                };
                layer.backward(pass, &weights.decoder[l], &step.packing, input, &mut tapes[0], gradients);
                for (all, d) in d_states[l].iter_mut().zip(&of_step) {
                    all[..len].copy_from_slice(d);
                }
                std::mem::swap(&mut d_rows, &mut d_below);
            }
            d_fed.clone_from(&step.layers[0].d_fed);
            if a.feeding == Feeding::Context {
                step.attention.add_to_context(&d_fed);
                let d_before = &mut d_states[depth - 1][0][..len];
                let (alignment, lookup) = (&step.alignment, &mut step.attention.lookup);
                attention.lookup.backward(pass, &prepared.lookup, alignment, memory, lookup, d_before);
            }
        }
        d_states
    }

    /// Lists what the way back found as gradients of the parameters of decoder and attention.
    pub(super) fn fed_summands<'a, R: Real>(
        &self,
        p: &'a Parameters<R>,
        attention: &Attention,
        shard: &'a Shard,
        tape: &'a FeedingTape<R>,
        out: &mut Summands<'a, R>,
    ) {
        for (step, &first) in tape.steps.iter().zip(&shard.target.offsets) {
            let mut input = Input::Ids(&shard.decoder_ids[first..first + step.packing.rows]);
            for (layer, tape) in self.decoder.iter().zip(&step.layers) {
                layer.summands(p, &step.packing, input, tape, out);
                input = Input::Rows(&tape.h);
            }
            attention.summands(&step.attention, out);
        }
    }
}

//! The teacher-forced pass over a shard: forward, loss, and back.

use std::mem::take;

use super::feeding::{DECODER_STREAM, FeedingTape, PreparedFeeding};
use super::hand_over::{HandOverTape, PreparedHandOver};
use super::seq2seq::Seq2Seq;
use crate::network::ground::pass::Pass;
use crate::network::ground::shard::{Alignment, Shard};
use crate::network::layers::attention::{AttentionTape, PreparedAttention};
use crate::network::layers::dense::{DenseBackward, DenseTape, PreparedDense};
use crate::network::layers::encoder::{EncoderTape, PreparedEncoderLayer};
use crate::network::layers::kinds::Feeding;
use crate::network::layers::lookup::MemoryTape;
use crate::network::layers::projection::Input;
use crate::network::layers::recurrent::{PreparedRecurrent, Recurrent, RecurrentBackward, Tape};
use crate::network::sequence::Forward;
use crate::network::{Dropout, Example, Objective, Parameters, Summands, Sums};
use s2s_kernels::{Real, Scratch, Team};

/// The weights laid out for the products of one optimiser step; made once, shared by all shards.
#[derive(Clone, Debug, Default)]
pub struct Prepared<R> {
    encoder: Vec<PreparedEncoderLayer<R>>,
    hand_over: PreparedHandOver<R>,
    decoder: Vec<PreparedRecurrent<R>>,
    attention: Option<PreparedAttention<R>>,
    dense: PreparedDense<R>,
}

/// Memory of one shard's passes, reused from step to step.
#[derive(Clone, Debug, Default)]
pub struct Workspace<R> {
    /// What the last pass was over, and whether with dropout; `None` where its gradients are not here.
    shard: Option<(Shard, bool)>,
    encoder: Vec<EncoderTape<R>>,
    hand_over: HandOverTape<R>,
    decoder: Vec<Tape<R>>,
    memory: MemoryTape<R>,
    attention: AttentionTape<R>,
    /// Of a decoder that is fed, instead of most of the two above.
    feeding: FeedingTape<R>,
    /// What the output layer reads after dropout, and the factors of it.
    top: Vec<R>,
    factors: Vec<R>,
    dense: DenseTape<R>,
    d_rows: Vec<R>,
    d_below: Vec<R>,
    d_memory: Vec<R>,
    scratch: Scratch<R>,
}

/// The output layer's stream of [`Dropout`] within a step, behind [`DECODER_STREAM`].
const OUTPUT_STREAM: u64 = 63;

impl Seq2Seq {
    /// Lays out the weights for shards of about `tokens` tokens a side, trained with dropout or not.
    pub fn prepare<R: Real>(&self, p: &Parameters<R>, tokens: usize, dropout: bool) -> Prepared<R> {
        self.prepare_with(p, tokens, dropout, &mut Team::new(1), Prepared::default())
    }

    /// [`prepare`](Self::prepare) into the memory of `old`, each layer on the team's next free thread.
    pub fn prepare_with<R: Real>(
        &self,
        p: &Parameters<R>,
        tokens: usize,
        dropout: bool,
        team: &mut Team,
        mut old: Prepared<R>,
    ) -> Prepared<R> {
        old.encoder.resize_with(self.encoder.len(), Default::default);
        old.decoder.resize_with(self.decoder.len(), Default::default);
        let Prepared { encoder, hand_over, decoder, attention, dense } = &mut old;
        // The largest first, as far as one can tell: a long one at the end would be waited for.
        let mut jobs: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
        jobs.push(Box::new(|| *dense = self.dense.prepare(p, take(dense))));
        // A table of all symbols is for all steps at once.
        let of_decoder = if self.is_fed() { 0 } else { tokens };
        for (layer, slot) in self.decoder.iter().zip(decoder).rev() {
            jobs.push(Box::new(move || *slot = layer.prepare(p, of_decoder, dropout, take(slot))));
        }
        jobs.push(Box::new(|| *hand_over = self.hand_over.prepare(p, take(hand_over))));
        for (layer, slot) in self.encoder.iter().zip(encoder).rev() {
            jobs.push(Box::new(move || *slot = layer.prepare(p, tokens, dropout, take(slot))));
        }
        if let Some(layer) = &self.attention {
            jobs.push(Box::new(move || {
                *attention = Some(layer.prepare(p, attention.take().unwrap_or_default()));
            }));
        }
        team.each(jobs.into_iter(), |job| job());
        old
    }

    /// The teacher-forced loss of a shard, and the gradients of `objective` in the workspace.
    ///
    /// The sums hold the plain cross-entropy, whatever the label smoothing.
    pub fn pass<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &Prepared<R>,
        examples: &[Example<'_>],
        objective: &Objective,
        ws: &mut Workspace<R>,
    ) -> Sums {
        ws.shard = None;
        if examples.is_empty() {
            return Sums::default();
        }
        let shard = Shard::new(examples);
        let alignment = self.run(p, prepared, &shard, objective.dropout, ws);
        let dropped = objective.dropout.is_some();
        let backward = DenseBackward {
            scale: R::from_f64(objective.scale),
            smoothing: R::from_f64(objective.label_smoothing),
            d_h: &mut ws.d_rows,
        };
        let top = if dropped { &ws.top } else { self.top(&ws.decoder, &ws.attention, &ws.feeding) };
        let mut pass = Pass { parameters: p, dropout: objective.dropout, scratch: &mut ws.scratch };
        let (targets, tape) = (&shard.target_ids, &mut ws.dense);
        let sums = self.dense.loss(&mut pass, &prepared.dense, top, targets, tape, Some(backward));
        if dropped {
            ws.d_rows.iter_mut().zip(&ws.factors).for_each(|(d, &f)| *d *= f);
        }
        let attention = self.attention.as_ref().zip(prepared.attention.as_ref());
        let mut d_states: Vec<Vec<Vec<R>>>;
        if let (true, Some((attention, of_attention))) = (self.is_fed(), attention) {
            let decoder = &prepared.decoder;
            let weights = PreparedFeeding { attention, prepared: of_attention, decoder };
            let (memory, tape, d_top) = (&mut ws.memory, &mut ws.feeding, &ws.d_rows);
            d_states = self.run_fed_backward(&mut pass, &weights, &shard, memory, tape, d_top);
        } else {
            if let Some((attention, prepared)) = attention {
                let (memory, d_h) = (&mut ws.memory, &mut ws.d_rows);
                attention.backward(&mut pass, prepared, &alignment, memory, &mut ws.attention, d_h);
            }
            let zeros = vec![R::ZERO; shard.target.batch() * self.architecture.hidden];
            d_states = self.decoder.iter().map(|l| vec![zeros.clone(); l.states()]).collect();
            for (l, layer) in self.decoder.iter().enumerate().rev() {
                let (below, tapes) = ws.decoder.split_at_mut(l);
                let input =
                    below.last().map_or(Input::Ids(&shard.decoder_ids), |below| Input::Rows(&below.h));
                let gradients = RecurrentBackward {
                    d_rows: Some(&ws.d_rows),
                    d_states: &mut d_states[l],
                    d_input: &mut ws.d_below,
                };
                let prepared = &prepared.decoder[l];
                layer.backward(&mut pass, prepared, &shard.target, input, &mut tapes[0], gradients);
                std::mem::swap(&mut ws.d_rows, &mut ws.d_below);
            }
        }
        if let Some((attention, prepared)) = attention {
            let (lookup, prepared) = (&attention.lookup, &prepared.lookup);
            lookup.read_backward(&mut pass, prepared, &alignment, &mut ws.memory, &mut ws.d_memory);
        }
        let zeros = vec![R::ZERO; shard.source.batch() * self.architecture.encoder_width()];
        let states = self.decoder.first().map_or(0, Recurrent::states);
        let mut d_finals = vec![vec![zeros; states]; self.encoder.len()];
        let (d, tape) = ((&mut d_states[..], &mut d_finals[..]), &mut ws.hand_over);
        self.hand_over.backward(&mut pass, &prepared.hand_over, &shard, &ws.decoder, tape, d);
        // Only attention reads the top encoder layer's outputs; each layer below is read by the one above it.
        let mut is_read = self.attention.is_some();
        std::mem::swap(&mut ws.d_rows, &mut ws.d_memory);
        for (l, layer) in self.encoder.iter().enumerate().rev() {
            let (below, tapes) = ws.encoder.split_at_mut(l);
            let input =
                below.last().map_or(Input::Ids(&shard.source_ids), |below| Input::Rows(below.output()));
            let gradients = RecurrentBackward {
                d_rows: is_read.then_some(&ws.d_rows),
                d_states: &mut d_finals[l],
                d_input: &mut ws.d_below,
            };
            let prepared = &prepared.encoder[l];
            layer.backward(&mut pass, prepared, &shard.source, input, &mut tapes[0], gradients);
            std::mem::swap(&mut ws.d_rows, &mut ws.d_below);
            is_read = true;
        }
        ws.shard = Some((shard, dropped));
        sums
    }

    /// What [`pass`](Self::pass) found, as gradients of the parameters.
    pub fn summands<'a, R: Real>(&self, p: &'a Parameters<R>, ws: &'a Workspace<R>) -> Summands<'a, R> {
        let mut out = Summands::new();
        let Some((shard, dropped)) = &ws.shard else { return out };
        let mut input = Input::Ids(&shard.source_ids);
        for (layer, tape) in self.encoder.iter().zip(&ws.encoder) {
            layer.summands(p, &shard.source, input, tape, &mut out);
            input = Input::Rows(tape.output());
        }
        self.hand_over.summands(&ws.hand_over, &mut out);
        if let (true, Some(attention)) = (self.is_fed(), &self.attention) {
            self.fed_summands(p, attention, shard, &ws.feeding, &mut out);
        } else {
            let mut input = Input::Ids(&shard.decoder_ids);
            for (layer, tape) in self.decoder.iter().zip(&ws.decoder) {
                layer.summands(p, &shard.target, input, tape, &mut out);
                input = Input::Rows(&tape.h);
            }
            if let Some(attention) = &self.attention {
                attention.summands(&ws.attention, &mut out);
            }
        }
        if let Some(attention) = &self.attention {
            attention.lookup.read_summands(&ws.memory, &mut out);
        }
        let top = if *dropped { &ws.top } else { self.top(&ws.decoder, &ws.attention, &ws.feeding) };
        self.dense.summands(top, &ws.dense, &mut out);
        out
    }

    /// The teacher-forced loss alone.
    pub fn evaluate<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &Prepared<R>,
        examples: &[Example<'_>],
        ws: &mut Workspace<R>,
    ) -> Sums {
        if examples.is_empty() {
            return Sums::default();
        }
        let shard = Shard::new(examples);
        self.run(p, prepared, &shard, None, ws);
        let top = self.top(&ws.decoder, &ws.attention, &ws.feeding);
        let mut pass = Pass { parameters: p, dropout: None, scratch: &mut ws.scratch };
        self.dense.loss(&mut pass, &prepared.dense, top, &shard.target_ids, &mut ws.dense, None)
    }

    /// States and logits, for comparison with the exported graphs.
    ///
    /// `decoder_inputs` start with START; texts of any lengths.
    pub fn forward<R: Real>(
        &self,
        p: &Parameters<R>,
        sources: &[Vec<u32>],
        decoder_inputs: &[Vec<u32>],
    ) -> Forward<R> {
        let inputs: Vec<&[u32]> = decoder_inputs.iter().map(Vec::as_slice).collect();
        let filled: Option<Vec<Vec<u32>>> =
            self.filling.map(|filling| sources.iter().map(|ids| filling.fill(ids)).collect());
        let sources: Vec<&[u32]> = filled.as_deref().unwrap_or(sources).iter().map(Vec::as_slice).collect();
        let shard = Shard::of(&sources, &inputs, &[]);
        let mut ws = Workspace::default();
        let prepared = self.prepare(p, shard.source.rows.max(shard.target.rows), false);
        self.run(p, &prepared, &shard, None, &mut ws);
        let hidden = self.architecture.hidden;
        let mut states = Vec::new();
        for (l, tape) in ws.decoder.iter().enumerate().filter(|(l, _)| self.hand_over.is_given(*l)) {
            for (name, packed) in self.state_names(l).into_iter().zip(&tape.initial) {
                let mut rows = vec![R::ZERO; packed.len()];
                for (row, &example) in packed.chunks_exact(hidden).zip(&shard.target.order) {
                    rows[example * hidden..][..hidden].copy_from_slice(row);
                }
                states.push((name, rows));
            }
        }
        let (vocabulary, target_time) = (self.architecture.target_vocabulary, shard.target.steps());
        let top = self.top(&ws.decoder, &ws.attention, &ws.feeding);
        let mut pass = Pass { parameters: p, dropout: None, scratch: &mut ws.scratch };
        let packed = self.dense.logits(&mut pass, &prepared.dense, top);
        let mut logits = vec![R::ZERO; sources.len() * target_time * vocabulary];
        for (row, (step, _, example)) in packed.chunks_exact(vocabulary).zip(shard.target.iter()) {
            logits[(example * target_time + step) * vocabulary..][..vocabulary].copy_from_slice(row);
        }
        Forward { states, logits, target_time }
    }

    /// Encoder, hand-over of the states, decoder, attention: what every pass begins with.
    fn run<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &Prepared<R>,
        shard: &Shard,
        dropout: Option<Dropout>,
        ws: &mut Workspace<R>,
    ) -> Alignment {
        ws.encoder.resize_with(self.encoder.len(), EncoderTape::default);
        ws.decoder.resize_with(self.decoder.len(), Tape::default);
        let mut pass = Pass { parameters: p, dropout, scratch: &mut ws.scratch };
        for (l, layer) in self.encoder.iter().enumerate() {
            let (below, tapes) = ws.encoder.split_at_mut(l);
            let input =
                below.last().map_or(Input::Ids(&shard.source_ids), |below| Input::Rows(below.output()));
            let (mut pass, prepared) = (pass.of_layer(l as u64), &prepared.encoder[l]);
            layer.forward(&mut pass, prepared, &shard.source, input, &mut tapes[0]);
        }
        let finals = self.encoder.iter().zip(&ws.encoder);
        let finals: Vec<_> = finals.map(|(layer, tape)| layer.final_states(&shard.source, tape)).collect();
        let (decoder, tape) = (&mut ws.decoder, &mut ws.hand_over);
        self.hand_over.forward(&mut pass, &prepared.hand_over, shard, &finals, decoder, tape);
        let attention = self.attention.as_ref().zip(prepared.attention.as_ref());
        let mut alignment = Alignment::default();
        if let Some((attention, prepared)) = attention {
            alignment = shard.alignment();
            let memory = ws.encoder.last().map_or(&[][..], EncoderTape::output);
            attention.lookup.read(&mut pass, &prepared.lookup, &alignment, memory, &mut ws.memory);
        }
        if let (true, Some((attention, of_attention))) = (self.is_fed(), attention) {
            let weights = PreparedFeeding { attention, prepared: of_attention, decoder: &prepared.decoder };
            let tapes = (&ws.decoder[..], &mut ws.feeding);
            self.run_fed(&mut pass, &weights, (shard, &alignment), &ws.memory, tapes);
        } else {
            for (l, layer) in self.decoder.iter().enumerate() {
                let (below, tapes) = ws.decoder.split_at_mut(l);
                let input =
                    below.last().map_or(Input::Ids(&shard.decoder_ids), |below| Input::Rows(&below.h));
                let (mut pass, prepared) = (pass.of_layer(DECODER_STREAM + l as u64), &prepared.decoder[l]);
                layer.forward(&mut pass, prepared, &shard.target, input, &mut tapes[0]);
            }
            if let Some((attention, prepared)) = attention {
                let h = ws.decoder.last().map_or(&[][..], |tape| &tape.h);
                attention.forward(&mut pass, prepared, &alignment, h, &ws.memory, &mut ws.attention);
            }
        }
        if let Some(dropout) = pass.of_layer(OUTPUT_STREAM).dropout {
            let rows = self.top(&ws.decoder, &ws.attention, &ws.feeding);
            dropout.factors(rows.len(), &mut ws.factors);
            ws.top.clear();
            ws.top.extend(rows.iter().zip(&ws.factors).map(|(&x, &f)| x * f));
        }
        alignment
    }

    /// Whether the decoder's steps read what attention gave before.
    pub(super) fn is_fed(&self) -> bool {
        self.architecture.feeding != Feeding::None
    }

    /// What the output layer reads: what attention makes of its states, or the top layer's.
    fn top<'a, R>(
        &self,
        decoder: &'a [Tape<R>],
        attention: &'a AttentionTape<R>,
        feeding: &'a FeedingTape<R>,
    ) -> &'a [R] {
        if self.is_fed() {
            return &feeding.top;
        }
        let h = decoder.last().map_or(&[][..], |tape| &tape.h);
        self.attention.as_ref().map_or(h, |layer| layer.output(attention, h))
    }
}

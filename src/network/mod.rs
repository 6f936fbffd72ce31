//! The one definition of the network: an encoder, a decoder, and the state between them.
//!
//! Everything else is cut from it: training runs [`Seq2Seq::loss_and_gradients`], and the three ONNX graphs are the
//! `emit_*` methods over the same layers and the same [`Parameters`]. Each layer has a file of its own that holds its
//! parameters, its forward and backward pass and its ONNX forms side by side.

pub mod architecture;
pub mod dense;
mod emit;
mod gather;
pub mod graph;
pub mod lstm;
pub mod mlp;
pub mod packing;
pub mod parameters;
pub mod symbols;
#[cfg(test)]
mod tests;

pub use architecture::{Architecture, Cell, InputForm};
pub use graph::Io;
pub use parameters::{ParameterId, Parameters};

use std::borrow::Cow;

use s2s_runtime::contract::{END, START, state_c, state_h};

use crate::error::{Error, ErrorKind, Result};
use crate::kernels::{Real, Scratch};
use crate::random::Random;
use dense::{Dense, PreparedDense};
use lstm::{Input, Lstm, LstmTape, PreparedLstm};
use packing::Packing;

/// A source text and a target text as ids, without START and END: the network adds them where teacher forcing needs them.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    /// What is read.
    pub source: &'a [u32],
    /// What is to be written.
    pub target: &'a [u32],
}

/// Sums over target tokens, END counted and padding left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Cross-entropy in nats.
    pub nats: f64,
    /// Target tokens.
    pub tokens: usize,
    /// Target tokens that had the highest logit under teacher forcing.
    pub correct: usize,
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.nats += other.nats;
        self.tokens += other.tokens;
        self.correct += other.correct;
    }
}

/// What a teacher-forced pass gives, for comparisons with the exported graphs.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward<R> {
    /// `state_h_0`, `state_c_0`, ... of the encoder, each (batch, hidden).
    pub states: Vec<(String, Vec<R>)>,
    /// (batch, target_time, target_vocabulary), zero where a text is padded.
    pub logits: Vec<R>,
    /// Steps of the longest decoder input.
    pub target_time: usize,
}

impl Forward<f64> {
    /// Every value rounded to f32.
    pub fn rounded(&self) -> Forward<f32> {
        let round = |values: &[f64]| values.iter().map(|&x| x as f32).collect();
        Forward {
            states: self.states.iter().map(|(name, values)| (name.clone(), round(values))).collect(),
            logits: round(&self.logits),
            target_time: self.target_time,
        }
    }
}

/// The network: layers and where their parameters are; the values live in [`Parameters`].
#[derive(Clone, Debug)]
pub struct Seq2Seq {
    architecture: Architecture,
    encoder: Vec<Lstm>,
    decoder: Vec<Lstm>,
    dense: Dense,
    zeros: Parameters<f32>,
}

/// The weights laid out for the products of one optimiser step; made once, shared by all shards.
#[derive(Clone, Debug)]
pub struct Prepared<R> {
    encoder: Vec<PreparedLstm<R>>,
    decoder: Vec<PreparedLstm<R>>,
    dense: PreparedDense<R>,
}

/// Memory of one shard's passes, reused from step to step.
#[derive(Clone, Debug, Default)]
pub struct Workspace<R> {
    encoder: Vec<LstmTape<R>>,
    decoder: Vec<LstmTape<R>>,
    logits: Vec<R>,
    d_rows: Vec<R>,
    d_below: Vec<R>,
    scratch: Scratch<R>,
}

/// A shard's texts, packed side by side.
struct Shard {
    source: Packing,
    target: Packing,
    source_ids: Vec<u32>,
    decoder_ids: Vec<u32>,
    target_ids: Vec<u32>,
    /// For each position of the target packing, the position of the same example in the source packing.
    source_position: Vec<usize>,
}

impl Seq2Seq {
    /// Lays out the layers; fails where sizes cannot be.
    pub fn new(architecture: Architecture) -> Result<Self> {
        let a = &architecture;
        let widths = [a.source_input, a.target_input].map(|form| match form {
            InputForm::OneHot => 1,
            InputForm::Embedding(width) => width,
        });
        if a.hidden == 0 || a.layers == 0 || widths.contains(&0) || a.source_vocabulary < 4 || a.target_vocabulary < 4 {
            let message = "hidden, layers and embedding widths must be at least 1, vocabularies at least the four special symbols";
            return Err(Error::new(ErrorKind::Config, message));
        }
        let mut zeros = Parameters::default();
        let mut side = |name, vocabulary, form| {
            let mut layers = vec![Lstm::over_symbols(&mut zeros, name, vocabulary, a.hidden, form)];
            layers.extend((1..a.layers).map(|layer| Lstm::over_rows(&mut zeros, name, layer, a.hidden, a.hidden)));
            layers
        };
        let encoder = side("encoder", a.source_vocabulary, a.source_input);
        let decoder = side("decoder", a.target_vocabulary, a.target_input);
        let dense = Dense::new(&mut zeros, "decoder.dense", a.hidden, a.target_vocabulary);
        Ok(Self { architecture, encoder, decoder, dense, zeros })
    }

    /// Sizes and options.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// All parameters, zero.
    pub fn parameters<R: Real>(&self) -> Parameters<R> {
        self.zeros.map(|_| R::ZERO)
    }

    /// Initial values, the same for the same seed.
    pub fn initialise(&self, seed: u64) -> Parameters<f32> {
        let mut p = self.parameters();
        for (layer, lstm) in self.layers().enumerate() {
            lstm.initialise(&mut p, &mut Random::new(seed, layer as u64));
        }
        self.dense.initialise(&mut p, &mut Random::new(seed, u64::MAX));
        p
    }

    /// Names of the encoder's states, in the order of [`Forward::states`].
    pub fn state_names(&self) -> Vec<String> {
        (0..self.architecture.layers).flat_map(|l| [state_h(l), state_c(l)]).collect()
    }

    /// Lays out the weights for shards of about `tokens` tokens a side.
    pub fn prepare<R: Real>(&self, p: &Parameters<R>, tokens: usize) -> Prepared<R> {
        Prepared {
            encoder: self.encoder.iter().map(|l| l.prepare(p, tokens)).collect(),
            decoder: self.decoder.iter().map(|l| l.prepare(p, tokens)).collect(),
            dense: self.dense.prepare(p),
        }
    }

    /// The teacher-forced loss of a shard, and its gradients times `scale`, added to `gradients`.
    ///
    /// `scale` multiplies each token's nats: 1 / (target tokens of the batch) gives the gradient of the mean.
    pub fn loss_and_gradients<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &Prepared<R>,
        examples: &[Example<'_>],
        scale: R,
        gradients: &mut Parameters<R>,
        workspace: &mut Workspace<R>,
    ) -> Sums {
        if examples.is_empty() {
            return Sums::default();
        }
        let shard = Shard::new(examples);
        self.run(p, prepared, &shard, workspace);
        let ws = workspace;
        let top = ws.decoder.last().map_or(&[][..], |tape| &tape.h);
        let backward = Some((scale, &mut ws.d_rows, &mut *gradients));
        let sums = self.dense.loss(p, &prepared.dense, top, &shard.target_ids, &mut ws.logits, &mut ws.scratch, backward);

        let state = shard.target.batch() * self.architecture.hidden;
        let zero = vec![R::ZERO; state];
        let mut d_states: Vec<(Vec<R>, Vec<R>)> = vec![(zero.clone(), zero); self.decoder.len()];
        for (l, lstm) in self.decoder.iter().enumerate().rev() {
            let (below, tapes) = ws.decoder.split_at_mut(l);
            let input = input_of(l, &shard.decoder_ids, below);
            let (d_h, d_c) = &mut d_states[l];
            let d_rows = Some(ws.d_rows.as_slice());
            lstm.backward(
                p,
                &prepared.decoder[l],
                &shard.target,
                input,
                &mut tapes[0],
                d_rows,
                d_h,
                d_c,
                &mut ws.d_below,
                &mut ws.scratch,
                gradients,
            );
            std::mem::swap(&mut ws.d_rows, &mut ws.d_below);
        }
        let mut d_rows = None;
        for (l, lstm) in self.encoder.iter().enumerate().rev() {
            let (below, tapes) = ws.encoder.split_at_mut(l);
            let input = input_of(l, &shard.source_ids, below);
            let mut d_h = shard.to_source(&d_states[l].0);
            let mut d_c = shard.to_source(&d_states[l].1);
            let tape = &mut tapes[0];
            let (prepared, packing) = (&prepared.encoder[l], &shard.source);
            let below = &mut ws.d_below;
            lstm.backward(p, prepared, packing, input, tape, d_rows, &mut d_h, &mut d_c, below, &mut ws.scratch, gradients);
            std::mem::swap(&mut ws.d_rows, &mut ws.d_below);
            d_rows = Some(ws.d_rows.as_slice());
        }
        sums
    }

    /// The teacher-forced loss alone.
    pub fn evaluate<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &Prepared<R>,
        examples: &[Example<'_>],
        workspace: &mut Workspace<R>,
    ) -> Sums {
        if examples.is_empty() {
            return Sums::default();
        }
        let shard = Shard::new(examples);
        self.run(p, prepared, &shard, workspace);
        let top = workspace.decoder.last().map_or(&[][..], |tape| &tape.h);
        self.dense.loss(p, &prepared.dense, top, &shard.target_ids, &mut workspace.logits, &mut workspace.scratch, None)
    }

    /// States and logits, for comparison with the exported graphs.
    ///
    /// `decoder_inputs` start with START; texts of any lengths.
    pub fn forward<R: Real>(&self, p: &Parameters<R>, sources: &[Vec<u32>], decoder_inputs: &[Vec<u32>]) -> Forward<R> {
        let inputs: Vec<&[u32]> = decoder_inputs.iter().map(Vec::as_slice).collect();
        let sources: Vec<&[u32]> = sources.iter().map(Vec::as_slice).collect();
        let shard = Shard::of(&sources, &inputs, &[]);
        let mut ws = Workspace::default();
        let prepared = self.prepare(p, shard.source.rows.max(shard.target.rows));
        self.run(p, &prepared, &shard, &mut ws);
        let hidden = self.architecture.hidden;
        let mut states = Vec::new();
        for (l, (lstm, tape)) in self.encoder.iter().zip(&ws.encoder).enumerate() {
            let (h, c) = lstm.final_states(&shard.source, tape);
            for (name, packed) in [(state_h(l), h), (state_c(l), c)] {
                let mut rows = vec![R::ZERO; packed.len()];
                for (row, &example) in packed.chunks_exact(hidden).zip(&shard.source.order) {
                    rows[example * hidden..][..hidden].copy_from_slice(row);
                }
                states.push((name, rows));
            }
        }
        let (vocabulary, target_time) = (self.architecture.target_vocabulary, shard.target.steps());
        let top = ws.decoder.last().map_or(&[][..], |tape| &tape.h);
        let packed = self.dense.logits(p, &prepared.dense, top, &mut ws.scratch);
        let mut logits = vec![R::ZERO; sources.len() * target_time * vocabulary];
        for (row, (step, _, example)) in packed.chunks_exact(vocabulary).zip(shard.target.iter()) {
            logits[(example * target_time + step) * vocabulary..][..vocabulary].copy_from_slice(row);
        }
        Forward { states, logits, target_time }
    }

    /// Encoder, hand-over of the states, decoder: what every pass begins with.
    fn run<R: Real>(&self, p: &Parameters<R>, prepared: &Prepared<R>, shard: &Shard, ws: &mut Workspace<R>) {
        ws.encoder.resize_with(self.encoder.len(), LstmTape::default);
        ws.decoder.resize_with(self.decoder.len(), LstmTape::default);
        let state = shard.source.batch() * self.architecture.hidden;
        for (l, lstm) in self.encoder.iter().enumerate() {
            let (below, tapes) = ws.encoder.split_at_mut(l);
            let tape = &mut tapes[0];
            for zero in [&mut tape.h_0, &mut tape.c_0] {
                zero.clear();
                zero.resize(state, R::ZERO);
            }
            lstm.forward(p, &prepared.encoder[l], &shard.source, input_of(l, &shard.source_ids, below), tape, &mut ws.scratch);
        }
        for (l, lstm) in self.decoder.iter().enumerate() {
            let (below, tapes) = ws.decoder.split_at_mut(l);
            let tape = &mut tapes[0];
            let (h, c) = self.encoder[l].final_states(&shard.source, &ws.encoder[l]);
            (tape.h_0, tape.c_0) = (shard.to_target(&h), shard.to_target(&c));
            lstm.forward(p, &prepared.decoder[l], &shard.target, input_of(l, &shard.decoder_ids, below), tape, &mut ws.scratch);
        }
    }

    /// The parameters as the graphs carry them: name, shape, row-major values.
    pub fn exported<'a, R: Real>(&self, p: &'a Parameters<R>) -> Vec<(String, Vec<usize>, Cow<'a, [R]>)> {
        p.ids()
            .map(|id| {
                let entry = p.entry(id);
                if self.is_transposed(id) {
                    let [inputs, gates] = entry.shape[..] else { unreachable!("a transposed W has two axes") };
                    (entry.name.clone(), vec![1, gates, inputs], Cow::Owned(gather::transpose(p.get(id), inputs, gates)))
                } else {
                    (entry.name.clone(), entry.shape.clone(), Cow::Borrowed(p.get(id)))
                }
            })
            .collect()
    }

    /// The parameters out of tensors that [`exported`](Self::exported) named; `find` gives shape and row-major values.
    pub fn import<R: Real>(&self, mut find: impl FnMut(&str) -> Option<(Vec<usize>, Vec<R>)>) -> Result<Parameters<R>> {
        let mut p = self.parameters::<R>();
        for id in p.ids() {
            let entry = p.entry(id).clone();
            let name = &entry.name;
            let (shape, values) = find(name).ok_or_else(|| Error::new(ErrorKind::Bundle, format!("no tensor named {name}")))?;
            let transposed = self.is_transposed(id);
            let expected = if transposed { vec![1, entry.shape[1], entry.shape[0]] } else { entry.shape.clone() };
            if shape != expected || values.len() != entry.len() {
                let message = format!("tensor {name} has shape {shape:?}, but the architecture asks for {expected:?}");
                return Err(Error::new(ErrorKind::Bundle, message));
            }
            if transposed {
                p.get_mut(id).copy_from_slice(&gather::transpose(&values, entry.shape[1], entry.shape[0]));
            } else {
                p.get_mut(id).copy_from_slice(&values);
            }
        }
        Ok(p)
    }

    fn is_transposed(&self, id: ParameterId) -> bool {
        self.layers().any(|l| l.transposed() == Some(id))
    }

    fn layers(&self) -> impl Iterator<Item = &Lstm> {
        self.encoder.iter().chain(&self.decoder)
    }
}

/// What layer `l` reads: ids at the bottom, else the outputs of the layer below.
fn input_of<'a, R>(l: usize, ids: &'a [u32], below: &'a [LstmTape<R>]) -> Input<'a, R> {
    match l.checked_sub(1) {
        None => Input::Ids(ids),
        Some(l) => Input::Rows(&below[l].h),
    }
}

impl Shard {
    /// Teacher forcing: the decoder reads START and the target, and is to write the target and END.
    fn new(examples: &[Example<'_>]) -> Self {
        let sources: Vec<&[u32]> = examples.iter().map(|e| e.source).collect();
        let inputs: Vec<Vec<u32>> = examples.iter().map(|e| [&[START], e.target].concat()).collect();
        let inputs: Vec<&[u32]> = inputs.iter().map(Vec::as_slice).collect();
        let targets: Vec<&[u32]> = examples.iter().map(|e| e.target).collect();
        Self::of(&sources, &inputs, &targets)
    }

    fn of(sources: &[&[u32]], inputs: &[&[u32]], targets: &[&[u32]]) -> Self {
        let source = Packing::new(&sources.iter().map(|s| s.len()).collect::<Vec<_>>());
        let target = Packing::new(&inputs.iter().map(|s| s.len()).collect::<Vec<_>>());
        let mut position = vec![0; sources.len()];
        source.order.iter().enumerate().for_each(|(p, &example)| position[example] = p);
        Self {
            source_ids: source.iter().map(|(step, _, example)| sources[example][step]).collect(),
            decoder_ids: target.iter().map(|(step, _, example)| inputs[example][step]).collect(),
            target_ids: match targets {
                [] => Vec::new(),
                _ => target.iter().map(|(step, _, example)| targets[example].get(step).copied().unwrap_or(END)).collect(),
            },
            source_position: target.order.iter().map(|&example| position[example]).collect(),
            source,
            target,
        }
    }

    /// Rows in the source packing's order, brought into the target packing's order.
    fn to_target<R: Real>(&self, rows: &[R]) -> Vec<R> {
        let width = rows.len() / self.source.batch().max(1);
        self.source_position.iter().flat_map(|&p| &rows[p * width..(p + 1) * width]).copied().collect()
    }

    /// The inverse of [`to_target`](Self::to_target).
    fn to_source<R: Real>(&self, rows: &[R]) -> Vec<R> {
        let width = rows.len() / self.source.batch().max(1);
        let mut out = vec![R::ZERO; rows.len()];
        for (row, &p) in rows.chunks_exact(width.max(1)).zip(&self.source_position) {
            out[p * width..(p + 1) * width].copy_from_slice(row);
        }
        out
    }
}

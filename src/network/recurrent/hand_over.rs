//! From the encoder's last states to the decoder's first: which becomes which, and the bridge between them.

use super::architecture::Architecture;
use crate::network::ground::graph::squeeze;
use crate::network::ground::pass::Pass;
use crate::network::ground::shard::Shard;
use crate::network::layers::dense::{Dense, DenseTape, PreparedDense};
use crate::network::layers::kinds::{Bridge, BridgeSource};
use crate::network::layers::recurrent::Tape;
use crate::network::{Layout, Parameters, Summands};
use crate::onnx::builder::{GraphBuilder, Value};
use s2s_kernels::random::Random;
use s2s_kernels::{Real, tanh_each};

/// What each state of each decoder layer starts from.
///
/// Parameters of a bridge: `decoder.bridge.{state}.weight` (encoder width, hidden) and
/// `decoder.bridge.{state}.bias` (hidden).
#[derive(Clone, Debug)]
pub(super) struct HandOver {
    /// For each decoder layer, its states; `None` for zeros.
    layers: Vec<Option<Vec<Start>>>,
    bridge: Bridge,
    hidden: usize,
}

/// What one state starts from.
#[derive(Clone, Debug)]
struct Start {
    layer: usize,
    state: usize,
    dense: Option<Dense>,
}

/// Something of each state of each layer.
type ByLayer<R> = [Vec<Vec<R>>];

/// The bridges laid out for the products of one optimiser step, in the order of the states.
pub(super) type PreparedHandOver<R> = Vec<PreparedDense<R>>;

/// What a bridge read and leaves for the way back, in the order of the states.
#[derive(Clone, Debug, Default)]
pub(super) struct HandOverTape<R> {
    states: Vec<(Vec<R>, DenseTape<R>)>,
}

impl HandOver {
    /// Registers the parameters.
    pub(super) fn new(p: &mut Layout, a: &Architecture) -> Self {
        let mut layer = |(l, from): (usize, Option<usize>)| {
            let names = a.cell.state_names(l);
            let start = |(state, name): (usize, &String)| Start {
                layer: from.unwrap_or_default(),
                state: if a.bridge_source == BridgeSource::Hidden { 0 } else { state },
                dense: (a.bridge != Bridge::None).then(|| {
                    Dense::new(p, &format!("decoder.bridge.{name}"), a.encoder_width(), a.hidden, None)
                }),
            };
            from.is_some().then(|| names.iter().enumerate().map(start).collect())
        };
        let layers = a.starts().into_iter().enumerate().map(&mut layer).collect();
        Self { layers, bridge: a.bridge, hidden: a.hidden }
    }

    /// Whether the decoder's layer `l` starts from the encoder, not from zeros.
    pub(super) fn is_given(&self, l: usize) -> bool {
        self.layers[l].is_some()
    }

    fn starts(&self) -> impl Iterator<Item = (usize, usize, &Start)> {
        self.layers.iter().enumerate().flat_map(|(l, states)| {
            states.iter().flatten().enumerate().map(move |(state, start)| (l, state, start))
        })
    }

    fn bridges(&self) -> impl Iterator<Item = &Dense> {
        self.starts().filter_map(|(_, _, start)| start.dense.as_ref())
    }

    /// Draws Glorot-uniform weights; biases stay zero.
    pub(super) fn initialise(&self, p: &mut Parameters<f32>, random: &mut Random) {
        self.bridges().for_each(|dense| dense.initialise(p, random));
    }

    /// Packs the weights into the memory of `old`.
    pub(super) fn prepare<R: Real>(
        &self,
        p: &Parameters<R>,
        old: PreparedHandOver<R>,
    ) -> PreparedHandOver<R> {
        let old = old.into_iter().map(Some).chain(std::iter::repeat(None));
        self.bridges().zip(old).map(|(dense, old)| dense.prepare(p, old.unwrap_or_default())).collect()
    }

    /// Sets the first states of the decoder's layers, from the last ones of the encoder's (layer, state; each
    /// (batch, width) in the source packing's order).
    pub(super) fn forward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedHandOver<R>,
        shard: &Shard,
        finals: &[Vec<Vec<R>>],
        decoder: &mut [Tape<R>],
        tape: &mut HandOverTape<R>,
    ) {
        tape.states.resize_with(prepared.len(), Default::default);
        let mut bridges = prepared.iter().zip(&mut tape.states);
        for (states, decoder) in self.layers.iter().zip(decoder) {
            decoder.from_zero = states.is_none();
            let Some(states) = states else {
                // As many as any cell has.
                decoder.initial = vec![vec![R::ZERO; shard.target.batch() * self.hidden]; 2];
                continue;
            };
            let first = states.iter().map(|start| {
                let rows = shard.to_target(&finals[start.layer][start.state]);
                let Some(dense) = &start.dense else { return rows };
                let Some((prepared, (read, _))) = bridges.next() else { return rows };
                let mut out = dense.logits(pass, prepared, &rows);
                *read = rows;
                match self.bridge {
                    Bridge::None | Bridge::Linear => {}
                    Bridge::Tanh => tanh_each(&mut out),
                    Bridge::Relu => out.iter_mut().filter(|x| **x < R::ZERO).for_each(|x| *x = R::ZERO),
                }
                out
            });
            decoder.initial = first.collect();
        }
    }

    /// Goes back from the gradients of the decoder's first states (layer, state; each (batch, hidden) in the
    /// target packing's order), which `decoder` still holds: adds to those of the encoder's last states
    /// (layer, state; each (batch, width) in the source packing's order).
    pub(super) fn backward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedHandOver<R>,
        shard: &Shard,
        decoder: &[Tape<R>],
        tape: &mut HandOverTape<R>,
        (d_first, d_finals): (&mut ByLayer<R>, &mut ByLayer<R>),
    ) {
        let mut bridges = prepared.iter().zip(&mut tape.states);
        for (l, state, start) in self.starts() {
            let d = &mut d_first[l][state];
            let mut below = Vec::new();
            let d: &[R] = match (&start.dense, start.dense.as_ref().and_then(|_| bridges.next())) {
                (Some(dense), Some((prepared, (_, tape)))) => {
                    let first = decoder[l].initial[state].iter();
                    match self.bridge {
                        Bridge::None | Bridge::Linear => {}
                        Bridge::Tanh => d.iter_mut().zip(first).for_each(|(d, &y)| *d *= R::ONE - y * y),
                        Bridge::Relu => {
                            let dead = d.iter_mut().zip(first).filter(|(_, y)| **y <= R::ZERO);
                            dead.for_each(|(d, _)| *d = R::ZERO);
                        }
                    }
                    dense.backward(pass, prepared, d, tape, Some(&mut below));
                    &below
                }
                _ => d,
            };
            let d_final = &mut d_finals[start.layer][start.state];
            d_final.iter_mut().zip(shard.to_source(d)).for_each(|(sum, d)| *sum += d);
        }
    }

    /// Lists what [`backward`](Self::backward) found as gradients of the parameters.
    pub(super) fn summands<'a, R: Real>(&self, tape: &'a HandOverTape<R>, out: &mut Summands<'a, R>) {
        for (dense, (read, tape)) in self.bridges().zip(&tape.states) {
            dense.summands(read, tape, out);
        }
    }

    /// Writes the first states of each decoder layer, (1, batch, hidden), from the last ones of the encoder's
    /// layers, (1, batch, encoder width); `None` for zeros.
    pub(super) fn emit(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        finals: &[Vec<Value>],
    ) -> Vec<Option<Vec<Value>>> {
        let mut layer = |states: &Vec<Start>| -> Vec<Value> {
            let state = |start: &Start| {
                let last = &finals[start.layer][start.state];
                let Some(dense) = &start.dense else { return last.clone() };
                g.scope("decoder.bridge");
                let rows = squeeze(g, last, 0);
                let rows = self.emit_bridge(p, g, dense, &rows);
                let axes = g.int64(&[1], &[0]);
                g.node("Unsqueeze", &[&rows, &axes], &[])
            };
            states.iter().map(state).collect()
        };
        self.layers.iter().map(|states| states.as_ref().map(&mut layer)).collect()
    }

    /// Lists the states of the decoder that are given, and the encoder's last states that they are made of:
    /// (decoder layer, state) and (encoder layer, state).
    pub(super) fn given(&self) -> impl Iterator<Item = ([usize; 2], [usize; 2])> {
        self.starts().map(|(l, state, start)| ([l, state], [start.layer, start.state]))
    }

    /// Writes the first states that bridges make, (batch, hidden), from the last ones of the encoder's layers,
    /// (batch, encoder width), each with its layer and its place in it; nothing without bridges.
    pub(super) fn emit_bridges(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        finals: &[Vec<Value>],
    ) -> Vec<([usize; 2], Value)> {
        g.scope("decoder.bridge");
        let bridged = self.starts().filter_map(|(l, state, start)| {
            let rows = &finals[start.layer][start.state];
            start.dense.as_ref().map(|dense| ([l, state], self.emit_bridge(p, g, dense, rows)))
        });
        bridged.collect()
    }

    fn emit_bridge(&self, p: &Parameters<f32>, g: &mut GraphBuilder, dense: &Dense, rows: &Value) -> Value {
        let rows = dense.emit(p, g, rows);
        match self.bridge {
            Bridge::None | Bridge::Linear => rows,
            Bridge::Tanh => g.node("Tanh", &[&rows], &[]),
            Bridge::Relu => g.node("Relu", &[&rows], &[]),
        }
    }
}

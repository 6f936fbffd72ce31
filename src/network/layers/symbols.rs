//! From ids to the gates' pre-activations of the first recurrent layer: a learnt embedding, or one channel a
//! symbol.
//!
//! One-hot vectors are never made: a one-hot row times W is a row of W's transpose. A small vocabulary with
//! an embedding is treated alike, through a table of all its symbols' pre-activations (embedding x W + bias),
//! the table that the exported decoder step carries too.

use std::ops::Range;

use super::kinds::InputForm;
use super::rows::{Gates, bias_column};
use crate::network::ground::gather::{add_to_rows, gather_rows};
use crate::network::ground::gradients::{Summand, Summands};
use crate::network::ground::graph::{GraphSide, Io, emit_folded, emit_parameter};
use crate::network::ground::parameters::{Layout, ParameterId, Parameters};
use crate::network::ground::pass::Pass;
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use s2s_kernels::random::Random;
use s2s_kernels::{MatRef, Packed, Real, Scratch, Store, add_assign, matmul, matmul_packed, scale_and_add};

/// The parameters between ids and gates.
///
/// With an embedding: `embedding` (vocabulary, width), whose row of PAD is zero, and `W` (1, gates, width +
/// 1). One-hot: `W` alone, (1, gates, vocabulary + 1) in the graphs; kept transposed here, as (vocabulary +
/// 1, gates), because training reads and writes whole rows of symbols. In both the last column is the bias: a
/// channel that is 1 at tokens and 0 at padding, so that padding leaves a zero state exactly zero.
#[derive(Clone, Debug)]
pub struct Symbols {
    vocabulary: usize,
    gates: usize,
    form: Form,
    /// Whether gates are held at padding.
    is_held: bool,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    OneHot { w: ParameterId },
    Embedding { width: usize, embedding: ParameterId, w: ParameterId },
}

/// [`Symbols`] laid out for the products of one optimiser step; shared by all shards.
#[derive(Clone, Debug)]
pub enum PreparedSymbols<R> {
    /// The parameter itself is the table.
    OneHot,
    /// embedding x W + bias, (vocabulary, gates).
    Table(Vec<R>),
    /// W without the bias, packed as (width, gates).
    Rows(Packed<R>),
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct SymbolsTape<R> {
    /// The embedded rows after dropout, (tokens, width).
    rows: Vec<R>,
    /// What each value (or, with one-hot input, each token) was multiplied by; empty without dropout.
    factors: Vec<R>,
    /// The gradients of the table of all symbols or of the embedded rows.
    buffer: Vec<R>,
    /// Which of the two.
    is_by_symbol: bool,
}

impl Symbols {
    /// Registers the parameters under `side` (`encoder` or `decoder`) and its first layer's `layer`
    /// (`encoder.lstm_0`).
    pub fn new(
        parameters: &mut Layout,
        side: &str,
        layer: &str,
        vocabulary: usize,
        gates: Gates,
        form: InputForm,
    ) -> Self {
        let w = format!("{layer}.W");
        let Gates { count: gates, held } = gates;
        let is_held = !held.is_empty();
        let form = match form {
            InputForm::OneHot => {
                Form::OneHot { w: parameters.add_transposed(w, [vocabulary + 1, gates], held) }
            }
            InputForm::Embedding(width) => Form::Embedding {
                width,
                embedding: embedding(parameters, side, vocabulary, width),
                w: parameters.add_held(w, &[1, gates, width + 1], held),
            },
        };
        Self { vocabulary, gates, form, is_held }
    }

    /// Prepares for about `tokens` ids a shard, in the memory of `old`: a table pays where the vocabulary is
    /// smaller.
    pub fn prepare<R: Real>(
        &self,
        p: &Parameters<R>,
        tokens: usize,
        old: PreparedSymbols<R>,
    ) -> PreparedSymbols<R> {
        match self.form {
            Form::OneHot { .. } => PreparedSymbols::OneHot,
            Form::Embedding { .. } if self.vocabulary <= tokens => PreparedSymbols::Table(self.table(p)),
            Form::Embedding { width, w, .. } => {
                let packed = if let PreparedSymbols::Rows(packed) = old { packed } else { Packed::default() };
                PreparedSymbols::Rows(
                    packed.repacked(MatRef::strided(p.get(w), self.gates, width, width + 1).transposed()),
                )
            }
        }
    }

    /// Gives the pre-activations of every symbol, bias included, (vocabulary, gates); PAD's row is zero.
    pub fn table<R: Real>(&self, p: &Parameters<R>) -> Vec<R> {
        let gates = self.gates;
        let mut table = match self.form {
            Form::OneHot { w } => {
                let (table, bias) = p.get(w).split_at(self.vocabulary * gates);
                let mut table = table.to_vec();
                table.chunks_exact_mut(gates).for_each(|row| add_assign(row, bias));
                table
            }
            Form::Embedding { width, embedding, w } => {
                let bias = bias_column(p, w, width);
                let mut table = vec![R::ZERO; self.vocabulary * gates];
                let w = MatRef::strided(p.get(w), gates, width, width + 1).transposed();
                let embedding = MatRef::new(p.get(embedding), self.vocabulary, width);
                matmul(&mut table, Store::Bias(&bias), embedding, w, &mut Scratch::default());
                table
            }
        };
        table[..gates].fill(R::ZERO);
        table
    }

    /// Fills `gates` (ids, gates) with the pre-activations of `ids`.
    ///
    /// Dropout falls on the channels of an embedding; one-hot input has one channel a token, so whole tokens
    /// are dropped.
    pub fn forward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedSymbols<R>,
        ids: &[u32],
        gates: &mut [R],
        tape: &mut SymbolsTape<R>,
    ) {
        let (p, dropout) = (pass.parameters, pass.dropout);
        match (self.form, prepared) {
            (Form::OneHot { w }, _) => {
                match dropout {
                    Some(dropout) => dropout.factors(ids.len(), &mut tape.factors),
                    None => tape.factors.clear(),
                }
                let (table, bias) = p.get(w).split_at(self.vocabulary * self.gates);
                for (n, (gates, &id)) in gates.chunks_exact_mut(self.gates).zip(ids).enumerate() {
                    let row = &table[id as usize * self.gates..][..self.gates];
                    scale_and_add(gates, row, tape.factors.get(n).copied().unwrap_or(R::ONE), bias);
                }
            }
            (Form::Embedding { .. }, PreparedSymbols::Table(table)) => {
                gather_rows(table, self.gates, ids, gates);
            }
            (Form::Embedding { width, embedding, w }, PreparedSymbols::Rows(packed)) => {
                let rows = &mut tape.rows;
                rows.resize(ids.len() * width, R::ZERO);
                gather_rows(p.get(embedding), width, ids, rows);
                if let Some(dropout) = dropout {
                    dropout.factors(rows.len(), &mut tape.factors);
                    rows.iter_mut().zip(&tape.factors).for_each(|(x, &f)| *x *= f);
                }
                let bias = bias_column(p, w, width);
                let rows = MatRef::new(rows, ids.len(), width);
                matmul_packed(gates, Store::Bias(&bias), rows, packed, pass.scratch);
            }
            (Form::Embedding { .. }, PreparedSymbols::OneHot) => unreachable!("prepared by another network"),
        }
    }

    /// Works out what lies between the gradients of the pre-activations, `d_gates` (ids, gates), and those of
    /// an embedding.
    pub fn backward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedSymbols<R>,
        ids: &[u32],
        d_gates: &[R],
        tape: &mut SymbolsTape<R>,
    ) {
        let Form::Embedding { width, w, .. } = self.form else { return };
        let n = self.gates;
        tape.is_by_symbol = matches!(prepared, PreparedSymbols::Table(_));
        if tape.is_by_symbol {
            // All tokens of a symbol are summed first: the products then run over symbols instead of tokens.
            tape.buffer.clear();
            tape.buffer.resize(self.vocabulary * n, R::ZERO);
            add_to_rows(&mut tape.buffer, n, ids, d_gates);
            return;
        }
        let w = MatRef::strided(pass.parameters.get(w), n, width, width + 1);
        tape.buffer.resize(ids.len() * width, R::ZERO);
        let d_gates = MatRef::new(d_gates, ids.len(), n);
        matmul(&mut tape.buffer, Store::Overwrite, d_gates, w, pass.scratch);
        if pass.dropout.is_some() {
            tape.buffer.iter_mut().zip(&tape.factors).for_each(|(d, &f)| *d *= f);
        }
    }

    /// Lists what [`backward`](Self::backward) found as gradients of the parameters; `d_bias` (gates) are the
    /// sums of `d_gates`.
    pub fn summands<'a, R: Real>(
        &self,
        p: &'a Parameters<R>,
        ids: &'a [u32],
        d_gates: &'a [R],
        d_bias: &'a [R],
        tape: &'a SymbolsTape<R>,
        out: &mut Summands<'a, R>,
    ) {
        let n = self.gates;
        match self.form {
            Form::OneHot { w } => {
                out.push((w, Summand::Rows { ids, values: d_gates, factors: &tape.factors }));
                out.push((w, Summand::Row { at: self.vocabulary, values: d_bias }));
            }
            Form::Embedding { width, embedding, w } => {
                let (d_rows, rows) = if tape.is_by_symbol {
                    let d_table = MatRef::new(&tape.buffer, self.vocabulary, n);
                    let w = MatRef::strided(p.get(w), n, width, width + 1);
                    out.push((embedding, Summand::Product { first_row: 0, a: d_table, b: w }));
                    (d_table, MatRef::new(p.get(embedding), self.vocabulary, width))
                } else {
                    out.push((embedding, Summand::Rows { ids, values: &tape.buffer, factors: &[] }));
                    (MatRef::new(d_gates, ids.len(), n), MatRef::new(&tape.rows, ids.len(), width))
                };
                out.push((w, Summand::over_rows(d_rows, rows)));
                out.push((w, Summand::Column { at: width, values: d_bias }));
            }
        }
    }

    /// Draws the initial values: W as Keras does (Glorot uniform), embedding rows of unit expected norm, PAD
    /// zero; sets the bias of the gates in `ones` to 1.
    pub fn initialise(&self, p: &mut Parameters<f32>, ones: Range<usize>, random: &mut Random) {
        match self.form {
            Form::OneHot { w } => {
                let limit = (6.0 / (self.vocabulary + self.gates) as f64).sqrt();
                let (symbols, bias) = p.get_mut(w).split_at_mut(self.vocabulary * self.gates);
                symbols[self.gates..].iter_mut().for_each(|x| *x = random.symmetric(limit));
                bias[ones].fill(1.0);
            }
            Form::Embedding { width, embedding, w } => {
                let limit = (3.0 / width as f64).sqrt();
                p.get_mut(embedding)[width..].iter_mut().for_each(|x| *x = random.symmetric(limit));
                let limit = (6.0 / (width + self.gates) as f64).sqrt();
                for (gate, row) in p.get_mut(w).chunks_exact_mut(width + 1).enumerate() {
                    row[..width].iter_mut().for_each(|x| *x = random.symmetric(limit));
                    if ones.contains(&gate) {
                        row[width] = 1.0;
                    }
                }
            }
        }
    }

    /// Writes the input (time, batch, channels) of the first recurrent layer over whole texts, the last
    /// channel the mask (before its opposite, where gates are held), and that layer's W.
    pub fn emit_sequence(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        side: &GraphSide,
    ) -> (Value, Value) {
        let channels = match (self.form, side.io) {
            (Form::Embedding { embedding, .. }, Io::Ids) => {
                let embedding = emit_parameter(p, embedding, g);
                g.node("Gather", &[&embedding, &side.input], &[])
            }
            (Form::OneHot { .. }, Io::Ids) => {
                let depth = g.int64(&[], &[self.vocabulary as i64]);
                let off_on = g.float(&[2], &[0.0, 1.0]);
                g.node("OneHot", &[&side.input, &depth, &off_on], &[("axis", Attribute::Int(-1))])
            }
            (Form::Embedding { embedding, .. }, Io::OneHot) => {
                let embedding = emit_parameter(p, embedding, g);
                g.node("MatMul", &[&side.input, &embedding], &[])
            }
            (Form::OneHot { .. }, Io::OneHot) => side.input.clone(),
        };
        // The mask as one more channel. A Concat would say the same, but one engine (tract 0.23.9) moves the
        // product of a concatenation out of its loop wrongly when it feeds the first LSTM.
        let width = match self.form {
            Form::OneHot { .. } => self.vocabulary,
            Form::Embedding { width, .. } => width,
        };
        let wide = width + if self.is_held { 2 } else { 1 };
        let pads = g.int64(&[6], &[0, 0, 0, 0, 0, (wide - width) as i64]);
        let padded = g.node("Pad", &[&channels, &pads], &[]);
        let channel = |at: usize, g: &mut GraphBuilder| {
            let mut channel = vec![0.0; wide];
            channel[at] = 1.0;
            g.float(&[wide], &channel)
        };
        let last = channel(width, g);
        let gate = g.node("Mul", &[&side.mask, &last], &[]);
        let mut x = g.node("Add", &[&padded, &gate], &[]);
        if self.is_held {
            let one = g.float(&[], &[1.0]);
            let padding = g.node("Sub", &[&one, &side.mask], &[]);
            let last = channel(width + 1, g);
            let gate = g.node("Mul", &[&padding, &last], &[]);
            x = g.node("Add", &[&x, &gate], &[]);
        }
        (x, emit_parameter(p, self.w(), g))
    }

    /// Writes the pre-activations (batch, gates) of one token a row, bias included, from the folded table.
    pub fn emit_step(&self, p: &Parameters<f32>, g: &mut GraphBuilder, io: Io, input: &Value) -> Value {
        let name = format!("{}.table", p.entry(self.w()).name.trim_end_matches(".W"));
        let table = emit_folded(g, &name, &[self.vocabulary, self.gates], &self.table(p));
        let time = g.int64(&[1], &[1]);
        let token = g.node("Squeeze", &[input, &time], &[]);
        match io {
            Io::Ids => g.node("Gather", &[&table, &token], &[]),
            Io::OneHot => g.node("MatMul", &[&token, &table], &[]),
        }
    }

    fn w(&self) -> ParameterId {
        match self.form {
            Form::OneHot { w } | Form::Embedding { w, .. } => w,
        }
    }
}

/// Finds or registers the embedding of a side; both directions of a layer share it.
fn embedding(parameters: &mut Layout, side: &str, vocabulary: usize, width: usize) -> ParameterId {
    let name = format!("{side}.embedding");
    parameters.find(&name).unwrap_or_else(|| parameters.add(name, &[vocabulary, width]))
}

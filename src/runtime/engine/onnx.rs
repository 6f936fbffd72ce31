//! [`Engine`] over two [`Graph`]s, wired as the manifest says.

use std::ops::Range;
use std::sync::Arc;

use super::arrange::{self, Arrangement};
use super::best::Wanted;
use super::feeds::{id_view, mask_view, placed};
use super::graph::{DataView, Feed, Graph, Scores, Tensor, TensorView, Value};
use super::interface::{Encoded, Engine, IdMatrix, Joins, Lengths, StateTensor, StepOutput};
use super::plan::{First, Plan};
use super::row_by_row::RowByRow;
use super::state::{Carried, Kind, Part, State};
use super::tokens::{Tokens, check_ids};
use crate::bundle::Bundle;
use crate::checked::SharedModel;
use crate::contract::SpecialIds;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Io, OutputForm, Role};
use crate::vocabulary::PaddingSide;

/// The logarithm of a probability that came out as zero.
const LEAST_PROBABILITY: f32 = f32::MIN_POSITIVE;

/// What was found out by running a pair of graphs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Probed {
    /// Whether what stands behind a row's last token changes nothing, where a decoder is fed prefixes.
    pub(super) causal: bool,
    pub(super) lengths: Lengths,
    /// What [`Engine::remark`] says.
    pub(super) remark: Option<Arc<str>>,
}

/// An encoder and a decoder graph, run by any engine.
pub struct OnnxEngine {
    name: &'static str,
    encoder: Box<dyn Graph>,
    decoder: Box<dyn Graph>,
    plan: Arc<Plan>,
    /// Rows by cohort; there is always one.
    cohorts: Vec<State>,
    selected: usize,
    probed: Probed,
    /// The number of the next source.
    next_source: u64,
    tokens: Tokens,
    mask: Tokens,
    lengths: Tokens,
    /// What the graphs gave last.
    values: Vec<Value>,
    read: Tensor,
}

impl OnnxEngine {
    /// Loads encoder and decoder of `bundle`, side by side, with `load`: (graph name, the graph, inputs, outputs).
    ///
    /// - `name`: what [`Engine::name`] says.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if the graphs do not fit the manifest; what `load` gives.
    pub fn new(
        name: &'static str,
        bundle: &Bundle,
        load: impl Fn(&str, &Arc<SharedModel>, &[&str], &[&str]) -> Result<Box<dyn Graph>> + Sync,
    ) -> Result<Self> {
        let wiring = &bundle.manifest().wiring;
        let plan = Plan::of(bundle)?;
        let (encoder, decoder) = (bundle.shared_graph(Role::Encoder)?, bundle.shared_graph(Role::Decoder)?);
        let (encoder, decoder) = std::thread::scope(|scope| {
            let encoder = scope
                .spawn(|| load(&plan.encoder, encoder, &wiring.encoder_inputs(), &wiring.encoder_outputs()));
            let decoder = load(&plan.decoder, decoder, &wiring.decoder_inputs(), &wiring.decoder_outputs());
            (encoder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), decoder)
        });
        let (encoder, mut decoder) = (encoder?, decoder?);
        if plan.one_row {
            let (inputs, outputs) = plan.decoder_axes();
            decoder = Box::new(RowByRow::new(decoder, inputs, outputs));
        }
        Ok(Self::with(name, encoder, decoder, Arc::new(plan)))
    }

    fn with(name: &'static str, encoder: Box<dyn Graph>, decoder: Box<dyn Graph>, plan: Arc<Plan>) -> Self {
        Self {
            name,
            encoder,
            decoder,
            cohorts: vec![State::new(Arc::clone(&plan.carried), plan.side)],
            selected: 0,
            plan,
            probed: Probed::default(),
            next_source: 0,
            tokens: Tokens::default(),
            mask: Tokens::default(),
            lengths: Tokens::default(),
            values: Vec::new(),
            read: Tensor::default(),
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes over what was found out by running it; nothing may be running.
    ///
    /// - `carried`: what is carried from step to step, where more is known of it now.
    pub(super) fn learn(&mut self, probed: Probed, carried: Option<Arc<[Carried]>>) {
        self.probed = probed;
        // Without forks nobody else has the plan.
        if let (Some(carried), Some(plan)) = (carried, Arc::get_mut(&mut self.plan)) {
            self.cohorts = vec![State::new(Arc::clone(&carried), plan.side)];
            self.selected = 0;
            plan.carried = carried;
        }
    }

    /// The encoder's outputs for `sources`, into `values`; and for each row the columns that are no padding.
    fn run_encoder(&mut self, sources: &IdMatrix) -> Result<(usize, Vec<usize>)> {
        let plan = &*self.plan;
        let &IdMatrix { rows, columns, ref data } = sources;
        if rows == 0 || columns == 0 || data.len() != rows * columns {
            let message = format!(
                "{} ids given for {rows} rows of {columns}; at least one of each is needed",
                data.len()
            );
            return Err(Error::new(ErrorKind::Input, message).in_graph(&plan.encoder, None));
        }
        check_ids(data, plan.source_vocabulary, &plan.encoder)?;
        let pad = i64::from(plan.special.pad);
        let own = |row: &[i64]| row.len() - row.iter().take_while(|&&id| id == pad).count();
        let added = usize::from(plan.before.is_some()) + usize::from(plan.behind.is_some());
        let lengths: Vec<usize> = data.chunks_exact(columns).map(|row| own(row) + added).collect();
        let as_given = added == 0 && plan.side == PaddingSide::Left;
        let columns = columns + added;
        let ids = if as_given { data } else { &placed(plan, sources, &lengths, columns) };
        let shape = [rows, columns, plan.source_vocabulary];
        let view = match plan.io {
            Io::Ids => {
                TensorView { shape: &shape[..2], data: id_view(&mut self.tokens, plan.source_type, ids) }
            }
            Io::OneHot => TensorView {
                shape: &shape,
                data: self.tokens.one_hot(ids, plan.source_vocabulary, plan.special.pad),
            },
        };
        let mut feeds = vec![Feed::Host(view)];
        if let Some(mask) = &plan.encoder_mask {
            let data = mask_view(&mut self.mask, mask, plan.side, lengths.iter().copied(), columns);
            feeds.push(Feed::Host(TensorView { shape: &shape[..2], data }));
        }
        let lengths_shape = [rows, 1];
        if let Some((element_type, rank)) = plan.encoder_lengths {
            #[expect(clippy::cast_possible_wrap, reason = "lengths of texts")]
            let data = self.lengths.fill(element_type, lengths.iter().map(|&length| length as i64));
            feeds.push(Feed::Host(TensorView { shape: &lengths_shape[..rank], data }));
        }
        self.encoder.call(&feeds, &mut self.values)?;
        // What the graph puts behind each source is part of what follows.
        let behind = plan.graph_behind;
        Ok((columns + behind, lengths.into_iter().map(|length| length + behind).collect()))
    }

    /// The tensors that the decoder reads first, from what the encoder gave.
    fn first_values(&mut self, rows: usize, columns: usize) -> Result<(Vec<Value>, Vec<bool>)> {
        let plan = &*self.plan;
        let (mut tensors, mut timed) = (Vec::new(), Vec::new());
        let order: Vec<(usize, usize)> = (0..rows).map(|row| (0, row)).collect();
        for (carried, wire) in plan.carried.iter().zip(&plan.wires) {
            let (value, is_timed) = match &wire.first {
                First::Zeros(row) => {
                    let mut shape = row.clone();
                    shape.insert(carried.batch.min(row.len()), rows);
                    let data = vec![0.0; shape.iter().product()];
                    let zeros = TensorView { shape: &shape, data: DataView::F32(&data) };
                    (self.decoder.upload(zeros)?, false)
                }
                &First::Encoder { output, axis } => {
                    let value = &self.values[output];
                    let mut row_shape = value.shape().to_vec();
                    if row_shape.get(axis) != Some(&rows) {
                        let message =
                            format!("shape {row_shape:?} where axis {axis} should be the batch of {rows}");
                        return Err(Error::new(ErrorKind::Engine, message)
                            .in_graph(&plan.encoder, Some(&carried.name)));
                    }
                    row_shape.remove(axis);
                    let time = if let Kind::Memory { time } = carried.kind { time } else { None };
                    let is_timed =
                        time.is_some_and(|time| carried.own_time || row_shape.get(time) == Some(&columns));
                    let to = carried.batch.min(row_shape.len());
                    if to == axis {
                        (Arc::clone(value), is_timed)
                    } else {
                        // The decoder has its rows on another axis than the encoder.
                        let moved =
                            Arrangement { rows: &order, row_shape: &row_shape, from: axis, to, along: None };
                        (self.decoder.arrange(&[value], &moved)?, is_timed)
                    }
                }
            };
            tensors.push(value);
            timed.push(is_timed);
        }
        Ok((tensors, timed))
    }

    /// One step of the selected cohort, see [`run_decoder`](Self::run_decoder).
    fn step_for(
        &mut self,
        tokens: &[i64],
        wanted: Option<&Wanted<'_>>,
        output: &mut StepOutput,
    ) -> Result<()> {
        let rows = self.rows();
        if tokens.len() != rows || rows == 0 {
            let message = format!("{} tokens given for {rows} running rows", tokens.len());
            return Err(Error::new(ErrorKind::Input, message).in_graph(&self.plan.decoder, None));
        }
        check_ids(tokens, self.plan.target_vocabulary, &self.plan.decoder)?;
        self.run_decoder(tokens, wanted, output).inspect_err(|_| self.cohorts[self.selected].clear())
    }

    /// Runs the decoder, renews the state and fills `output`, with the best few scores if that is all that
    /// is `wanted`; the state is good for nothing where it fails.
    fn run_decoder(
        &mut self,
        tokens: &[i64],
        wanted: Option<&Wanted<'_>>,
        output: &mut StepOutput,
    ) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let wrong = |message: String| Error::new(ErrorKind::Engine, message).in_graph(&plan.decoder, None);
        let state = &mut self.cohorts[self.selected];
        state.settle(&mut *self.decoder)?;
        let (rows, width, columns) = (state.rows(), plan.target_vocabulary, state.columns());
        let (token_columns, prefixes) = match plan.prefix {
            None => (1, Vec::new()),
            Some(prefix) => {
                let longest = state.prefixes.push(tokens);
                let columns = prefix.columns.unwrap_or(longest);
                if longest > columns {
                    let message = format!("{longest} tokens, and this decoder reads {columns}");
                    return Err(Error::new(ErrorKind::Input, message)
                        .in_graph(&plan.decoder, None)
                        .help("let decoding.max_new_tokens of the manifest be no more than that"));
                }
                (columns, state.prefixes.padded(columns, i64::from(plan.special.pad)))
            }
        };
        let tokens = if plan.prefix.is_some() { &prefixes } else { tokens };
        let mut token_shape = [rows, token_columns, 1];
        let data = match plan.io {
            Io::Ids => id_view(&mut self.tokens, plan.token_type, tokens),
            Io::OneHot => {
                token_shape[plan.token_rank] = width;
                self.tokens.one_hot(tokens, width, plan.special.pad)
            }
        };
        let token_shape = &token_shape[..plan.token_rank + usize::from(plan.io == Io::OneHot)];
        let mask_shape = [rows, columns];
        let mut feeds = Vec::with_capacity(plan.carried.len() + 2);
        feeds.push(Feed::Host(TensorView { shape: token_shape, data }));
        feeds.extend(state.values().iter().map(Feed::Value));
        if let Some(mask) = &plan.decoder_mask {
            let data = mask_view(&mut self.mask, mask, plan.side, state.lengths(), columns);
            feeds.push(Feed::Host(TensorView { shape: &mask_shape, data }));
        }
        let stays = wanted.filter(|_| self.decoder.finds_best(rows * token_columns * width));
        let reads_attention = plan.attention && wanted.is_none_or(|wanted| wanted.attention);
        let mut read = vec![false; 1 + plan.states];
        read[0] = stays.is_none();
        read.extend(plan.attention.then_some(reads_attention));
        self.decoder.call_to_read(&feeds, &read, &mut self.values)?;
        drop(feeds);
        let whole = plan.prefix.is_some_and(|prefix| !prefix.last_alone);
        let last = whole.then(|| self.cohorts[self.selected].prefixes.last(token_columns));
        output.attention.clear();
        if reads_attention {
            self.read_attention(rows, columns.saturating_sub(plan.graph_behind), &mut output.attention)?;
        }
        let probabilities = plan.output == OutputForm::Probabilities;
        if let Some(wanted) = stays {
            let value = &self.values[0];
            let values: usize = value.shape().iter().product();
            if values != rows * width * if last.is_some() { token_columns } else { 1 } {
                return Err(wrong(unfit_scores(value.shape(), rows, width)));
            }
            let least_probability = probabilities.then_some(LEAST_PROBABILITY);
            let scores = Scores { value, width, rows: last.as_deref(), least_probability };
            self.decoder.best(&scores, wanted, &mut output.best)?;
            return self.renew();
        }

        // Buffers change hands: what the loop has read becomes the space of the next read.
        std::mem::swap(&mut output.logits, &mut self.read.data);
        match &last {
            Some(last) => self.decoder.read_rows(&self.values[0], width, last, &mut self.read)?,
            None => self.decoder.read(&self.values[0], &mut self.read)?,
        }
        std::mem::swap(&mut output.logits, &mut self.read.data);
        if output.logits.len() != rows * width {
            return Err(wrong(unfit_scores(&self.read.shape, rows, width)));
        }
        if probabilities {
            output.logits.iter_mut().for_each(|p| *p = p.max(LEAST_PROBABILITY).ln());
        }
        if let Some(wanted) = wanted {
            output.best.take(&mut output.logits, width, wanted)?;
        }
        self.renew()
    }

    /// The attention weights of the step, into `attention`.
    fn read_attention(&mut self, rows: usize, columns: usize, attention: &mut Vec<f32>) -> Result<()> {
        let weights = &self.values[1 + self.plan.states];
        self.decoder.read(weights, &mut self.read)?;
        if self.read.data.len() != rows * columns {
            let message = format!(
                "attention weights of shape {:?}; {rows} rows of {columns} are expected",
                self.read.shape
            );
            return Err(Error::new(ErrorKind::Engine, message).in_graph(&self.plan.decoder, None));
        }
        self.take_attention(columns, attention);
        Ok(())
    }

    /// Holds the next states against what the step read, and takes them over.
    fn renew(&mut self) -> Result<()> {
        let plan = &*self.plan;
        let state = &mut self.cohorts[self.selected];
        let rows = state.rows();
        let mut next = std::mem::take(&mut self.values);
        for (at, (carried, wire)) in plan.carried.iter().zip(&plan.wires).take(plan.states).enumerate() {
            let (old, new) = (state.values()[at].shape(), next[1 + at].shape());
            let mut expected = old.to_vec();
            if let Kind::Growing { axis } = carried.kind {
                // An axis of a row: one further where the rows lie before it.
                let axis = axis + usize::from(carried.batch <= axis);
                expected.get_mut(axis).into_iter().for_each(|length| *length += 1);
            }
            if new == expected.as_slice() && carried.batch == wire.output_axis {
                continue;
            }
            let fits = new.iter().product::<usize>() == expected.iter().product::<usize>()
                && new.get(wire.output_axis) == Some(&rows);
            if !fits {
                let mut row = old.to_vec();
                row.remove(carried.batch);
                let message = format!(
                    "the next value of {} has shape {new:?}, the one before had rows of {row:?}",
                    carried.name
                );
                return Err(Error::new(ErrorKind::Engine, message).in_graph(&plan.decoder, None));
            }
            // The decoder gives its rows on another axis than it reads them.
            expected.remove(carried.batch);
            let order: Vec<(usize, usize)> = (0..rows).map(|row| (0, row)).collect();
            let moved = Arrangement {
                rows: &order,
                row_shape: &expected,
                from: wire.output_axis,
                to: carried.batch,
                along: None,
            };
            next[1 + at] = self.decoder.arrange(&[&next[1 + at]], &moved)?;
        }
        state.advance(next.drain(1..=plan.states));
        self.values = next;
        Ok(())
    }

    /// The weights of each row's own tokens at its end, without what the manifest has put around them.
    fn take_attention(&mut self, columns: usize, attention: &mut Vec<f32>) {
        let plan = &*self.plan;
        let (before, behind) = (usize::from(plan.before.is_some()), usize::from(plan.behind.is_some()));
        if plan.side == PaddingSide::Left && before + behind == 0 {
            std::mem::swap(attention, &mut self.read.data);
            return;
        }
        let width = columns.saturating_sub(before + behind).max(1);
        for (row, length) in self.read.data.chunks_exact(columns).zip(self.cohorts[self.selected].lengths()) {
            let first = if plan.side == PaddingSide::Left { columns - length } else { 0 };
            let own = &row[(first + before).min(columns)..(first + length - behind).min(columns)];
            attention.resize(attention.len() + width.saturating_sub(own.len()), 0.0);
            attention.extend_from_slice(&own[own.len().saturating_sub(width)..]);
        }
    }
}

fn unfit_scores(shape: &[usize], rows: usize, width: usize) -> String {
    format!("shape {shape:?}; {rows} rows of {width} are expected")
}

impl Engine for OnnxEngine {
    fn name(&self) -> &str {
        self.name
    }

    fn target_vocabulary(&self) -> usize {
        self.plan.target_vocabulary
    }

    fn special_ids(&self) -> SpecialIds {
        self.plan.special
    }

    fn joins(&self) -> Joins {
        let prefixes = self.plan.prefix.is_some() && !self.probed.causal;
        if prefixes { Joins::SameAge } else { self.plan.joins() }
    }

    fn lengths(&self) -> Lengths {
        self.probed.lengths
    }

    fn remark(&self) -> Option<&str> {
        self.probed.remark.as_deref()
    }

    fn select(&mut self, cohort: usize) {
        while self.cohorts.len() <= cohort {
            self.cohorts.push(State::new(Arc::clone(&self.plan.carried), self.plan.side));
        }
        self.selected = cohort;
    }

    fn encode(&mut self, sources: &IdMatrix) -> Result<Encoded> {
        let (columns, lengths) = self.run_encoder(sources)?;
        let (tensors, timed) = self.first_values(sources.rows, columns)?;
        self.values.clear();
        let first = self.next_source;
        self.next_source += sources.rows as u64;
        let sources = (first..self.next_source).collect();
        Ok(Encoded::new(lengths.len(), Part { columns, sources, lengths, age: 0, tensors, timed }))
    }

    fn join(&mut self, encoded: &Encoded, rows: Range<usize>) -> Result<()> {
        let part: &Part = encoded.get().ok_or_else(arrange::foreign)?;
        let joins = self.joins();
        let state = &mut self.cohorts[self.selected];
        if joins == Joins::SameAge && state.has_stepped() {
            let message =
                "rows cannot join others that have begun: what this decoder reads grows with each step";
            return Err(Error::new(ErrorKind::Engine, message).in_graph(&self.plan.decoder, None));
        }
        state.join(part, rows)
    }

    fn keep(&mut self, rows: &[usize]) {
        self.cohorts[self.selected].keep(rows);
    }

    fn step(&mut self, tokens: &[i64], output: &mut StepOutput) -> Result<()> {
        self.step_for(tokens, None, output)
    }

    fn step_best(&mut self, tokens: &[i64], wanted: &Wanted<'_>, output: &mut StepOutput) -> Result<()> {
        self.step_for(tokens, Some(wanted), output)
    }

    fn rows(&self) -> usize {
        self.cohorts[self.selected].rows()
    }

    fn clear(&mut self) {
        self.cohorts.truncate(1);
        self.cohorts[0].clear();
        self.selected = 0;
        self.values.clear();
    }

    fn states(&mut self) -> Result<Vec<StateTensor>> {
        let state = &mut self.cohorts[self.selected];
        state.settle(&mut *self.decoder)?;
        let order: Vec<(usize, usize)> = (0..state.rows()).map(|row| (0, row)).collect();
        let mut states = Vec::new();
        for (value, carried) in state.values().iter().zip(self.plan.carried.iter()).take(self.plan.states) {
            let mut row_shape = value.shape().to_vec();
            row_shape.remove(carried.batch);
            let from = carried.batch;
            let to_front = Arrangement { rows: &order, row_shape: &row_shape, from, to: 0, along: None };
            let front =
                if from == 0 { Arc::clone(value) } else { self.decoder.arrange(&[value], &to_front)? };
            self.decoder.read(&front, &mut self.read)?;
            states.push(StateTensor { row_shape, data: std::mem::take(&mut self.read.data) });
        }
        Ok(states)
    }

    fn fork(&self) -> Result<Box<dyn Engine>> {
        let (encoder, decoder) = (self.encoder.fork()?, self.decoder.fork()?);
        let mut fork = Self::with(self.name, encoder, decoder, Arc::clone(&self.plan));
        fork.probed = self.probed.clone();
        Ok(Box::new(fork))
    }
}

//! The encoder-decoder as a [`Network`]: how its layers are laid out, initialised and passed.

use super::architecture::Architecture;
use super::hand_over::HandOver;
use super::pass::{Prepared, Workspace};
use super::seq2seq::Seq2Seq;
use crate::error::Result;
use crate::network::ground::limits;
use crate::network::layers::attention::Attention;
use crate::network::layers::dense::Dense;
use crate::network::layers::encoder::EncoderLayer;
use crate::network::layers::kinds::GatedCell;
use crate::network::layers::lookup::AttentionShape;
use crate::network::layers::recurrent::{Recurrent, Source};
use crate::network::{Example, Layout, Network, Objective, Parameters, Summands, Sums};
use s2s_kernels::random::Random;
use s2s_kernels::{Real, Team};

impl Network for Seq2Seq {
    type Architecture = Architecture;
    type Example<'a> = Example<'a>;
    type Prepared<R: Real> = Prepared<R>;
    type Workspace<R: Real> = Workspace<R>;

    fn new(architecture: Architecture) -> Result<Self> {
        let a = &architecture;
        a.check()?;
        let (cell, kind) = (a.cell.name(), GatedCell { cell: a.cell, gates: a.gate_activation });
        let p = &mut Layout::default();
        let source = |l, vocabulary, form, width| {
            if l == 0 { Source::Symbols(vocabulary, form) } else { Source::Rows(width) }
        };
        let width = a.encoder_width();
        let encoder = (0..a.layers)
            .map(|l| {
                let source = source(l, a.source_vocabulary, a.source_input, width);
                EncoderLayer::new(p, &format!("encoder.{cell}_{l}"), kind, width, a.bidirectional, source)
            })
            .collect();
        let hand_over = HandOver::new(p, a);
        let decoder = (0..a.decoder_depth())
            .map(|l| {
                let source = source(l, a.target_vocabulary, a.target_input, a.hidden);
                let name = format!("decoder.{cell}_{l}");
                let layer = Recurrent::new(p, "decoder", name, kind, a.hidden, source);
                match a.fed_width().filter(|_| l == 0) {
                    Some(width) => layer.fed(p, width),
                    None => layer,
                }
            })
            .collect();
        let shape = AttentionShape {
            hidden: a.hidden,
            memory: width,
            width: a.score_width(),
            has_bias: a.attention_bias,
            score: a.attention,
            output: a.attention_output,
        };
        let attention = Attention::new(p, shape);
        let tied = a.tied_embeddings.then(|| p.find("decoder.embedding")).flatten();
        let dense = Dense::new(p, "decoder.dense", a.output_width(), a.target_vocabulary, tied);
        let layout = std::mem::take(p);
        limits::check_count(&layout)?;
        Ok(Self { architecture, encoder, hand_over, decoder, attention, dense, layout, filling: None })
    }

    fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn initialise(&self, seed: u64) -> Parameters<f32> {
        let mut p = self.parameters();
        for (l, layer) in self.encoder.iter().enumerate() {
            layer.initialise(&mut p, &mut Random::new(seed, l as u64));
        }
        for (l, layer) in self.decoder.iter().enumerate() {
            layer.initialise(&mut p, &mut Random::new(seed, (self.encoder.len() + l) as u64));
        }
        self.hand_over.initialise(&mut p, &mut Random::new(seed, u64::MAX - 2));
        if let Some(attention) = &self.attention {
            attention.initialise(&mut p, &mut Random::new(seed, u64::MAX - 1));
        }
        self.dense.initialise(&mut p, &mut Random::new(seed, u64::MAX));
        p
    }

    fn targets(example: &Example<'_>) -> usize {
        // END is predicted too.
        example.target.len() + 1
    }

    fn cost(example: &Example<'_>) -> usize {
        example.source.len() + example.target.len()
    }

    fn rows(batch: &[Example<'_>]) -> usize {
        let sources: usize = batch.iter().map(|e| e.source.len()).sum();
        sources.max(batch.iter().map(Self::targets).sum())
    }

    fn prepare<R: Real>(
        &self,
        p: &Parameters<R>,
        rows: usize,
        has_dropout: bool,
        team: &mut Team,
        old: Prepared<R>,
    ) -> Prepared<R> {
        self.prepare_with(p, rows, has_dropout, team, old)
    }

    fn pass<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &Prepared<R>,
        examples: &[Example<'_>],
        objective: &Objective,
        workspace: &mut Workspace<R>,
    ) -> Sums {
        self.pass(p, prepared, examples, objective, workspace)
    }

    fn summands<'a, R: Real>(&self, p: &'a Parameters<R>, workspace: &'a Workspace<R>) -> Summands<'a, R> {
        self.summands(p, workspace)
    }

    fn evaluate<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &Prepared<R>,
        examples: &[Example<'_>],
        workspace: &mut Workspace<R>,
    ) -> Sums {
        self.evaluate(p, prepared, examples, workspace)
    }
}

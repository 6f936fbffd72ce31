//! The encoder-decoder of recurrent layers: what it is made of, and how its parameters are found.

use std::borrow::Cow;

use super::architecture::Architecture;
use super::filling::Filling;
use crate::error::{Error, ErrorKind, Result};
use crate::network::ground::{gather, limits};
use crate::network::layers::attention::Attention;
use crate::network::layers::dense::Dense;
use crate::network::layers::encoder::EncoderLayer;
use crate::network::layers::kinds::AttentionScore;
use crate::network::layers::recurrent::{Recurrent, Source};
use crate::network::{Layout, ParameterId, Parameters};
use s2s_kernels::Real;
use s2s_kernels::random::Random;

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
    pub(super) architecture: Architecture,
    pub(super) encoder: Vec<EncoderLayer>,
    pub(super) decoder: Vec<Recurrent>,
    pub(super) attention: Option<Attention>,
    pub(super) dense: Dense,
    pub(super) layout: Layout,
    pub(super) filling: Option<Filling>,
}

impl Seq2Seq {
    /// Lays out the layers; nothing is allocated for their parameters.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where sizes cannot be: as [`Architecture::check`].
    pub fn new(architecture: Architecture) -> Result<Self> {
        let a = &architecture;
        a.check()?;
        let cell = a.cell.name();
        let p = &mut Layout::default();
        let source = |l, vocabulary, form| {
            if l == 0 { Source::Symbols(vocabulary, form) } else { Source::Rows(a.hidden) }
        };
        let encoder = (0..a.layers)
            .map(|l| {
                let source = source(l, a.source_vocabulary, a.source_input);
                EncoderLayer::new(
                    p,
                    &format!("encoder.{cell}_{l}"),
                    a.cell,
                    a.hidden,
                    a.bidirectional,
                    source,
                )
            })
            .collect();
        let decoder = (0..a.layers)
            .map(|l| {
                let source = source(l, a.target_vocabulary, a.target_input);
                Recurrent::new(p, "decoder", format!("decoder.{cell}_{l}"), a.cell, a.hidden, source)
            })
            .collect();
        let attention = match a.attention {
            AttentionScore::None => None,
            AttentionScore::Dot => Some(Attention::new(p, a.hidden, false)),
            AttentionScore::General => Some(Attention::new(p, a.hidden, true)),
        };
        let tied = a.tied_embeddings.then(|| p.find("decoder.embedding")).flatten();
        let dense = Dense::new(p, "decoder.dense", a.hidden, a.target_vocabulary, tied);
        let layout = std::mem::take(p);
        limits::check_count(&layout)?;
        Ok(Self { architecture, encoder, decoder, attention, dense, layout, filling: None })
    }

    /// The same network with graphs that fill up short sources by themselves; so does
    /// [`forward`](Self::forward), which they are held against. Training reads sources as they are given.
    #[must_use]
    pub fn with_filling(self, filling: Option<Filling>) -> Self {
        Self { filling, ..self }
    }

    /// Sizes and options.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Names, shapes and number of the parameters.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All parameters, zero.
    pub fn parameters<R: Real>(&self) -> Parameters<R> {
        Parameters::zeros(&self.layout)
    }

    /// Initial values, the same for the same seed.
    pub fn initialise(&self, seed: u64) -> Parameters<f32> {
        let mut p = self.parameters();
        for (l, layer) in self.encoder.iter().enumerate() {
            layer.initialise(&mut p, &mut Random::new(seed, l as u64));
        }
        for (l, layer) in self.decoder.iter().enumerate() {
            layer.initialise(&mut p, &mut Random::new(seed, (self.encoder.len() + l) as u64));
        }
        if let Some(attention) = &self.attention {
            attention.initialise(&mut p, &mut Random::new(seed, u64::MAX - 1));
        }
        self.dense.initialise(&mut p, &mut Random::new(seed, u64::MAX));
        p
    }

    /// Names of the states of layer `l` as the graphs have them: h and, for the LSTM, c.
    pub fn state_names(&self, l: usize) -> Vec<String> {
        self.architecture.cell.state_names(l)
    }

    /// The parameters as the graphs carry them: name, shape, row-major values.
    pub fn exported<'a, R: Real>(&self, p: &'a Parameters<R>) -> Vec<(String, Vec<usize>, Cow<'a, [R]>)> {
        p.ids()
            .map(|id| {
                let entry = p.entry(id);
                if self.is_transposed(id) {
                    let [inputs, gates] = entry.shape[..] else {
                        unreachable!("a transposed W has two axes")
                    };
                    (
                        entry.name.clone(),
                        vec![1, gates, inputs],
                        Cow::Owned(gather::transpose(p.get(id), inputs, gates)),
                    )
                } else {
                    (entry.name.clone(), entry.shape.clone(), Cow::Borrowed(p.get(id)))
                }
            })
            .collect()
    }

    /// The parameters out of tensors that [`exported`](Self::exported) named; `find` gives shape and
    /// row-major values.
    pub fn import<R: Real>(
        &self,
        mut find: impl FnMut(&str) -> Option<(Vec<usize>, Vec<R>)>,
    ) -> Result<Parameters<R>> {
        let mut p = self.parameters::<R>();
        for id in p.ids() {
            let entry = p.entry(id).clone();
            let name = &entry.name;
            let (shape, values) =
                find(name).ok_or_else(|| Error::new(ErrorKind::Bundle, format!("no tensor named {name}")))?;
            let transposed = self.is_transposed(id);
            let expected =
                if transposed { vec![1, entry.shape[1], entry.shape[0]] } else { entry.shape.clone() };
            if shape != expected || values.len() != entry.len() {
                let message =
                    format!("tensor {name} has shape {shape:?}, but the architecture asks for {expected:?}");
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
        self.encoder
            .iter()
            .flat_map(EncoderLayer::transposed)
            .chain(self.decoder.iter().filter_map(Recurrent::transposed))
            .any(|t| t == id)
    }
}

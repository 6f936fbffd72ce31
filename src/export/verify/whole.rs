//! An encoder and a decoder that reads all tokens at once, as an Optimum folder has them.

use s2s_runtime::bundle::Stateless;
use s2s_runtime::engine::graph::{DataView, Feed, Graph, Tensor, TensorView, Value};
use s2s_runtime::graph_info::GraphInfo;

use super::subject::Subject;
use crate::error::Result;

/// ONNX's number of halves.
const FLOAT16: i32 = 10;

/// What an input is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    Ids,
    /// 1 at each token of the source.
    Mask,
    /// What the encoder gave.
    Hidden,
}

/// Both graphs, loaded.
pub(super) struct Whole {
    encoder: Box<dyn Graph>,
    encoder_inputs: Vec<Given>,
    decoder: Box<dyn Graph>,
    decoder_inputs: Vec<Given>,
}

impl Whole {
    /// Loads both; or says why they cannot be run here.
    pub(super) fn load(subject: &Subject, stateless: &Stateless) -> Result<Result<Self, String>> {
        let known = |(name, model): &(String, Vec<u8>)| -> Result<Result<Vec<(String, Given)>, String>> {
            let info = GraphInfo::read(name, model)?;
            // Halves stay within the graphs that are made of these.
            let mut tensors = info.inputs.iter().chain(&info.outputs);
            if let Some(half) = tensors.find(|tensor| tensor.element_type == FLOAT16) {
                return Ok(Err(format!("{name}: {} is float16", half.name)));
            }
            let inputs = info.inputs.into_iter().map(|input| {
                let given = match input.name.as_str() {
                    "input_ids" => Given::Ids,
                    "attention_mask" | "encoder_attention_mask" => Given::Mask,
                    name if name == stateless.decoder_hidden => Given::Hidden,
                    _ => return Err(format!("{name}: what {} wants is not known here", input.name)),
                };
                Ok((input.name, given))
            });
            Ok(inputs.collect())
        };
        let (encoder, decoder) = match (known(&stateless.encoder)?, known(&stateless.decoder)?) {
            (Ok(encoder), Ok(decoder)) => (encoder, decoder),
            (Err(why), _) | (_, Err(why)) => return Ok(Err(why)),
        };
        let load = |(name, model): &(String, Vec<u8>), inputs: &[(String, Given)], output: &str| {
            let inputs: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
            subject.load(name, model, &inputs, &[output])
        };
        let given = |inputs: &[(String, Given)]| inputs.iter().map(|(_, given)| *given).collect();
        Ok(Ok(Self {
            encoder_inputs: given(&encoder),
            decoder_inputs: given(&decoder),
            encoder: load(&stateless.encoder, &encoder, &stateless.encoder_output)?,
            decoder: load(&stateless.decoder, &decoder, &stateless.decoder_output)?,
        }))
    }

    /// Logits after each of `tokens`, f32 (tokens, target_vocabulary).
    pub(super) fn logits(&mut self, source: &[u32], tokens: &[i64]) -> Result<Vec<f32>> {
        let ids: Vec<i64> = source.iter().map(|&id| i64::from(id)).collect();
        let mask = vec![1; ids.len()];
        let (source_shape, token_shape) = ([1, ids.len()], [1, tokens.len()]);
        let row = |shape, data| Feed::Host(TensorView { shape, data: DataView::I64(data) });
        let mut hidden: Vec<Value> = Vec::new();
        let feeds = self.encoder_inputs.iter().map(|given| match given {
            Given::Mask => row(&source_shape, &mask),
            _ => row(&source_shape, &ids),
        });
        self.encoder.call(&feeds.collect::<Vec<_>>(), &mut hidden)?;
        let mut logits: Vec<Value> = Vec::new();
        let feeds = self.decoder_inputs.iter().map(|given| match given {
            Given::Mask => row(&source_shape, &mask),
            Given::Hidden => Feed::Value(&hidden[0]),
            Given::Ids => row(&token_shape, tokens),
        });
        self.decoder.call(&feeds.collect::<Vec<_>>(), &mut logits)?;
        let mut read = Tensor::default();
        self.decoder.read(&logits[0], &mut read)?;
        Ok(read.data)
    }
}

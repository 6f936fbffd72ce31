//! An engine whose logits are a random function of source and history, which it carries in the state tensors.

use crate::engine::{DecoderState, Engine, IdMatrix, StateTensor, StepOutput};
use crate::error::{Error, ErrorKind, Result};

#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    pub(crate) vocabulary: usize,
    pub(crate) seed: u64,
    pub(crate) attention: bool,
    /// Logits are multiples of this, so that there are ties.
    pub(crate) grain: Option<f32>,
    /// Sources with this id are refused.
    pub(crate) refused: Option<i64>,
    /// Sources with this id give NaN.
    pub(crate) poisoned: Option<i64>,
    /// Rows of each step so far.
    pub(crate) steps: Vec<usize>,
    pub(crate) encoded: Vec<usize>,
}

impl Scripted {
    pub(crate) fn new(vocabulary: usize, seed: u64) -> Self {
        Self {
            vocabulary,
            seed,
            attention: false,
            grain: None,
            refused: None,
            poisoned: None,
            steps: vec![],
            encoded: vec![],
        }
    }
}

fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_add(0x7f4a_7c15);
    z = (z ^ (z >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 29)
}

/// In [0, 1).
fn unit(hash: u64) -> f32 {
    (mix(hash, 77) >> 40) as f32 / (1u64 << 24) as f32
}

const NAN_MARK: f32 = -1.0;

impl Engine for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn target_vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn encode(&mut self, source: &IdMatrix) -> Result<DecoderState> {
        assert_eq!(source.data.len(), source.rows * source.columns);
        assert!(source.rows > 0 && source.columns > 0);
        if source.data.iter().any(|id| Some(*id) == self.refused) {
            return Err(Error::new(ErrorKind::Input, "refused id"));
        }
        self.encoded.push(source.rows);
        let mut hidden = Vec::new();
        let (mut values, mut mask) = (Vec::new(), Vec::new());
        for row in source.data.chunks_exact(source.columns) {
            let hash = row.iter().filter(|&&id| id != 0).fold(self.seed, |h, &id| mix(h, id.cast_unsigned()));
            let poisoned = row.iter().any(|id| Some(*id) == self.poisoned);
            hidden.extend([
                if poisoned { NAN_MARK } else { (hash >> 16 & 0xffff) as f32 },
                (hash & 0xffff) as f32,
            ]);
            values.extend(row.iter().flat_map(|&id| [id as f32, -(id as f32)]));
            mask.extend(row.iter().map(|&id| if id == 0 { 0.0 } else { 1.0 }));
        }
        let memory = if self.attention {
            vec![
                StateTensor { row_shape: vec![source.columns, 2], data: values },
                StateTensor { row_shape: vec![source.columns], data: mask },
            ]
        } else {
            vec![]
        };
        Ok(DecoderState {
            batch: source.rows,
            recurrent: vec![StateTensor { row_shape: vec![2], data: hidden }],
            memory,
        })
    }

    fn step(&mut self, tokens: &[i64], state: &mut DecoderState, output: &mut StepOutput) -> Result<()> {
        assert_eq!(tokens.len(), state.batch);
        self.steps.push(tokens.len());
        output.logits.clear();
        output.attention.clear();
        for (row, &token) in tokens.iter().enumerate() {
            let hidden = &mut state.recurrent[0].data[row * 2..row * 2 + 2];
            let poisoned = hidden[0] == NAN_MARK;
            let mut hash =
                mix(mix((hidden[0] as u64) << 16 | hidden[1] as u64, token.cast_unsigned()), self.seed);
            if let [values, mask] = &state.memory[..] {
                let time = mask.row_len();
                let (values, mask) = (
                    &values.data[row * time * 2..(row + 1) * time * 2],
                    &mask.data[row * time..(row + 1) * time],
                );
                hash = mask
                    .iter()
                    .zip(values.chunks_exact(2))
                    .filter(|(m, _)| **m > 0.0)
                    .fold(hash, |h, (_, v)| mix(h, v[0] as u64));
                let weight = |at: usize| {
                    if mask[at] > 0.0 { 0.05 + unit(mix(hash, 1000 + (time - at) as u64)) } else { 0.0 }
                };
                let total: f32 = (0..time).map(weight).sum();
                output
                    .attention
                    .extend((0..time).map(|at| if total > 0.0 { weight(at) / total } else { 0.0 }));
            }
            for id in 0..self.vocabulary {
                let logit = unit(mix(hash, id as u64)) * 6.0 - 3.0;
                let logit = self.grain.map_or(logit, |grain| (logit / grain).round() * grain);
                output.logits.push(if poisoned { f32::NAN } else { logit });
            }
            if !poisoned {
                hidden[0] = (hash >> 16 & 0xffff) as f32;
            }
            hidden[1] = (hash & 0xffff) as f32;
        }
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(self.clone()))
    }
}

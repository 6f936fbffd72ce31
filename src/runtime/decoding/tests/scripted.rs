//! An engine whose logits are a random function of source and history, which it carries from step to step.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::contract::SpecialIds;
use crate::engine::{Encoded, Engine, IdMatrix, Joins, Lengths, StateTensor, StepOutput};
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
    /// Steps of rows whose source has this id fail.
    pub(crate) broken: Option<i64>,
    /// Rows of each step so far.
    pub(crate) steps: Vec<usize>,
    pub(crate) encoded: Vec<usize>,
    pub(crate) ids: SpecialIds,
    pub(crate) joins: Joins,
    pub(crate) lengths: Lengths,
    pub(crate) running: Vec<Row>,
    /// The rows of cohorts that are not selected, by their numbers.
    pub(crate) resting: BTreeMap<usize, Vec<Row>>,
    pub(crate) cohort: usize,
}

/// A running row: two numbers that say what it has read, and its source without padding.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    hidden: [f32; 2],
    source: Vec<i64>,
    age: usize,
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
            broken: None,
            steps: vec![],
            encoded: vec![],
            ids: SpecialIds::default(),
            joins: Joins::AnyAge,
            lengths: Lengths::Any,
            running: vec![],
            resting: BTreeMap::new(),
            cohort: 0,
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

fn of_one_length(rows: &[Row]) -> bool {
    rows.windows(2).all(|pair| pair[0].source.len() == pair[1].source.len())
}

impl Engine for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn target_vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn special_ids(&self) -> SpecialIds {
        self.ids
    }

    fn joins(&self) -> Joins {
        self.joins
    }

    fn lengths(&self) -> Lengths {
        self.lengths
    }

    fn select(&mut self, cohort: usize) {
        let rows = self.resting.remove(&cohort).unwrap_or_default();
        if cohort != self.cohort {
            let resting = std::mem::replace(&mut self.running, rows);
            self.resting.insert(self.cohort, resting);
            self.cohort = cohort;
        }
    }

    fn encode(&mut self, source: &IdMatrix) -> Result<Encoded> {
        assert_eq!(source.data.len(), source.rows * source.columns);
        assert!(source.rows > 0 && source.columns > 0);
        if source.data.iter().any(|id| Some(*id) == self.refused) {
            return Err(Error::new(ErrorKind::Input, "refused id"));
        }
        self.encoded.push(source.rows);
        let row = |ids: &[i64]| {
            let own: Vec<i64> = ids.iter().copied().filter(|&id| id != i64::from(self.ids.pad)).collect();
            let hash = own.iter().fold(self.seed, |h, &id| mix(h, id.cast_unsigned()));
            let poisoned = ids.iter().any(|id| Some(*id) == self.poisoned);
            let first = if poisoned { NAN_MARK } else { (hash >> 16 & 0xffff) as f32 };
            Row { hidden: [first, (hash & 0xffff) as f32], source: own, age: 0 }
        };
        let rows: Vec<Row> = source.data.chunks_exact(source.columns).map(row).collect();
        assert!(self.lengths == Lengths::Any || of_one_length(&rows));
        assert!(self.lengths != Lengths::Alone || rows.len() == 1);
        Ok(Encoded::new(source.rows, rows))
    }

    fn join(&mut self, encoded: &Encoded, rows: Range<usize>) -> Result<()> {
        assert!(self.joins == Joins::AnyAge || self.running.iter().all(|row| row.age == 0));
        let fresh: &Vec<Row> = encoded.get().unwrap();
        self.running.extend_from_slice(&fresh[rows]);
        assert!(self.lengths != Lengths::One || of_one_length(&self.running));
        Ok(())
    }

    fn keep(&mut self, rows: &[usize]) {
        self.running = rows.iter().map(|&row| self.running[row].clone()).collect();
    }

    fn step(&mut self, tokens: &[i64], output: &mut StepOutput) -> Result<()> {
        assert_eq!(tokens.len(), self.running.len());
        self.steps.push(tokens.len());
        if self.running.iter().any(|row| self.broken.is_some_and(|id| row.source.contains(&id))) {
            self.running.clear();
            return Err(Error::new(ErrorKind::Engine, "broken"));
        }
        output.logits.clear();
        output.attention.clear();
        let time = self.running.iter().map(|row| row.source.len()).max().unwrap_or(0).max(1);
        for (Row { hidden, source, age }, &token) in self.running.iter_mut().zip(tokens) {
            *age += 1;
            let poisoned = hidden[0] == NAN_MARK;
            let mut hash =
                mix(mix((hidden[0] as u64) << 16 | hidden[1] as u64, token.cast_unsigned()), self.seed);
            if self.attention {
                hash = source.iter().fold(hash, |h, &id| mix(h, id.cast_unsigned()));
                let own = source.len();
                let weight = |at: usize| 0.05 + unit(mix(hash, 1000 + (own - at) as u64));
                let total: f32 = (0..own).map(weight).sum();
                output.attention.extend(std::iter::repeat_n(0.0, time - own));
                output.attention.extend((0..own).map(|at| weight(at) / total));
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

    fn rows(&self) -> usize {
        self.running.len()
    }

    fn clear(&mut self) {
        self.running.clear();
        self.resting.clear();
        self.cohort = 0;
    }

    fn states(&mut self) -> Result<Vec<StateTensor>> {
        let data = self.running.iter().flat_map(|row| row.hidden).collect();
        Ok(vec![StateTensor { row_shape: vec![2], data }])
    }

    fn fork(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Self { running: vec![], resting: BTreeMap::new(), cohort: 0, ..self.clone() }))
    }
}

//! The learning rate of every step.

use std::f64::consts::PI;

use crate::config::callbacks::{Schedule, Shape, Span};
use crate::config::training::Training;
use crate::error::{Error, ErrorKind, Result};

/// A [`Schedule`] in steps: a function of the step alone, so that a resumed training needs no state of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    shape: Shape,
    warmup: u64,
    decay: u64,
    floor: f64,
}

impl Rates {
    /// `steps`: optimiser steps of an epoch.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the warm-up leaves nothing of the training for the fall.
    pub fn new(training: &Training, steps: usize) -> Result<Self> {
        let Schedule { shape, warmup, decay, floor } = training.schedule;
        let count = |span| match span {
            Span::Steps(n) => n as u64,
            Span::Epochs(epochs) => (epochs * steps as f64).round().max(1.0) as u64,
        };
        let warmup = warmup.map_or(0, count);
        let total = (training.epochs as u64).saturating_mul(steps as u64);
        let decay = decay.map_or_else(|| total.saturating_sub(warmup), count);
        if shape != Shape::Constant && decay == 0 {
            let message = format!("the warm-up of {warmup} steps takes the whole training of {total}");
            return Err(Error::new(ErrorKind::Config, message)
                .help("make `training.schedule.warmup` shorter, or train for more epochs"));
        }
        Ok(Self { shape, warmup, decay, floor })
    }

    /// The learning rate of a step, where `base` is what the schedule starts to fall from.
    ///
    /// - `step`: steps done before it. The warm-up's step n of N has n/N of `base`, the first step after it
    ///   all of `base`.
    pub fn at(&self, step: u64, base: f64) -> f64 {
        if step < self.warmup {
            return base * (step + 1) as f64 / self.warmup as f64;
        }
        if self.shape == Shape::Constant {
            return base;
        }
        let done = ((step - self.warmup) as f64 / self.decay as f64).min(1.0);
        let left = match self.shape {
            Shape::Cosine => 0.5 * (1.0 + (PI * done).cos()),
            Shape::Constant | Shape::Linear => 1.0 - done,
        };
        self.floor + (base - self.floor) * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(shape: Shape, warmup: u64, decay: u64, floor: f64) -> Rates {
        Rates { shape, warmup, decay, floor }
    }

    #[test]
    fn a_warm_up_rises_in_equal_steps_and_then_the_rate_stays() {
        let found: Vec<f64> = (0..6).map(|step| rates(Shape::Constant, 4, 0, 0.0).at(step, 0.8)).collect();
        assert_eq!(found, [0.2, 0.4, 0.6000000000000001, 0.8, 0.8, 0.8]);
    }

    #[test]
    fn a_line_and_a_cosine_fall_from_the_rate_to_the_floor_and_stay_there() {
        let line: Vec<f64> =
            [0, 2, 4, 6, 10, 99].map(|step| rates(Shape::Linear, 2, 8, 0.1).at(step, 0.9)).into();
        let cosine: Vec<f64> =
            [2, 4, 6, 10, 99].map(|step| rates(Shape::Cosine, 2, 8, 0.1).at(step, 0.9)).into();
        let near =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near(&line, &[0.45, 0.9, 0.7, 0.5, 0.1, 0.1]), "{line:?}");
        let quarter = 0.1 + 0.8 * 0.5 * (1.0 + (PI / 4.0).cos());
        assert!(near(&cosine, &[0.9, quarter, 0.5, 0.1, 0.1]), "{cosine:?}");
    }
}

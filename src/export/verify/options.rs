//! How a bundle is verified.

use s2s_runtime::engine::{Device, EngineKind};

use super::super::tolerances::Tolerances;
use super::runtimes::Runtime;

/// How a bundle is verified.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyOptions {
    /// Source texts to decode; `None` draws `random` sources instead.
    pub texts: Option<Vec<String>>,
    /// Random sources that are decoded where no texts are given; of models from elsewhere at most 32, those
    /// of `expected.json` counted.
    pub random: usize,
    /// Of all random numbers.
    pub seed: u64,
    /// Engines that must be there; one that is not is otherwise reported as not available.
    pub require: Vec<EngineKind>,
    /// Where graphs are checked too, beside the processor.
    pub device: Device,
    /// Decode with so many beams too.
    pub beams: Option<usize>,
    /// Other runtimes to hold the graphs against; one that is not installed is reported as such.
    pub runtimes: Vec<Runtime>,
    /// The largest error of states and probabilities; by default what the network's own rounding makes of
    /// [`Tolerances::ATOL`] ([`Tolerances::for_rounding`]).
    pub atol: Option<f32>,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            texts: None,
            random: 128,
            seed: 0,
            require: Vec::new(),
            device: Device::Cpu,
            beams: None,
            runtimes: Vec::new(),
            atol: None,
        }
    }
}

impl VerifyOptions {
    /// What is allowed before the network's own rounding is known.
    pub(in crate::export) fn tolerances(&self) -> Tolerances {
        Tolerances::with_atol(self.atol.unwrap_or(Tolerances::ATOL))
    }
}

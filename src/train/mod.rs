//! Training.

mod step;

pub use step::{OptimiserState, StepOptions, StepReport, Stepper};

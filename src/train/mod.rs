//! Training: a config and its data to a run folder.

pub mod callbacks;
pub mod checkpoint;
mod curves;
pub mod examples;
mod initial;
pub(crate) mod lock;
mod logs;
pub mod metrics;
pub mod mlp;
pub mod report;
pub mod run;
pub mod schedule;
mod session;
mod step;
mod tensorboard;
mod tensors;

#[cfg(test)]
mod tests;

pub use initial::{InitFrom, Origin};
pub use report::{Console, Event, Report};
pub use run::{Run, Which};
pub use session::{Mode, Outcome, TrainOptions, train};
pub use step::{OptimiserState, StepOptions, StepReport, Stepper};

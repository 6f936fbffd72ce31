//! Training: a config and its data to a run folder, whatever network is trained on whatever data.
//!
//! A family of networks brings a [`Trainable`] network, whose run folder is a [`Run`], and a [`Source`] of
//! data; steps, epochs, checkpoints, callbacks, logs, interruption and resumption are the same for all.

pub mod callbacks;
pub mod checkpoint;
mod curves;
mod dataset;
pub(crate) mod lock;
mod logs;
pub mod metrics;
mod origin;
pub mod report;
pub mod run;
pub mod schedule;
mod session;
mod step;
mod tensorboard;
mod tensors;
mod trainable;

pub use dataset::{Begun, Dataset, Found, Source};
pub use origin::{InitFrom, Origin, Which};
pub use report::{Console, Event, Report};
pub use run::Run;
pub use session::{Mode, Outcome, TrainOptions, train};
pub use step::{OptimiserState, StepOptions, StepReport, Stepper};
pub use trainable::{Start, Trainable};

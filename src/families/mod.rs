//! Families of networks: each is a folder with its data, its run folder, its export, and what the commands
//! ask of it; [`FAMILIES`] has a line for each.
//!
//! The network of a family is in [`network`](crate::network), its config in [`config`](crate::config). What
//! all families share knows none of them: [`train`](crate::train) and [`export`](mod@crate::export).

mod family;
pub mod features;
#[cfg(test)]
mod linear;
pub mod perceptron;
pub mod recurrent;
mod registry;

pub use family::{Checked, Export, Exported, Family, Format, Layout, Training};
pub use registry::{FAMILIES, of_bundle, of_config, of_run};

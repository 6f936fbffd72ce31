//! Everything that is tested from outside, in one program: each further one would link the engines again.
//!
//! `cargo test --release --test all cli::` runs one room. `fuzz.rs` is a program of its own, because it counts
//! every allocation.
#![allow(clippy::unwrap_used)]

mod bundles;
mod checks;
mod cli;
mod clients;
mod common;
mod data;
mod dependencies;
mod docs;
mod documents;
mod faults;
mod foreign;
mod imports;
mod keras;
mod kills;
mod models;
mod module;
mod page;
mod python;
mod pytorch;
mod serving;
mod shipped;
mod terminal;
mod toys;
mod training;
mod translate;

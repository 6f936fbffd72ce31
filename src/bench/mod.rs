//! How fast a bundle decodes and a network trains on this machine, beside what the machine would allow:
//! `s2s bench`.

mod counted;
pub mod decoding;
mod floor;
mod measure;
pub mod training;

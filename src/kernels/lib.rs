//! The arithmetic of training: matrix products, the cell's gates, softmax cross-entropy, Adam; and what is
//! asked of the machine beside it: how it rounds, and when it gets memory back.
//!
//! The only `unsafe` code of the project lives here. Each element-wise kernel is written once as plain Rust
//! and compiled for several instruction sets ([`Level`]); the product has a hand-written tile for AVX-512 and
//! for AVX2 with FMA, because a tile left to the auto-vectoriser lost more than half of its speed whenever a
//! buffer moved.

#![allow(unsafe_code)]

mod activations;
mod adam;
mod additive;
mod arithmetic;
mod attention;
mod cells;
mod elementwise;
mod gates;
mod half;
mod int8;
mod level;
mod matmul;
mod matrix;
mod memory;
mod norm;
mod pack;
pub mod random;
mod real;
pub mod search;
mod slices;
mod softmax;
mod store;
mod subnormals;
mod team;
#[cfg(test)]
mod testing;
mod tile;
mod tile_int8;
mod weights;

pub use adam::{AdamFactors, AdamStep, adam_step, sum_of_squares};
pub use additive::{additive_scores, additive_scores_backward};
pub use arithmetic::Arithmetic;
pub use attention::{Addend, AttentionScratch, attend, matmul_once};
pub use cells::{gru_cell, gru_reset, gru_update, lstm_cell};
pub use elementwise::Activation;
pub use gates::{gru_gates_backward, gru_gates_forward, lstm_gates_backward, lstm_gates_forward};
pub use half::{float_from_half, half_from_float};
pub use int8::PackedInt8;
pub use level::Level;
pub use matmul::{Scratch, matmul, matmul_into, matmul_packed, matmul_packed_into};
pub use matrix::{MatMut, MatRef};
pub use memory::{give_memory_back, share_heaps};
pub use norm::{layer_norm_rows, rms_norm_rows};
pub use pack::Packed;
pub use real::Real;
pub use slices::{
    add_assign, add_column_sums, add_scaled, drop_values, scale_and_add, subtract_projection, tanh_each,
};
pub use softmax::{RowLoss, softmax, softmax_cross_entropy, softmax_rows};
pub use store::Store;
pub use subnormals::FlushSubnormals;
pub use team::Team;
pub use weights::{Weights, matmul_weights};

//! The scalar that networks compute in: f32 for training, f64 so that finite differences can check every
//! gradient.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

use super::activations;
use super::tile::{self, Tile};

/// The element type of all arithmetic: f32 or f64.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
{
    /// The number 0.
    const ZERO: Self;
    /// The number 1.
    const ONE: Self;
    /// Rounds to the nearest value.
    fn from_f64(x: f64) -> Self;
    /// Widens, which is exact.
    fn to_f64(self) -> f64;
    /// Computes e^x.
    fn exp<const FMA: bool>(self) -> Self;
    /// Computes the natural logarithm.
    fn ln(self) -> Self;
    /// Computes 1 / (1 + e^-x).
    fn sigmoid<const FMA: bool>(self) -> Self;
    /// Computes the hyperbolic tangent.
    fn tanh<const FMA: bool>(self) -> Self;
    /// Computes the square root.
    fn sqrt(self) -> Self;
    /// Returns the tile of the matrix product on this processor.
    fn tile() -> Tile<Self>;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as Self
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn exp<const FMA: bool>(self) -> Self {
        activations::exp::<FMA>(self)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        Self::ln(self)
    }

    #[inline(always)]
    fn sigmoid<const FMA: bool>(self) -> Self {
        activations::sigmoid::<FMA>(self)
    }

    #[inline(always)]
    fn tanh<const FMA: bool>(self) -> Self {
        activations::tanh::<FMA>(self)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }

    fn tile() -> Tile<Self> {
        tile::best_f32()
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn from_f64(x: f64) -> Self {
        x
    }

    fn to_f64(self) -> f64 {
        self
    }

    fn exp<const FMA: bool>(self) -> Self {
        Self::exp(self)
    }

    fn ln(self) -> Self {
        Self::ln(self)
    }

    fn sigmoid<const FMA: bool>(self) -> Self {
        1.0 / (1.0 + (-self).exp())
    }

    fn tanh<const FMA: bool>(self) -> Self {
        Self::tanh(self)
    }

    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }

    fn tile() -> Tile<Self> {
        tile::portable()
    }
}

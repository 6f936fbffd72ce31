//! Functions of each value by itself.

use super::activations::{erf, exp, sigmoid, tanh};
use super::level::multiversion;
use super::slices::tanh_each;

/// A function that is applied to each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Computes max(x, 0).
    Relu,
    /// Computes 1 / (1 + e^-x).
    Sigmoid,
    /// Computes the hyperbolic tangent.
    Tanh,
    /// Computes e^x, saturated at e^-87 and e^88.
    Exp,
    /// Computes the error function.
    Erf,
    /// Computes x (1 + erf(x / sqrt 2)) / 2.
    Gelu,
    /// Computes x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, which approximates [`Activation::Gelu`].
    GeluTanh,
    /// Computes x sigmoid(x).
    Swish,
}

impl Activation {
    /// Lists every function.
    pub const ALL: [Self; 8] = [
        Self::Relu,
        Self::Sigmoid,
        Self::Tanh,
        Self::Exp,
        Self::Erf,
        Self::Gelu,
        Self::GeluTanh,
        Self::Swish,
    ];

    /// Replaces each value x by the function of it.
    pub fn apply(self, values: &mut [f32]) {
        match self {
            Self::Relu => relu_each(values),
            Self::Sigmoid => sigmoid_each(values),
            Self::Tanh => tanh_each(values),
            Self::Exp => exp_each(values),
            Self::Erf => erf_each(values),
            Self::Gelu => gelu_each(values),
            Self::GeluTanh => gelu_tanh_each(values),
            Self::Swish => swish_each(values),
        }
    }
}

multiversion! {
    fn relu_each(values: &mut [f32]) {
        // A comparison, not `max`, so that NaN stays NaN.
        values.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x });
    }
}

multiversion! {
    fn sigmoid_each(values: &mut [f32]) {
        values.iter_mut().for_each(|x| *x = sigmoid::<FMA>(*x));
    }
}

multiversion! {
    fn exp_each(values: &mut [f32]) {
        values.iter_mut().for_each(|x| *x = exp::<FMA>(*x));
    }
}

multiversion! {
    fn erf_each(values: &mut [f32]) {
        values.iter_mut().for_each(|x| *x = erf::<FMA>(*x));
    }
}

multiversion! {
    fn gelu_each(values: &mut [f32]) {
        values.iter_mut().for_each(|x| {
            let half = 0.5 * *x;
            *x = half + half * erf::<FMA>(*x * std::f32::consts::FRAC_1_SQRT_2);
        });
    }
}

multiversion! {
    fn gelu_tanh_each(values: &mut [f32]) {
        /// sqrt(2 / pi).
        const SCALE: f32 = 0.797_884_6;
        values.iter_mut().for_each(|x| {
            let half = 0.5 * *x;
            *x = half + half * tanh::<FMA>(SCALE * *x * (1.0 + 0.044_715 * *x * *x));
        });
    }
}

multiversion! {
    fn swish_each(values: &mut [f32]) {
        values.iter_mut().for_each(|x| *x *= sigmoid::<FMA>(*x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn erf_of(x: f64) -> f64 {
        // The midpoint rule, exact to 1e-9 for so smooth a function on so fine a grid.
        let steps = 20_000;
        let width = x / f64::from(steps);
        let area: f64 = (0..steps).map(|i| (-((f64::from(i) + 0.5) * width).powi(2)).exp()).sum();
        area * width * std::f64::consts::FRAC_2_SQRT_PI
    }

    fn by_definition(function: Activation, x: f64) -> f64 {
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        match function {
            Activation::Relu => x.max(0.0),
            Activation::Sigmoid => sigmoid,
            Activation::Tanh => x.tanh(),
            Activation::Exp => x.exp(),
            Activation::Erf => erf_of(x),
            Activation::Gelu => 0.5 * x * (1.0 + erf_of(x / 2.0f64.sqrt())),
            Activation::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }
            Activation::Swish => x * sigmoid,
        }
    }

    #[test]
    fn every_function_is_that_of_its_definition() {
        // A count that leaves a rest behind the vectors of every processor.
        let inputs: Vec<f32> = (-303..=303).map(|i| i as f32 / 50.0).collect();
        for function in Activation::ALL {
            let mut values = inputs.clone();
            function.apply(&mut values);
            for (&x, &got) in inputs.iter().zip(&values) {
                let want = by_definition(function, f64::from(x));
                // A few roundings, relative to the larger of the result and the terms that cancel in it.
                let tolerance = 6e-7 * want.abs().max(f64::from(x.abs())).max(0.1);
                assert!((f64::from(got) - want).abs() <= tolerance, "{function:?} {x}: {got} for {want}");
            }
            let mut nan = [f32::NAN];
            function.apply(&mut nan);
            assert!(nan[0].is_nan(), "{function:?}");
        }
    }
}

//! Activation functions applied in place, for inference.

use super::activations::{erf, exp, sigmoid, tanh};
use super::level::multiversion;

/// A function from a value to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// x / (1 + e^-x), also called swish.
    Silu,
    /// x (1 + erf(x / sqrt 2)) / 2.
    Gelu,
    /// x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
    GeluTanh,
    /// The error function.
    Erf,
    /// e^x.
    Exp,
}

impl Activation {
    /// Replaces each value by the function of it; NaN stays NaN.
    pub fn apply(self, values: &mut [f32]) {
        match self {
            Self::Relu => relu(values),
            Self::Sigmoid => sigmoid_each(values),
            Self::Tanh => tanh_each(values),
            Self::Silu => silu(values),
            Self::Gelu => gelu(values),
            Self::GeluTanh => gelu_tanh(values),
            Self::Erf => erf_each(values),
            Self::Exp => exp_each(values),
        }
    }
}

multiversion! {
    fn relu(values: &mut [f32]) {
        for x in values {
            *x = if *x < 0.0 { 0.0 } else { *x };
        }
    }
}

multiversion! {
    fn sigmoid_each(values: &mut [f32]) {
        for x in values {
            *x = sigmoid::<FMA>(*x);
        }
    }
}

multiversion! {
    fn tanh_each(values: &mut [f32]) {
        for x in values {
            *x = tanh::<FMA>(*x);
        }
    }
}

multiversion! {
    fn silu(values: &mut [f32]) {
        for x in values {
            *x *= sigmoid::<FMA>(*x);
        }
    }
}

multiversion! {
    fn gelu(values: &mut [f32]) {
        for x in values {
            *x = 0.5 * *x * (1.0 + erf::<FMA>(*x * std::f32::consts::FRAC_1_SQRT_2));
        }
    }
}

multiversion! {
    fn gelu_tanh(values: &mut [f32]) {
        // sqrt(2 / pi).
        const FACTOR: f32 = 0.797_884_6;
        for x in values {
            *x = 0.5 * *x * (1.0 + tanh::<FMA>(FACTOR * (*x + 0.044_715 * *x * *x * *x)));
        }
    }
}

multiversion! {
    fn erf_each(values: &mut [f32]) {
        for x in values {
            *x = erf::<FMA>(*x);
        }
    }
}

multiversion! {
    fn exp_each(values: &mut [f32]) {
        for x in values {
            *x = exp::<FMA>(*x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_activation_is_its_definition() {
        // What x / sqrt 2 rounds to decides gelu where it is all but zero, hence an absolute bound: a few units
        // in the last place of values up to 6.
        let erf = |x: f64| f64::from(erf::<true>(x as f32));
        let definitions: [(Activation, &dyn Fn(f64) -> f64); 8] = [
            (Activation::Relu, &|x| x.max(0.0)),
            (Activation::Sigmoid, &|x| 1.0 / (1.0 + (-x).exp())),
            (Activation::Tanh, &|x| x.tanh()),
            (Activation::Silu, &|x| x / (1.0 + (-x).exp())),
            (Activation::Gelu, &|x| x / 2.0 * (1.0 + erf(x / 2f64.sqrt()))),
            (Activation::GeluTanh, &|x| {
                x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }),
            (Activation::Erf, &erf),
            (Activation::Exp, &|x| x.exp()),
        ];
        let inputs: Vec<f32> = (-600..=600).map(|i| i as f32 / 100.0).collect();
        for (activation, definition) in definitions {
            let mut values = inputs.clone();
            activation.apply(&mut values);
            for (&x, value) in inputs.iter().zip(values) {
                let want = definition(f64::from(x));
                let error = (f64::from(value) - want).abs();
                assert!(error <= 1e-6 * want.abs().max(1.0), "{activation:?}({x}) is {value}, not {want}");
            }
            let mut nan = [f32::NAN];
            activation.apply(&mut nan);
            assert!(nan[0].is_nan(), "{activation:?}");
        }
    }
}

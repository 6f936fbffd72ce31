//! Arithmetic on two rows of values, or on a row and one value.

use super::level::multiversion;

/// An operation on two values, x in place and y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Computes x + y.
    Add,
    /// Computes x - y.
    Subtract,
    /// Computes y - x.
    SubtractFrom,
    /// Computes x y.
    Multiply,
    /// Computes x / y.
    Divide,
    /// Computes y / x.
    DivideInto,
}

impl Arithmetic {
    /// Returns the operation with its operands in the other order.
    #[must_use]
    pub fn flipped(self) -> Self {
        match self {
            Self::Add => Self::Add,
            Self::Subtract => Self::SubtractFrom,
            Self::SubtractFrom => Self::Subtract,
            Self::Multiply => Self::Multiply,
            Self::Divide => Self::DivideInto,
            Self::DivideInto => Self::Divide,
        }
    }

    /// Replaces each x of `values` by the result of it and the y of `others` at its place.
    pub fn apply(self, values: &mut [f32], others: &[f32]) {
        assert_eq!(values.len(), others.len(), "a value for each");
        on_each(values, others, self);
    }

    /// Replaces each x of `values` by the result of it and one y.
    pub fn apply_one(self, values: &mut [f32], other: f32) {
        on_one(values, other, self);
    }
}

multiversion! {
    fn on_each(values: &mut [f32], others: &[f32], operation: Arithmetic) {
        let pairs = values.iter_mut().zip(others);
        match operation {
            Arithmetic::Add => pairs.for_each(|(x, &y)| *x += y),
            Arithmetic::Subtract => pairs.for_each(|(x, &y)| *x -= y),
            Arithmetic::SubtractFrom => pairs.for_each(|(x, &y)| *x = y - *x),
            Arithmetic::Multiply => pairs.for_each(|(x, &y)| *x *= y),
            Arithmetic::Divide => pairs.for_each(|(x, &y)| *x /= y),
            Arithmetic::DivideInto => pairs.for_each(|(x, &y)| *x = y / *x),
        }
    }
}

multiversion! {
    fn on_one(values: &mut [f32], y: f32, operation: Arithmetic) {
        let values = values.iter_mut();
        match operation {
            Arithmetic::Add => values.for_each(|x| *x += y),
            Arithmetic::Subtract => values.for_each(|x| *x -= y),
            Arithmetic::SubtractFrom => values.for_each(|x| *x = y - *x),
            Arithmetic::Multiply => values.for_each(|x| *x *= y),
            Arithmetic::Divide => values.for_each(|x| *x /= y),
            Arithmetic::DivideInto => values.for_each(|x| *x = y / *x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_that_of_its_name_in_either_order() {
        let x: Vec<f32> = (1..40).map(|i| i as f32 / 7.0).collect();
        let y: Vec<f32> = (1..40).map(|i| 3.0 - (i * i % 11) as f32).collect();
        type Definition = fn(f32, f32) -> f32;
        let definitions: [(Arithmetic, Definition); 4] = [
            (Arithmetic::Add, |x, y| x + y),
            (Arithmetic::Subtract, |x, y| x - y),
            (Arithmetic::Multiply, |x, y| x * y),
            (Arithmetic::Divide, |x, y| x / y),
        ];
        for (operation, definition) in definitions {
            let (mut each, mut flipped, mut one) = (x.clone(), y.clone(), x.clone());
            operation.apply(&mut each, &y);
            operation.flipped().apply(&mut flipped, &x);
            operation.apply_one(&mut one, y[3]);
            for at in 0..x.len() {
                let want = definition(x[at], y[at]);
                assert!(each[at] == want && flipped[at] == want, "{operation:?}");
                assert_eq!(one[at], definition(x[at], y[3]), "{operation:?}");
            }
            assert_eq!(operation.flipped().flipped(), operation);
        }
    }
}

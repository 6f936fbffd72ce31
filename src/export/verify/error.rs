//! How far two rows of numbers are apart.

/// The largest error of a stream of pairs; NaN counts as infinite, because a maximum would pass over it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Largest(pub(super) f64);

impl Largest {
    fn add(&mut self, error: f64) {
        self.0 = self.0.max(if error.is_nan() { f64::INFINITY } else { error });
    }

    /// Adds |found - expected|.
    pub(super) fn absolute(&mut self, found: &[f32], expected: &[f32]) {
        self.lengths(found.len(), expected.len());
        found.iter().zip(expected).for_each(|(a, b)| self.add(f64::from((a - b).abs())));
    }

    /// Adds |found - expected| over max(1, |expected|).
    pub(super) fn relative(&mut self, found: &[f32], expected: &[f32]) {
        self.lengths(found.len(), expected.len());
        found.iter().zip(expected).for_each(|(a, b)| self.add(f64::from((a - b).abs() / b.abs().max(1.0))));
    }

    /// Adds |found - expected|, in f64.
    pub(super) fn absolute_exact(&mut self, found: &[f32], expected: &[f64]) {
        self.lengths(found.len(), expected.len());
        found.iter().zip(expected).for_each(|(&a, b)| self.add((f64::from(a) - b).abs()));
    }

    /// Adds |found - expected| over max(1, |expected|), in f64.
    pub(super) fn relative_exact(&mut self, found: &[f32], expected: &[f64]) {
        self.lengths(found.len(), expected.len());
        found.iter().zip(expected).for_each(|(&a, b)| self.add((f64::from(a) - b).abs() / b.abs().max(1.0)));
    }

    /// Adds |found - expected| over the largest expected value of the row: logits are sums of the same size,
    /// and the small ones among them are differences of large terms.
    ///
    /// - `scale`: what [`scale`] gives for the row.
    pub(super) fn relative_to_row(&mut self, found: &[f32], expected: &[f32], scale: f32) {
        self.lengths(found.len(), expected.len());
        found.iter().zip(expected).for_each(|(a, b)| self.add(f64::from((a - b).abs() / scale)));
    }

    fn lengths(&mut self, found: usize, expected: usize) {
        if found != expected {
            self.0 = f64::INFINITY;
        }
    }
}

/// Finds the largest |logit| of a row, at least 1.
pub(super) fn scale(logits: &[f32]) -> f32 {
    logits.iter().fold(1.0, |a, b| a.max(b.abs()))
}

//! Rows brought to a common mean and size.

use super::level::multiversion;

/// Lanes that sums run in, so that the compiler may vectorise them without reordering within a lane.
const LANES: usize = 32;

/// The sum of a function of each value.
#[inline(always)]
fn sum_of(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += of(x);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|&x| of(x)).sum::<f32>()
}

multiversion! {
    /// Normalises each row x of `rows` (rows, width) in place: (x - mean) / sqrt(variance + `epsilon`) *
    /// `scale` + `bias`, the variance being the mean of the squared differences (Ba et al. 2016).
    ///
    /// - `scale`, `bias` (width): a factor and a summand for each column.
    pub fn layer_norm_rows(rows: &mut [f32], scale: &[f32], bias: &[f32], epsilon: f32) {
        assert_eq!(scale.len(), bias.len(), "a factor and a summand for each column");
        if scale.is_empty() {
            return;
        }
        for row in rows.chunks_exact_mut(scale.len()) {
            let width = row.len() as f32;
            let mean = sum_of(row, |x| x) / width;
            let variance = sum_of(row, |x| (x - mean) * (x - mean)) / width;
            let factor = 1.0 / (variance + epsilon).sqrt();
            for ((x, &scale), &bias) in row.iter_mut().zip(scale).zip(bias) {
                *x = (*x - mean) * factor * scale + bias;
            }
        }
    }
}

multiversion! {
    /// Normalises each row x of `rows` (rows, width) in place: x / sqrt(mean of x^2 + `epsilon`) * `scale`
    /// (Zhang and Sennrich 2019).
    ///
    /// - `scale` (width): a factor for each column.
    pub fn rms_norm_rows(rows: &mut [f32], scale: &[f32], epsilon: f32) {
        if scale.is_empty() {
            return;
        }
        for row in rows.chunks_exact_mut(scale.len()) {
            let factor = 1.0 / (sum_of(row, |x| x * x) / row.len() as f32 + epsilon).sqrt();
            for (x, &scale) in row.iter_mut().zip(scale) {
                *x = *x * factor * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_normalised_as_defined() {
        const EPSILON: f32 = 1e-5;
        for width in [1, 31, 64, 100] {
            let number = |i: usize| ((i * 7919) % 1009) as f32 / 100.0 - 3.0;
            let rows: Vec<f32> = (0..3 * width).map(number).collect();
            let (scale, bias): (Vec<f32>, Vec<f32>) =
                (0..width).map(|j| (number(j + 5), number(j + 9))).unzip();
            let (mut layer, mut rms) = (rows.clone(), rows.clone());
            layer_norm_rows(&mut layer, &scale, &bias, EPSILON);
            rms_norm_rows(&mut rms, &scale, EPSILON);
            for (r, row) in rows.chunks_exact(width).enumerate() {
                let mean_of = |of: &dyn Fn(f64) -> f64| {
                    row.iter().map(|&x| of(f64::from(x))).sum::<f64>() / width as f64
                };
                let mean = mean_of(&|x| x);
                let epsilon = f64::from(EPSILON);
                let (variance, square) = (mean_of(&|x| (x - mean).powi(2)), mean_of(&|x| x * x));
                for (j, &x) in row.iter().enumerate() {
                    let (x, scale, bias) = (f64::from(x), f64::from(scale[j]), f64::from(bias[j]));
                    let layer_want = (x - mean) / (variance + epsilon).sqrt() * scale + bias;
                    let rms_want = x / (square + epsilon).sqrt() * scale;
                    for (got, want) in [(layer[r * width + j], layer_want), (rms[r * width + j], rms_want)] {
                        // Roundings of sums of up to a hundred values, of results of up to some tens.
                        assert!((f64::from(got) - want).abs() < 2e-5, "{got} for {want}, width {width}");
                    }
                }
            }
        }
    }
}

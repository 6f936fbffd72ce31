//! Layer normalisation, row by row.

use super::level::multiversion;

/// Lanes that sums run in, so that the compiler may vectorise them without reordering within a lane.
const LANES: usize = 16;

/// Normalises each row of `values` (rows, `width`) to mean 0 and variance 1, then multiplies by `scale` and adds
/// `shift` (`width` each) where they are.
///
/// - `epsilon`: added to the variance.
///
/// The source is Ba et al., Layer Normalization (2016), section 3.
pub fn layer_norm(
    values: &mut [f32],
    width: usize,
    epsilon: f32,
    scale: Option<&[f32]>,
    shift: Option<&[f32]>,
) {
    assert!([scale, shift].iter().flatten().all(|row| row.len() == width), "one for each value of a row");
    if width == 0 {
        return;
    }
    for row in values.chunks_exact_mut(width) {
        normalise(row, epsilon);
        if let Some(scale) = scale {
            multiply(row, scale);
        }
        if let Some(shift) = shift {
            super::add_assign(row, shift);
        }
    }
}

multiversion! {
    fn multiply(row: &mut [f32], factors: &[f32]) {
        for (x, &factor) in row.iter_mut().zip(factors) {
            *x *= factor;
        }
    }
}

multiversion! {
    fn normalise(row: &mut [f32], epsilon: f32) {
        let count = row.len() as f32;
        let mean = sum(row, |x| x) / count;
        for x in row.iter_mut() {
            *x -= mean;
        }
        let variance = sum(row, |x| x * x) / count;
        let factor = 1.0 / (variance + epsilon).sqrt();
        for x in row.iter_mut() {
            *x *= factor;
        }
    }
}

/// The sum of a function of each value.
#[inline(always)]
fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for j in 0..LANES {
            lanes[j] += f(chunk[j]);
        }
    }
    let mut sum = 0.0;
    for &x in rest {
        sum += f(x);
    }
    for lane in lanes {
        sum += lane;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_normalised_as_the_definition_says() {
        let width = 37;
        let values: Vec<f32> = (0..3 * width).map(|i| ((i * 7919) % 101) as f32 / 10.0 - 3.0).collect();
        let scale: Vec<f32> = (0..width).map(|i| i as f32 / 20.0).collect();
        let shift: Vec<f32> = (0..width).map(|i| 1.0 - i as f32 / 10.0).collect();
        for (scale, shift) in [(None, None), (Some(&*scale), None), (Some(&*scale), Some(&*shift))] {
            let mut got = values.clone();
            layer_norm(&mut got, width, 1e-5, scale, shift);
            for (row, got) in values.chunks(width).zip(got.chunks(width)) {
                let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
                let square = |x: &f32| (f64::from(*x) - mean).powi(2);
                let variance = row.iter().map(square).sum::<f64>() / width as f64;
                for (j, (&x, &got)) in row.iter().zip(got).enumerate() {
                    let [scale, shift] =
                        [(scale, 1.0), (shift, 0.0)].map(|(row, none)| row.map_or(none, |row| row[j]));
                    let want = (f64::from(x) - mean) / (variance + 1e-5).sqrt() * f64::from(scale)
                        + f64::from(shift);
                    assert!((f64::from(got) - want).abs() < 2e-6, "{got} for {want}");
                }
            }
        }
    }
}

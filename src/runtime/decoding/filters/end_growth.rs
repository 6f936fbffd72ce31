//! END becomes likelier the longer an output is.

/// Adds |x| * (factor^n - 1) to the logits of `ends`, for the n-th token behind the start of the growth; 0 is
/// not yet.
pub(super) fn apply(logits: &mut [f32], ends: &[u32], n: usize, factor: f32) {
    if n == 0 {
        return;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a factor of f32")]
    let growth = (f64::from(factor).powf(n as f64) - 1.0) as f32;
    for &end in ends {
        // Where END is banned, it stays so.
        if let Some(x) = logits.get_mut(end as usize).filter(|x| x.is_finite()) {
            *x = (*x + x.abs() * growth).min(f32::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::apply;

    #[test]
    fn end_grows_with_the_power_of_the_factor_and_never_becomes_infinite() {
        let mut logits = [-2.0, 4.0, 3.0, f32::NEG_INFINITY];
        apply(&mut logits, &[0, 1, 3], 2, 1.5);
        assert_eq!(logits, [0.5, 9.0, 3.0, f32::NEG_INFINITY]);
        apply(&mut logits, &[0, 1], 0, 1.5);
        assert_eq!(logits[..2], [0.5, 9.0]);
        apply(&mut logits, &[1], 1000, 1e6);
        assert_eq!(logits[1], f32::MAX);
    }
}

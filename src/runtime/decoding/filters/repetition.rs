//! Makes earlier tokens less likely (Keskar et al. 2019, arXiv 1909.05858).

/// For each distinct earlier token: x / t if x > 0, else x * t.
pub(super) fn apply(logits: &mut [f32], earlier: &[u32], t: f32, distinct: &mut Vec<u32>) {
    distinct.clear();
    distinct.extend_from_slice(earlier);
    distinct.sort_unstable();
    distinct.dedup();
    for &id in distinct.iter() {
        if let Some(x) = logits.get_mut(id as usize) {
            *x = if *x < 0.0 { *x * t } else { *x / t };
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_token_is_penalised_once_however_often_it_came() {
        let mut logits = [2.0, -2.0, 2.0, f32::NEG_INFINITY];
        super::apply(&mut logits, &[0, 1, 0, 3, 1], 2.0, &mut Vec::new());
        assert_eq!(logits, [1.0, -4.0, 2.0, f32::NEG_INFINITY]);
    }
}

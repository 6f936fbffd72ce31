//! Keeps the nucleus (Holtzman et al. 2019, arXiv 1904.09751).

use s2s_kernels::search::exp_of_negative;

/// Keeps the smallest number of most probable tokens whose mass reaches `p`, at least one; ties by lower id.
pub(super) fn apply(logits: &mut [f32], p: f32, ranked: &mut Vec<(f32, u32)>) {
    super::banned::rank(logits, ranked);
    let Some(&(best, _)) = ranked.first() else { return };
    let total: f32 = ranked.iter().map(|(x, _)| exp_of_negative(x - best)).sum();
    let mut mass = 0.0;
    let mut kept = 0;
    for (x, _) in ranked.iter() {
        mass += exp_of_negative(x - best);
        kept += 1;
        if mass >= p * total {
            break;
        }
    }
    super::banned::ban_all(logits, &ranked[kept..]);
}

#[cfg(test)]
mod tests {
    fn kept(p: f32) -> usize {
        let mut logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        super::apply(&mut logits, p, &mut Vec::new());
        logits.iter().filter(|x| x.is_finite()).count()
    }

    #[test]
    fn the_smallest_prefix_that_reaches_the_mass_stays_and_at_least_one() {
        assert_eq!([kept(1e-9), kept(0.49), kept(0.6), kept(0.79), kept(0.81)], [1, 1, 2, 2, 3]);
    }
}

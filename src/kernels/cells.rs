//! The recurrent cells of a forward pass alone: states change in place, and nothing is kept for a backward
//! pass.

use super::gates::{LANES, Lanes, each_vector, load, store};
use super::level::multiversion;
use super::real::Real;

/// Divides a row (N hidden) into the values of each gate.
#[inline(always)]
fn parts_of<R, const N: usize>(row: &[R]) -> [&[R]; N] {
    let mut parts = row.chunks_exact(row.len() / N);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

multiversion! {
    /// Applies the LSTM cell to rows: c becomes f c + i g, and h becomes o tanh c.
    ///
    /// - `gates` (rows, 4 hidden): pre-activations in the order i, o, f, c.
    /// - `c` (rows, hidden): the cell state, before and after the step.
    /// - `h` (rows, hidden): the output; what it held does not matter.
    pub fn lstm_cell<R: Real>(hidden: usize, gates: &[R], c: &mut [R], h: &mut [R]) {
        for ((gates, c), h) in
            gates.chunks_exact(4 * hidden).zip(c.chunks_exact_mut(hidden)).zip(h.chunks_exact_mut(hidden))
        {
            let gates = parts_of::<R, 4>(gates);
            each_vector!(hidden, lstm(gates, c, h));
        }
    }
}

#[inline(always)]
fn lstm<R: Real, const FMA: bool, const WHOLE: bool>(at: usize, gates: [&[R]; 4], c: &mut [R], h: &mut [R]) {
    let [mut vi, mut vo, mut vf, mut vg] = gates.map(|gate| load::<R, WHOLE>(gate, at));
    vi.iter_mut().for_each(|x| *x = x.sigmoid::<FMA>());
    vf.iter_mut().for_each(|x| *x = x.sigmoid::<FMA>());
    vg.iter_mut().for_each(|x| *x = x.tanh::<FMA>());
    let mut cell = load::<R, WHOLE>(c, at);
    for j in 0..LANES {
        cell[j] = vf[j] * cell[j] + vi[j] * vg[j];
    }
    store::<R, WHOLE>(c, at, cell);
    vo.iter_mut().for_each(|x| *x = x.sigmoid::<FMA>());
    cell.iter_mut().for_each(|x| *x = x.tanh::<FMA>());
    for j in 0..LANES {
        vo[j] *= cell[j];
    }
    store::<R, WHOLE>(h, at, vo);
}

multiversion! {
    /// Applies the GRU cell whose reset gate stands behind the product (`linear_before_reset` = 1) to rows:
    /// h becomes (1 - z) n + z h, n = tanh(`gates`_n + r `recurrent`_n).
    ///
    /// - `gates` (rows, 3 hidden): W x + b in the order z, r, n.
    /// - `recurrent` (rows, 3 hidden): R h in the same order, its own bias included.
    /// - `h` (rows, hidden): the state, before and after the step.
    pub fn gru_cell<R: Real>(hidden: usize, gates: &[R], recurrent: &[R], h: &mut [R]) {
        for ((gates, recurrent), h) in gates
            .chunks_exact(3 * hidden)
            .zip(recurrent.chunks_exact(3 * hidden))
            .zip(h.chunks_exact_mut(hidden))
        {
            let (gates, recurrent) = (parts_of::<R, 3>(gates), parts_of::<R, 3>(recurrent));
            each_vector!(hidden, gru(gates, recurrent, h));
        }
    }
}

#[inline(always)]
fn gru<R: Real, const FMA: bool, const WHOLE: bool>(
    at: usize,
    gates: [&[R]; 3],
    recurrent: [&[R]; 3],
    h: &mut [R],
) {
    let [mut vz, mut vr, mut vn] = gates.map(|part| load::<R, WHOLE>(part, at));
    let [qz, qr, qn] = recurrent.map(|part| load::<R, WHOLE>(part, at));
    for j in 0..LANES {
        vr[j] = (vr[j] + qr[j]).sigmoid::<FMA>();
    }
    for j in 0..LANES {
        vn[j] += vr[j] * qn[j];
    }
    for j in 0..LANES {
        vz[j] += qz[j];
    }
    update::<R, FMA, WHOLE>(at, vz, vn, h);
}

/// Ends a GRU's step with the pre-activations of z and n: h becomes (1 - z) n + z h.
#[inline(always)]
fn update<R: Real, const FMA: bool, const WHOLE: bool>(
    at: usize,
    mut vz: Lanes<R>,
    mut vn: Lanes<R>,
    h: &mut [R],
) {
    let mut out = load::<R, WHOLE>(h, at);
    vz.iter_mut().for_each(|x| *x = x.sigmoid::<FMA>());
    vn.iter_mut().for_each(|x| *x = x.tanh::<FMA>());
    for j in 0..LANES {
        out[j] = vn[j] + vz[j] * (out[j] - vn[j]);
    }
    store::<R, WHOLE>(h, at, out);
}

multiversion! {
    /// Begins a step of the GRU whose reset gate stands before the product (`linear_before_reset` = 0):
    /// `reset_h` becomes r h, with which R_n is multiplied for [`gru_update`].
    ///
    /// - `gates` (rows, 3 hidden): pre-activations in the order z, r, n, those of z and r whole.
    /// - `h`, `reset_h` (rows, hidden): the state before the step, and what of it the reset gate leaves.
    pub fn gru_reset<R: Real>(hidden: usize, gates: &[R], h: &[R], reset_h: &mut [R]) {
        for ((gates, h), reset_h) in gates
            .chunks_exact(3 * hidden)
            .zip(h.chunks_exact(hidden))
            .zip(reset_h.chunks_exact_mut(hidden))
        {
            let [_, r, _] = parts_of::<R, 3>(gates);
            each_vector!(hidden, reset(r, h, reset_h));
        }
    }
}

#[inline(always)]
fn reset<R: Real, const FMA: bool, const WHOLE: bool>(at: usize, r: &[R], h: &[R], reset_h: &mut [R]) {
    let (mut vr, h) = (load::<R, WHOLE>(r, at), load::<R, WHOLE>(h, at));
    for j in 0..LANES {
        vr[j] = vr[j].sigmoid::<FMA>() * h[j];
    }
    store::<R, WHOLE>(reset_h, at, vr);
}

multiversion! {
    /// Ends the step that [`gru_reset`] began: h becomes (1 - z) n + z h.
    ///
    /// - `gates` (rows, 3 hidden): pre-activations in the order z, r, n, those of z and n whole.
    /// - `h` (rows, hidden): the state, before and after the step.
    pub fn gru_update<R: Real>(hidden: usize, gates: &[R], h: &mut [R]) {
        for (gates, h) in gates.chunks_exact(3 * hidden).zip(h.chunks_exact_mut(hidden)) {
            let [z, _, n] = parts_of::<R, 3>(gates);
            each_vector!(hidden, finish(z, n, h));
        }
    }
}

#[inline(always)]
fn finish<R: Real, const FMA: bool, const WHOLE: bool>(at: usize, z: &[R], n: &[R], h: &mut [R]) {
    update::<R, FMA, WHOLE>(at, load::<R, WHOLE>(z, at), load::<R, WHOLE>(n, at), h);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of a state and the rows of gates, of sizes with and without a short vector at the end.
    const SIZES: [usize; 4] = [1, 64, 67, 130];
    const ROWS: usize = 3;
    /// Two activations of four units in the last place each, and their products.
    const TOLERANCE: f64 = 1e-6;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let random = crate::random::Random::new(seed, 0);
        (0..n as u64).map(|i| (random.bits_after(i) >> 40) as f32 / 16_777_216.0 * 8.0 - 4.0).collect()
    }

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    fn close(got: &[f32], want: impl Fn(usize, usize) -> f64, hidden: usize) {
        for (at, &got) in got.iter().enumerate() {
            let want = want(at / hidden, at % hidden);
            assert!((f64::from(got) - want).abs() < TOLERANCE, "{got} for {want} at {at} of {hidden}");
        }
    }

    #[test]
    fn the_lstm_cell_is_that_of_the_definition() {
        for hidden in SIZES {
            let (gates, before) = (numbers(ROWS * 4 * hidden, 1), numbers(ROWS * hidden, 2));
            let (mut c, mut h) = (before.clone(), vec![f32::NAN; ROWS * hidden]);
            lstm_cell(hidden, &gates, &mut c, &mut h);
            let gate = |row: usize, gate: usize, j: usize| f64::from(gates[(row * 4 + gate) * hidden + j]);
            let cell = |row: usize, j: usize| {
                sigmoid(gate(row, 2, j)) * f64::from(before[row * hidden + j])
                    + sigmoid(gate(row, 0, j)) * gate(row, 3, j).tanh()
            };
            close(&c, cell, hidden);
            close(&h, |row, j| sigmoid(gate(row, 1, j)) * cell(row, j).tanh(), hidden);
        }
    }

    #[test]
    fn the_gru_cells_are_those_of_the_definition() {
        for hidden in SIZES {
            let (gates, recurrent) = (numbers(ROWS * 3 * hidden, 3), numbers(ROWS * 3 * hidden, 4));
            let before = numbers(ROWS * hidden, 5);
            let part =
                |of: &[f32], row: usize, part: usize, j: usize| f64::from(of[(row * 3 + part) * hidden + j]);
            let state = |row: usize, j: usize| f64::from(before[row * hidden + j]);
            let next = |z: f64, n: f64, h: f64| (1.0 - sigmoid(z)) * n.tanh() + sigmoid(z) * h;

            let mut h = before.clone();
            gru_cell(hidden, &gates, &recurrent, &mut h);
            let want = |row: usize, j: usize| {
                let both = |gate| part(&gates, row, gate, j) + part(&recurrent, row, gate, j);
                let n = part(&gates, row, 2, j) + sigmoid(both(1)) * part(&recurrent, row, 2, j);
                next(both(0), n, state(row, j))
            };
            close(&h, want, hidden);

            let (mut h, mut reset_h) = (before.clone(), vec![f32::NAN; ROWS * hidden]);
            gru_reset(hidden, &gates, &h, &mut reset_h);
            close(&reset_h, |row, j| sigmoid(part(&gates, row, 1, j)) * state(row, j), hidden);
            gru_update(hidden, &gates, &mut h);
            let want =
                |row: usize, j: usize| next(part(&gates, row, 0, j), part(&gates, row, 2, j), state(row, j));
            close(&h, want, hidden);
        }
    }

    #[test]
    fn a_state_of_zero_stays_exactly_zero_where_no_gate_is_driven() {
        // Rows of padding rely on it.
        let hidden = 70;
        let (mut c, mut h) = (vec![0.0f32; hidden], vec![0.0f32; hidden]);
        lstm_cell(hidden, &vec![0.0; 4 * hidden], &mut c, &mut h);
        assert!(c.iter().chain(&h).all(|&x| x == 0.0));
        gru_cell(hidden, &vec![0.0; 3 * hidden], &vec![0.0; 3 * hidden], &mut h);
        assert!(h.iter().all(|&x| x == 0.0));
    }
}

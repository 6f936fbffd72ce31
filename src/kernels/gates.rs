//! The recurrent cells between the products: all gates of a batch in one pass.
//!
//! Each kernel goes through a row in vectors of [`LANES`] values held in arrays: over whole slices the compiler gave up
//! and computed one value at a time, five times slower.

use super::level::multiversion;
use super::real::Real;

/// Values at once; the last vector of a row is filled with zeros, which every cell maps to numbers that are not stored.
const LANES: usize = 16;

#[inline(always)]
fn load<R: Real>(values: &[R], at: usize) -> [R; LANES] {
    if let Some(vector) = values[at..].first_chunk() {
        return *vector;
    }
    let mut vector = [R::ZERO; LANES];
    vector[..values.len() - at].copy_from_slice(&values[at..]);
    vector
}

#[inline(always)]
fn store<R: Real>(values: &mut [R], at: usize, vector: [R; LANES]) {
    match values[at..].first_chunk_mut() {
        Some(values) => *values = vector,
        None => {
            let rest = &mut values[at..];
            rest.copy_from_slice(&vector[..rest.len()]);
        }
    }
}

multiversion! {
    /// Applies the LSTM cell to `rows` rows, in place.
    ///
    /// - `gates` (rows, 4 hidden): pre-activations in the order i, o, f, c; become the activated gates.
    /// - `c_before` (rows, hidden): the cell state before the step.
    /// - `c` (rows, hidden): f * c_before + i * g.
    /// - `tanh_c` (rows, hidden): tanh of `c`, kept for the backward pass.
    /// - `h` (rows, hidden): o * tanh c.
    pub fn lstm_gates_forward<R: Real>(hidden: usize, gates: &mut [R], c_before: &[R], c: &mut [R], tanh_c: &mut [R], h: &mut [R]) {
        for ((((gates, c_before), c), tanh_c), h) in gates
            .chunks_exact_mut(4 * hidden)
            .zip(c_before.chunks_exact(hidden))
            .zip(c.chunks_exact_mut(hidden))
            .zip(tanh_c.chunks_exact_mut(hidden))
            .zip(h.chunks_exact_mut(hidden))
        {
            let (i, rest) = gates.split_at_mut(hidden);
            let (o, rest) = rest.split_at_mut(hidden);
            let (f, g) = rest.split_at_mut(hidden);
            for at in (0..hidden).step_by(LANES) {
                let (mut vi, mut vo, mut vf, mut vg) = (load(i, at), load(o, at), load(f, at), load(g, at));
                vi.iter_mut().for_each(|x| *x = x.sigmoid());
                vo.iter_mut().for_each(|x| *x = x.sigmoid());
                vf.iter_mut().for_each(|x| *x = x.sigmoid());
                vg.iter_mut().for_each(|x| *x = x.tanh());
                let mut cell = load(c_before, at);
                for j in 0..LANES {
                    cell[j] = vf[j] * cell[j] + vi[j] * vg[j];
                }
                let (mut t, mut out) = (cell, vo);
                t.iter_mut().for_each(|x| *x = x.tanh());
                for j in 0..LANES {
                    out[j] *= t[j];
                }
                store(i, at, vi);
                store(o, at, vo);
                store(f, at, vf);
                store(g, at, vg);
                store(c, at, cell);
                store(tanh_c, at, t);
                store(h, at, out);
            }
        }
    }
}

multiversion! {
    /// The gradient of [`lstm_gates_forward`], in place.
    ///
    /// - `gates` (rows, 4 hidden): the activated gates; become the gradients of the pre-activations.
    /// - `c_before`, `tanh_c` (rows, hidden): from the forward pass.
    /// - `dh` (rows, hidden): gradient of `h`.
    /// - `dc` (rows, hidden): gradient of `c` from later steps; becomes the gradient of `c_before`.
    pub fn lstm_gates_backward<R: Real>(hidden: usize, gates: &mut [R], c_before: &[R], tanh_c: &[R], dh: &[R], dc: &mut [R]) {
        for ((((gates, c_before), tanh_c), dh), dc) in gates
            .chunks_exact_mut(4 * hidden)
            .zip(c_before.chunks_exact(hidden))
            .zip(tanh_c.chunks_exact(hidden))
            .zip(dh.chunks_exact(hidden))
            .zip(dc.chunks_exact_mut(hidden))
        {
            let (i, rest) = gates.split_at_mut(hidden);
            let (o, rest) = rest.split_at_mut(hidden);
            let (f, g) = rest.split_at_mut(hidden);
            for at in (0..hidden).step_by(LANES) {
                let (mut vi, mut vo, mut vf, mut vg) = (load(i, at), load(o, at), load(f, at), load(g, at));
                let (t, dh, before, mut d_cell) = (load(tanh_c, at), load(dh, at), load(c_before, at), load(dc, at));
                for j in 0..LANES {
                    let (gi, go, gf, gg, t) = (vi[j], vo[j], vf[j], vg[j], t[j]);
                    let d = d_cell[j] + dh[j] * go * (R::ONE - t * t);
                    vi[j] = d * gg * gi * (R::ONE - gi);
                    vo[j] = dh[j] * t * go * (R::ONE - go);
                    vf[j] = d * before[j] * gf * (R::ONE - gf);
                    vg[j] = d * gi * (R::ONE - gg * gg);
                    d_cell[j] = d * gf;
                }
                store(i, at, vi);
                store(o, at, vo);
                store(f, at, vf);
                store(g, at, vg);
                store(dc, at, d_cell);
            }
        }
    }
}

multiversion! {
    /// Applies the GRU cell (with the reset gate after the product) to rows, in place.
    ///
    /// - `gates` (rows, 3 hidden): W x + b in the order z, r, n; become the activated gates.
    /// - `recurrent` (rows, 3 hidden): R h_before in the same order.
    /// - `inner` (rows, hidden): the n part of `recurrent`, kept for the backward pass.
    /// - `h` (rows, hidden): (1 - z) n + z h_before, n = tanh(gates_n + r recurrent_n).
    pub fn gru_gates_forward<R: Real>(hidden: usize, gates: &mut [R], recurrent: &[R], h_before: &[R], inner: &mut [R], h: &mut [R]) {
        for ((((gates, recurrent), h_before), inner), h) in gates
            .chunks_exact_mut(3 * hidden)
            .zip(recurrent.chunks_exact(3 * hidden))
            .zip(h_before.chunks_exact(hidden))
            .zip(inner.chunks_exact_mut(hidden))
            .zip(h.chunks_exact_mut(hidden))
        {
            let (z, rest) = gates.split_at_mut(hidden);
            let (r, n) = rest.split_at_mut(hidden);
            let (qz, rest) = recurrent.split_at(hidden);
            let (qr, qn) = rest.split_at(hidden);
            for at in (0..hidden).step_by(LANES) {
                let (mut vz, mut vr, mut vn) = (load(z, at), load(r, at), load(n, at));
                let (qz, qr, qn, mut out) = (load(qz, at), load(qr, at), load(qn, at), load(h_before, at));
                for j in 0..LANES {
                    vz[j] = (vz[j] + qz[j]).sigmoid();
                }
                for j in 0..LANES {
                    vr[j] = (vr[j] + qr[j]).sigmoid();
                }
                for j in 0..LANES {
                    vn[j] = (vn[j] + vr[j] * qn[j]).tanh();
                }
                for j in 0..LANES {
                    out[j] = vn[j] + vz[j] * (out[j] - vn[j]);
                }
                store(z, at, vz);
                store(r, at, vr);
                store(n, at, vn);
                store(inner, at, qn);
                store(h, at, out);
            }
        }
    }
}

multiversion! {
    /// The gradient of [`gru_gates_forward`], in place.
    ///
    /// - `gates` (rows, 3 hidden): the activated gates; become the gradients of W x + b.
    /// - `recurrent` (rows, 3 hidden): overwritten with the gradients of R h_before.
    /// - `dh` (rows, hidden): gradient of `h`; becomes the part of `h_before`'s gradient that does not go through R.
    pub fn gru_gates_backward<R: Real>(
        hidden: usize,
        gates: &mut [R],
        recurrent: &mut [R],
        h_before: &[R],
        inner: &[R],
        dh: &mut [R],
    ) {
        for ((((gates, recurrent), h_before), inner), dh) in gates
            .chunks_exact_mut(3 * hidden)
            .zip(recurrent.chunks_exact_mut(3 * hidden))
            .zip(h_before.chunks_exact(hidden))
            .zip(inner.chunks_exact(hidden))
            .zip(dh.chunks_exact_mut(hidden))
        {
            let (z, rest) = gates.split_at_mut(hidden);
            let (r, n) = rest.split_at_mut(hidden);
            let (qz, rest) = recurrent.split_at_mut(hidden);
            let (qr, qn) = rest.split_at_mut(hidden);
            for at in (0..hidden).step_by(LANES) {
                let (mut vz, mut vr, mut vn) = (load(z, at), load(r, at), load(n, at));
                let (before, inner, mut d, mut dq) = (load(h_before, at), load(inner, at), load(dh, at), [R::ZERO; LANES]);
                for j in 0..LANES {
                    let (gz, gr, gn) = (vz[j], vr[j], vn[j]);
                    let dn = d[j] * (R::ONE - gz) * (R::ONE - gn * gn);
                    vz[j] = d[j] * (before[j] - gn) * gz * (R::ONE - gz);
                    vr[j] = dn * inner[j] * gr * (R::ONE - gr);
                    vn[j] = dn;
                    dq[j] = dn * gr;
                    d[j] *= gz;
                }
                store(z, at, vz);
                store(r, at, vr);
                store(n, at, vn);
                store(qz, at, vz);
                store(qr, at, vr);
                store(qn, at, dq);
                store(dh, at, d);
            }
        }
    }
}

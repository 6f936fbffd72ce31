//! The LSTM cell between the products: all four gates of a batch in one pass.

use super::level::multiversion;
use super::real::Real;

multiversion! {
    /// Applies the cell to `rows` rows, in place.
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
            let g = &mut g[..hidden];
            for j in 0..hidden {
                let (gi, go, gf, gg) = (i[j].sigmoid(), o[j].sigmoid(), f[j].sigmoid(), g[j].tanh());
                let cell = gf * c_before[j] + gi * gg;
                let t = cell.tanh();
                (i[j], o[j], f[j], g[j]) = (gi, go, gf, gg);
                c[j] = cell;
                tanh_c[j] = t;
                h[j] = go * t;
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
            let g = &mut g[..hidden];
            for j in 0..hidden {
                let (gi, go, gf, gg, t) = (i[j], o[j], f[j], g[j], tanh_c[j]);
                let dcell = dc[j] + dh[j] * go * (R::ONE - t * t);
                i[j] = dcell * gg * gi * (R::ONE - gi);
                o[j] = dh[j] * t * go * (R::ONE - go);
                f[j] = dcell * c_before[j] * gf * (R::ONE - gf);
                g[j] = dcell * gi * (R::ONE - gg * gg);
                dc[j] = dcell * gf;
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
            let n = &mut n[..hidden];
            let (qz, rest) = recurrent.split_at(hidden);
            let (qr, qn) = rest.split_at(hidden);
            let qn = &qn[..hidden];
            for j in 0..hidden {
                let gz = (z[j] + qz[j]).sigmoid();
                let gr = (r[j] + qr[j]).sigmoid();
                let gn = (n[j] + gr * qn[j]).tanh();
                (z[j], r[j], n[j]) = (gz, gr, gn);
                inner[j] = qn[j];
                h[j] = gn + gz * (h_before[j] - gn);
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
            let n = &mut n[..hidden];
            let (qz, rest) = recurrent.split_at_mut(hidden);
            let (qr, qn) = rest.split_at_mut(hidden);
            let qn = &mut qn[..hidden];
            for j in 0..hidden {
                let (gz, gr, gn) = (z[j], r[j], n[j]);
                let dn = dh[j] * (R::ONE - gz) * (R::ONE - gn * gn);
                let dz = dh[j] * (h_before[j] - gn) * gz * (R::ONE - gz);
                let dr = dn * inner[j] * gr * (R::ONE - gr);
                (z[j], r[j], n[j]) = (dz, dr, dn);
                (qz[j], qr[j], qn[j]) = (dz, dr, dn * gr);
                dh[j] *= gz;
            }
        }
    }
}

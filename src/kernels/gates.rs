//! The recurrent cells between the products: all gates of a batch in one pass.
//!
//! Each kernel goes through a row in vectors of [`LANES`] values held in arrays: over whole slices the
//! compiler gave up and computed one value at a time, five times slower.

use super::level::multiversion;
use super::real::Real;

/// Values at once. Several registers of them: each value is a chain of thirty dependent steps, and the
/// processor works on as many chains as lie near each other in the program.
pub(super) const LANES: usize = 64;

pub(super) type Lanes<R> = [R; LANES];

/// A vector of a row; where it is not `WHOLE`, the last and short one, filled with zeros, which every cell
/// maps to numbers that are not stored.
#[inline(always)]
pub(super) fn load<R: Real, const WHOLE: bool>(values: &[R], at: usize) -> Lanes<R> {
    let mut vector = [R::ZERO; LANES];
    if WHOLE {
        vector.copy_from_slice(&values[at..at + LANES]);
    } else {
        vector[..values.len() - at].copy_from_slice(&values[at..]);
    }
    vector
}

#[inline(always)]
pub(super) fn store<R: Real, const WHOLE: bool>(values: &mut [R], at: usize, vector: Lanes<R>) {
    if WHOLE {
        values[at..at + LANES].copy_from_slice(&vector);
    } else {
        let rest = &mut values[at..];
        rest.copy_from_slice(&vector[..rest.len()]);
    }
}

/// Loads a vector of each of several gates.
#[inline(always)]
fn load_each<R: Real, const WHOLE: bool, const N: usize>(values: &[&mut [R]; N], at: usize) -> [Lanes<R>; N] {
    std::array::from_fn(|gate| load::<R, WHOLE>(values[gate], at))
}

#[inline(always)]
fn store_each<R: Real, const WHOLE: bool, const N: usize>(
    values: &mut [&mut [R]; N],
    at: usize,
    vectors: [Lanes<R>; N],
) {
    for (values, vector) in values.iter_mut().zip(vectors) {
        store::<R, WHOLE>(values, at, vector);
    }
}

/// Divides a row (N hidden) into the values of each gate.
#[inline(always)]
fn gates_of<R, const N: usize>(row: &mut [R]) -> [&mut [R]; N] {
    let mut gates = row.chunks_exact_mut(row.len() / N);
    std::array::from_fn(|_| gates.next().unwrap_or_default())
}

/// Calls a function for each vector of a row of so many values. The short one is apart, because with the
/// calls that copy it in the loop the compiler would load every constant of the cell again for each vector.
macro_rules! each_vector {
    ($len:expr, $work:ident($($arg:expr),* $(,)?)) => {
        let (len, short) = ($len, $len % LANES);
        for at in (0..len - short).step_by(LANES) {
            $work::<R, FMA, true>(at, $($arg),*);
        }
        if short > 0 {
            $work::<R, FMA, false>(len - short, $($arg),*);
        }
    };
}

pub(super) use each_vector;

multiversion! {
    /// Applies the LSTM cell to `rows` rows, in place.
    ///
    /// - `gates` (rows, 4 hidden): pre-activations in the order i, o, f, c; become the activated gates.
    /// - `c_before` (rows, hidden): the cell state before the step.
    /// - `c` (rows, hidden): f * c_before + i * g.
    /// - `tanh_c` (rows, hidden): tanh of `c`, kept for the backward pass.
    /// - `h` (rows, hidden): o * tanh c.
    pub fn lstm_gates_forward<R: Real>(
        hidden: usize,
        gates: &mut [R],
        c_before: &[R],
        c: &mut [R],
        tanh_c: &mut [R],
        h: &mut [R],
    ) {
        for ((((gates, c_before), c), tanh_c), h) in gates
            .chunks_exact_mut(4 * hidden)
            .zip(c_before.chunks_exact(hidden))
            .zip(c.chunks_exact_mut(hidden))
            .zip(tanh_c.chunks_exact_mut(hidden))
            .zip(h.chunks_exact_mut(hidden))
        {
            let mut gates = gates_of::<R, 4>(gates);
            each_vector!(hidden, lstm_forward(&mut gates, c_before, c, tanh_c, h));
        }
    }
}

#[inline(always)]
fn lstm_forward<R: Real, const FMA: bool, const WHOLE: bool>(
    at: usize,
    gates: &mut [&mut [R]; 4],
    c_before: &[R],
    c: &mut [R],
    tanh_c: &mut [R],
    h: &mut [R],
) {
    let [mut vi, mut vo, mut vf, mut vg] = load_each::<R, WHOLE, 4>(gates, at);
    vi.iter_mut().for_each(|x| *x = x.sigmoid::<FMA>());
    vo.iter_mut().for_each(|x| *x = x.sigmoid::<FMA>());
    vf.iter_mut().for_each(|x| *x = x.sigmoid::<FMA>());
    vg.iter_mut().for_each(|x| *x = x.tanh::<FMA>());
    let mut cell = load::<R, WHOLE>(c_before, at);
    for j in 0..LANES {
        cell[j] = vf[j] * cell[j] + vi[j] * vg[j];
    }
    let (mut t, mut out) = (cell, vo);
    t.iter_mut().for_each(|x| *x = x.tanh::<FMA>());
    for j in 0..LANES {
        out[j] *= t[j];
    }
    store_each::<R, WHOLE, 4>(gates, at, [vi, vo, vf, vg]);
    store::<R, WHOLE>(c, at, cell);
    store::<R, WHOLE>(tanh_c, at, t);
    store::<R, WHOLE>(h, at, out);
}

multiversion! {
    /// Computes the gradient of [`lstm_gates_forward`], in place.
    ///
    /// - `gates` (rows, 4 hidden): the activated gates; become the gradients of the pre-activations.
    /// - `c_before`, `tanh_c` (rows, hidden): from the forward pass.
    /// - `dh` (rows, hidden): gradient of `h`.
    /// - `dc` (rows, hidden): gradient of `c` from later steps; becomes the gradient of `c_before`.
    pub fn lstm_gates_backward<R: Real>(
        hidden: usize,
        gates: &mut [R],
        c_before: &[R],
        tanh_c: &[R],
        dh: &[R],
        dc: &mut [R],
    ) {
        for ((((gates, c_before), tanh_c), dh), dc) in gates
            .chunks_exact_mut(4 * hidden)
            .zip(c_before.chunks_exact(hidden))
            .zip(tanh_c.chunks_exact(hidden))
            .zip(dh.chunks_exact(hidden))
            .zip(dc.chunks_exact_mut(hidden))
        {
            let mut gates = gates_of::<R, 4>(gates);
            each_vector!(hidden, lstm_backward(&mut gates, c_before, tanh_c, dh, dc));
        }
    }
}

#[inline(always)]
fn lstm_backward<R: Real, const FMA: bool, const WHOLE: bool>(
    at: usize,
    gates: &mut [&mut [R]; 4],
    c_before: &[R],
    tanh_c: &[R],
    dh: &[R],
    dc: &mut [R],
) {
    let [mut vi, mut vo, mut vf, mut vg] = load_each::<R, WHOLE, 4>(gates, at);
    let (t, dh, before, mut d_cell) = (
        load::<R, WHOLE>(tanh_c, at),
        load::<R, WHOLE>(dh, at),
        load::<R, WHOLE>(c_before, at),
        load::<R, WHOLE>(dc, at),
    );
    for j in 0..LANES {
        let (gi, go, gf, gg, t) = (vi[j], vo[j], vf[j], vg[j], t[j]);
        let d = d_cell[j] + dh[j] * go * (R::ONE - t * t);
        vi[j] = d * gg * gi * (R::ONE - gi);
        vo[j] = dh[j] * t * go * (R::ONE - go);
        vf[j] = d * before[j] * gf * (R::ONE - gf);
        vg[j] = d * gi * (R::ONE - gg * gg);
        d_cell[j] = d * gf;
    }
    store_each::<R, WHOLE, 4>(gates, at, [vi, vo, vf, vg]);
    store::<R, WHOLE>(dc, at, d_cell);
}

multiversion! {
    /// Applies the GRU cell (with the reset gate after the product) to rows, in place.
    ///
    /// - `gates` (rows, 3 hidden): W x + b in the order z, r, n; become the activated gates.
    /// - `recurrent` (rows, 3 hidden): R h_before in the same order.
    /// - `inner` (rows, hidden): the n part of `recurrent`, kept for the backward pass.
    /// - `h` (rows, hidden): (1 - z) n + z h_before, n = tanh(gates_n + r recurrent_n).
    pub fn gru_gates_forward<R: Real>(
        hidden: usize,
        gates: &mut [R],
        recurrent: &[R],
        h_before: &[R],
        inner: &mut [R],
        h: &mut [R],
    ) {
        for ((((gates, recurrent), h_before), inner), h) in gates
            .chunks_exact_mut(3 * hidden)
            .zip(recurrent.chunks_exact(3 * hidden))
            .zip(h_before.chunks_exact(hidden))
            .zip(inner.chunks_exact_mut(hidden))
            .zip(h.chunks_exact_mut(hidden))
        {
            let mut gates = gates_of::<R, 3>(gates);
            let (qz, rest) = recurrent.split_at(hidden);
            let (qr, qn) = rest.split_at(hidden);
            each_vector!(hidden, gru_forward(&mut gates, [qz, qr, qn], h_before, inner, h));
        }
    }
}

#[inline(always)]
fn gru_forward<R: Real, const FMA: bool, const WHOLE: bool>(
    at: usize,
    gates: &mut [&mut [R]; 3],
    recurrent: [&[R]; 3],
    h_before: &[R],
    inner: &mut [R],
    h: &mut [R],
) {
    let [mut vz, mut vr, mut vn] = load_each::<R, WHOLE, 3>(gates, at);
    let [qz, qr, qn] = recurrent.map(|part| load::<R, WHOLE>(part, at));
    let mut out = load::<R, WHOLE>(h_before, at);
    for j in 0..LANES {
        vz[j] = (vz[j] + qz[j]).sigmoid::<FMA>();
    }
    for j in 0..LANES {
        vr[j] = (vr[j] + qr[j]).sigmoid::<FMA>();
    }
    for j in 0..LANES {
        vn[j] = (vn[j] + vr[j] * qn[j]).tanh::<FMA>();
    }
    for j in 0..LANES {
        out[j] = vn[j] + vz[j] * (out[j] - vn[j]);
    }
    store_each::<R, WHOLE, 3>(gates, at, [vz, vr, vn]);
    store::<R, WHOLE>(inner, at, qn);
    store::<R, WHOLE>(h, at, out);
}

multiversion! {
    /// Computes the gradient of [`gru_gates_forward`], in place.
    ///
    /// - `gates` (rows, 3 hidden): the activated gates; become the gradients of W x + b.
    /// - `recurrent` (rows, 3 hidden): overwritten with the gradients of R h_before.
    /// - `dh` (rows, hidden): gradient of `h`; becomes the part of `h_before`'s gradient that does not go
    ///   through R.
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
            let mut gates = gates_of::<R, 3>(gates);
            let mut recurrent = gates_of::<R, 3>(recurrent);
            each_vector!(hidden, gru_backward(&mut gates, &mut recurrent, h_before, inner, dh));
        }
    }
}

#[inline(always)]
fn gru_backward<R: Real, const FMA: bool, const WHOLE: bool>(
    at: usize,
    gates: &mut [&mut [R]; 3],
    recurrent: &mut [&mut [R]; 3],
    h_before: &[R],
    inner: &[R],
    dh: &mut [R],
) {
    let [mut vz, mut vr, mut vn] = load_each::<R, WHOLE, 3>(gates, at);
    let (before, inner, mut d, mut dq) = (
        load::<R, WHOLE>(h_before, at),
        load::<R, WHOLE>(inner, at),
        load::<R, WHOLE>(dh, at),
        [R::ZERO; LANES],
    );
    for j in 0..LANES {
        let (gz, gr, gn) = (vz[j], vr[j], vn[j]);
        let dn = d[j] * (R::ONE - gz) * (R::ONE - gn * gn);
        vz[j] = d[j] * (before[j] - gn) * gz * (R::ONE - gz);
        vr[j] = dn * inner[j] * gr * (R::ONE - gr);
        vn[j] = dn;
        dq[j] = dn * gr;
        d[j] *= gz;
    }
    store_each::<R, WHOLE, 3>(gates, at, [vz, vr, vn]);
    store_each::<R, WHOLE, 3>(recurrent, at, [vz, vr, dq]);
    store::<R, WHOLE>(dh, at, d);
}

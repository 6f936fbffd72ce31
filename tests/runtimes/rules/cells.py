"""LSTM, GRU and RNN as the ONNX standard defines them, in float64: what every runtime is held against.

Written from the operators' equations (https://onnx.ai/onnx/operators/onnx__LSTM.html and its neighbours), a text and a step
at a time, so that nothing here depends on the batch. Gates in ONNX's order: LSTM i, o, f, c; GRU z, r, h.
"""

import numpy as np

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# How many activations one direction has, and the operator's own.
USUAL = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


def sigmoid(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


# Name to the function of x, alpha, beta and the defaults of both.
ACTIVATIONS = {
    "Affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "Elu": (lambda x, a, b: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))), 1.0, None),
    "HardSigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "LeakyRelu": (lambda x, a, b: np.where(x >= 0, x, a * x), 0.01, None),
    "Relu": (lambda x, a, b: np.maximum(x, 0), None, None),
    "ScaledTanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "Sigmoid": (lambda x, a, b: sigmoid(x), None, None),
    "Softplus": (lambda x, a, b: np.log1p(np.exp(x)), None, None),
    "Softsign": (lambda x, a, b: x / (1 + np.abs(x)), None, None),
    "Tanh": (lambda x, a, b: np.tanh(x), None, None),
    "ThresholdedRelu": (lambda x, a, b: np.where(x >= a, x, 0), 1.0, None),
}


def functions(op, activations, alphas, betas, clip):
    """The activations of one direction; `alphas` and `betas` go, in order, to those that take one.

    Whether `clip` holds for the cell state on its way into the last activation, the standard leaves open: ONNX Runtime clips the
    gates alone, and so does this. Graphs that clip must not tell the two readings apart (`recurrent` checks it).
    """
    alphas, betas, made = list(alphas), list(betas), []
    bounded = (lambda x: np.clip(x, -clip, clip)) if clip else (lambda x: x)
    for name in activations or USUAL[op]:
        f, alpha, beta = ACTIVATIONS[name]
        alpha = alphas.pop(0) if alpha is not None and alphas else alpha
        beta = betas.pop(0) if beta is not None and betas else beta
        made.append(lambda x, f=f, a=alpha, b=beta: f(bounded(x), a, b))
    return made


def step(op, f, plain, x, h, c, w, r, bias, peephole, input_forget, reset_after):
    """One step of one text: h' and c'. `plain`: the activations without the clip."""
    gates = GATES[op]
    wb, rb = np.split(bias, 2)
    if op == "RNN":
        return f[0](w @ x + wb + r @ h + rb), c
    if op == "GRU":
        (xz, xr, xn), (hz, hr, hn) = np.split(w @ x + wb, gates), np.split(r @ h + rb, gates)
        z, reset = f[0](xz + hz), f[0](xr + hr)
        if reset_after:
            n = f[1](xn + reset * hn)
        else:
            rows = len(h)
            n = f[1](xn + r[2 * rows :] @ (reset * h) + rb[2 * rows :])
        return (1 - z) * n + z * h, c
    i, o, forget, g = np.split(w @ x + wb + r @ h + rb, gates)
    pi, po, pf = np.split(peephole, 3)
    i = f[0](i + pi * c)
    forget = 1 - i if input_forget else f[0](forget + pf * c)
    c = forget * c + i * f[1](g)
    return f[0](o + po * c) * plain[2](c), c


def recurrent(
    op, x, w, r, b=None, lengths=None, h0=None, c0=None, peephole=None, *, direction="forward", clip=None, activations=None, alphas=(), betas=(),
    input_forget=False, reset_after=False,
):  # fmt: skip
    """Y (time, directions, batch, hidden), Y_h and Y_c (directions, batch, hidden).

    - `x`: (time, batch, inputs); weights as ONNX has them, with the axis of directions first.
    - `lengths`: steps of each text; outputs behind them are 0, and the backward direction begins at the last of them.
    """
    time, batch, _ = x.shape
    directions, hidden = len(w), r.shape[2]
    b = np.zeros((directions, 2 * GATES[op] * hidden)) if b is None else b
    peephole = np.zeros((directions, 3 * hidden)) if peephole is None else peephole
    lengths = [time] * batch if lengths is None else lengths
    y, yh, yc = np.zeros((time, directions, batch, hidden)), np.zeros((directions, batch, hidden)), np.zeros((directions, batch, hidden))
    each = len(USUAL[op])
    for d in range(directions):
        own = list(activations)[d * each : (d + 1) * each] if activations else None
        f, plain = (functions(op, own, alphas, betas, bound) for bound in (clip, None))
        backward = direction == "reverse" or d == 1
        for row in range(batch):
            h = np.zeros(hidden) if h0 is None else h0[d, row]
            c = np.zeros(hidden) if c0 is None else c0[d, row]
            steps = range(lengths[row])
            for t in reversed(steps) if backward else steps:
                h, c = step(op, f, plain, x[t, row], h, c, w[d], r[d], b[d], peephole[d], input_forget, reset_after)
                y[t, d, row] = h
                if clip and np.abs(c).max() >= clip:
                    raise ValueError("the cell state reaches the clip: the standard does not say what then")
            yh[d, row], yc[d, row] = h, c
    return y, yh, yc

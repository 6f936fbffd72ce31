"""One small graph for every standard operator that exporters of sequence models write, with its usual types.

What is not here is not known: `s2s lint` says so by name.
"""

import math

import numpy as np
from onnx import TensorProto, numpy_helper

from . import others, recurrent
from .cells import sigmoid, softmax
from .graphs import Case, Graph, sizes

FLOAT, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
MATRIX, TEXTS = ["batch", 4], ["batch", "time", 4]


def fed(axes, batch, time, seed, kind):
    """Numbers of an input: reals, positive ones, or small whole ones."""
    shape = [{"batch": batch, "time": time}.get(axis, axis) for axis in axes]
    rng = np.random.default_rng(sum(shape) + 10 * seed)
    if kind == "ints":
        return rng.integers(0, 4, shape)
    low = 0.1 if kind == "positive" else -2.0
    return rng.uniform(low, 2.0, shape).astype(np.float32)


def operator(name, inputs, build, right, axes, opset=17, ir=8, kinds=None, tolerance=1e-5):
    """`build(graph, names)` gives the value, float32, with `axes`; `right(*arrays)` what it must be, from float64 or int64."""

    def make(form):
        g = Graph(form, name, opset, ir)
        kinds_ = kinds or ["reals"] * len(inputs)
        names = [g.input(f"x{at}", own, INT64 if kind == "ints" else FLOAT) for at, (own, kind) in enumerate(zip(inputs, kinds_))]
        g.output("y", axes, build(g, names))
        feeds = []
        for batch, time in sizes(form):
            arrays = [fed(own, batch, time, at, kind) for at, (own, kind) in enumerate(zip(inputs, kinds_))]
            wide = [array.astype(np.float64) if array.dtype == np.float32 else array for array in arrays]
            feeds.append((dict(zip(names, arrays)), {"y": np.asarray(right(*wide), np.float64)}))
        return Case("operator", name, form, g.model(), feeds, tolerance)

    return make


def elementwise(name, right, count=1, kinds=None, to_float=False, opset=17, ir=8, **attributes):
    def build(g, names):
        if to_float == "bools":
            names = [g.node("Cast", [value], to=BOOL) for value in names]
        value = g.node(name, names, **attributes)
        return g.node("Cast", [value], to=FLOAT) if to_float else value

    return operator(name, [MATRIX] * count, build, right, MATRIX, opset, ir, kinds)


def single(name, inputs, right, shape, more=lambda g: [], **options):
    """A node that reads the inputs and then constants; `options` beyond those of `operator` are its attributes."""
    own = {key: options.pop(key) for key in ("opset", "ir", "kinds", "tolerance") if key in options}
    return operator(name, inputs, lambda g, names: g.node(name, [*names, *more(g)], **options), right, shape, **own)


def through(name, build, inputs, right, axes, **options):
    return operator(name, inputs, build, right, axes, **options)


def as_float(g, value):
    return g.node("Cast", [value], to=FLOAT)


def shape_of(g, value, *tail):
    """The batch of a value followed by numbers, as a shape."""
    return g.node("Concat", [g.node("Gather", [g.node("Shape", [value]), g.ints(0)], axis=0), g.ints(*tail)], axis=0)


def layer_norm(x, scale, bias):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5) * scale + bias


def convolve(x, w):
    """(batch, channels, time), (out, channels, 3), a zero on either side."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1)))
    return np.stack([np.einsum("bck,ock->bo", padded[:, :, t : t + 3], w) for t in range(x.shape[2])], 2)


W = others.numbers(4, 4, seed=1)
W64 = W.astype(np.float64)
erf = np.vectorize(math.erf)
zero_value = lambda number: numpy_helper.from_array(np.array([number], np.float32), "value")

UNARY = {
    "Abs": np.abs, "Ceil": np.ceil, "Cos": np.cos, "Elu": lambda x: np.where(x > 0, x, np.expm1(x)), "Erf": erf, "Exp": np.exp, "Floor": np.floor,
    "HardSigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1), "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1), "Identity": lambda x: x,
    "LeakyRelu": lambda x: np.where(x > 0, x, 0.01 * x), "Neg": lambda x: -x, "Relu": lambda x: np.maximum(x, 0), "Round": np.round,
    "Selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)), "Sigmoid": sigmoid, "Sign": np.sign, "Sin": np.sin,
    "Softplus": lambda x: np.log1p(np.exp(x)), "Softsign": lambda x: x / (1 + np.abs(x)), "Tanh": np.tanh,
}  # fmt: skip
POSITIVE = {"Log": np.log, "Reciprocal": lambda x: 1 / x, "Sqrt": np.sqrt}
BINARY = {"Add": np.add, "Div": np.divide, "Max": np.maximum, "Mean": lambda a, b: (a + b) / 2, "Min": np.minimum, "Mul": np.multiply, "Sub": np.subtract, "Sum": np.add}
COMPARING = {"Equal": np.equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Less": np.less, "LessOrEqual": np.less_equal}
LOGICAL = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}
REDUCING = {
    "ReduceL1": lambda x: np.abs(x).sum(-1), "ReduceL2": lambda x: np.sqrt((x * x).sum(-1)), "ReduceLogSumExp": lambda x: np.log(np.exp(x).sum(-1)),
    "ReduceMax": lambda x: x.max(-1), "ReduceMean": lambda x: x.mean(-1), "ReduceMin": lambda x: x.min(-1), "ReduceProd": lambda x: x.prod(-1),
    "ReduceSumSquare": lambda x: (x * x).sum(-1),
}  # fmt: skip


def elementwise_operators():
    made = [elementwise(name, right) for name, right in UNARY.items()]
    made += [elementwise(name, right, kinds=["positive"]) for name, right in POSITIVE.items()]
    made += [elementwise(name, right, 2, kinds=["reals", "positive"] if name == "Div" else None) for name, right in BINARY.items()]
    made += [elementwise(name, right, 2, kinds=["ints", "ints"], to_float=True) for name, right in COMPARING.items()]
    made += [elementwise(name, right, 2, kinds=["ints", "ints"], to_float="bools") for name, right in LOGICAL.items()]
    made += [
        # Not between an input and an output alone, which some then take for one value.
        through("Dropout", lambda g, n: g.node("Dropout", [g.node("Abs", [n[0]])]), [MATRIX], np.abs, MATRIX),
        elementwise("Not", np.logical_not, kinds=["ints"], to_float="bools"),
        elementwise("IsNaN", np.isnan, to_float=True),
        elementwise("Pow", np.power, 2, kinds=["positive", "reals"]),
        elementwise("Gelu", lambda x: x / 2 * (1 + erf(x / math.sqrt(2))), opset=20, ir=9),
        elementwise("Cast", lambda x: x, kinds=["ints"], to=FLOAT),
        through("Mod", lambda g, n: as_float(g, g.node("Mod", [n[0], g.constant(np.int64(3))])), [MATRIX], lambda a: a % 3, MATRIX, kinds=["ints"]),
        single("PRelu", [MATRIX], lambda x: np.where(x > 0, x, 0.25 * x), MATRIX, lambda g: [g.constant(np.float32([0.25]))]),
        single("Clip", [MATRIX], lambda x: np.clip(x, -0.5, 0.5), MATRIX, lambda g: [g.constant(np.float32(-0.5)), g.constant(np.float32(0.5))]),
        through(
            "Where", lambda g, n: g.node("Where", [g.node("Greater", [n[0], g.constant(np.float32(0))]), n[0], n[1]]), [MATRIX, MATRIX],
            lambda a, b: np.where(a > 0, a, b), MATRIX,
        ),
        through("CastLike", lambda g, n: g.node("CastLike", [n[0], n[1]]), [MATRIX, MATRIX], lambda a, b: a, MATRIX, kinds=["ints", "reals"]),
    ]  # fmt: skip
    return made


def products():
    return [
        single("MatMul", [TEXTS], lambda x: x @ W64, TEXTS, lambda g: [g.constant(W)]),
        single("Gemm", [MATRIX], lambda x: x @ W64.T + W64[0], MATRIX, lambda g: [g.constant(W), g.constant(W[0])], transB=1),
        single("Einsum", [TEXTS, MATRIX], lambda x, h: np.einsum("btd,bd->bt", x, h), ["batch", "time"], equation="btd,bd->bt"),
        single("Conv", [["batch", 4, "time"]], lambda x: convolve(x, CONV.astype(np.float64)), ["batch", 5, "time"], lambda g: [g.constant(CONV)], pads=[1, 1]),
        single("Softmax", [TEXTS], softmax, TEXTS, axis=-1),
        single("LogSoftmax", [TEXTS], lambda x: np.log(softmax(x)), TEXTS, axis=-1),
        single("Hardmax", [MATRIX], lambda x: np.eye(4)[x.argmax(-1)], MATRIX, axis=-1),
        single(
            "LayerNormalization", [TEXTS], lambda x: layer_norm(x, W64[0], W64[1]), TEXTS, lambda g: [g.constant(W[0]), g.constant(W[1])], axis=-1, epsilon=1e-5
        ),
        single(
            "RMSNormalization", [TEXTS], lambda x: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * W64[0], TEXTS, lambda g: [g.constant(W[0])],
            axis=-1, epsilon=1e-5, opset=23, ir=11,
        ),
        single(
            "BatchNormalization", [["batch", 4, "time"]], lambda x: x * (np.array([1, 2, 3, 4]) / np.sqrt(1 + 1e-5))[:, None] + W64[1][:, None],
            ["batch", 4, "time"], lambda g: [g.constant(array) for array in (np.float32([1, 2, 3, 4]), W[1], np.zeros(4, np.float32), np.ones(4, np.float32))],
        ),
        single(
            "Attention", [["batch", "time", 4]] * 3,
            lambda q, k, v: softmax(np.einsum("btd,bsd->bts", q, k) / 2) @ v, TEXTS, q_num_heads=1, kv_num_heads=1, opset=23, ir=11,
        ),
    ]  # fmt: skip


CONV = others.numbers(5, 4, 3, seed=4)


def shapes():
    """Operators that move numbers, or say how many there are."""
    axes = lambda *values: lambda g: [g.ints(*values)]
    ids = ["batch", "time"]
    return [
        through("Gather", lambda g, n: g.node("Gather", [g.constant(W), n[0]], axis=0), [ids], lambda at: W64[at], TEXTS, kinds=["ints"]),
        single("GatherElements", [MATRIX, ["batch", 2]], lambda x, at: np.take_along_axis(x, at, 1), ["batch", 2], kinds=["reals", "ints"], axis=1),
        through(
            "GatherND", lambda g, n: g.node("GatherND", [g.constant(W), n[0]]), [["batch", 2]], lambda at: W64[at[:, 0], at[:, 1]], ["batch"], kinds=["ints"]
        ),
        through(
            "ScatterElements", lambda g, n: g.node("ScatterElements", [n[0], n[1], g.node("Slice", [n[0], g.ints(0), g.ints(1), g.ints(1)])], axis=1),
            [MATRIX, ["batch", 1]], scattered, MATRIX, kinds=["reals", "ints"],
        ),
        through(
            "ScatterND", lambda g, n: g.node("ScatterND", [n[0], g.constant(np.array([[1]], np.int64)), g.constant(W[:1])]), [MATRIX],
            lambda x: np.concatenate([x[:1], W64[:1], x[2:]]), MATRIX,
        ),
        single("Slice", [TEXTS], lambda x: x[:, -1:], ["batch", 1, 4], lambda g: [g.ints(-1), g.ints(2**31 - 1), g.ints(1), g.ints(1)]),
        single("Concat", [MATRIX, MATRIX], lambda a, b: np.concatenate([a, b], 1), ["batch", 8], axis=1),
        through("Split", lambda g, n: g.node("Split", [n[0], g.ints(1, 3)], ["a", "b"], axis=1)[1], [MATRIX], lambda x: x[:, 1:], ["batch", 3]),
        single("Reshape", [TEXTS], lambda x: x.reshape(len(x), -1, 2), ["batch", None, 2], axes(0, -1, 2)),
        single("Squeeze", [["batch", 1, 4]], lambda x: x[:, 0], MATRIX, axes(1)),
        single("Unsqueeze", [MATRIX], lambda x: x[:, None], ["batch", 1, 4], axes(1)),
        single("Flatten", [["batch", 2, 4]], lambda x: x.reshape(len(x), 8), ["batch", 8], axis=1),
        single("Transpose", [TEXTS], lambda x: x.transpose(1, 0, 2), ["time", "batch", 4], perm=[1, 0, 2]),
        through(
            "Expand", lambda g, n: g.node("Expand", [g.constant(W[:1]), shape_of(g, n[0], 4)]), [MATRIX], lambda x: np.repeat(W64[:1], len(x), 0), MATRIX
        ),
        single("Tile", [MATRIX], lambda x: np.tile(x, (1, 2)), ["batch", 8], axes(1, 2)),
        single("Pad", [TEXTS], lambda x: np.pad(x, ((0, 0), (0, 0), (0, 2))), ["batch", "time", 6], axes(0, 0, 0, 0, 0, 2)),
        through("Shape", lambda g, n: as_float(g, g.node("Shape", [n[0]])), [TEXTS], lambda x: x.shape, [3]),
        through("Size", lambda g, n: as_float(g, g.node("Size", [n[0]])), [TEXTS], lambda x: x.size, []),
        through(
            "Range", lambda g, n: as_float(g, g.node("Range", [g.constant(np.int64(0)), length(g, n[0]), g.constant(np.int64(1))])), [ids],
            lambda at: np.arange(at.shape[1]), ["time"], kinds=["ints"],
        ),
        through(
            "ConstantOfShape", lambda g, n: g.node("ConstantOfShape", [shape_of(g, n[0], 4)], value=zero_value(2.5)), [MATRIX],
            lambda x: np.full(x.shape, 2.5), MATRIX,
        ),
        through("Constant", lambda g, n: g.node("Add", [n[0], g.node("Constant", [], value=numpy_helper.from_array(W[0], "w"))]), [MATRIX], lambda x: x + W64[0], MATRIX),
        through("OneHot", lambda g, n: g.node("OneHot", [n[0], g.constant(np.int64(4)), g.constant(np.float32([0, 1]))], axis=-1), [ids], lambda at: np.eye(4)[at], TEXTS, kinds=["ints"]),
        through("NonZero", lambda g, n: as_float(g, g.node("NonZero", [g.node("Abs", [n[0]])])), [MATRIX], lambda x: np.array(np.nonzero(x)), [2, None]),
        through("EyeLike", lambda g, n: g.node("EyeLike", [n[0]]), [MATRIX], lambda x: np.eye(*x.shape), MATRIX),
        single("Trilu", [["batch", 4, 4]], np.tril, ["batch", 4, 4], upper=0),
        single("CumSum", [MATRIX], lambda x: x.cumsum(1), MATRIX, lambda g: [g.constant(np.int64(1))]),
        through("ReverseSequence", lambda g, n: g.node("ReverseSequence", [n[0], n[1]], batch_axis=0, time_axis=1), [TEXTS, ["batch"]], backwards, TEXTS, kinds=["reals", "ints"]),
        through(
            "ConcatFromSequence", lambda g, n: g.node("ConcatFromSequence", [g.node("SequenceConstruct", n)], axis=1), [MATRIX, MATRIX],
            lambda a, b: np.concatenate([a, b], 1), ["batch", 8],
        ),
    ]  # fmt: skip


def length(g, value):
    """The second axis of a value, a number."""
    return g.node("Gather", [g.node("Shape", [value]), g.constant(np.int64(1))], axis=0)


def scattered(x, at):
    x = x.copy()
    np.put_along_axis(x, at, x[:, :1].copy(), 1)
    return x


def backwards(x, long):
    x = x.copy()
    for row, n in enumerate(long):
        x[row, :n] = x[row, :n][::-1]
    return x


def reductions():
    made = [single(name, [TEXTS], right, ["batch", "time"], axes=[-1], keepdims=0) for name, right in REDUCING.items()]
    made += [
        single("ReduceSum", [TEXTS], lambda x: x.sum(-1), ["batch", "time"], lambda g: [g.ints(-1)], keepdims=0),
        through("ArgMax", lambda g, n: as_float(g, g.node("ArgMax", [n[0]], axis=-1, keepdims=0)), [TEXTS], lambda x: x.argmax(-1), ["batch", "time"]),
        through("ArgMin", lambda g, n: as_float(g, g.node("ArgMin", [n[0]], axis=-1, keepdims=0)), [TEXTS], lambda x: x.argmin(-1), ["batch", "time"]),
        through("TopK", lambda g, n: g.node("TopK", [n[0], g.ints(2)], ["best", "places"], axis=-1)[0], [MATRIX], lambda x: -np.sort(-x)[:, :2], ["batch", 2]),
        single(
            "NegativeLogLikelihoodLoss", [["batch", 6], ["batch"]], lambda x, at: -x[np.arange(len(x)), at].mean(), [], kinds=["reals", "ints"]
        ),
    ]  # fmt: skip
    return made


def quantised():
    scale, zero = np.float32(1 / 50), np.uint8(100)
    steps = lambda x: np.clip(np.round(x / np.float64(scale)) + 100, 0, 255)
    to_bytes = lambda g, x: g.node("QuantizeLinear", [x, g.constant(scale), g.constant(zero)])
    ints = lambda g, x: g.node("Cast", [x], to=TensorProto.UINT8)
    whole = np.random.default_rng(1).integers(-60, 60, (4, 4)).astype(np.int8)
    return [
        # Half a step falls either way by how a runtime rounds; the sums of steps are compared.
        through("QuantizeLinear", lambda g, n: as_float(g, to_bytes(g, n[0])), [MATRIX], steps, MATRIX),
        through(
            "DequantizeLinear", lambda g, n: g.node("DequantizeLinear", [ints(g, n[0]), g.constant(scale), g.constant(zero)]), [MATRIX],
            lambda x: (x - 100) * np.float64(scale), MATRIX, kinds=["ints"],
        ),
        through(
            "DynamicQuantizeLinear", lambda g, n: g.node("Mul", [as_float(g, g.node("DynamicQuantizeLinear", [n[0]], ["bytes", "step", "zero"])[0]), "step"]),
            [MATRIX], dynamic_steps, MATRIX, tolerance=2e-2,
        ),
        through(
            "MatMulInteger", lambda g, n: as_float(g, g.node("MatMulInteger", [ints(g, n[0]), g.constant(whole)])), [MATRIX], lambda x: x @ whole.astype(np.int64),
            MATRIX, kinds=["ints"],
        ),
    ]  # fmt: skip


def dynamic_steps(x):
    low, high = min(0.0, x.min()), max(0.0, x.max())
    step = (high - low) / 255
    return np.clip(np.round(x / step) + np.round(-low / step), 0, 255) * step


def named(name, case):
    """A rule's graph as that of its operator."""
    case.rule, case.case, case.fix = "operator", name, None
    return case


def cases(form):
    made = [make(form) for part in (elementwise_operators, products, shapes, reductions, quantised) for make in part()]
    made += [named(op, recurrent.case(op.lower(), op, form, op)) for op in ("LSTM", "GRU", "RNN")]
    made += [
        named("Scan", others.scan(form, "all steps")),
        named("Loop", others.loop(form, "trips constant")),
        named("If", others.branch(form, "computed condition")),
        named("SoftmaxCrossEntropyLoss", others.cross_entropy(form, "mean")),
    ]
    return made

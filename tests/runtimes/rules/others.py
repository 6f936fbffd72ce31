"""Graphs of the rules that are about other operators, and about how a file is written."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from . import cells, recurrent
from .graphs import BATCH, HIDDEN, INPUTS, TIME, VOCABULARY, Case, Graph, ids, lengths, sizes

FLOAT, HALF, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
# Where slowness shows: rows of a search, and a vocabulary.
ROWS, WORDS, WIDE = 64, 3000, 64
OPSETS = range(7, 25)


def numbers(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed + sum(shape)).uniform(-scale, scale, shape).astype(np.float32)


def plain(rule, name, form, build, feeds, **options):
    """A case whose graph `build` writes; `feeds(batch, time)` gives the inputs and what is right."""
    graph = Graph(form, f"{rule} {name}", options.pop("opset", 17), options.pop("ir", 8))
    build(graph)
    shapes = options.pop("sizes", sizes(form))
    return Case(rule, name, form, graph.model(), [feeds(batch, time) for batch, time in shapes], **options)


def rows_of_scores(form, rule, last, right, name, wanted=None, quantised=False, **options):
    """Scores of a vocabulary for some rows, and what `last` makes of them; the fix reads the largest alone."""
    rng = np.random.default_rng(3)
    table, weights = rng.uniform(-1, 1, (40, WIDE)).astype(np.float32), rng.uniform(-1, 1, (WIDE, WORDS)).astype(np.float32)
    rows = np.arange(ROWS) % 40

    def graph(build):
        g = Graph(form, rule)
        g.inputs.append(helper.make_tensor_value_info("ids", INT64, ["batch" if form == "symbolic" else ROWS]))
        build(g, g.node("Gather", [g.constant(table), "ids"], axis=0), weights)
        g.outputs = [helper.make_tensor_value_info(value.name, FLOAT, ["batch" if form == "symbolic" else ROWS, width]) for value, width in g.outputs]
        return g.model()

    def largest(g, x, w):
        scores = g.node("MatMul", [x, g.constant(w)])
        g.outputs.append((helper.make_tensor_value_info(g.node("ReduceMax", [scores], "largest", axes=[1], keepdims=1), FLOAT, None), 1))

    return Case(rule, name, form, graph(last), [({"ids": rows}, right(table[rows], weights))], fix=graph(largest), **options)


def out(g, name, width):
    g.outputs.append((helper.make_tensor_value_info(name, FLOAT, None), width))


def topk(form):
    def last(g, x, w):
        g.node("TopK", [g.node("MatMul", [x, g.constant(w)]), g.ints(5)], ["best", "places"], axis=1)
        g.node("Cast", ["places"], "words", to=FLOAT)
        out(g, "best", 5)
        out(g, "words", 5)

    def right(x, w):
        scores = x.astype(np.float64) @ w.astype(np.float64)
        places = np.argsort(-scores, 1, kind="stable")[:, :5]
        return {"best": np.take_along_axis(scores, places, 1), "words": places.astype(np.float64)}

    return rows_of_scores(form, "topk", last, right, "TopK")


def matmul_integer(form, bits):
    """What quantize_dynamic writes: rows in 8 bits as they come, weights in `bits`."""
    top = 127 if bits == 8 else 63

    def whole(w):
        scale = np.float32(np.abs(w).max() / top)
        return np.round(w / scale).astype(np.int8), scale

    def last(g, x, w):
        weights, scale = whole(w)
        g.node("DynamicQuantizeLinear", [x], ["bytes", "scale", "zero"])
        sums = g.node("Cast", [g.node("MatMulInteger", ["bytes", g.constant(weights), "zero"])], to=FLOAT)
        scores = g.node("Mul", [sums, g.node("Mul", ["scale", g.constant(scale)])])
        out(g, g.node("ReduceMax", [scores], "largest", axes=[1], keepdims=1), 1)

    def right(x, w):
        weights, scale = whole(w)
        low, high = min(0, x.min()), max(0, x.max())
        step = np.float32((high - low) / np.float32(255))
        zero = np.clip(np.round(-low / step), 0, 255)
        quantised = np.clip(np.round(x / step) + zero, 0, 255).astype(np.int64) - int(zero)
        return {"largest": (quantised @ weights.astype(np.int64)).max(1, keepdims=True) * np.float64(step) * np.float64(scale)}

    # A rounding at the middle between two steps of the rows' quantisation may fall either way.
    return rows_of_scores(form, "matmul-integer", last, right, f"{bits} bits", tolerance=1e-2)


def log_softmax(form, name, spread):
    def build(g):
        g.node("LogSoftmax", [g.input("x", ["batch", 6])], "logp", axis=-1)
        g.output("logp", ["batch", 6])

    def feeds(batch, time):
        x = numbers(batch, 6, scale=spread)
        wide = x.astype(np.float64)
        top = wide.max(-1, keepdims=True)
        return {"x": x}, {"logp": wide - top - np.log(np.exp(wide - top).sum(-1, keepdims=True))}

    return plain("log-softmax", name, form, build, feeds)


def cross_entropy(form, reduction):
    def build(g):
        g.node("SoftmaxCrossEntropyLoss", [g.input("x", ["batch", 6]), g.input("target", ["batch"], INT64)], "loss", reduction=reduction)
        g.output("loss", ["batch"] if reduction == "none" else [])

    def feeds(batch, time):
        x, target = numbers(batch, 6, scale=3), np.arange(batch) % 6
        logp = np.log(cells.softmax(x.astype(np.float64)))
        loss = -logp[np.arange(batch), target]
        return {"x": x, "target": target}, {"loss": loss if reduction == "none" else np.array(loss.mean())}

    return plain("cross-entropy", reduction, form, build, feeds)


def scan(form, name):
    """A tanh cell over the steps: its last state, or its states; `masked` keeps the state at padding."""
    w, r = numbers(INPUTS, HIDDEN, seed=1), numbers(HIDDEN, HIDDEN, seed=2)
    masked = name == "masked"

    def build(g):
        x = g.node("Transpose", [g.input("x", ["batch", "time", INPUTS])], perm=[1, 0, 2])
        h = g.input("h0", ["batch", HIDDEN])
        body = Graph(g.form, "body")
        body.input("h", ["batch", HIDDEN])
        body.input("x_t", ["batch", INPUTS])
        scanned = [x]
        new = body.node("Tanh", [body.node("Add", [body.node("MatMul", ["x_t", g.constant(w)]), body.node("MatMul", ["h", g.constant(r)])])])
        if masked:
            scanned.append(g.node("Unsqueeze", [g.node("Transpose", [g.input("mask", ["batch", "time"])], perm=[1, 0]), g.ints(2)]))
            body.input("m_t", ["batch", 1])
            kept = body.node("Sub", [body.constant(np.float32(1), "one"), "m_t"])
            new = body.node("Add", [body.node("Mul", ["m_t", new]), body.node("Mul", [kept, "h"])])
        body.output("h_next", ["batch", HIDDEN], new)
        body.output("h_step", ["batch", HIDDEN], new)
        g.node("Scan", [h, *scanned], ["last", "steps"], body=body.body(), num_scan_inputs=len(scanned))
        if name == "all steps":
            g.output("all", ["batch", "time", HIDDEN], g.node("Transpose", ["steps"], perm=[1, 0, 2]))
        g.output("last", ["batch", HIDDEN])

    def feeds(batch, time):
        x, h0 = numbers(batch, time, INPUTS), numbers(batch, HIDDEN, seed=3)
        mask = (np.arange(time) < lengths(batch, time)[:, None]).astype(np.float32) if masked else np.ones((batch, time), np.float32)
        h, steps = h0.astype(np.float64), []
        for t in range(time):
            new = np.tanh(x[:, t].astype(np.float64) @ w + h @ r.astype(np.float64))
            h = np.where(mask[:, t, None] > 0, new, h)
            steps.append(h)
        feed = {"x": x, "h0": h0, **({"mask": mask} if masked else {})}
        return feed, {"last": h, **({"all": np.stack(steps, 1)} if name == "all steps" else {})}

    return plain("scan", name, form, build, feeds)


def loop(form, name):
    """h = tanh(h R), so often as the case says."""
    r = numbers(HIDDEN, HIDDEN, seed=2, scale=1.5)

    def build(g):
        h = g.input("h0", ["batch", HIDDEN])
        body = Graph(g.form, "body")
        body.input("i", [], INT64)
        body.input("go", [], BOOL)
        body.input("h", ["batch", HIDDEN])
        new = body.node("Tanh", [body.node("MatMul", ["h", g.constant(r)])])
        if name == "condition":
            # Goes on while the step is below 3.
            body.output("go_on", [], body.node("Less", ["i", body.constant(np.int64(3), "three")]), BOOL)
        else:
            body.output("go_on", [], "go", BOOL)
        body.output("h_next", ["batch", HIDDEN], new)
        given = ["last"]
        if name == "all steps":
            body.output("h_step", ["batch", HIDDEN], new)
            given.append("steps")
        trips = g.constant(np.int64(TIME))
        if name == "trips from a shape":
            trips = g.node("Squeeze", [g.node("Gather", [g.node("Shape", [g.input("ids", ["batch", "time"], INT64)]), g.ints(1)], axis=0), g.ints(0)])
        g.node("Loop", [trips, g.constant(np.bool_(True)), h], given, body=body.body())
        g.output("last", ["batch", HIDDEN])
        if name == "all steps":
            g.output("all", ["batch", TIME, HIDDEN], g.node("Transpose", ["steps"], perm=[1, 0, 2]))

    def feeds(batch, time):
        h0 = numbers(batch, HIDDEN, seed=3)
        trips = {"condition": 4, "trips from a shape": time}.get(name, TIME)
        h, steps = h0.astype(np.float64), []
        for _ in range(trips):
            h = np.tanh(h @ r.astype(np.float64))
            steps.append(h)
        feed = {"h0": h0, **({"ids": ids(batch, time)} if name == "trips from a shape" else {})}
        return feed, {"last": h, **({"all": np.stack(steps, 1)} if name == "all steps" else {})}

    return plain("loop", name, form, build, feeds)


def branch(form, name):
    def build(g):
        x = g.input("x", ["batch", 4])
        branches = []
        for op, number in (("Mul", 2), ("Sub", 1)):
            body = Graph(g.form, op)
            body.output(f"{op}_out", ["batch", 4], body.node(op, [x, body.constant(np.float32(number), f"{op}_number")], f"{op}_value"))
            branches.append(body.body(op))
        if name == "constant condition":
            condition = g.constant(np.bool_(True))
        else:
            condition = g.node("Greater", [g.node("ReduceSum", [x], keepdims=0), g.constant(np.float32(0))])
        g.node("If", [condition], "y", then_branch=branches[0], else_branch=branches[1])
        g.output("y", ["batch", 4])

    def feeds(batch, time, sign=1):
        x = sign * np.abs(numbers(batch, 4))
        return {"x": x}, {"y": x.astype(np.float64) * 2 if sign > 0 or name == "constant condition" else x.astype(np.float64) - 1}

    made = plain("if", name, form, build, feeds)
    made.feeds.append(feeds(BATCH, TIME, -1))
    return made


def gather_nd(form):
    def build(g):
        g.node("GatherND", [g.input("x", ["batch", "time", 4]), g.input("at", ["batch", 2], INT64)], "last")
        g.output("last", ["batch", 4])

    def feeds(batch, time):
        x, last = numbers(batch, time, 4), lengths(batch, time) - 1
        return {"x": x, "at": np.stack([np.arange(batch), last], 1)}, {"last": x[np.arange(batch), last].astype(np.float64)}

    return plain("gather-nd", "last step", form, build, feeds)


def dequantize(form, rule, name, user, kind=np.int8, zero=0, per_axis=False):
    """Weights in 8 bits behind DequantizeLinear, read by MatMul, Gather or Gemm."""
    rows = VOCABULARY if user == "Gather" else 16
    exact = numbers(rows, 8, seed=5)
    scale = (np.abs(exact).max(0 if per_axis else None) / 127).astype(np.float32)
    whole = np.clip(np.round(exact / scale) + zero, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)
    values = (whole.astype(np.float64) - zero) * scale.astype(np.float64)

    def build(g):
        zeros = g.constant(np.full(scale.shape, zero, kind))
        weights = g.node("DequantizeLinear", [g.constant(whole), g.constant(scale), zeros], axis=1)
        if user == "Gather":
            g.output("y", ["batch", "time", 8], g.node("Gather", [weights, g.input("ids", ["batch", "time"], INT64)], axis=0))
        else:
            g.output("y", ["batch", 8], g.node(user, [g.input("x", ["batch", 16]), weights]))

    def feeds(batch, time):
        if user == "Gather":
            return {"ids": ids(batch, time)}, {"y": values[ids(batch, time)]}
        x = numbers(batch, 16)
        return {"x": x}, {"y": x.astype(np.float64) @ values}

    return plain(rule, name, form, build, feeds)


def qdq(form):
    """Activations through QuantizeLinear and DequantizeLinear, as static quantisation writes them."""
    weights = numbers(16, 8, seed=5)
    w_scale, x_scale, zero = np.float32(np.abs(weights).max() / 127), np.float32(1 / 100), 128
    whole = np.round(weights / w_scale).astype(np.int8)

    def build(g):
        scales = [g.constant(x_scale), g.constant(np.uint8(zero))]
        x = g.node("DequantizeLinear", [g.node("QuantizeLinear", [g.input("x", ["batch", 16]), *scales]), *scales])
        w = g.node("DequantizeLinear", [g.constant(whole), g.constant(w_scale), g.constant(np.int8(0))])
        g.output("y", ["batch", 8], g.node("MatMul", [x, w]))

    def feeds(batch, time):
        # Numbers that lie on the steps but for a quarter of one, so that rounding is no question.
        steps = np.random.default_rng(batch).integers(-100, 100, (batch, 16))
        x = ((steps + 0.25) / 100).astype(np.float32)
        return {"x": x}, {"y": (steps * np.float64(x_scale)) @ (whole.astype(np.float64) * np.float64(w_scale))}

    return plain("qdq", "MatMul", form, build, feeds)


def linear(rule, name, form, change=None, wrap=None, opset=17, ir=8, tolerance=1e-5, **options):
    """x W + b; `wrap(graph, weights)` says how the weights are read, `change(model)` rewrites the file."""
    weights, bias = numbers(16, 8, seed=5), numbers(8, seed=6)
    kept = weights.astype(np.float16).astype(np.float64) if wrap else weights.astype(np.float64)

    def build(g):
        x = g.input("x", ["batch", 16])
        if wrap == "f16":
            x = g.node("Cast", [x], to=HALF)
            product = g.node("Add", [g.node("MatMul", [x, g.constant(weights.astype(np.float16))]), g.constant(bias.astype(np.float16))])
            g.output("y", ["batch", 8], g.node("Cast", [product], to=FLOAT))
            return
        w = g.node("Cast", [g.constant(weights.astype(np.float16))], to=FLOAT) if wrap else g.constant(weights)
        product = g.node("MatMul", [x, w], "product")
        g.output("y", ["batch", 8], g.node("Add", [product, g.constant(bias)]))

    def feeds(batch, time):
        x = numbers(batch, 16)
        return {"x": x}, {"y": x.astype(np.float64) @ kept + bias.astype(np.float64)}

    made = plain(rule, name, form, build, feeds, opset=opset, ir=ir, tolerance=tolerance, **options)
    if change:
        change(made.model)
    return made


def typed(model, kinds=(FLOAT,)):
    """Moves numbers from raw_data to the field of their type."""
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        tensor.ClearField("raw_data")
        field = tensor.float_data if tensor.data_type == FLOAT else tensor.int64_data
        field.extend(array.ravel().tolist())


def written_types(model):
    """Writes the types of all values in between down, with symbols for the axes, as exporters leave them behind."""
    free = onnx.ModelProto.FromString(model.SerializeToString())
    for axis, symbol in zip(free.graph.input[0].type.tensor_type.shape.dim, ("batch", "time")):
        axis.dim_param = symbol
    inferred = onnx.shape_inference.infer_shapes(free).graph.value_info
    model.graph.value_info.extend(inferred)


def file_rules(form):
    def dead(model):
        model.graph.input.append(helper.make_tensor_value_info("lengths", INT64, ["batch" if form == "symbolic" else BATCH]))

    def symbols(model):
        model.graph.value_info.append(helper.make_tensor_value_info("product", FLOAT, ["batch", 8]))

    made = [
        linear("typed-data", "float_data", form, typed),
        linear("external-data", "MatMul", form, external=1),
        linear("value-info", "symbols", form, symbols),
        linear("dead-input", "int64", form, dead),
        linear("f16", "weights through Cast", form, wrap="Cast"),
        # Sums of 16 products of numbers below 1, rounded to 11 bits each time.
        linear("f16", "arithmetic", form, wrap="f16", tolerance=1e-2),
    ]
    for feed, _ in made[3].feeds:
        feed["lengths"] = np.full(len(feed["x"]), 4)
    for rule, change in (("typed-data", typed), ("value-info", written_types)):
        for op in ("LSTM", "GRU"):
            whole = recurrent.case(rule, op, form, op)
            change(whole.model)
            made.append(whole)
    return made


def opsets(form):
    """The same sum, and the LSTM operator, in every version of the standard operators."""
    made = []
    for opset in OPSETS:
        # Below 4 an initialiser must be an input too, which is another matter.
        ir = max(4, helper.find_min_ir_version_for([helper.make_opsetid("", opset)], ignore_unknown=True))
        made.append(linear("opset", f"opset {opset}, IR {ir}", form, opset=opset, ir=ir))
        if form == "static" or opset >= 9:
            made.append(recurrent.case("opset", f"LSTM, opset {opset}, IR {ir}", form, opset=opset, ir=ir))
    for opset, ir in ((17, 9), (17, 10), (17, 11), (17, 12), (17, 13)):
        made.append(linear("opset", f"opset {opset}, IR {ir}", form, opset=opset, ir=ir))
    return made


def fixed(axis):
    """Axes that are numbers in the file, fed with another number; the other axis is free."""

    def build(g):
        g.form = "symbolic"
        axes = [BATCH if axis == "batch" else "batch", TIME if axis == "time" else "time"]
        x = g.node("Gather", [g.constant(numbers(VOCABULARY, INPUTS)), g.input("ids", axes, INT64)], axis=0)
        g.output("y", [*axes, HIDDEN], g.node("Tanh", [g.node("MatMul", [x, g.constant(numbers(INPUTS, HIDDEN, seed=1))])]))

    def feeds(batch, time):
        x = numbers(VOCABULARY, INPUTS).astype(np.float64)[ids(batch, time)]
        return {"ids": ids(batch, time)}, {"y": np.tanh(x @ numbers(INPUTS, HIDDEN, seed=1).astype(np.float64))}

    other = (2, TIME) if axis == "batch" else (BATCH, 7)
    return plain("fixed-axes", axis, "static", build, feeds, sizes=[other])


def unrolled(form, op, name, shapes):
    """A cell written out once a step, for as many steps as the file was made with."""
    gates = cells.GATES[op]
    table, w = numbers(VOCABULARY, INPUTS), numbers(1, gates * HIDDEN, INPUTS, seed=1, scale=0.6)
    r, b = numbers(1, gates * HIDDEN, HIDDEN, seed=2, scale=0.6), numbers(1, 2 * gates * HIDDEN, seed=3, scale=0.6)

    def build(g):
        x = g.node("Gather", [g.constant(table), g.input("ids", ["batch", "time"], INT64)], axis=0)
        h = c = g.node("Mul", [g.node("MatMul", [g.node("Gather", [x, g.constant(np.int64(0))], axis=1), g.constant(numbers(INPUTS, HIDDEN))]), g.constant(np.float32(0))])
        wt, rt = g.constant(np.ascontiguousarray(w[0].T)), g.constant(np.ascontiguousarray(r[0].T))
        wb, rb = (g.constant(part) for part in np.split(b[0], 2))
        split = g.ints(*[HIDDEN] * gates)
        for t in range(TIME):
            own = g.node("Add", [g.node("MatMul", [g.node("Gather", [x, g.constant(np.int64(t))], axis=1), wt]), wb])
            past = g.node("Add", [g.node("MatMul", [h, rt]), rb])
            if op == "LSTM":
                i, o, f, new = g.node("Split", [g.node("Add", [own, past]), split], [f"{k}{t}" for k in "iofg"], axis=1)
                i, o, f = (g.node("Sigmoid", [gate]) for gate in (i, o, f))
                c = g.node("Add", [g.node("Mul", [f, c]), g.node("Mul", [i, g.node("Tanh", [new])])])
                h = g.node("Mul", [o, g.node("Tanh", [c])])
            else:
                xs, hs = (g.node("Split", [side, split], [f"{k}{n}{t}" for k in "zrn"], axis=1) for n, side in (("x", own), ("h", past)))
                z, reset = (g.node("Sigmoid", [g.node("Add", [xs[at], hs[at]])]) for at in (0, 1))
                n = g.node("Tanh", [g.node("Add", [xs[2], g.node("Mul", [reset, hs[2]])])])
                h = g.node("Add", [n, g.node("Mul", [z, g.node("Sub", [h, n])])])
        g.output("h", ["batch", HIDDEN], h)

    def feeds(batch, time):
        rows = ids(batch, time)
        x = table.astype(np.float64)[rows].transpose(1, 0, 2)
        _, h, _ = cells.recurrent(op, x, *(array.astype(np.float64) for array in (w, r, b)), reset_after=True)
        return {"ids": rows}, {"h": h[0]}

    return plain("unrolled", f"{op}, {name}", form, build, feeds, sizes=shapes)


def cases(form):
    made = [topk(form), matmul_integer(form, 8), matmul_integer(form, 7)]
    made += [log_softmax(form, "near logits", 3.0), log_softmax(form, "far logits", 200.0)]
    made += [cross_entropy(form, reduction) for reduction in ("mean", "none")]
    made += [scan(form, name) for name in ("last state", "all steps", "masked")]
    made += [loop(form, name) for name in ("trips constant", "trips from a shape", "condition", "all steps")]
    made += [branch(form, name) for name in ("constant condition", "computed condition")]
    made += [gather_nd(form), qdq(form)]
    made += [
        dequantize(form, "dequantize", "Gather, int8", "Gather"),
        dequantize(form, "dequantize", "Gather, uint8", "Gather", np.uint8, 128),
        dequantize(form, "dequantize-matmul", "Gemm, int8", "Gemm"),
        dequantize(form, "dequantize-matmul", "MatMul, uint8", "MatMul", np.uint8, 128),
        dequantize(form, "dequantize-matmul", "int8", "MatMul"),
        dequantize(form, "dequantize-matmul", "int8, a scale a column", "MatMul", per_axis=True),
    ]
    made += file_rules(form) + opsets(form)
    if form == "static":
        made += [fixed("batch"), fixed("time")]
    for op in ("LSTM", "GRU"):
        made.append(unrolled(form, op, "its own length", [(BATCH, TIME)]))
        made.append(unrolled(form, op, "another length", [(BATCH, 7)]))
    return made

"""Graphs around one LSTM, GRU or RNN operator: a rule at a time, all else as every runtime takes it."""

import numpy as np
from onnx import TensorProto

from . import cells
from .graphs import BATCH, HIDDEN, INPUTS, TIME, VOCABULARY, Case, Graph, ids, lengths, ragged, sizes

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


def state_zeros(graph, x, directions, batch_axis=1, value=True):
    """A state of zeros (directions, batch, hidden): a constant, or computed from the shape of X where the batch is free."""
    if graph.form == "static":
        return graph.constant(np.zeros((directions, BATCH, HIDDEN), np.float32))
    batch = graph.node("Gather", [graph.node("Shape", [x]), graph.ints(batch_axis)], axis=0)
    shape = graph.node("Concat", [graph.ints(directions), batch, graph.ints(HIDDEN)], axis=0)
    filled = {"value": zero()} if value else {}
    return graph.node("ConstantOfShape", [shape], **filled)


def zero():
    from onnx import numpy_helper

    return numpy_helper.from_array(np.zeros(1, np.float32), "value")


def stored(graph, array, kind):
    """A weight tensor as the operator reads it, and the numbers that it stands for."""
    if kind is None:
        return graph.constant(array.astype(np.float32)), array.astype(np.float32).astype(np.float64)
    if kind == "Cast":
        half = array.astype(np.float16)
        return graph.node("Cast", [graph.constant(half)], to=FLOAT), half.astype(np.float64)
    scale = np.float32(np.abs(array).max() / 127)
    whole = np.round(array / scale).astype(np.int8)
    name = graph.node("DequantizeLinear", [graph.constant(whole), graph.constant(scale), graph.constant(np.int8(0))])
    return name, whole.astype(np.float64) * np.float64(scale)


def case(
    rule, name, form, op="LSTM", *, bias=True, state="zeros", lens=None, direction="forward", reads="states", attributes=None, activations=None,
    alphas=(), betas=(), clip=None, peephole=False, coupled=False, reset_after=True, layout=0, kind=None, concat=False, scale=0.6, value=True,
    padded=False, opset=17, ir=8, embed="ids", tolerance=1e-5,
):  # fmt: skip
    """One recurrent operator.

    - `state`: zeros; none (left out); fed (inputs of the graph); one (a constant of batch 1); first (h alone).
    - `lens`: input, constant, equal (a constant, all as long as the texts) or computed (from the ids).
    - `reads`: states, all (Y) or both.
    - `kind`: Cast or DequantizeLinear, what the weights come through.
    - `padded`: texts of unequal length, padded on the right, and nothing says so; right is each text alone.
    """
    graph = Graph(form, f"{rule} {name}", opset, ir)
    directions = 2 if direction == "bidirectional" else 1
    gates = cells.GATES[op]
    table = graph.draw.uniform(-1, 1, (VOCABULARY, INPUTS)).astype(np.float32)
    text = graph.input("ids", ["batch", "time"], INT64)
    embedded = graph.node("Gather", [graph.constant(table, "embedding"), text], axis=0)
    x = embedded if layout else graph.node("Transpose", [embedded], perm=[1, 0, 2])
    inputs = INPUTS
    if concat:
        # A channel that is 1 at every token, as a column of the bias has it.
        ones = graph.axes_node("Unsqueeze", graph.node("Cast", [graph.node("Transpose", [text], perm=[1, 0])], to=FLOAT), [2])
        x, inputs = graph.node("Concat", [x, ones], axis=2), INPUTS + 1
    drawn = lambda *shape: graph.draw.uniform(-scale, scale, shape)
    w, w_numbers = stored(graph, drawn(directions, gates * HIDDEN, inputs), kind)
    r, r_numbers = stored(graph, drawn(directions, gates * HIDDEN, HIDDEN), kind)
    b, b_numbers = stored(graph, drawn(directions, 2 * gates * HIDDEN), None) if bias else ("", None)
    wired = [x, w, r, b, "", "", "", ""]
    if lens == "input":
        wired[4] = graph.input("lengths", ["batch"], INT32)
    elif lens in ("constant", "equal"):
        wired[4] = graph.constant((np.full(BATCH, TIME) if lens == "equal" else lengths(BATCH, TIME)).astype(np.int32))
    elif lens == "computed":
        marks = graph.node("Cast", [graph.node("Greater", [text, graph.constant(np.int64(0))])], to=INT32)
        wired[4] = graph.node("ReduceSum", [marks, graph.ints(1)], keepdims=0)
    states = 2 if op == "LSTM" else 1
    if state == "zeros":
        zeros = state_zeros(graph, x, directions, 0 if layout else 1, value)
        # With layout=1 a state is (batch, directions, hidden).
        wired[5] = graph.node("Transpose", [zeros], perm=[1, 0, 2]) if layout else zeros
        if states == 2:
            wired[6] = wired[5]
    initial = [None, None]
    if state == "one":
        for at in range(states):
            wired[5 + at], initial[at] = graph.weights(directions, 1, HIDDEN, scale=0.9)
    elif state == "first":
        wired[5] = state_zeros(graph, x, directions)
    elif state == "fed":
        for at, fed in enumerate(["h0", "c0"][:states]):
            wired[5 + at] = graph.axes_node("Unsqueeze", graph.input(fed, ["batch", HIDDEN]), [0])
    peephole_numbers = None
    if peephole:
        wired[7], peephole_numbers = graph.weights(directions, 3 * HIDDEN, scale=0.9)
    while not wired[-1]:
        wired.pop()
    set_ = {"hidden_size": HIDDEN, "direction": direction} if direction != "forward" else {"hidden_size": HIDDEN}
    if clip:
        set_["clip"] = clip
    if activations:
        set_["activations"] = list(activations) * directions
        if alphas:
            set_["activation_alpha"] = list(alphas) * directions
        if betas:
            set_["activation_beta"] = list(betas) * directions
    if coupled:
        set_["input_forget"] = 1
    if op == "GRU" and reset_after:
        set_["linear_before_reset"] = 1
    if layout:
        set_["layout"] = 1
    names = ["y", "yh", "yc"][: states + 1]
    if reads == "states":
        names[0] = ""
    elif reads == "all":
        names = ["y"]
    graph.node(op, wired, names, **set_, **(attributes or {}))
    wide = directions * HIDDEN
    if reads != "all":
        for out, raw in zip(["h", "c"], names[1:]):
            if directions == 1:
                graph.axes_node("Squeeze", raw, [1 if layout else 0], out)
            else:
                graph.node("Reshape", [graph.node("Transpose", [raw], perm=[1, 0, 2]), graph.ints(-1, wide)], out)
            graph.output(out, ["batch", wide])
    if reads != "states":
        if directions == 1 and not layout:
            graph.node("Transpose", [graph.axes_node("Squeeze", "y", [1])], "all", perm=[1, 0, 2])
        elif layout:
            graph.axes_node("Squeeze", "y", [2], "all")
        else:
            graph.node("Reshape", [graph.node("Transpose", ["y"], perm=[2, 0, 1, 3]), graph.ints(0, 0, wide)], "all")
        graph.output("all", ["batch", "time", wide])

    feeds = []
    for batch, time in sizes(form):
        rows, long = ragged(batch, time) if lens or padded else (ids(batch, time), None)
        if lens == "equal":
            rows, long = ids(batch, time), None
        x_numbers = table.astype(np.float64)[rows].transpose(1, 0, 2)
        if concat:
            x_numbers = np.concatenate([x_numbers, rows.T[:, :, None].astype(np.float64)], 2)
        feed = {"ids": rows}
        if lens == "input":
            feed["lengths"] = long.astype(np.int32)
        start = list(initial)
        if state == "one":
            start = [array if array is None else np.repeat(array, batch, 1) for array in start]
        if state == "fed":
            drawn_states = np.random.default_rng(7).uniform(-0.9, 0.9, (2, batch, HIDDEN)).astype(np.float32)
            for at, fed in enumerate(["h0", "c0"][:states]):
                feed[fed], start[at] = drawn_states[at], drawn_states[at].astype(np.float64)[None]
        y, yh, yc = cells.recurrent(
            op, x_numbers, w_numbers, r_numbers, b_numbers, None if long is None else list(long), *start, peephole_numbers, direction=direction, clip=clip,
            activations=list(activations) * directions if activations else None, alphas=alphas, betas=betas, input_forget=coupled,
            reset_after=reset_after and op == "GRU",
        )  # fmt: skip
        right = {}
        flat = lambda states: states.transpose(1, 0, 2).reshape(batch, wide)
        if reads != "all":
            right["h"] = flat(yh)
            if states == 2:
                right["c"] = flat(yc)
        if reads != "states":
            right["all"] = y.transpose(2, 0, 1, 3).reshape(batch, time, wide)
        feeds.append((feed, right))
    return Case(rule, name, form, graph.model(), feeds, tolerance)


def cases(form):
    """All rules about recurrent operators."""
    made = []
    add = lambda rule, name, **options: made.append(case(rule, name, form, **options))
    both = ("LSTM", "GRU")
    for op in both:
        # What every other graph here has, and so every runtime must have: all wired, last states read.
        add(op.lower(), op, op=op)
        add(op.lower(), f"{op}, states fed", op=op, state="fed")
        add("sequence-lens", f"{op}, input", op=op, lens="input")
        add("sequence-lens-computed", f"{op}, computed", op=op, lens="computed")
        if form == "static":
            add("sequence-lens", f"{op}, constant", op=op, lens="constant")
            add("sequence-lens", f"{op}, constant, all equal", op=op, lens="equal")
        add("sequence-lens", f"{op}, input, all steps", op=op, lens="input", reads="both")
        add("initial-state", op, op=op, state="none")
        add("state-of-batch-1", op, op=op, state="one")
        add("layout", op, op=op, layout=1)
        add("layout", f"{op}, all steps", op=op, layout=1, reads="both")
        add("direction-reverse", op, op=op, direction="reverse")
        add("direction-reverse", f"{op}, all steps", op=op, direction="reverse", reads="both")
        add("bidirectional", op, op=op, direction="bidirectional")
        add("bidirectional", f"{op}, all steps", op=op, direction="bidirectional", reads="both")
        add("clip", op, op=op, clip=1.2 if op == "LSTM" else 0.3, scale=0.5)
        add("no-bias", op, op=op, bias=False)
        add("unmasked-padding", op, op=op, padded=True)
        for kind in ("Cast", "DequantizeLinear"):
            add("weights-through-cast", f"{op}, {kind}", op=op, kind=kind)
        add("concat-before-lstm", op, op=op, concat=True)
        usual = cells.USUAL[op]
        add("activations", f"{op}, spelled-out defaults", op=op, activations=usual)
        add("activations", f"{op}, HardSigmoid", op=op, activations=("HardSigmoid", *usual[1:]), scale=1.5)
        # Keras 3's: x / 6 + 0.5; Keras 2's are ONNX's own.
        add("activations", f"{op}, HardSigmoid with alpha and beta", op=op, activations=("HardSigmoid", *usual[1:]), alphas=[1 / 6], betas=[0.5], scale=1.5)
        add("activations", f"{op}, Relu", op=op, activations=(usual[0], *["Relu"] * (len(usual) - 1)))
        add("activations", f"{op}, Affine", op=op, activations=(usual[0], "Affine", *usual[2:]), alphas=[0.5], betas=[0.1])
        add("activations", f"{op}, Softsign", op=op, activations=(usual[0], *["Softsign"] * (len(usual) - 1)))
    add("rnn", "RNN", op="RNN")
    add("activations", "RNN, Relu", op="RNN", activations=("Relu",))
    add("initial-state", "LSTM, h alone", state="first")
    add("gru-reset-before", "GRU", op="GRU", reset_after=False)
    add("gru-reset-before", "GRU, all steps", op="GRU", reset_after=False, reads="both")
    add("gru-sequence-output", "GRU", op="GRU", reads="all")
    add("lstm-sequence-output", "LSTM", reads="all")
    add("input-forget", "LSTM", coupled=True)
    add("peephole", "LSTM", peephole=True)
    if form == "symbolic":
        add("shape-without-value", "LSTM", value=False)
    return made

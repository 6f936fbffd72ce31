"""Writes the small graphs that the tests of s2s-runtime run, and what they must give.

    python src/runtime/testdata/make_graphs.py        (needs numpy and onnx)

Three pairs of graphs over the same seeded weights, in the forms that bundles may have:

- ids/: int64 ids, states (batch, hidden), logits (batch, 1, symbols);
- one_hot/: float32 one-hot rows, probabilities;
- foreign/: names, order of axes and shapes of somebody else: both states in one tensor (2, batch, hidden), tokens
  (batch), probabilities (batch, symbols), a memory that every step reads, and attention weights.

golden.json holds sources with the states, the logits of teacher-forced steps and the attention weights, computed here
in float64, one text at a time and without padding.
"""

import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SOURCE, TARGET, EMBEDDING, HIDDEN = 12, 9, 5, 8
HERE = pathlib.Path(__file__).parent
random = np.random.default_rng(20260)


def normal(*shape):
    return (random.normal(size=shape) * 0.6).astype(np.float32)


# ONNX order of the gates: i, o, f, c.
table = normal(SOURCE, EMBEDDING)
table[0] = 0.0
w_encoder, r_encoder, b_encoder = normal(4 * HIDDEN, EMBEDDING), normal(4 * HIDDEN, HIDDEN), normal(4 * HIDDEN)
w_decoder, r_decoder = normal(TARGET, 4 * HIDDEN), normal(HIDDEN, 4 * HIDDEN)
w_out, b_out = normal(HIDDEN, TARGET), normal(TARGET)


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array, order="C"), name)


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def save(path, nodes, inputs, outputs, initializers):
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="make_graphs")
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def encoder_nodes(one_hot):
    """`encoder_input` to `y` (time, 1, batch, hidden), `h` and `c` (1, batch, hidden), `mask` (batch, time).

    The bias stands in the column of W that multiplies the mask, so that leading padding leaves the zero state as it is.
    """
    if one_hot:
        nodes = [
            helper.make_node("ReduceSum", ["encoder_input", "last"], ["mask"], keepdims=0),
            helper.make_node("MatMul", ["encoder_input", "table"], ["embedded"]),
        ]
    else:
        nodes = [
            helper.make_node("Greater", ["encoder_input", "pad"], ["real"]),
            helper.make_node("Cast", ["real"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Gather", ["table", "encoder_input"], ["embedded"]),
        ]
    nodes += [
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Concat", ["embedded", "column"], ["gated"], axis=2),
        helper.make_node("Transpose", ["gated"], ["x"], perm=[1, 0, 2]),
        helper.make_node("Shape", ["encoder_input"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["one", "batch", "hidden"], ["state_shape"], axis=0),
        # The value is spelled out: tract takes float64 where ONNX says that float32 is the default.
        helper.make_node("ConstantOfShape", ["state_shape"], ["zero"], value=tensor("", np.zeros(1, np.float32))),
        helper.make_node("LSTM", ["x", "W", "R", "", "", "zero", "zero"], ["y", "h", "c"], hidden_size=HIDDEN),
    ]
    initializers = [
        tensor("table", table),
        tensor("pad", np.int64(0)),
        tensor("last", np.array([-1])),
        tensor("one", np.array([1])),
        tensor("hidden", np.array([HIDDEN])),
        tensor("W", np.concatenate([w_encoder, b_encoder[:, None]], 1)[None]),
        tensor("R", r_encoder[None]),
    ]
    used = {name for node in nodes for name in node.input}
    return nodes, [i for i in initializers if i.name in used]


def cell_nodes(h, c):
    """`folded` (batch, 4 hidden), `h`, `c` (batch, hidden) to `next_h`, `next_c`, `scores` (batch, symbols)."""
    return [
        helper.make_node("MatMul", [h, "R"], ["recurrent"]),
        helper.make_node("Add", ["folded", "recurrent"], ["gates"]),
        helper.make_node("Split", ["gates", "split"], ["i", "o", "f", "g"], axis=1),
        *[helper.make_node("Sigmoid", [gate], [gate + "s"]) for gate in "iof"],
        helper.make_node("Tanh", ["g"], ["gt"]),
        helper.make_node("Mul", ["fs", c], ["kept"]),
        helper.make_node("Mul", ["is", "gt"], ["fresh"]),
        helper.make_node("Add", ["kept", "fresh"], ["next_c"]),
        helper.make_node("Tanh", ["next_c"], ["ct"]),
        helper.make_node("Mul", ["os", "ct"], ["next_h"]),
        helper.make_node("MatMul", ["next_h", "W_out"], ["projected"]),
        helper.make_node("Add", ["projected", "b_out"], ["scores"]),
    ]


CELL = [
    tensor("folded_table", w_decoder),
    tensor("R", r_decoder),
    tensor("split", np.array([HIDDEN] * 4)),
    tensor("W_out", w_out),
    tensor("b_out", b_out),
]
STATES = ["state_h_0", "state_c_0"]


def ids_and_one_hot(folder, one_hot):
    kind, extra = (TensorProto.FLOAT, lambda n: [n]) if one_hot else (TensorProto.INT64, lambda n: [])
    nodes, initializers = encoder_nodes(one_hot)
    first = tensor("first", np.array([0]))
    nodes += [helper.make_node("Squeeze", [s, "first"], [name]) for s, name in zip("hc", STATES)]
    save(
        folder / "encoder.onnx",
        nodes,
        [value("encoder_input", kind, ["batch", "source_time", *extra(SOURCE)])],
        [value(name, TensorProto.FLOAT, ["batch", HIDDEN]) for name in STATES],
        [*initializers, first],
    )
    squeeze = helper.make_node("Squeeze", ["decoder_input", "time"], ["token"])
    rows = (
        [squeeze, helper.make_node("MatMul", ["token", "folded_table"], ["folded"])]
        if one_hot
        else [squeeze, helper.make_node("Gather", ["folded_table", "token"], ["folded"])]
    )
    last = [helper.make_node("Unsqueeze", ["result", "time"], ["decoder_output"])]
    result = helper.make_node("Softmax" if one_hot else "Identity", ["scores"], ["result"])
    names = [helper.make_node("Identity", [f"next_{s}"], [f"next_state_{s}_0"]) for s in "hc"]
    save(
        folder / "decoder.onnx",
        [*rows, *cell_nodes(*STATES), result, *last, *names],
        [value("decoder_input", kind, ["batch", 1, *extra(TARGET)])]
        + [value(name, TensorProto.FLOAT, ["batch", HIDDEN]) for name in STATES],
        [value("decoder_output", TensorProto.FLOAT, ["batch", 1, TARGET])]
        + [value(f"next_{name}", TensorProto.FLOAT, ["batch", HIDDEN]) for name in STATES],
        [*CELL, tensor("time", np.array([1]))],
    )


def foreign(folder):
    nodes, initializers = encoder_nodes(False)
    nodes += [
        helper.make_node("Concat", ["h", "c"], ["both"], axis=0),
        helper.make_node("Squeeze", ["y", "one"], ["steps"]),
        helper.make_node("Transpose", ["steps"], ["hidden_states"], perm=[1, 0, 2]),
        helper.make_node("Identity", ["mask"], ["is_token"]),
    ]
    save(
        folder / "encoder.onnx",
        nodes,
        [value("encoder_input", TensorProto.INT64, ["n", "t"])],
        [
            value("both", TensorProto.FLOAT, [2, "n", HIDDEN]),
            value("hidden_states", TensorProto.FLOAT, ["n", "t", HIDDEN]),
            value("is_token", TensorProto.FLOAT, ["n", "t"]),
        ],
        initializers,
    )
    save(
        folder / "decoder.onnx",
        [
            helper.make_node("Gather", ["folded_table", "token"], ["folded"]),
            helper.make_node("Gather", ["past", "zero"], ["old_h"], axis=0),
            helper.make_node("Gather", ["past", "one"], ["old_c"], axis=0),
            *cell_nodes("old_h", "old_c"),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1),
            helper.make_node("Unsqueeze", ["next_h", "first"], ["h1"]),
            helper.make_node("Unsqueeze", ["next_c", "first"], ["c1"]),
            helper.make_node("Concat", ["h1", "c1"], ["present"], axis=0),
            helper.make_node("Unsqueeze", ["next_h", "last"], ["query"]),
            helper.make_node("MatMul", ["memory", "query"], ["raw"]),
            helper.make_node("Squeeze", ["raw", "last"], ["energy"]),
            helper.make_node("Sub", ["memory_mask", "unit"], ["absent"]),
            helper.make_node("Mul", ["absent", "large"], ["penalty"]),
            helper.make_node("Add", ["energy", "penalty"], ["masked"]),
            helper.make_node("Softmax", ["masked"], ["weights"], axis=-1),
        ],
        [
            value("token", TensorProto.INT64, ["n"]),
            value("past", TensorProto.FLOAT, [2, "n", HIDDEN]),
            value("memory", TensorProto.FLOAT, ["n", "t", HIDDEN]),
            value("memory_mask", TensorProto.FLOAT, ["n", "t"]),
        ],
        [
            value("probabilities", TensorProto.FLOAT, ["n", TARGET]),
            value("present", TensorProto.FLOAT, [2, "n", HIDDEN]),
            value("weights", TensorProto.FLOAT, ["n", "t"]),
        ],
        [
            *CELL,
            tensor("zero", np.int64(0)),
            tensor("one", np.int64(1)),
            tensor("first", np.array([0])),
            tensor("last", np.array([-1])),
            tensor("unit", np.float32(1)),
            tensor("large", np.float32(1e9)),
        ],
    )


def reverse(folder):
    """An encoder whose LSTM runs backwards."""
    nodes, initializers = encoder_nodes(False)
    nodes[-1].attribute.append(helper.make_attribute("direction", "reverse"))
    nodes[-1].name = "backward"
    save(
        folder / "encoder.onnx",
        nodes,
        [value("encoder_input", TensorProto.INT64, ["batch", 4])],
        [value(name, TensorProto.FLOAT, [1, "batch", HIDDEN]) for name in "hc"],
        initializers,
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell(pre, c):
    i, o, f, g = np.split(pre, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def golden():
    cases = []
    for length, steps in [(1, 3), (4, 2), (7, 4), (3, 1)]:
        source = random.integers(4, SOURCE, length)
        forced = random.integers(4, TARGET, steps - 1)
        h = c = np.zeros(HIDDEN)
        memory = []
        for token in source:
            pre = w_encoder.astype(float) @ table[token] + b_encoder + r_encoder.astype(float) @ h
            h, c = cell(pre, c)
            memory.append(h)
        case = {"source": source.tolist(), "h": h.tolist(), "c": c.tolist(), "forced": forced.tolist(), "logits": [], "attention": []}
        for token in [1, *forced]:
            h, c = cell(w_decoder[token].astype(float) + h @ r_decoder.astype(float), c)
            case["logits"].append((h @ w_out.astype(float) + b_out).tolist())
            energy = np.exp(np.array(memory) @ h)
            case["attention"].append((energy / energy.sum()).tolist())
        cases.append(case)
    (HERE / "golden.json").write_text(json.dumps(cases, indent=1) + "\n")


ids_and_one_hot(HERE / "ids", False)
ids_and_one_hot(HERE / "one_hot", True)
foreign(HERE / "foreign")
reverse(HERE / "reverse")
golden()

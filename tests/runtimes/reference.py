"""The network by its mathematics, in float64: what every runtime is held against.

Written from the definitions of the layers, one text at a time and without padding; no ONNX operator is interpreted and no
code of s2s is used. Only the weights are read from the graphs' initialisers.

A recurrent layer has W (gates * hidden, inputs + 1), whose last column is the bias, and R (gates * hidden, hidden).
LSTM, gates in the order i, o, f, g:  c' = f c + i g,  h' = o tanh(c').
GRU, gates in the order z, r, n, the reset gate after the product:  n = tanh(x_n + r (R_n h)),  h' = (1 - z) n + z h;
before it (`gru_reset_before`):  n = tanh(x_n + R_n (r h)).
Attention (Luong et al., arXiv 1508.04025): softmax over (h key) . memory, or h . memory; tanh([context, h] combine).
"""

import json
import struct

import numpy as np
import onnx
from onnx import helper, numpy_helper

PAD, START, END, UNK = range(4)


def weights(path):
    """Initialisers of a graph by name, float64; f16 and int8 ones as the numbers that they stand for."""
    graph = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values = {name: array.astype(np.float64) for name, array in stored.items() if array.dtype.kind == "f"}
    for node in graph.node:
        if node.op_type == "Squeeze" and node.input[0] in values and len(node.input) == 2:
            values[node.output[0]] = np.squeeze(values[node.input[0]], tuple(stored[node.input[1]]))
        if not node.input or node.input[0] not in stored:
            continue
        array = stored[node.input[0]]
        if node.op_type == "Cast":
            values[node.output[0]] = array.astype(np.float64)
        elif node.op_type == "DequantizeLinear":
            axis = {a.name: helper.get_attribute_value(a) for a in node.attribute}.get("axis", 1)
            scale, zero = (stored[name] for name in node.input[1:3])
            along = [-1 if i == axis % array.ndim else 1 for i in range(array.ndim)] if scale.ndim else []
            scale, zero = (x.astype(np.float64).reshape(along) for x in (scale, zero))
            values[node.output[0]] = (array.astype(np.float64) - zero) * scale
    return values


def checkpoint(path):
    """Tensors of a safetensors file by name, float64."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    read = lambda entry: np.frombuffer(data, "<f4", offset=8 + size + entry["data_offsets"][0], count=int(np.prod(entry["shape"])))
    return {name: read(entry).reshape(entry["shape"]).astype(np.float64) for name, entry in header.items() if entry["dtype"] == "F32"}


def sigmoid(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Layer:
    """One recurrent layer in one direction."""

    def __init__(self, cell, inputs, recurrent):
        """`inputs`: an id or a row to the gates' share of the input, bias included; `recurrent`: R, or None if `inputs` reads [x, h]."""
        self.cell, self.inputs, self.recurrent = cell, inputs, recurrent

    def step(self, x, states):
        h = states[0]
        if self.cell == "gru_reset_before":
            (xz, xr, xn), (rz, rr, rn) = np.split(self.inputs(x), 3), np.split(self.recurrent, 3)
            z, n = sigmoid(xz + rz @ h), np.tanh(xn + rn @ (sigmoid(xr + rr @ h) * h))
            return [(1 - z) * n + z * h]
        if self.recurrent is None:
            a, b = self.inputs(np.concatenate([x, h])), 0.0
        else:
            a, b = self.inputs(x), self.recurrent @ h
        if self.cell == "lstm":
            i, o, f, g = np.split(a + b, 4)
            c = sigmoid(f) * states[1] + sigmoid(i) * np.tanh(g)
            return [sigmoid(o) * np.tanh(c), c]
        (xz, xr, xn), (hz, hr, hn) = np.split(a, 3), np.split(b, 3)
        z, n = sigmoid(xz + hz), np.tanh(xn + sigmoid(xr + hr) * hn)
        return [(1 - z) * n + z * h]

    def run(self, xs, states):
        """All steps: the outputs, and the last states."""
        rows = []
        for x in xs:
            states = self.step(x, states)
            rows.append(states[0])
        return rows, states


class Reference:
    """Encoder, decoder and loss of one bundle."""

    def __init__(self, bundle, manifest):
        a = manifest["architecture"]
        self.manifest, self.cell, self.hidden, self.layers = manifest, a["cell"], a["hidden"], a["layers"]
        self.bidirectional, self.attention, self.tied = a["bidirectional"], a["attention"], a["tied_embeddings"]
        load = lambda role: weights(bundle / manifest["graphs"][role]["file"])
        self.w, step = load("training"), load("decoder")
        self.exact = {tensor.data_type for role in ("encoder", "decoder") for tensor in onnx.load(bundle / manifest["graphs"][role]["file"]).graph.initializer}
        self.exact = self.exact <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
        width = self.hidden // 2 if self.bidirectional else self.hidden
        self.directions = [""] + [".reverse"] * self.bidirectional
        self.encoder = [[self.layer("encoder", l, suffix, width) for suffix in self.directions] for l in range(self.layers)]
        self.decoder = [self.layer("decoder", l, "", self.hidden) for l in range(self.layers)]
        # Weights that the step graph folds are rounded to f16 or int8 once more: there its own are the reference.
        self.stepper = self.decoder if self.exact else [self.folded(step, "decoder", l) for l in range(self.layers)]
        # The same of the encoder's step, whose weights may be smaller than those that an operator keeps in f32.
        self.encoder_by_step = self.encoder
        if not self.exact and "encoder_step" in manifest["graphs"]:
            step = load("encoder_step")
            self.encoder_by_step = [[self.folded(step, "encoder", l)] for l in range(self.layers)]

    def layer(self, side, l, suffix, width):
        name = f"{side}.{self.cell[:4].strip('_')}_{l}{suffix}"
        w, r = self.w[f"{name}.W"][0], self.w[f"{name}.R"][0]
        if l > 0:
            return Layer(self.cell, lambda x: w[:, :-1] @ x + w[:, -1], r)
        embedding = self.w.get(f"{side}.embedding")
        if embedding is None:
            return Layer(self.cell, lambda id: w[:, id] + w[:, -1], r)
        return Layer(self.cell, lambda id: w[:, :-1] @ embedding[id] + w[:, -1], r)

    def folded(self, w, side, l):
        name = f"{side}.{self.cell[:4].strip('_')}_{l}"
        if l == 0:
            return Layer(self.cell, lambda id: w[f"{name}.table"][id], w[f"{name}.R"][0])
        if self.cell == "lstm":
            return Layer(self.cell, lambda both: both @ w[f"{name}.input_and_state"] + w[f"{name}.bias"], None)
        return Layer(self.cell, lambda x: x @ w[f"{name}.input"] + w[f"{name}.bias"], w[f"{name}.R"][0])

    def zero(self, width):
        return [np.zeros(width)] * (2 if self.cell == "lstm" else 1)

    def encode(self, ids, layers=None):
        """One text: the states of each layer, and the top layer's rows (time, hidden)."""
        xs, states = list(ids), []
        for layer in layers or self.encoder:
            width = self.hidden // len(layer)
            runs = [direction.run(xs[:: -1 if i else 1], self.zero(width)) for i, direction in enumerate(layer)]
            xs = [np.concatenate(row) for row in zip(*[rows[:: -1 if i else 1] for i, (rows, _) in enumerate(runs)])]
            states.append([np.concatenate(parts) for parts in zip(*[last for _, last in runs])])
        return states, np.array(xs)

    def step(self, layers, id, states, memory):
        """One token: logits, next states, attention weights."""
        x, renewed, attended = id, [], None
        for layer, state in zip(layers, states):
            renewed.append(layer.step(x, state))
            x = renewed[-1][0]
        if self.attention != "none":
            query = x @ self.w["decoder.attention.key"] if self.attention == "general" else x
            attended = softmax(memory @ query)
            x = np.tanh(np.concatenate([attended @ memory, x]) @ self.w["decoder.attention.combine"])
        weight = self.w["decoder.embedding"].T if self.tied else self.w["decoder.dense.weight"]
        return x @ weight + self.w["decoder.dense.bias"], renewed, attended

    def teacher(self, source, target):
        """Logits of every step of the training graph, (len(target) + 1, vocabulary)."""
        states, memory = self.encode(source)
        rows = []
        for id in [START, *target]:
            logits, states, _ = self.step(self.decoder, id, states, memory)
            rows.append(logits)
        return np.array(rows)

    def greedy(self, source, longest):
        """Target ids without END; and the smallest lead of a chosen token over the next best."""
        states, memory = self.encode(source)
        ids, id, lead = [], START, np.inf
        while len(ids) < longest:
            logits, states, _ = self.step(self.stepper, id, states, memory)
            second, best = np.sort(logits[2:])[-2:]
            lead, id = min(lead, best - second), int(np.argmax(logits[2:])) + 2
            if id == END:
                break
            ids.append(id)
        return ids, lead

    def check_against_checkpoint(self, path):
        """The exported f32 weights are those of the checkpoint (whose one-hot W is kept transposed)."""
        for name, expected in checkpoint(path).items():
            if name not in self.w:
                continue  # Moments of the optimiser.
            found = self.w[name]
            if found.shape != expected.shape:
                expected = expected.T.reshape(found.shape)
            if not np.array_equal(found, expected):
                raise AssertionError(f"{name} differs from the checkpoint")

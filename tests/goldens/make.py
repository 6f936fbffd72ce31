"""Writes the goldens of this folder with PyTorch: `python make.py`, or `python make.py --check` to compare instead.

README.md beside this file says what each value is and how to renew them. Everything is computed in float64 from inputs
and parameters that float32 holds exactly, so that one file serves the f64 and the f32 tests.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, one_hot
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

HERE = Path(__file__).resolve().parent
PAD, START, END, UNK = range(4)
ADAM = {"learning_rate": 1e-2, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "steps": 3}
CLIP_NORM = 0.25

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def draw(generator, *shape, scale=1.0):
    """Uniform in [-scale, scale), in steps of 1/256: exact in float32 and short in decimal."""
    values = torch.rand(*shape, generator=generator) * 2 - 1
    return (values * scale * 256).round() / 256


# Gate order. PyTorch stacks an LSTM's gates as i, f, g, o (its g is ONNX's c) and a GRU's as r, z, n; ONNX as i, o, f, c and z, r, n.
GATES = {torch.nn.LSTM: 4, torch.nn.GRU: 3}


def to_onnx(gates, kind=torch.nn.LSTM):
    """(gates H, n) in PyTorch's order to the same in ONNX's."""
    order = (0, 3, 1, 2) if kind is torch.nn.LSTM else (1, 0, 2)
    parts = gates.chunk(GATES[kind])
    return torch.cat([parts[i] for i in order])


def to_pytorch(gates, kind=torch.nn.LSTM):
    """(gates H, n) in ONNX's order to the same in PyTorch's."""
    order = (0, 2, 3, 1) if kind is torch.nn.LSTM else (1, 0, 2)
    parts = gates.chunk(GATES[kind])
    return torch.cat([parts[i] for i in order])


def set_layer(rnn, layer, w, r, suffix=""):
    """Gives one layer of an nn.LSTM or nn.GRU the s2s tensors W (1, gates H, I + 1), last column the bias, and R (1, gates H, H)."""
    w = to_pytorch(w[0], type(rnn))
    with torch.no_grad():
        getattr(rnn, f"weight_ih_l{layer}{suffix}").copy_(w[:, :-1])
        getattr(rnn, f"bias_ih_l{layer}{suffix}").copy_(w[:, -1])
        getattr(rnn, f"weight_hh_l{layer}{suffix}").copy_(to_pytorch(r[0], type(rnn)))
        # s2s has one bias a gate; PyTorch's second one stays zero.
        getattr(rnn, f"bias_hh_l{layer}{suffix}").zero_().requires_grad_(False)


def layer_tensors(rnn, layer, of=lambda parameter: parameter.detach(), suffix=""):
    """W (1, gates H, I + 1) and R (1, gates H, H) of one layer in ONNX's order; `of` picks values or gradients."""
    weight = of(getattr(rnn, f"weight_ih_l{layer}{suffix}"))
    bias = of(getattr(rnn, f"bias_ih_l{layer}{suffix}"))
    recurrent = of(getattr(rnn, f"weight_hh_l{layer}{suffix}"))
    return to_onnx(torch.cat([weight, bias[:, None]], 1), type(rnn))[None], to_onnx(recurrent, type(rnn))[None]


def lstm_case(name, seed, inputs, hidden, lengths, layers=1, scale=0.75):
    """A stack of LSTM layers over rows of the given lengths, and the gradients of a weighted sum of its outputs."""
    generator = torch.Generator().manual_seed(seed)
    time, batch = max(lengths), len(lengths)
    lstm = torch.nn.LSTM(inputs, hidden, num_layers=layers)
    for layer in range(layers):
        width = inputs if layer == 0 else hidden
        set_layer(lstm, layer, draw(generator, 1, 4 * hidden, width + 1, scale=scale), draw(generator, 1, 4 * hidden, hidden, scale=scale))
    mask = torch.tensor([[step < length for length in lengths] for step in range(time)])[:, :, None]
    x = torch.where(mask, draw(generator, time, batch, inputs), 0.0).requires_grad_()
    h_0 = draw(generator, layers, batch, hidden, scale=0.5).requires_grad_()
    c_0 = draw(generator, layers, batch, hidden).requires_grad_()
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    y, (h_n, c_n) = lstm(packed, (h_0, c_0))
    y, _ = pad_packed_sequence(y)
    d_y = torch.where(mask, draw(generator, time, batch, hidden), 0.0)
    d_h_n, d_c_n = draw(generator, layers, batch, hidden), draw(generator, layers, batch, hidden)
    loss = (y * d_y).sum() + (h_n * d_h_n).sum() + (c_n * d_c_n).sum()
    loss.backward()
    tensors = [layer_tensors(lstm, layer) for layer in range(layers)]
    gradients = [layer_tensors(lstm, layer, lambda parameter: parameter.grad) for layer in range(layers)]
    parameters = {f"lstm_{l}.{n}": t for l in range(layers) for n, t in zip("WR", tensors[l])}
    parameter_gradients = {f"lstm_{l}.{n}": t for l in range(layers) for n, t in zip("WR", gradients[l])}
    return {
        "name": name,
        "seed": seed,
        "inputs": inputs,
        "hidden": hidden,
        "layers": layers,
        "lengths": lengths,
        "parameters": parameters,
        "x": x,
        "h_0": h_0,
        "c_0": c_0,
        "y": y,
        "h_n": h_n,
        "c_n": c_n,
        "d_y": d_y,
        "d_h_n": d_h_n,
        "d_c_n": d_c_n,
        "loss": loss,
        "gradients": {"x": x.grad, "h_0": h_0.grad, "c_0": c_0.grad, **parameter_gradients},
    }


class Side(torch.nn.Module):
    """Encoder or decoder: ids to the input of a recurrent stack, and the stack."""

    def __init__(self, vocabulary, width, hidden, layers, cell, bidirectional, fed=0):
        super().__init__()
        self.width = width or vocabulary
        self.vocabulary = vocabulary
        self.cell = cell
        self.suffixes = ["", "_reverse"] if bidirectional else [""]
        self.embedding = torch.nn.Embedding(vocabulary, width, padding_idx=PAD) if width else None
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
        self.rnn = kind(self.width + fed, hidden // len(self.suffixes), num_layers=layers, bidirectional=bidirectional)

    def embedded(self, rows):
        """What the first layer reads, (time, batch, width)."""
        ids = pad_sequence(rows, padding_value=PAD)
        return self.embedding(ids) if self.embedding else one_hot(ids, self.vocabulary).to(torch.get_default_dtype())

    def forward(self, rows, state=None):
        """Outputs (time, batch, hidden), and the final states, (layers, batch, hidden) each; two directions lie side by side."""
        x = self.embedded(rows)
        lengths = torch.tensor([len(row) for row in rows])
        if self.cell == "gru" and state is not None:
            (state,) = state
        y, state = self.rnn(pack_padded_sequence(x, lengths, enforce_sorted=False), state)
        directions = len(self.suffixes)
        states = [
            torch.cat([part[direction::directions] for direction in range(directions)], 2)
            for part in (state if self.cell == "lstm" else (state,))
        ]
        return pad_packed_sequence(y)[0], tuple(states)


class Seq2Seq(torch.nn.Module):
    """The network of s2s in PyTorch: the encoder's last states start the decoder, a dense layer gives the logits."""

    def __init__(self, architecture):
        super().__init__()
        plain = {"bidirectional": False, "attention": "none", "tied_embeddings": False, "bridge": "none", "bridge_source": "states"}
        plain |= {"attention_bias": False, "attention_output": "combined", "feeding": "none"}
        a = {**plain, "encoder_hidden": architecture["hidden"], "decoder_layers": architecture["layers"], **architecture}
        a = {"hand_over": list(range(a["decoder_layers"])), "attention_width": a["hidden"], **a}
        width = lambda form: 0 if form == "one_hot" else form["embedding"]
        self.layers, self.hidden, self.cell, self.attention, self.tied, memory = (
            a[key] for key in ("layers", "hidden", "cell", "attention", "tied_embeddings", "encoder_hidden")
        )
        self.options = a
        self.fed = {"none": 0, "output": self.hidden, "context": memory}[a["feeding"]]
        self.encoder = Side(a["source_vocabulary"], width(a["source_input"]), memory, self.layers, self.cell, a["bidirectional"])
        self.decoder = Side(a["target_vocabulary"], width(a["target_input"]), self.hidden, a["decoder_layers"], self.cell, False, self.fed)
        parameter = lambda *shape: torch.nn.Parameter(torch.zeros(*shape))
        # Names of s2s and the tensors as it has them; drawn in this order.
        self.more = {}
        if a["bridge"] != "none":
            for layer, start in enumerate(a["hand_over"]):
                for kind in "hc" if self.cell == "lstm" and start is not None else "h" if start is not None else "":
                    self.more[f"decoder.bridge.state_{kind}_{layer}.weight"] = parameter(memory, self.hidden)
                    self.more[f"decoder.bridge.state_{kind}_{layer}.bias"] = parameter(self.hidden)
        if self.attention == "general":
            self.more["decoder.attention.key"] = parameter(self.hidden, memory)
        if self.attention == "additive":
            self.more["decoder.attention.query"] = parameter(self.hidden, a["attention_width"])
            self.more["decoder.attention.memory"] = parameter(memory, a["attention_width"])
            if a["attention_bias"]:
                self.more["decoder.attention.score_bias"] = parameter(a["attention_width"])
            self.more["decoder.attention.score"] = parameter(a["attention_width"])
        if self.attention != "none" and a["attention_output"].startswith("combined"):
            self.more["decoder.attention.combine"] = parameter(memory + self.hidden, self.hidden)
            if a["attention_bias"]:
                self.more["decoder.attention.combine_bias"] = parameter(self.hidden)
        for name, tensor in self.more.items():
            self.register_parameter(name.replace(".", "_"), tensor)
        wide = self.attention != "none" and a["attention_output"] == "concatenated"
        self.dense = torch.nn.Linear(memory + self.hidden if wide else self.hidden, a["target_vocabulary"])
        if self.tied:
            self.dense.weight = self.decoder.embedding.weight
            # The row of PAD stays zero, although the output layer gives it a gradient.
            self.dense.weight.register_hook(lambda gradient: torch.cat([torch.zeros_like(gradient[:1]), gradient[1:]]))

    def initialise(self, generator, scale):
        """Seeded parameters, drawn in the order of `named`."""
        for side in (self.encoder, self.decoder):
            if side.embedding:
                with torch.no_grad():
                    side.embedding.weight.copy_(draw(generator, *side.embedding.weight.shape))
                    side.embedding.weight[PAD] = 0
            for layer in range(side.rnn.num_layers):
                for suffix in side.suffixes:
                    rows, hidden = getattr(side.rnn, f"weight_hh_l{layer}{suffix}").shape
                    width = getattr(side.rnn, f"weight_ih_l{layer}{suffix}").shape[1]
                    w, r = draw(generator, 1, rows, width + 1, scale=scale), draw(generator, 1, rows, hidden, scale=scale)
                    set_layer(side.rnn, layer, w, r, suffix)
        with torch.no_grad():
            for tensor in self.more.values():
                tensor.copy_(draw(generator, *tensor.shape, scale=2 * scale))
            if not self.tied:
                self.dense.weight.copy_(draw(generator, *self.dense.weight.T.shape, scale=4 * scale).T)
            self.dense.bias.copy_(draw(generator, *self.dense.bias.shape, scale=scale))

    def named(self, of=lambda parameter: parameter.detach().clone()):
        """Values (or what `of` picks) by the names and in the shapes of s2s."""
        tensors = {}
        for name, side in (("encoder", self.encoder), ("decoder", self.decoder)):
            if side.embedding:
                tensors[f"{name}.embedding"] = of(side.embedding.weight)
            for layer in range(side.rnn.num_layers):
                for suffix in side.suffixes:
                    w, r = layer_tensors(side.rnn, layer, of, suffix)
                    stem = f"{name}.{self.cell}_{layer}{suffix.replace('_', '.')}"
                    if side is self.decoder and layer == 0 and self.fed:
                        # The columns behind those of the token.
                        tensors[f"{stem}.feed"] = w[0, :, side.width : -1].T.contiguous()
                        w = torch.cat([w[:, :, : side.width], w[:, :, -1:]], 2)
                    tensors[f"{stem}.W"], tensors[f"{stem}.R"] = w, r
        tensors.update((name, of(tensor)) for name, tensor in self.more.items())
        if not self.tied:
            tensors["decoder.dense.weight"] = of(self.dense.weight).T.contiguous()
        tensors["decoder.dense.bias"] = of(self.dense.bias)
        return tensors

    def look_up(self, y, memory, lengths):
        """What decoder states y (target_time, batch, hidden) find in memory (source_time, batch, width): Luong's scores, or Bahdanau's."""
        more = lambda name: self.more.get(f"decoder.attention.{name}")
        if self.attention == "additive":
            bias = more("score_bias") if self.options["attention_bias"] else 0.0
            sums = (y @ more("query") + bias)[:, None] + (memory @ more("memory"))[None]
            scores = (torch.tanh(sums) @ more("score")).transpose(1, 2)
        else:
            queries = y @ more("key") if self.attention == "general" else y
            scores = torch.einsum("tbh,sbh->tbs", queries, memory)
        padded = torch.arange(memory.shape[0])[None] >= lengths[:, None]
        weights = scores.masked_fill(padded[None], -math.inf).softmax(2)
        return torch.einsum("tbs,sbh->tbh", weights, memory)

    def combined(self, context, y):
        """What the output layer reads."""
        output = self.options["attention_output"]
        if output == "state":
            return y
        both = torch.cat([context, y], 2)
        if output == "concatenated":
            return both
        both = both @ self.more["decoder.attention.combine"]
        if self.options["attention_bias"]:
            both = both + self.more["decoder.attention.combine_bias"]
        return torch.tanh(both) if output == "combined" else both

    def handed_over(self, state):
        """The decoder's first states, (layers, batch, hidden) each."""
        activation = {"none": None, "linear": lambda x: x, "tanh": torch.tanh, "relu": torch.relu}[self.options["bridge"]]

        def first(kind, layer, start):
            if start is None:
                return torch.zeros(state[0].shape[1], self.hidden)
            own = 0 if self.options["bridge_source"] == "hidden" else kind
            if activation is None:
                return state[own][start]
            weight, bias = (self.more[f"decoder.bridge.state_{'hc'[kind]}_{layer}.{name}"] for name in ("weight", "bias"))
            return activation(state[own][start] @ weight + bias)

        return tuple(torch.stack([first(kind, *at) for at in enumerate(self.options["hand_over"])]) for kind in range(len(state)))

    def run_fed(self, rows, state, find):
        """The decoder whose steps read what attention gave before; gives what the output layer reads."""
        x = self.decoder.embedded(rows)
        fed, outputs = torch.zeros(1, x.shape[1], self.fed), []
        bare = lambda state: state if self.cell == "lstm" else state[0]
        for step in x:
            if self.options["feeding"] == "context":
                fed = context = find(state[0][-1:])
            y, state = self.decoder.rnn(torch.cat([step[None], fed], 2), bare(state))
            state = state if self.cell == "lstm" else (state,)
            if self.options["feeding"] == "output":
                context = find(y)
            outputs.append(self.combined(context, y))
            if self.options["feeding"] == "output":
                fed = outputs[-1]
        return torch.cat(outputs)

    def forward(self, sources, targets):
        """Teacher forcing: logits (target_time, batch, target_vocabulary), expected ids (target_time, batch), states."""
        memory, state = self.encoder(sources)
        state = self.handed_over(state)
        start, end = torch.tensor([START]), torch.tensor([END])
        find = lambda y: self.look_up(y, memory, torch.tensor([len(row) for row in sources]))
        rows = [torch.cat([start, target]) for target in targets]
        if self.fed:
            y = self.run_fed(rows, state, find)
        else:
            y, _ = self.decoder(rows, state)
            if self.attention != "none":
                y = self.combined(find(y), y)
        expected = pad_sequence([torch.cat([target, end]) for target in targets], padding_value=PAD)
        return self.dense(y), expected, state

    def loss(self, sources, targets, label_smoothing=0.0):
        """Mean nats a target token, END counted and PAD not."""
        logits, expected, _ = self(sources, targets)
        return cross_entropy(logits.flatten(0, 1), expected.flatten(), ignore_index=PAD, label_smoothing=label_smoothing)


def train(architecture, seed, scale, sources, targets, clip_norm, label_smoothing):
    """Three steps of Adam on the one batch; the loss and the gradient norm before each, and the parameters after all."""
    model = Seq2Seq(architecture)
    model.initialise(torch.Generator().manual_seed(seed), scale)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    betas = (ADAM["beta_1"], ADAM["beta_2"])
    adam = torch.optim.Adam(parameters, lr=ADAM["learning_rate"], betas=betas, eps=ADAM["epsilon"])
    losses, norms = [], []
    for _ in range(ADAM["steps"]):
        adam.zero_grad()
        model.loss(sources, targets, label_smoothing).backward()
        losses.append(model.loss(sources, targets).item())
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, math.inf if clip_norm is None else clip_norm).item())
        adam.step()
    if clip_norm is not None:
        assert min(norms) > clip_norm, f"clipping never acts: gradient norms {norms}"
    return {"clip_norm": clip_norm, "losses": losses, "gradient_norms": norms, "parameters": model.named()}


def seq2seq_case(name, seed, source_input, target_input, layers=1, scale=0.75, cell="lstm", hidden=5, label_smoothing=0.0, **options):
    """A whole network: forward, loss, gradients, and Adam with and without clipping."""
    architecture = {
        "source_vocabulary": 8,
        "target_vocabulary": 9,
        "source_input": source_input,
        "target_input": target_input,
        "cell": cell,
        "hidden": hidden,
        "layers": layers,
        **options,
    }
    # Ragged on both sides, neither sorted by length, an unknown symbol on both, an empty target.
    sources = [[4, 6, 5], [7, 3, 4, 4, 6], [5], [6, 7, 5, 4]]
    targets = [[8, 4], [5, 3, 6, 7], [], [4, 4, 8]]
    source_rows = [torch.tensor(row, dtype=torch.int64) for row in sources]
    target_rows = [torch.tensor(row, dtype=torch.int64) for row in targets]
    model = Seq2Seq(architecture)
    model.initialise(torch.Generator().manual_seed(seed), scale)
    parameters = model.named()
    logits, expected, final = model(source_rows, target_rows)
    model.loss(source_rows, target_rows, label_smoothing).backward()
    loss = model.loss(source_rows, target_rows)
    real = expected != PAD
    tokens = int(real.sum())
    depth = range(architecture.get("decoder_layers", layers))
    states = {f"state_{kind}_{layer}": part[layer] for layer in depth for kind, part in zip("hc", final)}
    arguments = (architecture, seed, scale, source_rows, target_rows)
    return {
        "name": name,
        "seed": seed,
        "architecture": architecture,
        **({"label_smoothing": label_smoothing} if label_smoothing else {}),
        "sources": sources,
        "targets": targets,
        "parameters": parameters,
        "states": states,
        "logits": torch.where(real[:, :, None], logits, 0.0).transpose(0, 1),
        "tokens": tokens,
        "correct": int(((logits.argmax(2) == expected) & real).sum()),
        "nats": loss * tokens,
        "loss": loss,
        "gradients": model.named(lambda parameter: parameter.grad),
        "adam": train(*arguments, None, label_smoothing),
        "adam_clipped": train(*arguments, CLIP_NORM, label_smoothing),
    }


def goldens():
    """File name to content."""
    note = "Written by make.py; README.md says what each value is."
    header = {"note": note, "pytorch": torch.__version__.split("+")[0]}
    return {
        "lstm.json": {
            **header,
            "cases": [
                lstm_case("one step", 1, inputs=3, hidden=2, lengths=[1, 1]),
                lstm_case("full length", 2, inputs=4, hidden=3, lengths=[5, 5, 5]),
                lstm_case("ragged", 3, inputs=4, hidden=3, lengths=[3, 5, 1, 4]),
                lstm_case("two layers, ragged", 4, inputs=3, hidden=4, lengths=[2, 4, 3], layers=2),
                lstm_case("widths that no vector register divides", 5, inputs=7, hidden=11, lengths=[3, 2, 3], scale=0.5),
                lstm_case("saturated gates", 6, inputs=2, hidden=3, lengths=[6, 4], scale=12.0),
            ],
        },
        "seq2seq.json": {
            **header,
            "adam": ADAM,
            "cases": [
                seq2seq_case("embedding", 11, {"embedding": 4}, {"embedding": 3}),
                seq2seq_case("one-hot", 12, "one_hot", "one_hot"),
                seq2seq_case("one-hot source, embedded target, two layers", 13, "one_hot", {"embedding": 3}, layers=2),
                seq2seq_case("GRU, two layers", 14, {"embedding": 3}, "one_hot", layers=2, cell="gru", hidden=4),
                seq2seq_case("bidirectional LSTM, two layers", 15, "one_hot", {"embedding": 3}, layers=2, hidden=4, bidirectional=True),
                seq2seq_case("bidirectional GRU, dot attention", 16, *[{"embedding": 3}] * 2, cell="gru", hidden=4, bidirectional=True, attention="dot"),
                seq2seq_case("general attention, two layers", 17, {"embedding": 3}, "one_hot", layers=2, hidden=4, attention="general"),
                seq2seq_case("tied embeddings, dot attention", 18, "one_hot", {"embedding": 4}, hidden=4, attention="dot", tied_embeddings=True),
                seq2seq_case(
                    "additive attention with biases over a wide encoder, bridge", 21, *[{"embedding": 3}] * 2, hidden=4,
                    encoder_hidden=6, bidirectional=True, bridge="tanh", attention="additive", attention_bias=True,
                ),
                seq2seq_case(
                    "additive GRU, concatenated", 22, "one_hot", {"embedding": 3}, cell="gru", hidden=4,
                    attention="additive", attention_width=3, attention_output="concatenated",
                ),
                seq2seq_case(
                    "a decoder deeper than its encoder, relu from the hidden state", 23, "one_hot", {"embedding": 3}, hidden=4,
                    encoder_hidden=3, decoder_layers=2, hand_over=[0, None], bridge="relu", bridge_source="hidden",
                    attention="general", attention_output="combined_linear",
                ),
                seq2seq_case("the output fed, two layers", 24, {"embedding": 3}, "one_hot", layers=2, hidden=4, attention="general", feeding="output"),
                seq2seq_case(
                    "the context fed", 25, *[{"embedding": 3}] * 2, cell="gru", hidden=4, encoder_hidden=6, bidirectional=True, bridge="linear",
                    attention="additive", attention_bias=True, attention_output="state", feeding="context",
                ),
                seq2seq_case("label smoothing", 19, {"embedding": 3}, "one_hot", hidden=4, label_smoothing=0.1),
                seq2seq_case("tied embeddings, label smoothing", 20, {"embedding": 3}, {"embedding": 4}, hidden=4, label_smoothing=0.2, tied_embeddings=True),
            ],
        },
    }


def plain(value):
    """Tensors to {shape, data}, floats to 12 significant digits: enough for a check in f64, half the size."""
    if isinstance(value, torch.Tensor):
        data = [plain(number) for number in value.detach().flatten().tolist()]
        return data[0] if value.dim() == 0 else {"shape": list(value.shape), "data": data}
    if isinstance(value, float):
        number = float(f"{value:.12g}")
        return int(number) if number == int(number) else number
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def write(value, indent=0):
    """JSON with one line a tensor, so that a difference shows which one changed."""
    inner = " " * (indent + 1)
    if isinstance(value, dict) and "data" not in value and any(isinstance(item, (dict, list)) for item in value.values()):
        items = [f"{inner}{json.dumps(key)}: {write(item, indent + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(inner + write(item, indent + 1) for item in value) + "\n" + " " * indent + "]"
    return json.dumps(value, separators=(",", ":"))


def difference(ours, theirs, path="$"):
    """The first place where two goldens differ by more than rounding, or None."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if list(ours) != list(theirs):
            return f"{path}: keys {list(ours)} and {list(theirs)}"
        return next(filter(None, (difference(ours[key], theirs[key], f"{path}.{key}") for key in ours if key != "pytorch")), None)
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            return f"{path}: lengths {len(ours)} and {len(theirs)}"
        return next(filter(None, (difference(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(ours, theirs)))), None)
    if isinstance(ours, (int, float)) and isinstance(theirs, (int, float)):
        return None if math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-11) else f"{path}: {ours} and {theirs}"
    return None if ours == theirs else f"{path}: {ours!r} and {theirs!r}"


def main():
    parser = argparse.ArgumentParser(description="Write, or with --check compare, the goldens of this folder.")
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    check = parser.parse_args().check
    failed = False
    for name, content in goldens().items():
        path, content = HERE / name, plain(content)
        if check:
            found = difference(json.loads(path.read_text(encoding="utf-8")), content)
            print(f"{name}: {found or 'equal'}")
            failed |= found is not None
        else:
            path.write_text(write(content) + "\n", encoding="utf-8")
            print(f"{name}: {path.stat().st_size} bytes")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()

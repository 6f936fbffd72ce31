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


# Gate order. PyTorch stacks the four gates as i, f, g, o (its g is ONNX's c), ONNX as i, o, f, c.
def to_onnx(gates):
    """(4H, n) in PyTorch's order to (4H, n) in ONNX's."""
    i, f, g, o = gates.chunk(4)
    return torch.cat([i, o, f, g])


def to_pytorch(gates):
    """(4H, n) in ONNX's order to (4H, n) in PyTorch's."""
    i, o, f, c = gates.chunk(4)
    return torch.cat([i, f, c, o])


def set_layer(lstm, layer, w, r):
    """Gives one layer of an nn.LSTM the s2s tensors W (1, 4H, I + 1), last column the bias, and R (1, 4H, H)."""
    w = to_pytorch(w[0])
    with torch.no_grad():
        getattr(lstm, f"weight_ih_l{layer}").copy_(w[:, :-1])
        getattr(lstm, f"bias_ih_l{layer}").copy_(w[:, -1])
        getattr(lstm, f"weight_hh_l{layer}").copy_(to_pytorch(r[0]))
        # s2s has one bias a gate; PyTorch's second one stays zero.
        getattr(lstm, f"bias_hh_l{layer}").zero_().requires_grad_(False)


def layer_tensors(lstm, layer, of=lambda parameter: parameter.detach()):
    """W (1, 4H, I + 1) and R (1, 4H, H) of one layer in ONNX's order; `of` picks values or gradients."""
    weight = of(getattr(lstm, f"weight_ih_l{layer}"))
    bias = of(getattr(lstm, f"bias_ih_l{layer}"))
    recurrent = of(getattr(lstm, f"weight_hh_l{layer}"))
    return to_onnx(torch.cat([weight, bias[:, None]], 1))[None], to_onnx(recurrent)[None]


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
    """Encoder or decoder: ids to the input of an LSTM stack, and the stack."""

    def __init__(self, vocabulary, width, hidden, layers):
        super().__init__()
        self.vocabulary = vocabulary
        self.embedding = torch.nn.Embedding(vocabulary, width, padding_idx=PAD) if width else None
        self.lstm = torch.nn.LSTM(width or vocabulary, hidden, num_layers=layers)

    def forward(self, rows, state=None):
        ids = pad_sequence(rows, padding_value=PAD)
        x = self.embedding(ids) if self.embedding else one_hot(ids, self.vocabulary).to(torch.get_default_dtype())
        lengths = torch.tensor([len(row) for row in rows])
        y, state = self.lstm(pack_padded_sequence(x, lengths, enforce_sorted=False), state)
        return pad_packed_sequence(y)[0], state


class Seq2Seq(torch.nn.Module):
    """The network of s2s in PyTorch: the encoder's last states start the decoder, a dense layer gives the logits."""

    def __init__(self, architecture):
        super().__init__()
        a = architecture
        width = lambda form: 0 if form == "one_hot" else form["embedding"]
        self.layers = a["layers"]
        self.encoder = Side(a["source_vocabulary"], width(a["source_input"]), a["hidden"], a["layers"])
        self.decoder = Side(a["target_vocabulary"], width(a["target_input"]), a["hidden"], a["layers"])
        self.dense = torch.nn.Linear(a["hidden"], a["target_vocabulary"])

    def initialise(self, generator, scale):
        """Seeded parameters, drawn in the order of `named`."""
        for side in (self.encoder, self.decoder):
            if side.embedding:
                with torch.no_grad():
                    side.embedding.weight.copy_(draw(generator, *side.embedding.weight.shape))
                    side.embedding.weight[PAD] = 0
            for layer in range(self.layers):
                hidden, width = side.lstm.hidden_size, getattr(side.lstm, f"weight_ih_l{layer}").shape[1]
                set_layer(
                    side.lstm,
                    layer,
                    draw(generator, 1, 4 * hidden, width + 1, scale=scale),
                    draw(generator, 1, 4 * hidden, hidden, scale=scale),
                )
        with torch.no_grad():
            self.dense.weight.copy_(draw(generator, *self.dense.weight.T.shape, scale=4 * scale).T)
            self.dense.bias.copy_(draw(generator, *self.dense.bias.shape, scale=scale))

    def named(self, of=lambda parameter: parameter.detach().clone()):
        """Values (or what `of` picks) by the names and in the shapes of s2s."""
        tensors = {}
        for name, side in (("encoder", self.encoder), ("decoder", self.decoder)):
            if side.embedding:
                tensors[f"{name}.embedding"] = of(side.embedding.weight)
            for layer in range(self.layers):
                w, r = layer_tensors(side.lstm, layer, of)
                tensors[f"{name}.lstm_{layer}.W"], tensors[f"{name}.lstm_{layer}.R"] = w, r
        tensors["decoder.dense.weight"] = of(self.dense.weight).T.contiguous()
        tensors["decoder.dense.bias"] = of(self.dense.bias)
        return tensors

    def forward(self, sources, targets):
        """Teacher forcing: logits (target_time, batch, target_vocabulary), expected ids (target_time, batch), states."""
        _, state = self.encoder(sources)
        start, end = torch.tensor([START]), torch.tensor([END])
        y, _ = self.decoder([torch.cat([start, target]) for target in targets], state)
        expected = pad_sequence([torch.cat([target, end]) for target in targets], padding_value=PAD)
        return self.dense(y), expected, state

    def loss(self, sources, targets):
        """Mean nats a target token, END counted and PAD not."""
        logits, expected, _ = self(sources, targets)
        return cross_entropy(logits.flatten(0, 1), expected.flatten(), ignore_index=PAD)


def train(architecture, seed, scale, sources, targets, clip_norm):
    """Three steps of Adam on the one batch; the loss and the gradient norm before each, and the parameters after all."""
    model = Seq2Seq(architecture)
    model.initialise(torch.Generator().manual_seed(seed), scale)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    betas = (ADAM["beta_1"], ADAM["beta_2"])
    adam = torch.optim.Adam(parameters, lr=ADAM["learning_rate"], betas=betas, eps=ADAM["epsilon"])
    losses, norms = [], []
    for _ in range(ADAM["steps"]):
        adam.zero_grad()
        loss = model.loss(sources, targets)
        loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, math.inf if clip_norm is None else clip_norm).item())
        adam.step()
    if clip_norm is not None:
        assert min(norms) > clip_norm, f"clipping never acts: gradient norms {norms}"
    return {"clip_norm": clip_norm, "losses": losses, "gradient_norms": norms, "parameters": model.named()}


def seq2seq_case(name, seed, source_input, target_input, layers=1, scale=0.75):
    """A whole network: forward, loss, gradients, and Adam with and without clipping."""
    architecture = {
        "source_vocabulary": 8,
        "target_vocabulary": 9,
        "source_input": source_input,
        "target_input": target_input,
        "cell": "lstm",
        "hidden": 5,
        "layers": layers,
    }
    # Ragged on both sides, neither sorted by length, an unknown symbol on both, an empty target.
    sources = [[4, 6, 5], [7, 3, 4, 4, 6], [5], [6, 7, 5, 4]]
    targets = [[8, 4], [5, 3, 6, 7], [], [4, 4, 8]]
    source_rows = [torch.tensor(row, dtype=torch.int64) for row in sources]
    target_rows = [torch.tensor(row, dtype=torch.int64) for row in targets]
    model = Seq2Seq(architecture)
    model.initialise(torch.Generator().manual_seed(seed), scale)
    parameters = model.named()
    logits, expected, (h_n, c_n) = model(source_rows, target_rows)
    loss = model.loss(source_rows, target_rows)
    loss.backward()
    real = expected != PAD
    tokens = int(real.sum())
    states = {}
    for layer in range(layers):
        states[f"state_h_{layer}"], states[f"state_c_{layer}"] = h_n[layer], c_n[layer]
    return {
        "name": name,
        "seed": seed,
        "architecture": architecture,
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
        "adam": train(architecture, seed, scale, source_rows, target_rows, None),
        "adam_clipped": train(architecture, seed, scale, source_rows, target_rows, CLIP_NORM),
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

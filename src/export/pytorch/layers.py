"""One-hot input, and recurrent layers over texts of several lengths; among them the cells that nn.LSTM and nn.GRU do
not have, from their weights: other activations of the gates, and the GRU whose reset gate stands before the product."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

GATES = {
    "sigmoid": torch.sigmoid,
    "hard_sigmoid_fifth": lambda x: (x / 5 + 0.5).clamp(0, 1),
    "hard_sigmoid_sixth": F.hardsigmoid,
}
BRIDGES = {"linear": lambda x: x, "tanh": torch.tanh, "relu": torch.relu}


class OneHot(nn.Module):
    """One channel a symbol."""

    def __init__(self, symbols):
        super().__init__()
        self.symbols = symbols
        self.register_buffer("like", torch.zeros(0), persistent=False)  # goes where the model goes

    def forward(self, ids):
        return F.one_hot(ids, self.symbols).to(self.like)


def table(symbols, width):
    """What makes rows of ids, and how wide they are: learnt ones, or where no width is given one channel a symbol."""
    return (nn.Embedding(symbols, width, padding_idx=0), width) if width else (OneHot(symbols), symbols)


def run(layers, x, states, mask, config):
    """Outputs (batch, time, width) and last states of an nn.LSTM or nn.GRU, from zeros where no states are given;
    each text is as long as the mask (batch, time) says, or all are alike."""
    if config["cell"] == "gru_reset_before" or config["gate_activation"] != "sigmoid":
        return unrolled(layers, x, states, mask, config)
    if states is not None and len(states) == 1:
        states = states[0]
    if mask is None:
        y, last = layers(x, states)
    else:
        lengths = mask.sum(1).clamp(min=1).cpu()
        y, last = layers(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False), states)
        y = pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0]
    return y, last if isinstance(last, tuple) else (last,)


def unrolled(layers, x, states, mask, config):
    """The same step by step: padding leaves a state as it is."""
    gate, reset_before = GATES[config["gate_activation"]], config["cell"] == "gru_reset_before"
    ways = 1 + layers.bidirectional
    if mask is None:
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if states is None:
        zeros = x.new_zeros(layers.num_layers * ways, len(x), layers.hidden_size)
        states = (zeros,) * (2 if config["cell"] == "lstm" else 1)
    last, outputs = [], []
    for at, (of_input, weight, of_bias, bias) in enumerate(layers.all_weights):
        state, products, y = [s[at] for s in states], F.linear(x, of_input, of_bias), {}
        times = range(x.shape[1])
        for t in reversed(times) if at % ways else times:
            after = step(products[:, t], state, weight, bias, gate, reset_before)
            state = [torch.where(mask[:, t, None], new, old) for new, old in zip(after, state)]
            y[t] = state[0]
        last.append(state)
        outputs.append(torch.stack([y[t] for t in times], 1))
        if len(outputs) == ways:
            x, outputs = torch.cat(outputs, -1), []
    return x, tuple(torch.stack(state) for state in zip(*last))


def step(x, state, weight, bias, gate, reset_before):
    """The next state (h, and c of an LSTM); x is what the input adds to the gates, in PyTorch's order of them."""
    h = state[0]
    if len(state) == 2:
        i, f, g, o = (x + F.linear(h, weight, bias)).chunk(4, -1)
        c = gate(f) * state[1] + gate(i) * torch.tanh(g)
        return gate(o) * torch.tanh(c), c
    (x_r, x_z, x_n), of_r, of_z, of_n = x.chunk(3, -1), *zip(weight.chunk(3), bias.chunk(3))
    r, z = gate(x_r + F.linear(h, *of_r)), gate(x_z + F.linear(h, *of_z))
    n = torch.tanh(x_n + (F.linear(r * h, *of_n) if reset_before else r * F.linear(h, *of_n)))
    return (n + z * (h - n),)

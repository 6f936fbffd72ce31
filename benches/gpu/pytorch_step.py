"""Microseconds of a greedy decoder step, and sentences a second, of the same network in PyTorch on a GPU (or the processor).

    python pytorch_step.py BUNDLE --batch 1,64,512 [--device cuda] [--steps 20] [--source-time 20] [--seconds 2]

The network has the sizes that the bundle's manifest gives, and random weights, which take as long as learnt ones: cuDNN's LSTM
or GRU over the source, one layer call a step, Luong's general attention where the bundle has it, the best id taken on the device.
For a folder of Optimum it is a transformer of the sizes in config.json, with caches that are as long as they get from the
beginning. Nothing is read back before the end. Prints one JSON object a batch.
"""
import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import yaml
from torch import nn


class Decoder(nn.Module):
    """A source to states; a token and states to scores and states."""

    def __init__(self, architecture, source, target):
        super().__init__()
        hidden, layers = architecture["hidden"], architecture.get("layers", 1)
        kind = nn.LSTM if architecture.get("cell", "lstm") == "lstm" else nn.GRU
        width = 64
        self.both_ways = bool(architecture.get("bidirectional"))
        self.source, self.target = nn.Embedding(source, width), nn.Embedding(target, width)
        self.encoder = kind(width, hidden // (1 + self.both_ways), layers, batch_first=True, bidirectional=self.both_ways)
        self.decoder = kind(width, hidden, layers, batch_first=True)
        self.attention = str(architecture.get("attention", "none")) != "none"
        if self.attention:
            self.score, self.combine = nn.Linear(hidden, hidden, bias=False), nn.Linear(2 * hidden, hidden)
        self.output = nn.Linear(hidden, target)

    def encode(self, ids):
        memory, state = self.encoder(self.source(ids))
        if self.both_ways:
            def join(s):
                return s.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2).contiguous()
            state = tuple(map(join, state)) if isinstance(state, tuple) else join(state)
        return self.score(memory) if self.attention else memory, memory, state

    def step(self, token, keys, memory, state):
        out, state = self.decoder(self.target(token), state)
        if self.attention:
            weights = torch.softmax(out @ keys.transpose(1, 2), -1)
            out = torch.tanh(self.combine(torch.cat([weights @ memory, out], -1)))
        return self.output(out).argmax(-1), state


class Transformer(nn.Module):
    """The same with layers of attention; a state is the caches of keys and values, and how many steps they have."""

    def __init__(self, config, longest):
        super().__init__()
        width, self.heads, self.longest = config["d_model"], config["decoder_attention_heads"], longest
        self.embedding = nn.Embedding(config["vocab_size"], width)
        self.register_buffer("positions", torch.zeros(4096, width))

        def linear(wide=width, out=width):
            return nn.Linear(wide, out)

        def layer(attentions, inner):
            parts = {f"{part}{at}": linear() for at in range(attentions) for part in "qkvo"}
            parts.update(up=linear(out=inner), down=linear(inner), **{f"norm{at}": nn.LayerNorm(width) for at in range(attentions + 1)})
            return nn.ModuleDict(parts)

        self.encoder = nn.ModuleList(layer(1, config["encoder_ffn_dim"]) for _ in range(config["encoder_layers"]))
        self.decoder = nn.ModuleList(layer(2, config["decoder_ffn_dim"]) for _ in range(config["decoder_layers"]))

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, layer, at, x, keys, values):
        out = nn.functional.scaled_dot_product_attention(self.split(layer[f"q{at}"](x)), keys, values)
        return layer[f"norm{at}"](x + layer[f"o{at}"](out.transpose(1, 2).flatten(2)))

    def feed(self, layer, x, at):
        return layer[f"norm{at}"](x + layer["down"](nn.functional.silu(layer["up"](x))))

    def encode(self, ids):
        x = self.embedding(ids) + self.positions[: ids.shape[1]]
        for layer in self.encoder:
            x = self.feed(layer, self.attend(layer, 0, x, self.split(layer["k0"](x)), self.split(layer["v0"](x))), 1)
        memory = [(self.split(layer["k1"](x)), self.split(layer["v1"](x))) for layer in self.decoder]
        size = (ids.shape[0], self.heads, self.longest, x.shape[-1] // self.heads)
        caches = [(x.new_empty(size), x.new_empty(size)) for _ in self.decoder]
        return None, memory, (caches, 0)

    def step(self, token, _, memory, state):
        caches, done = state
        x = self.embedding(token) + self.positions[done]
        for layer, (keys, values), (far_keys, far_values) in zip(self.decoder, caches, memory):
            keys[:, :, done : done + 1] = self.split(layer["k0"](x))
            values[:, :, done : done + 1] = self.split(layer["v0"](x))
            x = self.attend(layer, 0, x, keys[:, :, : done + 1], values[:, :, : done + 1])
            x = self.feed(layer, self.attend(layer, 1, x, far_keys, far_values), 2)
        return (x @ self.embedding.weight.T).argmax(-1), (caches, done + 1)


def network_of(bundle, steps):
    """The network of a bundle, and how many source symbols it has."""
    if (bundle / "s2s.yaml").exists():
        manifest = yaml.safe_load((bundle / "s2s.yaml").read_text(encoding="utf-8"))
        return Decoder(manifest["architecture"], symbols(manifest, "source"), symbols(manifest, "target")), symbols(manifest, "source")
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    return Transformer(config, steps), config["vocab_size"]


def symbols(manifest, side):
    return len(manifest[side]["symbols"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--batch", default="1,64,512")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--source-time", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.manual_seed(0)
    network, source = network_of(args.bundle, args.steps)
    network = network.to(device).eval()

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    for batch in map(int, args.batch.split(",")):
        ids = torch.randint(4, source, (batch, args.source_time), device=device)
        calls, steps = [], []
        with torch.inference_mode():
            begin = time.perf_counter()
            while len(calls) < 5 or time.perf_counter() - begin < args.seconds:
                wait()
                first = time.perf_counter()
                keys, memory, state = network.encode(ids)
                token = torch.ones(batch, 1, dtype=torch.long, device=device)
                wait()
                middle = time.perf_counter()
                for _ in range(args.steps):
                    token, state = network.step(token, keys, memory, state)
                token.cpu()
                last = time.perf_counter()
                calls.append(last - first)
                steps.append((last - middle) / args.steps)
        print(json.dumps({
            "framework": f"PyTorch {torch.__version__}", "device": args.device, "batch": batch,
            "step_us_p50": round(1e6 * statistics.median(steps[2:]), 1),
            "sentences_per_second": round(batch / statistics.median(calls[2:]), 1), "steps": args.steps,
        }), flush=True)


if __name__ == "__main__":
    main()

"""Exports a PyTorch sequence-to-sequence model so that `s2s translate` runs it.

    pip install torch onnx onnxscript
    python export.py            writes bundle/encoder.onnx, bundle/decoder.onnx, bundle/s2s.yaml and expected.json

The model is small, its weights are drawn from a seed: what matters here is how its graphs are cut and wired. expected.json
holds what PyTorch's own greedy loop gives for each text; tests/foreign.rs holds s2s against it.

What a bundle asks of its graphs:

- ids are int64; 0 is padding, 1 starts an output, 2 ends it, 3 stands for unknown symbols;
- sources of several lengths come padded on the LEFT with 0, and the padding must not change the result. Here the recurrent
  layers have no bias of their own and read one more channel, which is 1 at symbols and 0 at padding, and padding's embedding
  is zero: so a layer's state stays zero until the first symbol;
- the decoder makes one step: the last token and the state in, logits and the next state out;
- the batch is a named axis, the same name in ids and states.

Names, the number of states and where the batch stands in them are free: the manifest says how they are wired. Here the state
of all layers travels as one tensor, (2 * layers, batch, hidden).
"""

import hashlib
import json
import random
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).resolve().parent
SPECIAL = ["<pad>", "<start>", "<end>", "<unk>"]
SOURCE = SPECIAL + list(" abcdefghijklmnopqrstuvwxyz")
TARGET = SPECIAL + list("ABCDEFGHIJKLMNOP-αβγδ")
EMBEDDING, HIDDEN, LAYERS, LONGEST = 8, 16, 2, 24
PAD, START, END, UNK = range(4)


class Recurrent(nn.Module):
    """Embedding and LSTM layers whose bias comes with the channel that is 0 at padding."""

    def __init__(self, symbols):
        super().__init__()
        self.embedding = nn.Embedding(symbols, EMBEDDING, padding_idx=PAD)
        self.layers = nn.ModuleList(
            nn.LSTM(width + 1, HIDDEN, bias=False, batch_first=True) for width in [EMBEDDING] + [HIDDEN] * (LAYERS - 1)
        )

    def forward(self, ids, state):
        mask = (ids != PAD).to(torch.float32).unsqueeze(-1)
        x = self.embedding(ids)
        hidden, cell = [], []
        for layer, lstm in enumerate(self.layers):
            h, c = state[layer : layer + 1], state[LAYERS + layer : LAYERS + layer + 1]
            x, (h, c) = lstm(torch.cat([x, mask], -1), (h, c))
            hidden.append(h)
            cell.append(c)
        return x, torch.cat(hidden + cell, 0)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent = Recurrent(len(SOURCE))

    def forward(self, text):
        zero = torch.zeros(2 * LAYERS, text.shape[0], HIDDEN)
        return self.recurrent(text, zero)[1]


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent = Recurrent(len(TARGET))
        self.output = nn.Linear(HIDDEN, len(TARGET))

    def forward(self, previous, memory):
        x, memory = self.recurrent(previous, memory)
        return self.output(x), memory


def greedy(encoder, decoder, text):
    """The loop that PyTorch users write."""
    ids = [SOURCE.index(c) if c in SOURCE else UNK for c in text]
    if not ids:
        return ""
    memory, token, output = encoder(torch.tensor([ids])), START, []
    while len(output) < LONGEST:
        logits, memory = decoder(torch.tensor([[token]]), memory)
        token = int(logits[0, 0, 2:].argmax()) + 2
        if token == END:
            break
        output.append("\ufffd" if token == UNK else TARGET[token])
    return "".join(output)


def main():
    torch.manual_seed(4)
    encoder, decoder = Encoder().eval(), Decoder().eval()
    with torch.no_grad():
        # Wider than a trainer would begin with, so that the text and not only the last token decides what comes.
        for parameter in [*encoder.parameters(), *decoder.parameters()]:
            parameter.mul_(2.5)
        for module in (encoder, decoder):
            module.recurrent.embedding.weight[PAD] = 0

    bundle = HERE / "bundle"
    bundle.mkdir(exist_ok=True)
    ids, state = torch.full((2, 3), 5), torch.zeros(2 * LAYERS, 2, HIDDEN)
    batch, time = {0: "batch"}, {0: "batch", 1: "source_time"}
    torch.onnx.export(encoder, (ids,), bundle / "encoder.onnx", input_names=["text"], output_names=["memory"],
                      dynamic_axes={"text": time, "memory": {1: "batch"}}, opset_version=17, dynamo=False)
    torch.onnx.export(decoder, (ids[:, :1], state), bundle / "decoder.onnx", input_names=["previous", "memory"],
                      output_names=["scores", "memory_out"], opset_version=17, dynamo=False,
                      dynamic_axes={"previous": batch, "memory": {1: "batch"}, "scores": batch, "memory_out": {1: "batch"}})

    digest = lambda name: hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    quoted = lambda symbols: "[" + ", ".join(json.dumps(symbol, ensure_ascii=False) for symbol in symbols) + "]"
    (bundle / "s2s.yaml").write_text(
        f"""# Written by examples/pytorch/export.py; any editor will do.
format_version: "1.0"
name: from-pytorch
producer: torch
graphs:
  encoder: {{file: encoder.onnx, sha256: {digest("encoder.onnx")}}}
  decoder: {{file: decoder.onnx, sha256: {digest("decoder.onnx")}}}
wiring:
  encoder_input: text
  decoder_input: previous
  decoder_output: scores
  output: logits
  states:
  - {{encoder_output: memory, decoder_input: memory, decoder_output: memory_out}}
decoding:
  max_new_tokens: {LONGEST}
source:
  unit: character
  normalisation: []
  longest: {LONGEST}
  symbols: {quoted(SOURCE)}
target:
  unit: character
  normalisation: []
  longest: {LONGEST}
  symbols: {quoted(TARGET)}
""",
        encoding="utf-8",
    )

    rng = random.Random(1)
    texts = ["a", "hello there", "sequence to sequence", "z", "caf\u00e9"]
    texts += ["".join(rng.choice(SOURCE[4:]) for _ in range(rng.randint(1, 20))) for _ in range(60)]
    with torch.no_grad():
        cases = [{"source": text, "target": greedy(encoder, decoder, text)} for text in texts]
    print(f"{len(set(case['target'] for case in cases))} different outputs of {len(cases)} texts")
    (HERE / "expected.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

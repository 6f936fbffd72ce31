"""Makes the pairs of this folder: small networks with random weights, exported as people export them.

Needs torch 2.8 and onnx:  python make.py [FOLDER]
Each pair gets a manifest written by hand below, its vocabularies, and said.json: what the network itself
says, greedily, to each text alone. The same seeds give the same files with the same torch.
"""

import hashlib
import json
import pathlib
import sys
import warnings

import onnx
import torch
from torch import nn

warnings.filterwarnings("ignore")
WIDTH, LONGEST = 6, 8
TEXTS = ["a", "bc", "cab", "face", "deed", "badge", "cabbage", "fed"]
PLAIN = ["<pad>", "<start>", "<end>", "<unk>"]
SOURCE, TARGET = PLAIN + list("abcdefg"), PLAIN + list("ABCDEFGH")
SPECIAL = {"pad": 0, "start": 1, "end": 2, "unk": 3}


class Encoder(nn.Module):
    """A GRU that reads padding as text."""

    def __init__(self, symbols):
        super().__init__()
        self.embedding = nn.Embedding(symbols, WIDTH)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)

    def forward(self, ids):
        return self.gru(self.embedding(ids))[1][0]


class Decoder(nn.Module):
    def __init__(self, symbols, log_softmax=False):
        super().__init__()
        self.embedding = nn.Embedding(symbols, WIDTH)
        self.cell = nn.GRUCell(WIDTH, WIDTH)
        self.scores = nn.Linear(WIDTH, symbols)
        self.log_softmax = log_softmax

    def forward(self, token, h):
        h = self.cell(self.embedding(token[:, 0]), h)
        scores = self.scores(h).unsqueeze(1)
        return (torch.log_softmax(scores, -1) if self.log_softmax else scores), h


class SumEncoder(nn.Module):
    """The mean of the tokens; `lengths` says how many there are, and they stand at the beginning."""

    def __init__(self, symbols):
        super().__init__()
        self.embedding = nn.Embedding(symbols, WIDTH)

    def forward(self, ids, lengths):
        own = (torch.arange(ids.shape[1])[None, :] < lengths[:, None]).float()
        return (self.embedding(ids) * own[:, :, None]).sum(1) / lengths[:, None].float()


class Columns(nn.Module):
    """A state for each token."""

    def __init__(self, symbols):
        super().__init__()
        self.embedding = nn.Embedding(symbols, WIDTH)
        self.dense = nn.Linear(WIDTH, WIDTH)

    def forward(self, ids):
        return torch.tanh(self.dense(self.embedding(ids)))


class Strided(nn.Module):
    """A state for every second token."""

    def __init__(self, symbols):
        super().__init__()
        self.embedding = nn.Embedding(symbols, WIDTH)
        self.conv = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)

    def forward(self, ids):
        return torch.tanh(self.conv(self.embedding(ids).transpose(1, 2))).transpose(1, 2)


def attend(query, memory, padding=None):
    scores = query @ memory.transpose(1, 2)
    if padding is not None:
        scores = scores.masked_fill(padding[:, None, :], -1e9)
    return torch.softmax(scores, -1) @ memory


class PrefixDecoder(nn.Module):
    """Reads all tokens so far, each only those before it, and a mask with ones at padding."""

    def __init__(self, symbols):
        super().__init__()
        self.embedding = nn.Embedding(symbols, WIDTH)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.scores = nn.Linear(2 * WIDTH, symbols)

    def forward(self, tokens, memory, memory_padding_mask):
        hidden = self.gru(self.embedding(tokens))[0]
        return self.scores(torch.cat([hidden, attend(hidden, memory, memory_padding_mask)], -1))


class AttentionDecoder(nn.Module):
    def __init__(self, symbols):
        super().__init__()
        self.embedding = nn.Embedding(symbols, WIDTH)
        self.cell = nn.GRUCell(WIDTH, WIDTH)
        self.scores = nn.Linear(2 * WIDTH, symbols)

    def forward(self, token, h, memory):
        h = self.cell(self.embedding(token[:, 0]), h)
        read = attend(h.unsqueeze(1), memory)
        return self.scores(torch.cat([h.unsqueeze(1), read], -1)), h


def export(model, path, arguments, inputs, outputs):
    """`inputs`, `outputs`: the names, each with its axes that are open."""
    torch.onnx.export(
        model,
        arguments,
        path,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_axes=inputs | outputs,
        opset_version=17,
        dynamo=False,
    )
    graph = onnx.load(path)
    graph.producer_version = ""
    for node in graph.graph.node:
        node.ClearField("doc_string")
    onnx.save(graph, path)


def ids_of(text, symbols):
    return [symbols.index(c) for c in text]


def greedy(step, symbols, special):
    """`step(token, tokens)` gives the scores of the next token; padding and START are never said."""
    tokens = [special["start"]]
    while len(tokens) <= LONGEST:
        scores = step(tokens).clone()
        scores[[special["pad"], special["start"]]] = -torch.inf
        token = int(scores.argmax())
        if token == special["end"]:
            break
        tokens.append(token)
    said = [token for token in tokens[1:]]
    return "".join("\ufffd" if token == special["unk"] else symbols[token] for token in said)


def lively(model, by=3.0):
    """Weights so large that what is said depends on what was read."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(by)
    return model.eval()


def stepper(decoder, h, *memory):
    state = [h]

    def step(tokens):
        scores, state[0] = decoder(torch.tensor([tokens[-1:]]), state[0], *memory)
        return scores[0, -1]

    return step


def write(folder, wiring, expected, source=SOURCE, target=TARGET, special=SPECIAL, data=()):
    graphs = {role: f"{role}.onnx" for role in ("encoder", "decoder")}
    sha256 = lambda name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
    manifest = {
        "format_version": "1.2",
        "name": folder.name,
        "producer": "tests/foreign/make.py",
        "graphs": {role: {"file": name, "sha256": sha256(name)} for role, name in graphs.items()},
        **({"files": {name: sha256(name) for name in data}} if data else {}),
        "wiring": wiring,
        "special_ids": special,
        "decoding": {"max_new_tokens": LONGEST},
        "source": {"unit": "character", "symbols": source},
        "target": {"unit": "character", "symbols": target},
    }
    # JSON is YAML.
    (folder / "s2s.yaml").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    (folder / "said.json").write_text(json.dumps(expected, ensure_ascii=False, indent=0) + "\n")
    (folder / "source.txt").write_text("\n".join(source) + "\n")
    (folder / "target.json").write_text(json.dumps({symbol: at for at, symbol in enumerate(target)}) + "\n")


BATCH, TIME = {0: "batch"}, {0: "batch", 1: "time"}


def leaking(folder):
    """The encoder reads padding as text."""
    encoder, decoder = lively(Encoder(len(SOURCE))), lively(Decoder(len(TARGET)))
    h = torch.zeros(2, WIDTH)
    ids = torch.zeros(2, 3, dtype=torch.long)
    export(encoder, folder / "encoder.onnx", (ids,), {"ids": TIME}, {"h": BATCH})
    inputs, outputs = {"token": BATCH, "h": BATCH}, {"logits": BATCH, "h2": BATCH}
    export(decoder, folder / "decoder.onnx", (ids[:, :1], h), inputs, outputs)

    def say(text):
        state = encoder(torch.tensor([ids_of(text, SOURCE)]))
        return greedy(stepper(decoder, state), TARGET, SPECIAL)

    wiring = {"encoder_input": "ids", "decoder_input": "token", "decoder_output": "logits",
              "states": [{"encoder_output": "h", "decoder_input": "h", "decoder_output": "h2"}]}
    write(folder, wiring, {text: say(text) for text in TEXTS})


def external(folder):
    """The decoder's weights lie in a file beside it."""
    leaking(folder)
    model = onnx.load(folder / "decoder.onnx")
    data = "decoder.onnx.data"
    # Saving appends to what is there.
    (folder / data).unlink(missing_ok=True)
    elsewhere = {"save_as_external_data": True, "location": data, "size_threshold": 64}
    onnx.save_model(model, folder / "decoder.onnx", **elsewhere)
    wiring = json.loads((folder / "s2s.yaml").read_text())["wiring"]
    write(folder, wiring, json.loads((folder / "said.json").read_text()), data=[data])


def torchtext(folder):
    """Ids in torchtext's order, log-probabilities, and a tag of several characters before each source."""
    special = {"pad": 1, "start": 2, "end": 3, "unk": 0}
    source = ["<unk>", "<pad>", "<sos>", "<eos>", "<2de>", "<2fr>"] + list("abcdefg")
    target = ["<unk>", "<pad>", "<sos>", "<eos>"] + list("ABCDEFGH")
    encoder, decoder = lively(Encoder(len(source))), lively(Decoder(len(target), log_softmax=True))
    h = torch.zeros(2, WIDTH)
    ids = torch.zeros(2, 3, dtype=torch.long)
    export(encoder, folder / "encoder.onnx", (ids,), {"src": TIME}, {"hidden": BATCH})
    inputs, outputs = {"input": BATCH, "hidden": BATCH}, {"log_probs": BATCH, "next_hidden": BATCH}
    export(decoder, folder / "decoder.onnx", (ids[:, :1], h), inputs, outputs)
    read = lambda text: torch.tensor([[source.index("<2fr>")] + ids_of(text, source) + [special["end"]]])
    say = lambda text: greedy(stepper(decoder, encoder(read(text))), target, special)
    state = {"encoder_output": "hidden", "decoder_input": "hidden", "decoder_output": "next_hidden"}
    wiring = {"encoder_input": "src", "source_start": source.index("<2fr>"), "source_end": special["end"],
              "decoder_input": "input", "decoder_output": "log_probs", "output": "log_probabilities",
              "states": [state]}
    write(folder, wiring, {text: say(text) for text in TEXTS}, source, target, special)


def prefix(folder):
    """A decoder without states, int32 ids, and a bool mask with ones at padding."""
    encoder, decoder = lively(Columns(len(SOURCE)), 2.0), lively(PrefixDecoder(len(TARGET)))
    ids = torch.zeros(2, 3, dtype=torch.int32)
    mask = torch.tensor([[False, False, False], [True, False, False]])
    export(encoder, folder / "encoder.onnx", (ids,), {"src": TIME}, {"memory": TIME})
    prefix_axes = {0: "batch", 1: "tgt_time"}
    arguments = (torch.zeros(2, 4, dtype=torch.int32), encoder(ids), mask)
    inputs = {"tgt": prefix_axes, "memory": TIME, "memory_padding_mask": TIME}
    export(decoder, folder / "decoder.onnx", arguments, inputs, {"logits": prefix_axes})

    def say(text):
        source = torch.tensor([ids_of(text, SOURCE)])
        memory, none = encoder(source), torch.zeros(1, len(text), dtype=torch.bool)
        return greedy(lambda tokens: decoder(torch.tensor([tokens]), memory, none)[0, -1], TARGET, SPECIAL)

    wiring = {"encoder_input": "src", "decoder_input": "tgt", "decoder_prefix": True,
              "decoder_mask": {"input": "memory_padding_mask", "one": "padding"}, "decoder_output": "logits",
              "memory": [{"encoder_output": "memory", "decoder_input": "memory"}]}
    write(folder, wiring, {text: say(text) for text in TEXTS})


def own_time(folder):
    """Memory of half as many columns as the source has, which the decoder reads without a mask."""
    encoder, decoder = lively(Strided(len(SOURCE)), 2.0), lively(AttentionDecoder(len(TARGET)))
    ids = torch.zeros(2, 6, dtype=torch.long)
    places = {0: "batch", 1: "places"}
    export(encoder, folder / "encoder.onnx", (ids,), {"ids": TIME}, {"memory": places})
    arguments = (ids[:, :1], torch.zeros(2, WIDTH), encoder(ids))
    inputs, outputs = {"token": BATCH, "h": BATCH, "memory": places}, {"logits": BATCH, "next_h": BATCH}
    export(decoder, folder / "decoder.onnx", arguments, inputs, outputs)

    def say(text):
        memory = encoder(torch.tensor([ids_of(text, SOURCE)]))
        return greedy(stepper(decoder, torch.zeros(1, WIDTH), memory), TARGET, SPECIAL)

    wiring = {"encoder_input": "ids", "decoder_input": "token", "decoder_output": "logits",
              "states": [{"zeros": [WIDTH], "decoder_input": "h", "decoder_output": "next_h"}],
              "memory": [{"encoder_output": "memory", "decoder_input": "memory"}]}
    write(folder, wiring, {text: say(text) for text in TEXTS})


def lengths(folder):
    """The encoder is told how long its sources are, which are filled up on the right."""
    encoder, decoder = lively(SumEncoder(len(SOURCE))), lively(Decoder(len(TARGET)))
    ids, h = torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, WIDTH)
    arguments = (ids, torch.tensor([3, 2]))
    export(encoder, folder / "encoder.onnx", arguments, {"ids": TIME, "lengths": BATCH}, {"h": BATCH})
    inputs, outputs = {"token": BATCH, "h": BATCH}, {"logits": BATCH, "h2": BATCH}
    export(decoder, folder / "decoder.onnx", (ids[:, :1], h), inputs, outputs)

    def say(text):
        h = encoder(torch.tensor([ids_of(text, SOURCE)]), torch.tensor([len(text)]))
        return greedy(stepper(decoder, h), TARGET, SPECIAL)

    wiring = {"encoder_input": "ids", "encoder_lengths": "lengths", "source_padding": "right",
              "decoder_input": "token", "decoder_output": "logits",
              "states": [{"encoder_output": "h", "decoder_input": "h", "decoder_output": "h2"}]}
    write(folder, wiring, {text: say(text) for text in TEXTS})


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
    root = root if root.is_dir() else root.parent
    for seed, make in enumerate([leaking, external, torchtext, prefix, own_time, lengths]):
        folder = root / make.__name__
        folder.mkdir(exist_ok=True)
        torch.manual_seed(seed)
        with torch.no_grad():
            make(folder)
        print(make.__name__, json.loads((folder / "said.json").read_text()))


main()

"""Makes the bundles that every runtime must run: small networks, trained for a second or two each, in every form.

A network is trained once and exported in several forms (ids or one-hot rows, f32, f16 or int8 weights). All learn the
task `dates` just long enough that their greedy outputs are dates, not the same character over and over: a runtime that
gets a state wrong then writes another date.
"""

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CONFIG = """\
name: {name}
data:
  task: {{name: dates, train: {pairs}, dev: 100, seed: 1}}
  source: {{unit: character, normalisation: [nfkc, lowercase, trim, collapse_whitespace]}}
  target: {{unit: character}}
model:
  cell: {cell}
  layers: {layers}
  hidden: 48
  input: {input}
  bidirectional: {bidirectional}
  attention: {attention}
  tied_embeddings: {tied}
training:
  epochs: 2
  batch_size: 32
  seed: 1
  threads: 1
  learning_rate: 8.0e-3
  clip_norm: 1.0
  exact_match: {{sample: 0}}
  best: validation_loss
  examples: 0
decoding: {{max_new_tokens: 16}}
"""


@dataclass(frozen=True)
class Network:
    """What is trained."""

    name: str
    cell: str = "lstm"
    layers: int = 1
    bidirectional: bool = False
    attention: str = "none"
    one_hot: bool = False
    tied: bool = False

    def config(self):
        # A tied output layer needs an embedding as wide as the state.
        target = "{embedding: 48}" if self.tied else "{embedding: 16}"
        form = "one_hot" if self.one_hot else f"{{source: {{embedding: 16}}, target: {target}}}"
        word = lambda flag: str(flag).lower()
        return CONFIG.format(
            name=self.name, cell=self.cell, layers=self.layers, input=form, bidirectional=word(self.bidirectional),
            attention=self.attention, tied=word(self.tied), pairs=6000,
        )  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """One bundle: a network and how it is exported."""

    network: Network
    io: str = "ids"
    dtype: str = "f32"

    @property
    def name(self):
        rest = [self.io] * (self.io != "ids") + [self.dtype] * (self.dtype != "f32")
        return "+".join([self.network.name, *rest])


LSTM, GRU = Network("lstm"), Network("gru", cell="gru")
LSTM_ONE_HOT = Network("lstm-symbols", one_hot=True)
GRU_ONE_HOT = Network("gru-symbols", cell="gru", one_hot=True)
LSTM_FULL = Network("lstm-2-bi-general-tied", layers=2, bidirectional=True, attention="general", tied=True)
GRU_FULL = Network("gru-2-bi-dot", cell="gru", layers=2, bidirectional=True, attention="dot")

# The name of a network: cell (`gru-before`: the reset gate before the product), `symbols` (one channel a symbol instead of an embedding), 2 layers, bidirectional encoder,
# attention, tied embeddings. After a `+` how it was exported.
VARIANTS = [
    Variant(LSTM),
    Variant(LSTM_ONE_HOT),
    Variant(LSTM, io="one-hot"),
    Variant(LSTM_ONE_HOT, io="one-hot"),
    Variant(Network("lstm-tied", tied=True)),
    Variant(Network("lstm-2", layers=2)),
    Variant(Network("lstm-bi", bidirectional=True)),
    Variant(Network("lstm-2-bi", layers=2, bidirectional=True)),
    Variant(Network("lstm-dot", attention="dot")),
    Variant(Network("lstm-general", attention="general")),
    Variant(Network("lstm-symbols-bi-dot", one_hot=True, bidirectional=True, attention="dot")),
    Variant(LSTM_FULL),
    Variant(LSTM_FULL, io="one-hot"),
    Variant(GRU),
    Variant(GRU_ONE_HOT),
    Variant(GRU, io="one-hot"),
    Variant(GRU_ONE_HOT, io="one-hot"),
    Variant(Network("gru-before", cell="gru_reset_before")),
    Variant(Network("gru-2", cell="gru", layers=2)),
    Variant(Network("gru-bi", cell="gru", bidirectional=True)),
    Variant(Network("gru-2-bi", cell="gru", layers=2, bidirectional=True)),
    Variant(Network("gru-general", cell="gru", attention="general")),
    Variant(GRU_FULL),
    Variant(GRU_FULL, io="one-hot"),
    Variant(LSTM, dtype="f16"),
    Variant(LSTM, dtype="int8"),
    Variant(LSTM_ONE_HOT, dtype="int8"),
    Variant(LSTM_FULL, dtype="f16"),
    Variant(LSTM_FULL, dtype="int8"),
    Variant(GRU, dtype="f16"),
    Variant(GRU, dtype="int8"),
    Variant(GRU_FULL, dtype="int8"),
]

# One of each kind, for the quick half.
QUICK = [
    "lstm", "lstm-symbols", "lstm+one-hot", "lstm-2-bi", "lstm-general", "lstm-2-bi-general-tied", "gru", "gru-symbols+one-hot",
    "gru-before", "gru-2-bi-dot", "lstm+f16", "lstm+int8", "gru+int8",
]  # fmt: skip


def make(s2s, folder, variants, say):
    """Trains and exports what is not in `folder` yet, and gives the bundle and the run of each variant.

    - `s2s`: the program; when it changes, everything is made again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = hashlib.sha256(Path(s2s).read_bytes()).hexdigest()
    made = {}
    for variant in variants:
        config, run = variant.network.config(), folder / f"{variant.network.name}.run"
        fresh(run, {"s2s": program, "config": config}, lambda: train(s2s, config, run, say))
        bundle = folder / variant.name
        key = {"s2s": program, "config": config, "io": variant.io, "dtype": variant.dtype, "step": not variant.network.bidirectional}
        fresh(bundle, key, lambda: export(s2s, run, bundle, variant, say))
        made[variant.name] = (bundle, run)
    return made


def fresh(target, key, make):
    """Calls `make` unless `target` was made with the same key before."""
    stamp = target.with_name(target.name + ".json")
    if stamp.exists() and target.is_dir() and json.loads(stamp.read_text()) == key:
        return
    stamp.unlink(missing_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    make()
    stamp.write_text(json.dumps(key))


def train(s2s, config, run, say):
    say(f"training {run.stem}")
    path = run.with_suffix(".yaml")
    path.write_text(config)
    call(s2s, "train", path, "--output", run, "--force", "--quiet")


def export(s2s, run, bundle, variant, say):
    say(f"exporting {variant.name}")
    # The networks are half-trained, so the share of exact matches that smaller weights may cost says nothing.
    # An encoder that reads both ways has no form of one token a call.
    form = "whole" if variant.network.bidirectional else "step"
    call(s2s, "export", run, "-o", bundle, "--encoder-form", form, "--io", variant.io, "--dtype", variant.dtype, "--max-loss", "1", "--random", "16", "--force", "--quiet")


def call(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\nfailed with {done.returncode}:\n{done.stdout}{done.stderr}")

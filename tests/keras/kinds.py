"""Saves a small Keras model of every kind that is imported, and writes down what Keras itself says with it.

    python3.11 -m venv keras2 && keras2/bin/pip install 'tensorflow-cpu==2.15.*'
    python3.11 -m venv keras3 && keras3/bin/pip install tensorflow-cpu
    keras2/bin/python tests/keras/kinds.py    # Keras 2's files
    keras3/bin/python tests/keras/kinds.py    # Keras 3's files

Both write into `kinds.zip`; an argument names one kind. The weights are drawn, not trained: outputs of such a model differ
from text to text more than those of one that has learnt a little. `KIND.kK.json` holds, for 30 sources, what the greedy loop
of the tutorial says and the probability of each chosen character.
"""

import json
import os
import pathlib
import random
import sys
import tempfile
import zipfile
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np

K = int(keras.__version__.split(".")[0])
ARCHIVE = pathlib.Path(__file__).parent / "kinds.zip"
L = keras.layers
H = 12
SOURCE = list(" abcdefgh")
TARGET = ["\t", "\n"] + list(" ABCDEFGH")
LONGEST = 9
LIMIT = 11


class Kind:
    """How a kind's texts become arrays: one-hot rows or ids from `first` on."""

    def __init__(self, build, form="one_hot", first=0, files=("h5", "keras"), pair=False, full=False, **options):
        self.build, self.form, self.first, self.files, self.pair, self.full = build, form, first, files, pair, full
        self.options = options
        self.ids = first or form == "ids"

    def rows(self, symbols):
        return len(symbols) + self.first

    def input(self, symbols, time=None):
        return keras.Input((time,)) if self.ids else keras.Input((time, len(symbols)))

    def array(self, texts, symbols, length):
        array = np.zeros((len(texts), length), "int32") if self.ids else np.zeros((len(texts), length, len(symbols)), "float32")
        for i, text in enumerate(texts):
            for t, c in enumerate(text):
                if self.ids:
                    array[i, t] = symbols.index(c) + self.first
                else:
                    array[i, t, symbols.index(c)] = 1
        return array


def embed(kind, x, symbols, mask=False, width=6, **more):
    return L.Embedding(kind.rows(symbols), width, mask_zero=mask, **more)(x) if kind.ids else x


def softmax(x, rows, **more):
    return L.Dense(rows, activation="softmax", **more)(x)


def cells(kind, cell=None, enc=1, dec=1, starts=None, mask=False, **more):
    """Stacked layers; decoder layer l starts from the states of encoder layer `starts[l]`, or from zeros."""
    cell = cell or L.LSTM
    a, b = kind.input(SOURCE), kind.input(TARGET)
    x, states = embed(kind, a, SOURCE, mask), []
    for l in range(enc):
        x, *state = cell(H, return_sequences=l + 1 < enc, return_state=True, **more)(x)
        states.append(state)
    y = embed(kind, b, TARGET, mask)
    for l in range(dec):
        start = (starts or range(dec))[l]
        y, *_ = cell(H, return_sequences=True, return_state=True, **more)(y, initial_state=None if start is None else states[start])
    return [a, b], softmax(y, kind.rows(TARGET))


def names(kind):
    """Names with slashes, which Keras 3 refuses; one layer is called like a part of another's name."""
    slash = lambda name: name if K == 2 else name.replace("/", "_")
    a, b = kind.input(SOURCE), kind.input(TARGET)
    x, *states = L.LSTM(H, return_state=True, name=slash("lstm/enc"))(L.Dropout(0.3, name="lstm")(a))
    y = L.LSTM(H, return_sequences=True, name="model_weights")(L.SpatialDropout1D(0.2)(b), initial_state=states)
    return [a, b], softmax(L.Dropout(0.1)(y), len(TARGET), name=slash("lstm/enc/softmax"))


def masking(kind):
    a, b = kind.input(SOURCE), kind.input(TARGET)
    _, *states = L.LSTM(H, return_state=True, use_bias=False)(L.Masking()(a))
    return [a, b], softmax(L.LSTM(H, return_sequences=True)(L.Masking()(b), initial_state=states), len(TARGET))


def apart(kind):
    """Each step's embedding, dropout, dense layer and softmax apart."""
    a, b = kind.input(SOURCE), kind.input(TARGET)
    _, *states = L.LSTM(H, return_state=True, dropout=0.2)(L.TimeDistributed(L.Dropout(0.2))(embed(kind, a, SOURCE)))
    y, *_ = L.LSTM(H, return_sequences=True, return_state=True)(embed(kind, b, TARGET), initial_state=states)
    y = L.TimeDistributed(L.Dense(kind.rows(TARGET)))(L.TimeDistributed(L.Dropout(0.2))(y))
    return [a, b], L.TimeDistributed(L.Activation("softmax"))(y)


def bidirectional(kind, cell=None, layers=1, mask=False):
    cell = cell or L.LSTM
    a, b = kind.input(SOURCE), kind.input(TARGET)
    x, y = embed(kind, a, SOURCE, mask), embed(kind, b, TARGET, mask)
    for l in range(layers):
        x, *s = L.Bidirectional(cell(H // 2, return_state=True, return_sequences=l + 1 < layers))(x)
        half = len(s) // 2
        states = [L.Concatenate()([s[i], s[i + half]]) for i in range(half)]
        y = cell(H, return_sequences=True)(y, initial_state=states)
    return [a, b], softmax(y, kind.rows(TARGET))


def nested(kind):
    a, b = kind.input(SOURCE), kind.input(TARGET)
    encoder = keras.Model(a, L.LSTM(H, return_state=True)(embed(kind, a, SOURCE))[1:], name="encoder")
    h, c = keras.Input((H,)), keras.Input((H,))
    y, *states = L.LSTM(H, return_sequences=True, return_state=True)(embed(kind, b, TARGET), initial_state=[h, c])
    head = keras.Sequential([keras.Input((None, H)), L.Dropout(0.1), L.Dense(kind.rows(TARGET), activation="softmax")], name="head")
    decoder = keras.Model([b, h, c], [head(y)] + states, name="decoder")
    source, target = kind.input(SOURCE), kind.input(TARGET)
    return [source, target], decoder([target] + list(encoder(source)))[0]


def pair(kind, attention=False, cell=None):
    """The tutorial's two inference models, as people save them."""
    cell = cell or L.LSTM
    a, b = kind.input(SOURCE), kind.input(TARGET)
    memory, *states = cell(H, return_state=True, return_sequences=attention)(embed(kind, a, SOURCE))
    encoder = keras.Model(a, ([memory] if attention else []) + states)
    given = [keras.Input((H,)) for _ in states]
    inputs = ([keras.Input((None, H))] if attention else []) + given
    y, *after = cell(H, return_sequences=True, return_state=True)(embed(kind, b, TARGET), initial_state=given)
    if attention:
        y = L.Dense(H, activation="tanh", use_bias=False)(L.Concatenate()([L.Attention()([y, inputs[0]]), y]))
    return encoder, keras.Model([b] + inputs, [softmax(y, kind.rows(TARGET))] + after)


def attention(kind, layer=None, mask=False, combined=False, cell=None, query_first=True, **more):
    cell = cell or L.LSTM
    layer = layer or L.Attention
    a, b = kind.input(SOURCE), kind.input(TARGET)
    memory, *states = cell(H, return_state=True, return_sequences=True)(embed(kind, a, SOURCE, mask))
    y, *_ = cell(H, return_sequences=True, return_state=True)(embed(kind, b, TARGET, mask), initial_state=states)
    context = layer(**more)([y, memory])
    both = L.Concatenate(axis=-1)([y, context] if query_first else [context, y])
    if combined:
        both = L.Dense(H, activation="tanh", use_bias=False)(both)
    return [a, b], softmax(both, kind.rows(TARGET))


def luong(kind, general=False):
    """Luong's attention spelt out in layers, as tutorials had it before there was a layer for it."""
    a, b = kind.input(SOURCE), kind.input(TARGET)
    memory, *states = L.LSTM(H, return_state=True, return_sequences=True)(embed(kind, a, SOURCE))
    y, *_ = L.LSTM(H, return_sequences=True, return_state=True)(embed(kind, b, TARGET), initial_state=states)
    query = L.Dense(H, use_bias=False)(y) if general else y
    weights = L.Activation("softmax")(L.Dot(axes=[2, 2])([query, memory]))
    context = L.Dot(axes=[2, 1])([weights, memory])
    both = L.Dense(H, activation="tanh", use_bias=False)(L.Concatenate()([context, y]))
    return [a, b], softmax(both, kind.rows(TARGET))


GRU = lambda **fixed: lambda *args, **more: L.GRU(*args, **{**fixed, **more})
LSTM = lambda **fixed: lambda *args, **more: L.LSTM(*args, **{**fixed, **more})

KINDS = {
    "names": Kind(names),
    "masking": Kind(masking),
    "masked_ids": Kind(cells, first=1, mask=True),
    "apart": Kind(apart, form="ids"),
    "stacked": Kind(cells, form="ids", enc=2, dec=2),
    "uneven": Kind(cells, form="ids", enc=3, dec=1, starts=[2]),
    "top_states": Kind(cells, enc=2, dec=2, starts=[1, 1]),
    "deep_decoder": Kind(cells, enc=1, dec=2, starts=[0, None]),
    "bidirectional": Kind(bidirectional),
    "bidirectional_gru": Kind(bidirectional, first=1, mask=True, layers=2, cell=GRU(use_bias=False)),
    "gru": Kind(cells, cell=GRU()),
    "gru_no_bias": Kind(cells, cell=GRU(use_bias=False), form="ids"),
    "gru_reset_before": Kind(cells, cell=GRU(reset_after=False)),
    "hard_sigmoid": Kind(cells, cell=LSTM(recurrent_activation="hard_sigmoid")),
    "nested": Kind(nested, form="ids"),
    "attention_tanh": Kind(attention, first=1, mask=True, combined=True, query_first=False),
    "attention": Kind(attention, first=1, mask=True),
    "attention_scaled": Kind(attention, first=1, mask=True, use_scale=True, combined=True),
    "attention_additive": Kind(attention, first=1, mask=True, layer=L.AdditiveAttention),
    "attention_gru": Kind(attention, first=1, mask=True, combined=True, cell=GRU(use_bias=False)),
    "luong_general": Kind(luong, form="ids", full=True, general=True),
    "pair": Kind(pair, pair=True),
    "pair_attention": Kind(pair, form="ids", full=True, pair=True, attention=True),
    "pair_gru": Kind(pair, pair=True, cell=GRU(use_bias=False)),
    "weights": Kind(cells, form="ids", files=("weights.h5",), enc=2, dec=2),
}
if K == 2:
    KINDS["saved_model"] = Kind(bidirectional, form="ids", files=("savedmodel",))
    KINDS["checkpoint"] = Kind(cells, form="ids", files=("checkpoint",), cell=LSTM(recurrent_activation="hard_sigmoid"))


def texts(full):
    """Without a mask, attention reads padding too: such models are held on texts that need none."""
    draw = random.Random(3)
    if full:
        return ["".join(draw.choice("abcdefgh") for _ in range(LONGEST)) for _ in range(30)]
    return ["".join(draw.choice("abcdefgh ") for _ in range(draw.randint(1, LONGEST))).strip() or "a" for _ in range(30)]


def draw(kind, models, name):
    """Weights that make outputs differ, the same in every version; neither padding nor a tab is ever written."""
    draws = np.random.default_rng(zlib.crc32(name.encode()))
    seen = set()
    for model in models:
        for weight in model.weights:
            if id(weight) in seen:
                continue
            seen.add(id(weight))
            short = getattr(weight, "path", weight.name).split("/")[-1].split(":")[0]
            scale = {"kernel": 1.0, "recurrent_kernel": 1.3, "bias": 0.3, "embeddings": 1.0, "scale": 0.4}.get(short, 0.8)
            value = draws.standard_normal(tuple(weight.shape)) * scale
            if short == "bias" and value.shape == (kind.rows(TARGET),):
                value[: kind.first + 1] = -12
            # Multiples of 1/64 shrink well in the archive.
            value = np.round((np.abs(value) + 0.5 if short == "scale" else value) * 64) / 64
            weight.assign(value.astype("float32"))


def decode(kind, sources, whole=None, encoder=None, decoder=None):
    """Greedy decoding of all texts: the whole model over what is written so far, or the tutorial's loop."""
    x = kind.array(sources, SOURCE, LONGEST)
    written = ["\t"] * len(sources)
    probabilities = [[] for _ in sources]
    done = [False] * len(sources)
    state = encoder(x, training=False) if encoder else None
    state = list(state) if isinstance(state, (list, tuple)) else [state]
    for step in range(LIMIT + 1):
        if whole is not None:
            out = np.asarray(whole([x, kind.array(written, TARGET, step + 1)], training=False))
        else:
            given = [keras.ops.convert_to_tensor(a) if K == 3 else a for a in [kind.array([w[-1] for w in written], TARGET, 1)] + state]
            out, *after = decoder(given, training=False)
            out, state = np.asarray(out), state[: len(state) - len(after)] + list(after)
        for i, row in enumerate(out[:, -1]):
            at = int(np.argmax(row))
            c = TARGET[max(at - kind.first, 0)]
            written[i] += c
            if not done[i]:
                probabilities[i].append(float(f"{row[at]:.8f}"))
                done[i] = c == "\n"
    cut = [w[1:].split("\n")[0] + ("\n" if "\n" in w else "") for w in written]
    return [{"source": s, "target": c, "probabilities": p} for s, c, p in zip(sources, cut, probabilities)]


def save(model, path, name):
    """The members of the archive that one saved model becomes."""
    if name == "weights.h5":
        model.save_weights(path / "m.weights.h5")
        return {"weights.h5": (path / "m.weights.h5").read_bytes(), "config.json": model.to_json().encode()}
    if name == "checkpoint":
        model.save_weights(path / "m")
        files = {f"checkpoint/{f}": (path / f).read_bytes() for f in ["m.index", "m.data-00000-of-00001"]}
        return {**files, "config.json": model.to_json().encode()}
    if name == "savedmodel":
        model.save(path / "m")
        files = ["keras_metadata.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
        return {f"savedmodel/{f}": (path / "m" / f).read_bytes() for f in files}
    model.save(path / f"m.{name}", **({"include_optimizer": False} if name == "h5" else {}))
    return {name: (path / f"m.{name}").read_bytes()}


def make(name):
    kind = KINDS[name]
    keras.backend.clear_session()
    built = kind.build(kind, **kind.options)
    models = list(built) if kind.pair else [keras.Model(*built)]
    members = {}
    best = None
    for attempt in range(60):
        draw(kind, models, f"{name} {attempt}")
        cases = decode(kind, texts(kind.full), **(dict(zip(("encoder", "decoder"), models)) if kind.pair else {"whole": models[0]}))
        shown = {c["target"] for c in cases}
        padding = any("\t" in c["target"] for c in cases)
        ended = sum(c["target"].endswith("\n") for c in cases)
        if not padding and len(shown) > 15 and 2 <= ended <= 28:
            best = cases
            break
    assert best, f"{name}: no draw of weights says different things"
    for model, part in zip(models, ["encoder.", "decoder."] if kind.pair else [""]):
        for file in kind.files:
            with tempfile.TemporaryDirectory() as folder:
                members |= {f"{name}.k{K}.{part}{k}": v for k, v in save(model, pathlib.Path(folder), file).items()}
    lines = ",\n".join(json.dumps(c, ensure_ascii=False) for c in best)
    members[f"{name}.k{K}.json"] = f'{{"keras": "{keras.__version__}", "cases": [\n{lines}\n]}}\n'.encode()
    print(f"{name}: draw {attempt}, {len(shown)} different, {ended} ended;", [c["target"] for c in best[:3]])
    return members


def vocabulary(first):
    index = lambda symbols: {c: i + first for i, c in enumerate(symbols)}
    return json.dumps({"source": index(SOURCE), "target": index(TARGET), "longest_source": LONGEST, "longest_target": LIMIT}).encode()


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(KINDS)
    members = {}
    if ARCHIVE.exists():
        with zipfile.ZipFile(ARCHIVE) as archive:
            members = {n: archive.read(n) for n in archive.namelist()}
    old = lambda n: any(n.startswith(f"{name}.k{K}.") for name in chosen) or (not sys.argv[1:] and f".k{K}." in n)
    members = {n: v for n, v in members.items() if not old(n)}
    for name in chosen:
        members |= make(name)
    members |= {f"vocabulary{first}.json": vocabulary(first) for first in (0, 1)}
    with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for n in sorted(members):
            archive.writestr(zipfile.ZipInfo(n, (2020, 1, 1, 0, 0, 0)), members[n], zipfile.ZIP_DEFLATED)
    print(len(members), "files,", ARCHIVE.stat().st_size, "bytes")

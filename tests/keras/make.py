"""Trains the Keras models of this folder and writes down what Keras itself decodes with them.

    pip install keras tensorflow tf_keras numpy
    python tests/keras/make.py            # all of them, a few minutes on a CPU
    python tests/keras/make.py one_hot    # one of them

Each model is a character-level LSTM encoder-decoder by the recipe of Keras's ten-minute tutorial, on `pairs.tsv`: numbers
in English and German words, which `pairs()` makes. `NAME.json` holds, for 100 sources, the text of the tutorial's
`decode_sequence` and the softmax of every step.

The same recipe at the size of the tutorial, on a file of your own (nothing is kept in this folder):

    python tests/keras/make.py --full PAIRS.tsv OUTPUT_FOLDER [EPOCHS]
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np

FOLDER = pathlib.Path(__file__).parent


def pairs():
    ones = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
    tens = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
    eins = "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn".split()
    zig = "- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()

    def english(n):
        if n < 20:
            return ones[n]
        if n < 100:
            return tens[n // 10] + (" " + ones[n % 10] if n % 10 else "")
        return ones[n // 100] + " hundred" + (" " + english(n % 100) if n % 100 else "")

    def german(n):
        if n < 20:
            return eins[n]
        if n < 100:
            return (eins[n % 10].removesuffix("s" if n % 10 == 1 else "#") + "und" if n % 10 else "") + zig[n // 10]
        return eins[n // 100].removesuffix("s" if n < 200 else "#") + "hundert" + (german(n % 100) if n % 100 else "")

    return [(english(n), german(n)) for n in list(range(100)) + list(range(100, 1000, 4))]


class Data:
    """The tutorial's own preparation: characters sorted, tab and newline around each target."""

    def __init__(self, path, num_samples):
        with open(path, encoding="utf-8") as f:
            lines = f.read().split("\n")
        self.inputs, self.targets = [], []
        for line in lines[: min(num_samples, len(lines) - 1)]:
            text, target = line.split("\t")[:2]
            self.inputs.append(text)
            self.targets.append("\t" + target + "\n")
        self.source = sorted(set("".join(self.inputs)))
        self.target = sorted(set("".join(self.targets)))
        self.source_index = {c: i for i, c in enumerate(self.source)}
        self.target_index = {c: i for i, c in enumerate(self.target)}
        self.longest_source = max(map(len, self.inputs))
        self.longest_target = max(map(len, self.targets))

    def one_hot(self, pad=None):
        """As the tutorial fills them; `pad` names the character that later versions of it pad with."""
        n = len(self.inputs)
        e = np.zeros((n, self.longest_source, len(self.source)), dtype="float32")
        d = np.zeros((n, self.longest_target, len(self.target)), dtype="float32")
        t = np.zeros((n, self.longest_target, len(self.target)), dtype="float32")
        for i, (text, target) in enumerate(zip(self.inputs, self.targets)):
            for k, c in enumerate(text):
                e[i, k, self.source_index[c]] = 1.0
            if pad:
                e[i, len(text) :, self.source_index[pad]] = 1.0
            for k, c in enumerate(target):
                d[i, k, self.target_index[c]] = 1.0
                if k > 0:
                    t[i, k - 1, self.target_index[c]] = 1.0
        return e, d, t

    def ids(self, first):
        """Ids from `first` on, padded with 0 on the right."""
        n = len(self.inputs)
        e = np.zeros((n, self.longest_source), dtype="int32")
        d = np.zeros((n, self.longest_target), dtype="int32")
        t = np.zeros((n, self.longest_target, len(self.target) + first), dtype="float32")
        for i, (text, target) in enumerate(zip(self.inputs, self.targets)):
            e[i, : len(text)] = [self.source_index[c] + first for c in text]
            d[i, : len(target)] = [self.target_index[c] + first for c in target]
            for k, c in enumerate(target[1:]):
                t[i, k, self.target_index[c] + first] = 1.0
        return e, d, t


def build(keras, data, latent, form, first=0, mask=False, layers=1, time_distributed=False, named=False):
    """The tutorial's training model."""
    L = keras.layers
    name = (lambda n: {"name": n}) if named else (lambda n: {})
    one_hot = form == "one_hot"
    shape = lambda n: (None, n) if one_hot else (None,)
    sources, targets = len(data.source) + first, len(data.target) + first
    encoder_inputs = keras.Input(shape=shape(sources), **name("encoder_inputs"))
    x = encoder_inputs if one_hot else L.Embedding(sources, latent // 2, mask_zero=mask, **name("encoder_embedding"))(encoder_inputs)
    states, encoder_lstms, decoder_lstms = [], [], []
    for l in range(layers):
        encoder_lstms.append(L.LSTM(latent, return_state=True, return_sequences=l + 1 < layers, **name(f"encoder_lstm_{l}")))
        x, h, c = encoder_lstms[l](x)
        states.append([h, c])
    decoder_inputs = keras.Input(shape=shape(targets), **name("decoder_inputs"))
    x = decoder_inputs if one_hot else L.Embedding(targets, latent // 2, mask_zero=mask, **name("decoder_embedding"))(decoder_inputs)
    for l in range(layers):
        decoder_lstms.append(L.LSTM(latent, return_sequences=True, return_state=True, **name(f"decoder_lstm_{l}")))
        x, _, _ = decoder_lstms[l](x, initial_state=states[l])
    dense = L.Dense(targets, activation="softmax", **name("dense"))
    outputs = (L.TimeDistributed(dense) if time_distributed else dense)(x)
    return keras.Model([encoder_inputs, decoder_inputs], outputs), encoder_lstms, decoder_lstms


def inference(keras, model, encoder_lstms, decoder_lstms):
    """The tutorial's two inference models, out of the trained one."""
    L = keras.layers
    first_input = lambda layer: layer.input if not isinstance(layer.input, (list, tuple)) else layer.input[0]
    encoder_inputs, decoder_inputs = model.input
    encoder = keras.Model(encoder_inputs, [s for l in encoder_lstms for s in l.output[1:]])
    embedding = next((l for l in model.layers if isinstance(l, L.Embedding) and first_input(l) is decoder_inputs), None)
    x = decoder_inputs if embedding is None else embedding(decoder_inputs)
    given, renewed = [], []
    for layer in decoder_lstms:
        states = [keras.Input(shape=(layer.units,)) for _ in range(2)]
        x, h, c = layer(x, initial_state=states)
        given += states
        renewed += [h, c]
    decoder = keras.Model([decoder_inputs] + given, [model.layers[-1](x)] + renewed)
    return encoder, decoder


def decode_sequence(encoder, decoder, data, row, form, first):
    """The tutorial's loop; also the softmax of every step."""
    states = encoder(row, training=False)
    states = [np.asarray(s) for s in states]
    characters = [None] * first + data.target
    token = data.target_index["\t"] + first
    decoded, steps = "", []
    while True:
        if form == "one_hot":
            target = np.zeros((1, 1, len(characters)), dtype="float32")
            target[0, 0, token] = 1.0
        else:
            target = np.array([[token]], dtype="int32")
        output, *states = decoder([target] + states, training=False)
        states = [np.asarray(s) for s in states]
        softmax = np.asarray(output)[0, -1]
        token = int(np.argmax(softmax))
        steps.append(softmax)
        decoded += characters[token]
        if characters[token] == "\n" or len(decoded) > data.longest_target:
            return decoded, steps


def golden(keras, model, data, encoder_data, form, first, rows, full=2):
    encoder, decoder = inference(keras, *model)
    cases = []
    for i in rows:
        decoded, steps = decode_sequence(encoder, decoder, data, encoder_data[i : i + 1], form, first)
        short = lambda p: float(f"{p:.8f}")
        case = {"source": data.inputs[i], "target": decoded, "probabilities": [short(s.max()) for s in steps]}
        if len(cases) < full:
            case["softmax"] = [[short(p) for p in s] for s in steps]
        cases.append(case)
    return cases


def fit(keras, model, arrays, epochs, optimizer, batch_size=16):
    keras.utils.set_random_seed(1)
    model.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"])
    e, d, t = arrays
    history = model.fit([e, d], t, batch_size=batch_size, epochs=epochs, validation_split=0.2, verbose=2 if epochs < 5 else 0, shuffle=True)
    print("   accuracy", history.history["accuracy"][-1], "validation loss", history.history["val_loss"][-1])


def vocabulary(data, first):
    """What `--vocabulary` reads: the tutorial's two dictionaries and limits."""
    index = lambda symbols: {c: i + first for i, c in enumerate(symbols)}
    return {
        "source": index(data.source),
        "target": index(data.target),
        "longest_source": data.longest_source,
        "longest_target": data.longest_target,
    }


# name: files, how it is built
MODELS = {
    # The seed's form, saved as it saves: with the optimiser, and without for the newer format.
    "one_hot": dict(files=["one_hot.h5", "one_hot.keras"], form="one_hot", latent=32),
    # The same by Keras 2, whose HDF5 differs.
    "keras2": dict(files=["keras2.h5"], form="one_hot", latent=24, keras2=True),
    # Later versions of the tutorial pad with spaces.
    "spaces": dict(files=["spaces.keras"], form="one_hot", latent=24, pad=" ", named=True),
    # Embeddings, padded with id 0, which is the id of a character too.
    "embedding": dict(files=["embedding.h5"], form="embedding", latent=24),
    # Embeddings that mask padding; two layers, TimeDistributed.
    "masked": dict(files=["masked.keras", "masked.h5"], form="embedding", latent=24, first=1, mask=True, layers=2, time_distributed=True, named=True),
}


def make(name):
    m = MODELS[name]
    if m.get("keras2"):
        import tf_keras as keras
    else:
        import keras
    keras.backend.clear_session()
    keras.utils.set_random_seed(7)
    data = Data(FOLDER / "pairs.tsv", 10000)
    first = m.get("first", 0)
    arrays = data.one_hot(m.get("pad")) if m["form"] == "one_hot" else data.ids(first)
    options = {k: m[k] for k in ("first", "mask", "layers", "time_distributed", "named") if k in m}
    built = build(keras, data, m["latent"], m["form"], **options)
    model = built[0]
    print(name, keras.__version__, model.count_params(), "parameters")
    # Trained further or faster, so small a model has weights that amplify rounding beyond 1e-5.
    fit(keras, model, arrays, 120, "rmsprop" if name == "one_hot" else "adam")
    for file in m["files"]:
        # One as the tutorial saves, the optimiser's state along with it; the others small.
        if file == "one_hot.h5":
            model.save(FOLDER / file)
        elif file.endswith(".h5"):
            model.save(FOLDER / file, include_optimizer=False)
        else:
            model.save(FOLDER / file)
            keras.models.load_model(FOLDER / file, compile=False).save(FOLDER / file)
    rows = list(range(0, len(data.inputs), 3))[:100]
    cases = golden(keras, built, data, arrays[0], m["form"], first, rows)
    text = ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases)
    (FOLDER / f"{name}.json").write_text(f'{{"keras": "{keras.__version__}", "cases": [\n{text}\n]}}\n', encoding="utf-8")
    vocab = json.dumps(vocabulary(data, first), ensure_ascii=False, indent=1)
    if name in ("one_hot", "masked"):
        (FOLDER / f"{name}_vocabulary.json").write_text(vocab + "\n", encoding="utf-8")
    right = sum(c["target"][:-1] == data.targets[i][1:-1] for c, i in zip(cases, rows))
    print("  ", right, "of", len(cases), "right;", len({c["target"] for c in cases}), "different;", [c["target"] for c in cases[20:26]])


def full(path, folder, epochs):
    """The tutorial at its own size: 10,000 pairs, latent 256, batch 64."""
    import keras

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = Data(path, 10000)
    arrays = data.one_hot()
    built = build(keras, data, 256, "one_hot")
    model = built[0]
    print(len(data.inputs), "pairs", len(data.source), "and", len(data.target), "characters, longest", data.longest_source, data.longest_target)
    fit(keras, model, arrays, epochs, "rmsprop", batch_size=64)
    model.save(folder / "s2s.h5")
    model.save(folder / "s2s.keras")
    rows = list(range(0, len(data.inputs), 100))
    cases = golden(keras, built, data, arrays[0], "one_hot", 0, rows)
    (folder / "expected.json").write_text(json.dumps({"keras": keras.__version__, "cases": cases}, ensure_ascii=False), encoding="utf-8")
    print(len({c["target"] for c in cases}), "different outputs")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--full"]:
        full(sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 2)
    else:
        (FOLDER / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs()), encoding="utf-8")
        for name in sys.argv[1:] or MODELS:
            make(name)

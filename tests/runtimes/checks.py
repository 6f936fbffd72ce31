"""What a runtime must do with one bundle, held against the reference.

Five checks a bundle, each with its own result, so that a table can say which graph of which variant a runtime cannot run:

- encoder: states (and with attention the memory) of single texts of several lengths and of a ragged batch of three;
- decoder: the first step's scores, next states and attention, from the reference's states;
- training: scores of all steps and the loss, one text and a ragged batch;
- step: the encoder's step, token by token over the same sources, where the bundle has one (no direction backwards);
- text: whole greedy decodes (from the step's states where the runtime cannot run the encoder), one by one and in ragged batches, compared character by character.
"""

import random

import numpy as np

from client import RuntimeFailure
from reference import END, PAD, START, Reference

CHECKS = ["encoder", "decoder", "training", "step", "text"]
# Largest error of a state over max(1, |state|), of a probability, of a logit over the largest of its row, of the loss over
# max(1, loss): f32 against float64 over some thirty steps.
TOLERANCE = 1e-5
# The engine tract multiplies weights of 8 bits in 8 bits, what they are multiplied with rounded to 16 (measured: up to 6e-5).
TOLERANCE_8_BITS = 1e-3
# Tokens of the single sources, and of the rows of the ragged batch.
SINGLE, RAGGED = (1, 7, 23), (23, 9, 2)
TEXTS = [
    "1 january 1999", "february 3, 2001", "19 mar 1987", "2024-04-30", "05/06/1975", "7.8.2019", "september 9 1950", "the 11th of november 2035",
    "12 dec 2010", "20300115", "august 23, 1964", "31.10.1991",
]  # fmt: skip
# Texts whose every token leads the next best by at least this much: where two logits are equal, f32 may choose either.
LEAST_LEAD = 1e-3
LONGEST = 14


class Case:
    """A bundle with everything that the reference says about it; made once, used for every runtime."""

    def __init__(self, name, bundle, manifest, run):
        self.name, self.bundle, self.manifest, self.wiring = name, bundle, manifest, manifest["wiring"]
        self.reference = reference = Reference(bundle, manifest)
        if reference.exact:
            reference.check_against_checkpoint(run / "checkpoints" / "best.safetensors")
        self.one_hot, self.sizes = manifest["io"] != "ids", [len(manifest[side]["symbols"]) for side in ("source", "target")]
        ids = random.Random(1)
        draw = lambda size, length: [ids.randrange(3, size) for _ in range(length)]
        self.batches = [[draw(self.sizes[0], length)] for length in SINGLE] + [[draw(self.sizes[0], length) for length in RAGGED]]
        self.targets = [[draw(self.sizes[1], length)] for length in (1, 4, 10)] + [[draw(self.sizes[1], length) for length in (3, 10, 6)]]
        self.encoded = [[reference.encode(source) for source in batch] for batch in self.batches]
        self.taught = [[reference.teacher(s, t) for s, t in zip(*pair)] for pair in zip(self.batches, self.targets)]
        symbols = {symbol: id for id, symbol in enumerate(manifest["source"]["symbols"])}
        # What the check `text` wrote last, and what it should write instead of what the reference says, in its own order.
        self.written, self.expected = [], None
        self.texts = []
        for text in TEXTS:
            source = [symbols.get(character, 3) for character in text]
            output, lead = reference.greedy(source, LONGEST)
            if lead >= LEAST_LEAD:
                self.texts.append((source, self.write(output)))
        outputs = {output for _, output in self.texts}
        if len(self.texts) < 6 or len(outputs) < 5 or min(map(len, outputs)) < 6:
            raise AssertionError(f"{name}: the greedy outputs are too few or too plain to tell anything: {sorted(outputs)}")

    def write(self, ids):
        return "".join(self.manifest["target"]["symbols"][id] if id > 3 else "\ufffd" for id in ids if id >= 3)

    def tokens(self, rows, side, left=False, width=None):
        """Rows of ids as an input of the graphs."""
        width = width or max(map(len, rows))
        pad = lambda row: [PAD] * (width - len(row))
        ids = np.array([pad(row) + list(row) if left else list(row) + pad(row) for row in rows], np.int64)
        return np.eye(self.sizes[side], dtype=np.float32)[ids] * (ids != PAD)[:, :, None].astype(np.float32) if self.one_hot else ids

    def states(self, encoded):
        """The reference's states of a batch by the encoder's output names, float64."""
        values = {}
        for l in range(self.reference.layers):
            for kind, letter in enumerate("hc" if self.reference.cell == "lstm" else "h"):
                values[f"state_{letter}_{l}"] = np.array([states[l][kind] for states, _ in encoded])
        return values

    def memory(self, encoded, width):
        if self.reference.attention == "none":
            return {}
        blank = lambda rows: np.zeros((width - len(rows), self.reference.hidden))
        rows = np.array([np.concatenate([blank(rows), rows]) for _, rows in encoded])
        mask = np.array([[0.0] * (width - len(rows)) + [1.0] * len(rows) for _, rows in encoded])
        return {"encoder_output": rows, "encoder_mask": mask}

    def scores(self, logits):
        """Logits, or probabilities where the graphs give those."""
        if self.wiring["output"] == "logits":
            return logits
        e = np.exp(logits - logits.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)


class Error:
    """The largest error of many comparisons."""

    def __init__(self, tolerance):
        self.largest, self.tolerance = 0.0, tolerance

    def add(self, name, found, expected, scale=None):
        expected = np.asarray(expected, np.float64)
        if found.shape != expected.shape:
            raise RuntimeFailure(f"{name} has the shape {list(found.shape)} instead of {list(expected.shape)}")
        scale = np.maximum(1.0, np.abs(expected)) if scale is None else scale
        error = np.abs(found.astype(np.float64) - expected) / scale
        self.largest = max(self.largest, float(np.where(np.isnan(error), np.inf, error).max(initial=0.0)))

    def add_scores(self, name, found, expected):
        self.add(name, found, expected, np.maximum(1.0, np.abs(expected).max(-1, keepdims=True)))

    def result(self):
        if self.largest <= self.tolerance:
            return {"status": "ok", "error": self.largest}
        return {"status": "wrong", "error": self.largest, "message": f"largest error {self.largest:.1e}, allowed {self.tolerance:.0e}"}


def allowed_error(runtime, case):
    """The largest error that is allowed of a runtime in a bundle, by their names."""
    return TOLERANCE_8_BITS if runtime == "tract" and case.endswith("+int8") else TOLERANCE


def greedy(case, encode, decode, sources, width=None):
    """The texts that a batch of sources becomes: `encode` gives the encoder's outputs of left-padded tokens, `decode` is the step."""
    wiring = case.wiring
    wires, memory = wiring["states"], wiring.get("memory") or []
    found = encode(case.tokens(sources, 0, left=True, width=width))
    state = {wire["decoder_input"]: found[wire["encoder_output"]] for wire in wires + memory}
    last, rows = [START] * len(sources), [[] for _ in sources]
    for _ in range(LONGEST):
        found = decode.run({wiring["decoder_input"]: case.tokens([[id] for id in last], 1), **state})
        # PAD and START are never generated; what a row gives after its END is not read.
        last = [int(row[2:].argmax()) + 2 for row in found[wiring["decoder_output"]][:, 0]]
        for row, id in zip(rows, last):
            row.append(id)
        state.update({wire["decoder_input"]: found[wire["decoder_output"]] for wire in wires})
        if all(END in row for row in rows):
            break
    return [case.write(row[: row.index(END)] if END in row else row) for row in rows]


def check(case, client, pinned, tolerance):
    """Runs all checks of one bundle in one runtime; gives {check: result}."""
    results = {}
    wiring, graphs = case.wiring, {role: case.bundle / entry["file"] for role, entry in case.manifest["graphs"].items()}
    wires, memory = wiring["states"], wiring.get("memory") or []
    encoder_outputs = [wire["encoder_output"] for wire in wires + memory]
    decoder_inputs = [wiring["decoder_input"]] + [wire["decoder_input"] for wire in wires + memory]
    attention = [wiring["attention"]] if wiring.get("attention") else []
    decoder_outputs = [wiring["decoder_output"]] + [wire["decoder_output"] for wire in wires] + attention
    # Left padding is exact, so that a runtime which compiles for sizes gets few of them.
    widest = max(RAGGED[0], *(len(source) for source, _ in case.texts)) if pinned else None

    def encoder():
        graph, error = client.load("encoder", graphs["encoder"], [wiring["encoder_input"]], encoder_outputs), Error(tolerance)
        for batch, encoded in zip(case.batches, case.encoded):
            width = widest or max(map(len, batch))
            found = graph.run({wiring["encoder_input"]: case.tokens(batch, 0, left=True, width=width)})
            for name, expected in {**case.states(encoded), **case.memory(encoded, width)}.items():
                error.add(name, found[name], expected)
        return error.result()

    def decoder():
        graph, error = client.load("decoder", graphs["decoder"], decoder_inputs, decoder_outputs), Error(tolerance)
        for batch, encoded in zip(case.batches, case.encoded):
            width = widest or max(map(len, batch))
            given = {**case.states(encoded), **case.memory(encoded, width)}
            feed = {wire["decoder_input"]: given[wire["encoder_output"]].astype(np.float32) for wire in wires + memory}
            found = graph.run({wiring["decoder_input"]: case.tokens([[START]] * len(batch), 1), **feed})
            reference = case.reference
            steps = [reference.step(reference.stepper, START, states, rows) for states, rows in encoded]
            error.add_scores("scores", found[wiring["decoder_output"]], case.scores(np.array([[logits] for logits, _, _ in steps])))
            renewed = case.states([(states, None) for _, states, _ in steps])
            for wire in wires:
                error.add(wire["decoder_output"], found[wire["decoder_output"]], renewed[wire["encoder_output"]])
            for name in attention:
                error.add(name, found[name], np.array([[0.0] * (width - len(a)) + list(a) for _, _, a in steps]))
        return error.result()

    def training():
        inputs = ["encoder_input", "decoder_input", "decoder_target"]
        graph, error = client.load("training", graphs["training"], inputs, ["decoder_output", "loss"]), Error(tolerance)
        pairs = list(zip(case.batches, case.targets, case.taught))
        for batch, targets, taught in pairs[2:] if pinned else pairs:
            feed = [case.tokens(batch, 0, left=True), case.tokens([[START, *t] for t in targets], 1), case.tokens([[*t, END] for t in targets], 1)]
            found = graph.run(dict(zip(inputs, feed)))
            nats = []
            for row, (target, logits) in enumerate(zip(targets, taught)):
                error.add_scores("scores", found["decoder_output"][row, : len(logits)], case.scores(logits))
                logits = logits - logits.max(-1, keepdims=True)
                nats += list(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(logits)), [*target, END]])
            error.add("loss", found["loss"].reshape(()), np.mean(nats))
        return error.result()

    def stepper():
        """A function from left-padded source tokens to what the encoder gives, by the graph of one token."""
        wired = wiring["encoder_step"]
        named = list(dict.fromkeys(wire["step_output"] for key in ("states", "last", "memory") for wire in wired.get(key, [])))
        graph = client.load("step", graphs["encoder_step"], [wired["input"]] + [wire["step_input"] for wire in wired["states"]], named)

        def encode(tokens):
            blank = np.zeros((len(tokens), case.reference.hidden), np.float32)
            state, columns = {wire["step_input"]: blank for wire in wired["states"]}, []
            for at in range(tokens.shape[1]):
                columns.append(graph.run({wired["input"]: np.ascontiguousarray(tokens[:, at : at + 1]), **state}))
                state = {wire["step_input"]: columns[-1][wire["step_output"]] for wire in wired["states"]}
            last = {wire["encoder_output"]: columns[-1][wire["step_output"]] for wire in wired["last"]}
            stacked = lambda name: np.stack([column[name] for column in columns], axis=1)
            return {**last, **{wire["encoder_output"]: stacked(wire["step_output"]) for wire in wired.get("memory", [])}}

        return encode

    def step():
        encode, error = stepper(), Error(tolerance)
        by_step = case.reference.encoder_by_step
        for batch in case.batches:
            encoded = [case.reference.encode(source, by_step) for source in batch]
            width = widest or max(map(len, batch))
            found = encode(case.tokens(batch, 0, left=True, width=width))
            for name, expected in {**case.states(encoded), **case.memory(encoded, width)}.items():
                error.add(name, found[name], expected)
        return error.result()

    def text():
        runs = lambda name: name in results and results[name]["status"] != "error"
        if not (runs("decoder") and (runs("encoder") or runs("step"))):
            return {"status": "blocked", "message": "needs the decoder, and the encoder or its step"}
        if runs("step") and results["encoder"]["status"] != "ok":
            encode = stepper()
        else:
            encoder = client.load("encoder", graphs["encoder"], [wiring["encoder_input"]], encoder_outputs)
            encode = lambda tokens: encoder.run({wiring["encoder_input"]: tokens})
        decode = client.load("decoder", graphs["decoder"], decoder_inputs, decoder_outputs)
        batches = [case.texts[i : i + 3] for i in range(0, len(case.texts) // 3 * 3, 3)] + [[pair] for pair in case.texts[::4]]
        case.written = [text for batch in batches for text in greedy(case, encode, decode, [source for source, _ in batch], widest)]
        expected = case.expected or [expected for batch in batches for _, expected in batch]
        wrong = [f"{text!r} instead of {right!r}" for text, right in zip(case.written, expected) if text != right]
        if wrong:
            return {"status": "wrong", "texts": len(expected), "different": len(wrong), "message": f"{len(wrong)} of {len(expected)} texts differ: {wrong[0]}"}
        return {"status": "ok", "texts": len(expected)}

    for name, run in zip(CHECKS, (encoder, decoder, training, step, text)):
        if name == "step" and "encoder_step" not in graphs:
            continue
        try:
            results[name] = run()
        except RuntimeFailure as failure:
            results[name] = {"status": "error", "message": str(failure)}
    return results

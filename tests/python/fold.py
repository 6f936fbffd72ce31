"""Decodes lines with onnxruntime alone: what a Python user of a bundle writes, and the judge of `s2s translate`.

    python fold.py BUNDLE < texts > translations

Greedy, one text at a time, no code of s2s: the vocabularies come from s2s.yaml, `fold` is the whole loop. The tests hold
its output against `s2s translate`, character for character.
"""

import sys
import unicodedata
from pathlib import Path

import numpy as np
import onnxruntime as ort
import yaml

PAD, START, END, UNK = range(4)
# Unicode's White_Space; Python's own str.split also splits at four control characters.
WHITESPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"


def collapse(text):
    """Every run of whitespace becomes one space."""
    text = "".join(" " if c in WHITESPACE else c for c in text)
    while "  " in text:
        text = text.replace("  ", " ")
    return text


NORMALISATION = {
    **{form.lower(): lambda text, form=form: unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")},
    "lowercase": str.lower,
    "trim": lambda text: text.strip(WHITESPACE),
    "collapse_whitespace": collapse,
}


class Bundle:
    """Manifest, vocabularies and the two graphs of decoding."""

    def __init__(self, directory, threads=1):
        directory = Path(directory)
        self.manifest = yaml.safe_load((directory / "s2s.yaml").read_text(encoding="utf-8"))
        self.wiring = self.manifest["wiring"]
        self.source, self.target = self.manifest["source"], self.manifest["target"]
        self.source_ids = {symbol: id for id, symbol in enumerate(self.source["symbols"])}
        self.one_hot = self.manifest["io"] != "ids"
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        load = lambda role: ort.InferenceSession(directory / self.manifest["graphs"][role]["file"], options, providers=["CPUExecutionProvider"])
        self.encoder, self.decoder = load("encoder"), load("decoder")
        longest = self.target.get("longest", 0)
        self.max_new_tokens = self.manifest.get("decoding", {}).get("max_new_tokens") or (longest + 1 if longest else 256)

    def encode(self, text):
        """Text to source ids, without START and END; unknown symbols become UNK."""
        for step in self.source.get("normalisation", []):
            text = NORMALISATION[step](text)
        units = list(text) if self.source["unit"] == "character" else collapse(text).strip(WHITESPACE).split(" ") if text.strip(WHITESPACE) else []
        # A special symbol is never the result of splitting text.
        return [id if (id := self.source_ids.get(unit, UNK)) > UNK else UNK for unit in units]

    def decode(self, ids):
        """Target ids to text; UNK is shown as U+FFFD, the other special ids are left out."""
        symbols = [self.target["symbols"][id] if id > UNK else "\ufffd" for id in ids if id >= UNK]
        return ("" if self.target["unit"] == "character" else " ").join(symbols)

    def feed(self, ids, size):
        """Ids (batch, time) as the graphs of this bundle take them: int64, or one-hot rows with PAD all zero."""
        ids = np.asarray(ids, np.int64)
        return ids if not self.one_hot else np.eye(size, dtype=np.float32)[ids] * (ids != PAD)[:, :, None]

    def start(self, sources):
        """Runs the encoder on a batch of left-padded sources; gives the decoder's states and memory by input name."""
        width = max(map(len, sources))
        rows = [[PAD] * (width - len(source)) + list(source) for source in sources]
        wires = self.wiring["states"] + self.wiring.get("memory", [])
        values = self.encoder.run(
            [wire["encoder_output"] for wire in wires],
            {self.wiring["encoder_input"]: self.feed(rows, len(self.source["symbols"]))},
        )
        return {wire["decoder_input"]: value for wire, value in zip(wires, values)}

    def step(self, tokens, state):
        """One decoder step for a batch: logits (batch, vocabulary), and the state for the next step."""
        names = [self.wiring["decoder_output"]] + [wire["decoder_output"] for wire in self.wiring["states"]]
        fed = self.feed([[token] for token in tokens], len(self.target["symbols"]))
        logits, *states = self.decoder.run(names, {self.wiring["decoder_input"]: fed, **state})
        return logits[:, 0], {**state, **{wire["decoder_input"]: value for wire, value in zip(self.wiring["states"], states)}}

    def fold(self, text):
        """Greedy decoding of one text."""
        source = self.encode(text)
        if not source:
            return ""
        state, token, output = self.start([source]), START, []
        for _ in range(self.max_new_tokens):
            logits, state = self.step([token], state)
            token = int(logits[0].argmax())
            if token == END:
                break
            output.append(token)
        return self.decode(output)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    bundle = Bundle(sys.argv[1])
    for line in sys.stdin.buffer:
        text = line.decode("utf-8").rstrip("\n")
        sys.stdout.buffer.write(bundle.fold(text).encode("utf-8") + b"\n")


if __name__ == "__main__":
    main()

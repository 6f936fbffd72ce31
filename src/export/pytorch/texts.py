"""Texts as ids and ids as texts, and files of pairs, read as s2s reads them."""

import csv
import json
import re
import unicodedata
from functools import partial
from pathlib import Path

PAD, START, END, UNK = range(4)
STEPS = {
    "lowercase": str.lower,
    "trim": str.strip,
    "collapse_whitespace": lambda text: re.sub(r"\s+", " ", text),
    **{form: partial(unicodedata.normalize, form.upper()) for form in ("nfc", "nfd", "nfkc", "nfkd")},
}


class Vocabulary:
    def __init__(self, symbols, config):
        self.symbols, self.config = symbols, config
        self.ids = {symbol: i for i, symbol in enumerate(symbols) if i > UNK}

    @classmethod
    def load(cls, folder, side, config):
        return cls(json.loads((Path(folder) / f"{side}.json").read_text(encoding="utf-8")), config)

    def __len__(self):
        return len(self.symbols)

    def encode(self, text):
        """The ids of a text, neither START nor END among them; filled up where the model learnt it so."""
        for name in self.config["normalisation"]:
            text = STEPS[name](text)
        symbols = text.split() if self.config["unit"] == "token" else text
        ids = [self.ids.get(symbol, UNK) for symbol in symbols]
        fill = self.config.get("padding")
        if not fill or not ids:
            return ids
        more = [self.ids[fill["symbol"]]] * max(fill["length"] - len(ids), fill.get("least", 0))
        return more + ids if fill["side"] == "left" else ids + more

    def decode(self, ids):
        """The text of ids up to END; an unknown symbol is U+FFFD."""
        ids = ids[: ids.index(END)] if END in ids else ids
        symbols = ["\ufffd" if i == UNK else self.symbols[i] for i in ids]
        return (" " if self.config["unit"] == "token" else "").join(symbols)


def read_pairs(file):
    """Pairs of source and target: the first two columns, with tabs or of a .csv; `source` and `target` of a .jsonl."""
    suffix = Path(file).suffix.lower()
    with open(file, encoding="utf-8-sig", newline="" if suffix == ".csv" else None) as lines:
        if suffix == ".csv":
            rows = [row for row in csv.reader(lines) if row]
        elif suffix == ".jsonl":
            rows = [(row["source"], row["target"]) for row in map(json.loads, filter(str.strip, lines))]
        else:
            rows = [line.rstrip("\n").split("\t") for line in lines if line.strip()]
    for at, row in enumerate(rows, 1):
        if len(row) < 2 or not row[0].strip() or not row[1].strip():
            raise ValueError(f"{file}: pair {at} has no source or no target: {row}")
    return [(row[0], row[1]) for row in rows]

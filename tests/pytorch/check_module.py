"""Holds modules that `s2s export --format pytorch` wrote against the trainer's own pass: `check_module.py FOLDER...`,
each with a case.json beside the module. Prints a line a folder: the largest errors in float64 and float32."""

import json
import sys
from pathlib import Path

import torch

# Shares of the largest logit, or of 1. Only the order of sums differs, because weights are float32 in both; a float32
# has 1.2e-7 between neighbours, and both sides round.
EXACT = 1e-12
ROUNDED = 1e-6


def padded(rows):
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)


def main(folders):
    sys.path.insert(0, folders[0])
    from model import Seq2Seq

    torch.set_num_threads(1)
    for folder in map(Path, folders):
        for code in Path(folders[0]).glob("*.py"):
            assert code.read_bytes() == (folder / code.name).read_bytes(), f"{folder}: other code"
        case = json.loads((folder / "case.json").read_text())
        model = Seq2Seq.load(folder).eval()
        source, target = padded(case["sources"]), padded(case["inputs"])
        errors = []
        with torch.no_grad():
            for of, wanted, most in [(model, case["rounded"], ROUNDED), (model.double(), case["logits"], EXACT)]:
                logits = of(source, target)
                wanted = torch.tensor(wanted, dtype=logits.dtype).view(logits.shape)
                errors.append((logits - wanted).abs().max().item())
                scale = max(1.0, wanted.abs().max().item())
                assert errors[-1] <= most * scale, f"{folder.name}: {errors[-1]} of {scale} in {logits.dtype}"
        said = Seq2Seq.load(folder).eval().translate(case["texts"])
        for text, ours, theirs in zip(case["texts"], case["said"], said, strict=True):
            assert ours == theirs, f"{folder.name}: {text!r} became {theirs!r}, not {ours!r}"
        print(f"{folder.name}: {errors[0]:.1e} in float32, {errors[1]:.1e} in float64, {len(said)} texts")


main(sys.argv[1:])

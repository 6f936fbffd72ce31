"""Writes transformers.json: what the logits processors of transformers make of random rows.

    pip install torch transformers
    python src/runtime/testdata/make_transformers.py

Each case is a row of logits (12 symbols, END is 2), a history of ids, and options; `expected` is the row after the
processors that generate() would run, in its order, null for -inf. PAD and START are suppressed first, as s2s always does.
"""

import json
import random
from pathlib import Path

import torch
import transformers
from transformers.generation import logits_process as lp

VOCABULARY, END = 12, 2


def case(rng):
    logits = [round(rng.gauss(0, 2), 4) for _ in range(VOCABULARY)]
    history = [rng.randrange(3, 8) for _ in range(rng.randrange(0, 9))]
    pick = lambda *values: rng.choice(values)
    o = {
        "repetition_penalty": pick(1.0, 1.3, 0.7),
        "no_repeat_ngram_size": pick(0, 1, 2, 3),
        "min_new_tokens": pick(0, 4),
        "suppress_tokens": pick([], [5], [3, 9]),
        "temperature": pick(1.0, 0.5, 1.7),
        "top_k": pick(0, 1, 3, 6),
        "top_p": pick(1.0, 0.9, 0.5),
        "min_p": pick(0.0, 0.05, 0.3),
    }
    ids = torch.tensor([history], dtype=torch.long)
    steps = [lp.SuppressTokensLogitsProcessor([0, 1], device="cpu")]
    if o["repetition_penalty"] != 1.0 and history:
        steps.append(lp.RepetitionPenaltyLogitsProcessor(o["repetition_penalty"]))
    if o["no_repeat_ngram_size"] > 0:
        steps.append(lp.NoRepeatNGramLogitsProcessor(o["no_repeat_ngram_size"]))
    if o["min_new_tokens"] > 0:
        steps.append(lp.MinNewTokensLengthLogitsProcessor(0, o["min_new_tokens"], END, device="cpu"))
    if o["suppress_tokens"]:
        steps.append(lp.SuppressTokensLogitsProcessor(o["suppress_tokens"], device="cpu"))
    if o["temperature"] != 1.0:
        steps.append(lp.TemperatureLogitsWarper(o["temperature"]))
    if o["top_k"] > 0:
        steps.append(lp.TopKLogitsWarper(o["top_k"]))
    if o["top_p"] < 1.0:
        steps.append(lp.TopPLogitsWarper(o["top_p"]))
    if o["min_p"] > 0.0:
        steps.append(lp.MinPLogitsWarper(o["min_p"]))
    scores = lp.LogitsProcessorList(steps)(ids, torch.tensor([logits], dtype=torch.float32))
    # Only differences matter to a distribution: everything relative to the best.
    row = (scores[0] - scores[0].max()).tolist()
    return {"logits": logits, "history": history, "options": o, "expected": [None if x == float("-inf") else round(x, 6) for x in row]}


def main():
    rng = random.Random(1)
    cases = [case(rng) for _ in range(200)]
    text = ",\n".join(json.dumps(one) for one in cases)
    path = Path(__file__).with_name("transformers.json")
    path.write_text('{"transformers": "%s", "cases": [\n%s\n]}\n' % (transformers.__version__, text), encoding="utf-8")


if __name__ == "__main__":
    main()

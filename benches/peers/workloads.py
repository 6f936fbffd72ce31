"""The three training workloads, as `s2s bench train` has them, and how all peers measure.

| | w1 | w2 | w3 |
|---|---|---|---|
| vocabularies, special ids counted | 80 / 2,500 | 30 / 75 | 10,000 / 10,000 |
| input of the LSTMs | one-hot | embedding of 256 | embedding of 128 |
| layers, hidden | 1 x 256 | 2 x 512 | 1 x 256 |
| batch | 64 | 128 | 64 |
| source / target steps | 25 / 15 | 8 / 8 | 50 / 51 |

Targets have one token less than their steps: the decoder reads START before them and gives END after them. `ragged` draws
each length uniformly from a fifth of the longest to the longest. Ids are uniform over the vocabulary without the special ids.
"""

import argparse
import json
import random
import statistics
import time

PAD, START, END, UNK = range(4)
WORKLOADS = {
    "w1": {
        "source_vocabulary": 80,
        "target_vocabulary": 2500,
        "embedding": None,
        "hidden": 256,
        "layers": 1,
        "batch": 64,
        "source_steps": 25,
        "target_steps": 15,
    },
    "w2": {
        "source_vocabulary": 30,
        "target_vocabulary": 75,
        "embedding": 256,
        "hidden": 512,
        "layers": 2,
        "batch": 128,
        "source_steps": 8,
        "target_steps": 8,
    },
    "w3": {
        "source_vocabulary": 10000,
        "target_vocabulary": 10000,
        "embedding": 128,
        "hidden": 256,
        "layers": 1,
        "batch": 64,
        "source_steps": 50,
        "target_steps": 51,
    },
}
BATCHES = 8


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workload", choices=WORKLOADS, default="w1")
    parser.add_argument("--input", choices=["one-hot", "embedding"], help="default: the workload's own; an embedding in w1 has width 256")
    parser.add_argument("--ragged", action="store_true", help="rows of different lengths, padded to the longest of their batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring, after the warm-up (default 10)")
    return parser


def workload(args):
    """Sizes by name, with --input applied."""
    sizes = dict(WORKLOADS[args.workload])
    if args.input:
        sizes["embedding"] = 256 if args.input == "embedding" else None
    return sizes


def batches(sizes, ragged):
    """A few fixed batches of (source, target) id lists without START and END."""
    generator = random.Random(1)

    def row(steps, vocabulary):
        length = generator.randint(max(1, steps // 5), steps) if ragged else steps
        return [generator.randrange(4, vocabulary) for _ in range(length)]

    pair = lambda: (
        row(sizes["source_steps"], sizes["source_vocabulary"]),
        row(sizes["target_steps"] - 1, sizes["target_vocabulary"]),
    )
    return [[pair() for _ in range(sizes["batch"])] for _ in range(BATCHES)]


def padded(batch):
    """Lists of ids of equal length: source (left-padded), decoder input, expected output (both right-padded)."""
    source_steps = max(len(source) for source, _ in batch)
    target_steps = max(len(target) for _, target in batch) + 1
    right = lambda ids: ids + [PAD] * (target_steps - len(ids))
    return (
        [[PAD] * (source_steps - len(source)) + source for source, _ in batch],
        [right([START, *target]) for _, target in batch],
        [right([*target, END]) for _, target in batch],
    )


def measure(step, seconds, rounds=5):
    """Calls step(i) over and over: warm-up, then `rounds` rounds; steps/s of each."""
    begin, count = time.perf_counter(), 0
    while count < BATCHES or time.perf_counter() - begin < seconds / 5:
        step(count % BATCHES)
        count += 1
    speeds = []
    for _ in range(rounds):
        begin, count = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - begin) < seconds / rounds or count == 0:
            step(count % BATCHES)
            count += 1
        speeds.append(count / elapsed)
    return speeds


def report(args, sizes, framework, speeds, losses, **more):
    """One line of JSON on stdout."""
    print(
        json.dumps(
            {
                "framework": framework,
                "workload": args.workload,
                "input": "embedding" if sizes["embedding"] else "one-hot",
                "ragged": args.ragged,
                "threads": args.threads,
                "steps_per_second": round(statistics.median(speeds), 3),
                "rounds": [round(speed, 3) for speed in speeds],
                "first_loss": round(losses[0], 4),
                "last_loss": round(losses[-1], 4),
                **more,
            }
        )
    )

"""Sentences a second of the greedy loop in Python over onnxruntime, as tutorials write it.

    python ort_loop.py BUNDLE TEXTS [--batch 64] [--threads 1] [--seconds 10] [--expected TRANSLATIONS]

Batch 1 is the loop of tests/python/fold.py. A larger batch takes the lines in order, left-pads them and steps until every
row has met END. The outputs are compared with the batch-1 loop's, and with --expected (one translation a line) if given.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "python"))
from fold import END, START, Bundle  # noqa: E402


def fold_batch(bundle, texts):
    """Greedy decoding of several texts at once."""
    state = bundle.start([bundle.encode(text) for text in texts])
    tokens, outputs, open_rows = [START] * len(texts), [[] for _ in texts], set(range(len(texts)))
    for _ in range(bundle.max_new_tokens):
        logits, state = bundle.step(tokens, state)
        tokens = logits.argmax(1).tolist()
        for row in list(open_rows):
            if tokens[row] == END:
                open_rows.discard(row)
            else:
                outputs[row].append(tokens[row])
        if not open_rows:
            break
    return [bundle.decode(output) for output in outputs]


def peak_rss_mb():
    """Largest resident set so far; getrusage counts KiB on Linux and bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("texts", help="a file, one text a line")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="intra-op threads of each session")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--expected", help="a file with the translation of each line")
    args = parser.parse_args()
    begin = time.perf_counter()
    bundle = Bundle(args.bundle, args.threads)
    loaded = time.perf_counter() - begin
    texts = [line for line in Path(args.texts).read_text(encoding="utf-8").split("\n") if line]
    groups = [texts[i : i + args.batch] for i in range(0, len(texts), args.batch)]
    run = (lambda group: [bundle.fold(group[0])]) if args.batch == 1 else (lambda group: fold_batch(bundle, group))

    outputs = [output for group in groups for output in run(group)]  # Also the warm-up.
    judge = outputs if args.batch == 1 else [bundle.fold(text) for text in texts]
    different = sum(a != b for a, b in zip(outputs, judge))
    if args.expected:
        lines = Path(args.expected).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        different += sum(a != b for a, b in zip(outputs, lines)) + abs(len(lines) - len(outputs))

    speeds, latencies, rounds, total, used = [], [], 5, 0, time.process_time()
    for _ in range(rounds):
        begin, count, index = time.perf_counter(), 0, 0
        while time.perf_counter() - begin < args.seconds / rounds or index == 0:
            group = groups[index % len(groups)]
            before = time.perf_counter()
            run(group)
            latencies.append(time.perf_counter() - before)
            count, index = count + len(group), index + 1
        speeds.append(count / (time.perf_counter() - begin))
        total += count
    used = time.process_time() - used
    latencies.sort()
    print(
        json.dumps(
            {
                "framework": f"Python loop over onnxruntime {onnxruntime.__version__}",
                "batch": args.batch,
                "threads": args.threads,
                "sentences_per_second": round(statistics.median(speeds), 2),
                "rounds": [round(speed, 2) for speed in speeds],
                "sentences_per_processor_second": round(total / used, 2),
                "call_ms_p50": round(1e3 * latencies[len(latencies) // 2], 3),
                "call_ms_p99": round(1e3 * latencies[min(len(latencies) * 99 // 100, len(latencies) - 1)], 3),
                "load_ms": round(1e3 * loaded, 1),
                "peak_rss_mb": peak_rss_mb(),
                "sentences": len(texts),
                "different_outputs": different,
            }
        )
    )
    sys.exit(int(different > 0))


if __name__ == "__main__":
    main()

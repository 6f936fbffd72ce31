"""Runs s2s and its peers in turns and prints Markdown tables with medians and ratios, for benches/README.md.

    python benches/run.py training [--workloads w1 w2] [--rounds 3] [--seconds 10] [--threads 2] [--pytorch PYTHON] [--keras PYTHON]
    python benches/run.py decoding BUNDLE TEXTS [--rounds 3] [--seconds 10] [--onnxruntime PYTHON]

Each peer runs in the Python that is named for it (benches/README.md says how to make them); one that is not named is left
out. Within a round every contestant runs once, so that a machine that slows down slows all of them. The figure of a
contestant is the median over rounds, the spread is (largest - smallest) / median. Raw results go to stderr, one JSON line each.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "benches" / "peers"


def run(command, environment=None):
    """The last line of stdout, read as JSON."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **(environment or {})}, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nexit code {done.returncode}\n{done.stderr[-2000:]}\n{done.stdout[-2000:]}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def interleave(contestants, rounds):
    """Every contestant once a round; the results by contestant."""
    results = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, command in contestants.items():
            results[name].append(run(command))
    return results


def rows(results, figure):
    """name, median and spread of one figure."""
    for name, runs in results.items():
        values = [one[figure] for one in runs]
        median = statistics.median(values)
        yield name, median, (max(values) - min(values)) / median


def table(title, unit, results, figure, ours, extra=()):
    """One Markdown table; the last column is the ratio of the first of our rows to this row."""
    found = list(rows(results, figure))
    base = next(median for name, median, _ in found if name.startswith(ours))
    print(f"\n### {title}\n\n| | {unit} | spread | s2s is faster by |" + "".join(f" {name} |" for name, _, _ in extra))
    print("|---|---:|---:|---:|" + "---:|" * len(extra))
    for name, median, spread in found:
        ratio = "" if name.startswith(ours) else f"{base / median:.2f}x"
        more = "".join(f" {show(statistics.median(one[key] for one in results[name] if one.get(key) is not None)) if any(one.get(key) is not None for one in results[name]) else ''} |" for _, key, show in extra)
        print(f"| {name} | {median:.4g} | {100 * spread:.0f} % | {ratio} |{more}")


def machine():
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {platform.system()} {platform.machine()}"


def training(args):
    for workload in args.workloads:
        for ragged in (False, True):
            common = ["--workload", workload, "--threads", args.threads, "--seconds", args.seconds, *(["--ragged"] if ragged else [])]
            other = "embedding" if workload == "w1" else "one-hot"
            ours = lambda *more: [args.s2s, "bench", "train", *common, *more, "--json"]
            contestants = {"s2s": ours(), f"s2s, {other} input": ours("--input", other)}
            for python, script in ((args.pytorch, "pytorch_training.py"), (args.keras, "keras_training.py")):
                if not python:
                    continue
                peer = {"pytorch_training.py": "PyTorch", "keras_training.py": "Keras on TensorFlow"}[script]
                command = [python, PEERS / script, *common]
                contestants[peer] = command
                contestants[f"{peer}, {other} input"] = [*command, "--input", other]
                if ragged and peer == "PyTorch":
                    contestants[f"{peer}, {other} input, packed sources"] = [*command, "--input", other, "--packed"]
            results = interleave({name: list(map(str, command)) for name, command in contestants.items()}, args.rounds)
            lengths = "ragged" if ragged else "full-length"
            percent = lambda share: f"{100 * share:.0f} %"
            extra = (("share of the products' peak", "share_of_peak", percent), ("fastest round", "share_of_peak_fastest", percent))
            table(f"Training, {workload}, {lengths} batches, {args.threads} threads", "steps/s", results, "steps_per_second", "s2s", extra)


def decoding(args):
    with tempfile.TemporaryDirectory() as folder:
        # What s2s gives is what every peer must give, line by line.
        expected = Path(folder) / "expected.txt"
        texts = Path(args.texts).read_text(encoding="utf-8")
        lines = "".join(line + "\n" for line in texts.split("\n") if line)
        done = subprocess.run([args.s2s, "translate", args.bundle], input=lines, capture_output=True, text=True, check=True, encoding="utf-8")
        expected.write_text(done.stdout, encoding="utf-8")
        for batch in (1, 64):
            contestants = {}
            for engine in args.engines:
                contestants[f"s2s, {engine}"] = [args.s2s, "bench", args.bundle, "--texts", args.texts, "--engine", engine]
            if args.onnxruntime:
                for threads in (1, 2):
                    name = f"Python over onnxruntime, {threads} thread{'s' if threads > 1 else ''}"
                    contestants[name] = [args.onnxruntime, PEERS / "ort_loop.py", args.bundle, args.texts, "--threads", threads, "--expected", expected]
            for name, command in contestants.items():
                command += ["--batch", batch, "--seconds", args.seconds, *(["--json"] if name.startswith("s2s") else [])]
            results = interleave({name: list(map(str, command)) for name, command in contestants.items()}, args.rounds)
            number = lambda digits: lambda value: f"{value:.{digits}f}"
            percent = lambda share: f"{100 * share:.0f} %"
            extra = (("share of the floor", "share_of_floor", percent), ("p50, ms a call", "call_ms_p50", number(2)), ("p99", "call_ms_p99", number(2)), ("load, ms", "load_ms", number(0)),
                     ("peak RSS, MB", "peak_rss_mb", number(0)))
            ours = f"s2s, {args.engines[0]}"
            table(f"Greedy decoding, batch {batch}, one worker", "sentences/s", results, "sentences_per_second", ours, extra)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--s2s", default=str(ROOT / "target" / "release" / "s2s"), help="the program (default: target/release/s2s)")
    commands = parser.add_subparsers(required=True, metavar="training|decoding")
    train = commands.add_parser("training")
    train.add_argument("--workloads", nargs="+", default=["w1", "w2"], choices=["w1", "w2", "w3"])
    train.add_argument("--threads", type=int, default=2)
    train.add_argument("--pytorch", help="a Python that has torch")
    train.add_argument("--keras", help="a Python that has keras and tensorflow")
    train.set_defaults(function=training)
    decode = commands.add_parser("decoding")
    decode.add_argument("bundle")
    decode.add_argument("texts", help="a file, one text a line")
    decode.add_argument("--engines", nargs="+", default=["tract", "ort"])
    decode.add_argument("--onnxruntime", help="a Python with the packages of tests/python/requirements.txt, such as .venv/bin/python")
    decode.set_defaults(function=decoding)
    for command in (train, decode):
        command.add_argument("--rounds", type=int, default=3)
        command.add_argument("--seconds", type=float, default=10.0, help="of measuring, for each contestant in each round")
    args = parser.parse_args()
    print(f"{machine()}; {args.rounds} rounds in turns, {args.seconds:g} s each")
    args.function(args)


if __name__ == "__main__":
    main()

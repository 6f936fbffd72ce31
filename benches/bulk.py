"""Bulk translation through the Python package: beside `s2s bench` on one thread, and on Ray and Spark beside plain processes.

    scripts/python benches/bulk.py exported/dates TEXTS                    one thread, beside s2s bench; memory over a million texts
    S2S_PACKAGE_PYTHON=.venv-clusters/bin/python scripts/python benches/bulk.py exported/dates TEXTS --clusters

`TEXTS` is a file of texts, one a line. Contestants run in turns; figures are medians over the rounds.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice

import s2s
from s2s import bulk

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def resident():
    """MiB that this process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def one_thread(args, texts):
    """Texts a second of the package and of `s2s bench`, with 64 rows together."""
    translator = s2s.Translator.open(args.bundle, engine="tract", workers=1, max_batch_size=64)
    translator.translate(texts[:256])
    found = {"s2s bench": [], "Python": []}
    for _ in range(args.rounds):
        command = [os.path.join(ROOT, "target/release/s2s"), "bench", args.bundle, "--texts", args.texts, "--batch", "64", "--engine", "tract", "--json"]
        said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        found["s2s bench"].append(said["sentences_per_second"])
        begun = time.perf_counter()
        translator.translate(texts)
        found["Python"].append(len(texts) / (time.perf_counter() - begun))
    bench, python = (statistics.median(found[name]) for name in ("s2s bench", "Python"))
    print(f"one thread, 64 rows: s2s bench {bench:,.0f} texts/s, Python {python:,.0f} texts/s ({python / bench:.2f}x)")


def memory(args, texts):
    """MiB before, in the middle of and after a million texts."""
    translator = s2s.Translator.open(args.bundle)
    held = []
    for at, _ in enumerate(translator.translate_iter(islice(cycle(texts), args.million))):
        if at % (args.million // 10) == args.million // 20:
            held.append(resident())
    print(f"{args.million:,} texts: {held[0]:.1f} MiB after {args.million // 20:,}, at most {max(held):.1f}, {held[-1]:.1f} at the end")


def clusters(args, texts):
    """Rows a second of the same parts on two processes, on Ray and on Spark with two workers."""
    import ray
    from pyspark.sql import SparkSession

    import s2s.ray
    import s2s.spark

    os.environ["PYSPARK_PYTHON"] = sys.executable
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}})
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    contestants = {
        "two processes": lambda source, out: bulk.translate_files(source, out, args.bundle, processes=2),
        "Ray": lambda source, out: s2s.ray.translate_files(source, out, args.bundle),
        "Spark": lambda source, out: s2s.spark.translate_files(source, out, args.bundle),
    }
    found = {name: [] for name in contestants}
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "texts.jsonl")
        with open(source, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"id": at, "text": text}) + "\n" for at, text in enumerate(islice(cycle(texts), args.rows)))
        for round_ in range(args.rounds + 1):
            for name, run in contestants.items():
                out = os.path.join(folder, "out")
                begun = time.perf_counter()
                run(source, out)
                # The first round opens workers.
                if round_ > 0:
                    found[name].append(args.rows / (time.perf_counter() - begun))
                shutil.rmtree(out)
    bare = statistics.median(found["two processes"])
    for name, rates in found.items():
        rate = statistics.median(rates)
        print(f"{name}: {rate:,.0f} rows/s with two workers ({rate / bare:.2f}x)")
    print(f"a billion rows: {1e9 / (bare / 2) / 3600:.1f} hours of a core")
    ray.shutdown()
    session.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("texts")
    parser.add_argument("--clusters", action="store_true", help="Ray and Spark instead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the clusters' file")
    parser.add_argument("--million", type=int, default=1_000_000, help="texts of the measurement of memory")
    args = parser.parse_args()
    with open(args.texts, encoding="utf-8") as file:
        texts = file.read().splitlines()
    if args.clusters:
        clusters(args, texts)
    else:
        one_thread(args, texts)
        memory(args, texts)


if __name__ == "__main__":
    main()

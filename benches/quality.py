"""Trains a committed config on real data, scores the exported bundle on the dev set and prints a Markdown table.

    python benches/quality.py cmudict --data DIR [--out runs/quality] [--resume]
    python benches/quality.py sigmorphon --data DIR
    python benches/quality.py cmn --data DIR

DIR is the folder that holds cmudict-2007, sigmorphon-2021 and manythings. Test sets are not touched. The word error rate is
the share of sources of which no reference was met, the token error rate counts edits to the closest reference. Seconds and
resident memory are those of `s2s train`, by the clock; a run that is there already is not trained again.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ["arm_e", "bul", "dut", "fre", "geo", "hbs_latn", "hun", "jpn_hira", "kor", "vie_hanoi"]
SCORES = ["exact_match", "token_error_rate", "chrf"]


def tasks(name):
    """(label, config, settings over the config, file of dev pairs or None for the config's own part)."""
    if name == "cmudict":
        configs = {"CMUdict 2007, attention": "configs/cmudict.yaml", "CMUdict 2007, no attention": "configs/cmudict_plain.yaml"}
        return [(label, config, {}, "cmudict-2007/dev.tsv") for label, config in configs.items()]
    if name == "cmn":
        split = {
            "data.validation.split": "shuffled",
            "training.epochs": 30,
            "training.exact_match.sample": 2000,
            "training.exact_match.every": 1,
            "training.best": "chrf",
            "training.scores": "[exact_match, token_error_rate, chrf]",
        }
        return [("cmn-tw, the tutorial's model", "configs/cmn_chars.yaml", split, None), ("cmn-tw, attention", "configs/cmn_attention.yaml", {}, None)]
    files = lambda language: {f"data.{part}": f"sigmorphon-2021/{language}_{part}.tsv" for part in ("train", "dev")}
    return [
        (language, "configs/sigmorphon.yaml", {"name": f"sigmorphon_{language}", **files(language)}, f"sigmorphon-2021/{language}_dev.tsv")
        for language in LANGUAGES
    ]


def run(command):
    """Runs s2s with its progress on our stderr; gives its stdout."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["cmudict", "sigmorphon", "cmn"])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "quality")
    parser.add_argument("--s2s", default=ROOT / "target" / "release" / "s2s")
    parser.add_argument("--resume", action="store_true", help="go on with runs that were interrupted")
    args = parser.parse_args()
    table = []
    for label, config, settings, dev in tasks(args.task):
        folder = (args.out / label.replace(" ", "_").replace(",", "")).resolve()
        bundle, record = folder / "bundle", folder / "quality.json"
        if not record.exists():
            sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
            again = ["--resume"] if args.resume and folder.exists() else ["--force"]
            begin = time.perf_counter()
            run([args.s2s, "train", config, "--data", args.data.resolve(), "-o", folder, *sets, *again])
            seconds = time.perf_counter() - begin
            # The largest of all children so far; KiB on Linux, bytes on macOS.
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
            run([args.s2s, "export", folder, "-o", bundle, "--force"])
            record.write_text(json.dumps({"seconds": round(seconds), "memory_mib": round(memory)}), encoding="utf-8")
        result = json.loads(record.read_text(encoding="utf-8"))
        if dev is None:
            epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
            best = [epoch for epoch in epochs if epoch["best"]][-1]
            result.update({key: best.get(key) for key in SCORES})
        else:
            score = json.loads(run([args.s2s, "eval", bundle, args.data.resolve() / dev, "--json"]).strip().splitlines()[-1])
            result.update({key: score.get(key) for key in SCORES})
        table.append((label, result))
    percent = lambda value: "" if value is None else f"{100 * value:.2f} %"
    print(f"\n{os.cpu_count()} processors\n\n| | word error rate | token error rate | chrF2 | training, s | memory, MiB |\n|---|---:|---:|---:|---:|---:|")
    for label, r in table:
        chrf = "" if r.get("chrf") is None else f"{r['chrf']:.1f}"
        errors = percent(1 - r["exact_match"]), percent(r["token_error_rate"])
        print(f"| {label} | {errors[0]} | {errors[1]} | {chrf} | {r['seconds']} | {r['memory_mib']} |")
    if len(table) > 2:
        mean = lambda key: statistics.mean(r[key] for _, r in table)
        print(f"| mean of {len(table)} | {percent(1 - mean('exact_match'))} | {percent(mean('token_error_rate'))} | | {sum(r['seconds'] for _, r in table)} | |")


if __name__ == "__main__":
    main()

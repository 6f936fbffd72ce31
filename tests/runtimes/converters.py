"""Holds graphs that went through a converter against the same reference as the graphs themselves.

    python tests/runtimes/converters.py             what scripts/test runs
    python tests/runtimes/converters.py --write     renews the table in docs/export.md too
    python tests/runtimes/converters.py --detours onnxsim,"opset 21" --variants lstm     a part, to look into something

Every detour of detours.py, on a plain LSTM, a GRU and a model with attention: states, scores, loss, and whole greedy decodes
character by character, in ONNX Runtime and in the engine tract. Known failures stand in detours.yaml, as those of runtimes in
exceptions.yaml. Ends with "N passed, N failed".
"""

import argparse
import copy
import json
import re
import shutil
import subprocess
import sys

import yaml

import checks
import report
import variants
from client import Client, RuntimeFailure
from conformance import Exceptions, judge, names, say
from runtimes import CACHE, HERE, ROOT, RUNTIMES, Missing, venv

# The newest that numpy, onnx and ONNX Runtime of tests/python/requirements.txt go with.
PACKAGES = (
    "onnx==1.23.2", "onnxruntime==1.32.0", "onnxsim==0.8.1", "onnxslim==0.1.98", "onnxconverter-common==1.16.0", "sympy==1.14.0", "numpy==2.4.6",
)  # fmt: skip
VARIANTS = ["lstm", "gru", "lstm-general"]
ENGINES = {"onnxruntime": "ONNX Runtime", "tract": "tract"}
# What a detour may add to the errors, where it rounds: numbers of 16 bits have 11 significant ones (5e-4), and some thirty steps
# add up; 8 bits a weight and an activation. Characters must be equal all the same.
TOLERANCES = {"float16": 1e-2, "quantize_dynamic": 0.3}
# Where quantisation changes characters by itself, they are compared with those of quantisation without a detour.
PLAIN_QUANTISATION, QUANTISED = "quantize_dynamic", "quant_pre_process, quantize_dynamic"


class Detours:
    """The tools, in an environment of their own."""

    def __init__(self):
        python = venv("converters", PACKAGES, (), say)
        self.process = subprocess.Popen([python, str(HERE / "detours.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8")
        hello = json.loads(self.process.stdout.readline())
        self.versions, self.names = hello["versions"], hello["detours"]

    def convert(self, detour, case, folder):
        """The case with its graphs converted, and what the tool said where it gave none, by path."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        converted, said = copy.copy(case), {}
        converted.bundle, converted.manifest = folder, {**case.manifest, "graphs": {}}
        for role, entry in case.manifest["graphs"].items():
            file = entry["file"].replace(".onnx", ".ort") if detour == "ORT format" else entry["file"]
            converted.manifest["graphs"][role] = {"file": file}
            self.process.stdin.write(json.dumps({"detour": detour, "graph": str(case.bundle / entry["file"]), "to": str(folder / file)}) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
            if "error" in answer:
                said[str(folder / file)] = answer["error"]
        return converted, said

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Through:
    """A runtime, whose graphs a tool may have failed to write."""

    def __init__(self, client, said):
        self.client, self.said = client, said

    def load(self, name, path, inputs, outputs):
        if str(path) in self.said:
            raise RuntimeFailure(f"the tool: {self.said[str(path)]}")
        return self.client.load(name, path, inputs, outputs)


def allowed(detour):
    return next((error for part, error in TOLERANCES.items() if part in detour), checks.TOLERANCE)


def write(record, entries, versions):
    """Renews the table and its notes in docs/export.md."""
    lines = ["| tool | " + " | ".join(ENGINES.values()) + " |", "|---" * (len(ENGINES) + 1) + "|"]
    rows = []
    for detour, found in record.items():
        cells = [report.cell(list(found[engine].values())) if engine in found else "not its format" for engine in ENGINES]
        rows.append((detour, cells))
    # The version converter's operator sets in as few rows as they differ.
    opsets = [(detour, cells) for detour, cells in rows if detour.startswith("opset ")]
    exact = lambda cells: [re.sub(r"\de-\d", "right", cell) for cell in cells]
    if opsets and all(exact(cells) == exact(opsets[0][1]) for _, cells in opsets):
        first, last = opsets[0][0], opsets[-1][0].split()[1]
        rows = [row for row in rows if row not in opsets[1:]]
        worst = [max(column) for column in zip(*(cells for _, cells in opsets))]
        rows[rows.index(opsets[0])] = (f"version converter, {first} to {last}", worst)
    lines += [f"| {detour} | " + " | ".join(cells) + " |" for detour, cells in rows]
    lines += ["", "Versions: " + ", ".join(f"{package} {version}" for package, version in versions.items()) + "."]
    lines += [f"\n{number}. {entry['why']} It says: `{entry['says']}`" for number, entry in enumerate(entries, 1)]
    path = ROOT / "docs" / "export.md"
    text, begin, end = path.read_text(encoding="utf-8"), "<!-- converters -->", "<!-- /converters -->"
    path.write_text(re.sub(f"{begin}.*?{end}", lambda _: "\n".join([begin, *lines, end]), text, flags=re.S), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="renew the table in docs/export.md")
    parser.add_argument("--detours", metavar="LIST", help="only these, separated by semicolons")
    parser.add_argument("--variants", metavar="LIST", help="only these, of all that tests/runtimes/run knows")
    args = parser.parse_args()
    if args.write and (args.detours or args.variants):
        parser.error("--write renews the table, which needs all detours and variants")
    try:
        detours = Detours()
    except Missing as failure:
        print(f"skipped: converters: {failure}\n0 passed, 0 failed")
        return
    chosen = names(args.detours.replace(",", "\0").replace(";", ","), [name.replace(",", "\0") for name in detours.names], "detour") if args.detours else detours.names
    wanted = names(args.variants, [variant.name for variant in variants.VARIANTS], "variant") if args.variants else VARIANTS
    made = variants.make(ROOT / "target" / "release" / "s2s", CACHE / "variants", [v for v in variants.VARIANTS if v.name in wanted], say)
    cases = [checks.Case(name, bundle, yaml.safe_load((bundle / "s2s.yaml").read_text(encoding="utf-8")), run) for name, (bundle, run) in made.items()]
    known = [f"{detour} > {engine}" for detour in detours.names for engine in ENGINES]
    exceptions = Exceptions(HERE / "detours.yaml", known)
    clients = {runtime.name: Client(*runtime.install(say), 120) for runtime in RUNTIMES if runtime.name in ENGINES}

    record, problems, passed, plain = {}, [], 0, {}
    for detour in (name.replace("\0", ",") for name in chosen):
        # The order of the tools: quantisation alone comes before what is compared with it.
        found = record[detour] = {}
        for case in cases:
            converted, said = detours.convert(detour, case, CACHE / "detours" / detour / case.name)
            for engine, client in clients.items():
                if detour == "ORT format" and engine != "onnxruntime":
                    continue
                converted.written, converted.expected = [], plain.get((case.name, engine)) if detour == QUANTISED else None
                results = checks.check(converted, Through(client, said), False, allowed(detour))
                if detour == PLAIN_QUANTISATION:
                    plain[case.name, engine] = converted.written
                    results["text"] = {"status": "ok", "texts": len(converted.written)} if converted.written else results["text"]
                wrong = judge(f"{detour} > {engine}", case.name, results, exceptions)
                found.setdefault(engine, {})[case.name] = results
                passed += len(results) - len(wrong)
                problems += wrong
        say(f"{detour}: " + ", ".join(f"{engine} {report.cell(list(results.values()))}" for engine, results in found.items()))
    detours.close()
    for client in clients.values():
        client.close()
    if args.write:
        write(record, exceptions.entries, detours.versions)
    for line in problems:
        print(f"FAIL  {line}")
    print(f"{passed} passed, {len(problems)} failed")
    sys.exit(bool(problems or not passed))


if __name__ == "__main__":
    main()

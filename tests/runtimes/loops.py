"""Runs every published loop (examples/loops, README.md, docs/export.md) and compares what it writes with `s2s translate`,
and for models imported from Keras with what Keras itself writes, character by character.

    python loops.py [--all] [--screenshot FILE.png]

Without --all only those whose installs are light: Python, Node, and the browser page where there is a Chromium. A loop that
cannot run here is named and skipped. Ends with "N passed, N failed".
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from runtimes import CACHE, ROOT, RUNTIMES, Missing, library, need

LOOPS = ROOT / "examples" / "loops"
KERAS = ROOT / "tests" / "keras"
S2S = ROOT / "target" / "release" / "s2s"
TEXTS = """\
3rd of April, 1999
12 May 2031
  FEBRUARY 28,  1960
2024-02-29
7.12.1987
5 m\u00e4rz 2020
\u6625\u306e\u65e5
?

the 23rd of October 1932
"""


def run(command, environment=None, texts=TEXTS):
    done = subprocess.run([str(part) for part in command], input=texts, capture_output=True, text=True, encoding="utf-8", env={**os.environ, **(environment or {})}, timeout=600)
    if done.returncode:
        raise AssertionError(f"{command[0]} failed with {done.returncode}: {done.stderr[-1500:]}")
    return done.stdout


def node_packages():
    """Installs what the runners of Node need too; gives NODE_PATH and, where it is, CHROMIUM."""
    node = next(runtime for runtime in RUNTIMES if runtime.kind == "node")
    return node.node(lambda text: print(text, file=sys.stderr))


def python(program):
    return lambda bundle, texts: run([sys.executable, LOOPS / "python" / program, bundle], texts=texts)


def node(program):
    def translate(bundle, texts):
        # An ES module finds its packages beside it.
        packages = Path(node_packages()["NODE_PATH"])
        copy = packages.parent / program
        copy.write_bytes((LOOPS / "node" / program).read_bytes())
        return run([need("node"), copy, bundle], texts=texts)

    return translate


def browser(bundle, texts, screenshot=None):
    web = next(runtime for runtime in RUNTIMES if runtime.kind == "web")
    environment = web.node(lambda text: print(text, file=sys.stderr))
    return run([need("node"), ROOT / "tests" / "runtimes" / "browser.cjs", bundle, *([screenshot] if screenshot else [])], environment, texts)


def rust(name, target):
    def translate(bundle, texts):
        project = LOOPS / name
        command = ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", project / "Cargo.toml", "--target-dir", target]
        subprocess.run(command, check=True)
        return run([target / "release" / name.replace("rust-", "translate-with-"), bundle], library(), texts)

    return translate


def block(document, folder):
    """The first Python block of a document that opens a file of this folder."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return next(block for block in blocks if f'"{folder}/' in block or f'"{folder}"' in block)


def pasted(document, folder):
    """A document's program as a reader makes it his own: another folder, other texts, room for longer ones."""

    def translate(bundle, texts):
        program = block(document, folder).replace(folder, str(bundle)).replace('"3 april 1999"', "TEXT")
        longest = re.search(r"^  max_new_tokens: (\d+)$", (bundle / "s2s.yaml").read_text(encoding="utf-8"), re.MULTILINE).group(1)
        program, limits = re.subn(r"len\(text\) < \d+|np\.array\(\d+\)", lambda limit: re.sub(r"\d+", longest, limit.group()), program)
        assert "TEXT" in program and str(bundle) in program and limits, f"{document} has another program now: change this one"
        lines = f"import sys\nfor TEXT in sys.stdin.read().splitlines():\n    exec(compile({program!r}, {document!r}, 'exec'))\n"
        return run([sys.executable, "-c", lines], texts=texts)

    return translate


# Models that Keras saved: the file, what Keras says, and the flags of the import. Keras reads padding behind the text.
IMPORTED = {
    "keras, zeros that count": ("one_hot.h5", "one_hot", []),
    "keras, spaces behind": ("spaces.keras", "spaces", ["--padding-symbol", " "]),
    "keras, embedding": ("embedding.h5", "embedding", []),
}
# With zeros for first states, a bridge and more memory than the output's; the programs in Rust and the short one in README.md know none of them.
FED = "fed, with a bridge"
TRAINED = {FED: "{cell: lstm, layers: 1, hidden: 24, attention: additive, bridge: tanh, feeding: output, input: one_hot}", "gru": "{cell: gru, layers: 1, hidden: 24, input: one_hot}", "attention": "{cell: lstm, layers: 1, hidden: 24, attention: dot, input: one_hot}", "two layers": "{cell: lstm, layers: 2, hidden: 24, input: one_hot}"}
# Enough for outputs that depend on the text.
CONFIG = """\
name: small
data: {{train: pairs.tsv, columns: {{extra: ignore}}, validation: {{split: tail, fraction: 0.2}}, source: {{unit: character}}, target: {{unit: character}}}}
model: {model}
training: {{epochs: 30, batch_size: 32, learning_rate: 1.0e-2}}
decoding: {{max_new_tokens: 24}}
"""


def bundles(folder):
    """Bundles of every kind by title, each with texts and what they become."""
    quiet = lambda *command: subprocess.run([str(part) for part in (S2S, *command, "--quiet")], check=True, cwd=KERAS, timeout=600)
    export = lambda run, bundle, *flags: quiet("export", run, "-o", bundle, "--fused", "--random", "4", *flags)
    yield "dates", ROOT / "exported" / "dates", TEXTS, None
    for title, (model, golden, flags) in IMPORTED.items():
        quiet("import", "keras", model, "--pairs", "pairs.tsv", *flags, "-o", folder / f"{golden}.run")
        export(folder / f"{golden}.run", folder / golden)
        cases = json.loads((KERAS / f"{golden}.json").read_text(encoding="utf-8"))["cases"][:40]
        lines = lambda key: "".join(case[key].rstrip("\n") + "\n" for case in cases)
        yield title, folder / golden, lines("source"), lines("target")
    pairs = (KERAS / "pairs.tsv").read_text(encoding="utf-8")
    (folder / "pairs.tsv").write_text(pairs, encoding="utf-8")
    texts = "".join(line.split("\t")[0] + "\n" for line in pairs.splitlines()[:20])
    for title, model in TRAINED.items():
        name = title.replace(", ", "_").replace(" ", "_")
        (folder / f"{name}.yaml").write_text(CONFIG.format(model=model), encoding="utf-8")
        quiet("train", folder / f"{name}.yaml", "-o", folder / f"{name}.run")
        export(folder / f"{name}.run", folder / name, "--encoder-form", "step")
        yield title, folder / name, texts, None


def perceptron(folder):
    """The bundle of a classifier, which no loop runs."""
    rows = "".join(f"{x},{y},{int(x > y)}\n" for x in range(6) for y in range(6))
    (folder / "points.csv").write_text(rows)
    config = """\
name: points
data: {train: points.csv, validation: {split: shuffled, fraction: 0.2}}
model: {kind: mlp, inputs: 2, hidden: [8], classes: 2}
training: {epochs: 1, batch_size: 8, learning_rate: 0.01}
"""
    (folder / "points.yaml").write_text(config)
    for command in (["train", folder / "points.yaml", "-o", folder / "points.run"], ["export", folder / "points.run", "-o", folder / "points"]):
        subprocess.run([str(part) for part in (S2S, *command, "--quiet")], check=True, timeout=600)
    return folder / "points"


def differing(found, expected):
    pairs = zip(found.splitlines(), expected.splitlines())
    return next((f"{a!r} instead of {b!r}" for a, b in pairs if a != b), f"{len(found.splitlines())} lines")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="the loops in Rust too, which are built first")
    parser.add_argument("--screenshot", metavar="FILE", help="a picture of the browser page")
    args = parser.parse_args()
    loops = {"python": python("translate.py"), "node": node("translate.mjs"), "browser": browser}
    by_step = {"python, by step": python("translate_step.py"), "node, by step": node("translate_step.mjs")}
    if args.all:
        loops |= {name: rust(name, CACHE / "loops") for name in ("rust-ort", "rust-tract")}
    # Programs that know no normalisation and no unknown symbols: for models and texts that have none.
    programs = {"README.md": pasted("README.md", "exported/dates"), "docs/export.md": pasted("docs/export.md", "dates")}
    passed = failed = 0
    missing = set()

    def check(title, expected, loop):
        nonlocal passed, failed
        try:
            found = loop()
            if found != expected:
                raise AssertionError(differing(found, expected))
            passed += 1
            print(f"ok    {title}: {len(expected.splitlines())} lines", flush=True)
        except (AssertionError, subprocess.SubprocessError) as error:
            failed += 1
            print(f"FAIL  {title}: {error}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        for kind, bundle, texts, keras in bundles(Path(folder)):
            expected = run([S2S, "translate", bundle], texts=texts)
            assert len(set(expected.splitlines())) > 5, f"{kind}: outputs that are all alike prove nothing"
            if keras is not None:
                check(f"s2s translate, {kind}", keras, lambda: expected)
            # What README.md's loop names itself are the two states of one LSTM layer, unless it asks the manifest.
            wired = keras is not None or "wiring" in block("README.md", "exported/dates")
            has_step = (bundle / "encoder_step.onnx").exists()
            for name, loop in {**loops, **(programs if kind != "dates" else {}), **(by_step if has_step else {})}.items():
                if name in missing or name == "README.md" and not wired or kind == FED and name.startswith(("rust", "README")):
                    continue
                try:
                    check(f"{name}, {kind}", expected, lambda: loop(bundle, texts))
                except Missing as problem:
                    missing.add(name)
                    print(f"skipped: loops, {name}: {problem}", flush=True)
        classifier = perceptron(Path(folder))
        for name, loop in loops.items():
            if name not in missing and name != "browser":
                check(f"{name}, a perceptron", "refused", lambda: refused(loop, classifier))
    if args.screenshot:
        browser(ROOT / "exported" / "dates", TEXTS, args.screenshot)
    print(f"{passed} passed, {failed} failed")
    sys.exit(bool(failed or not passed))


def refused(loop, bundle):
    """Whether a loop says in words that it has nothing to run here."""
    try:
        return loop(bundle, TEXTS)
    except AssertionError as error:
        return "refused" if "is a classifier" in str(error) and "no decoding loop" in str(error) else str(error)


if __name__ == "__main__":
    main()

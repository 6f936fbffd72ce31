"""What a run found: conformance.json for programs, RESULTS.md and the table in the READMEs for people.

    python tests/runtimes/report.py     writes the tables again from conformance.json
"""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import checks
import variants
from runtimes import HERE, ROOT, RUNTIMES

TITLES = {runtime.name: runtime.title for runtime in RUNTIMES}
# Columns of the table of kinds, each over some variants.
GROUPS = {
    "LSTM, embedding": ["lstm", "lstm-tied"],
    "LSTM, symbols": ["lstm-symbols"],
    "GRU": ["gru", "gru-symbols"],
    "GRU, reset before": ["gru-before"],
    "one-hot tensors": ["*+one-hot"],
    "2 layers": ["lstm-2", "gru-2"],
    "bidirectional": ["lstm-bi", "lstm-2-bi", "gru-bi", "gru-2-bi"],
    "attention": ["lstm-dot", "lstm-general", "lstm-symbols-bi-dot", "lstm-2-bi-general-tied", "gru-general", "gru-2-bi-dot"],
    "f16": ["*+f16"],
    "int8": ["*+int8"],
}
# Those that fit on a page beside the runtime's name: the READMEs have these.
SHORT = ["LSTM, embedding", "GRU", "attention", "int8"]
READMES = [ROOT / "README.md", ROOT / "README.zh.md"]


def matching(globs):
    return [v.name for v in variants.VARIANTS if any(fnmatchcase(v.name, glob) for glob in globs)]


def largest(results):
    errors = [result["error"] for result in results if "error" in result]
    return max(errors, default=None)


def summary(runtime, entry):
    results = [result for checks_ in entry["variants"].values() for result in checks_.values()]
    count = lambda status: sum(result["status"] == status for result in results)
    expected = sum("exception" in result for result in results)
    error = largest([result for result in results if result["status"] == "ok"])
    return (
        f"{runtime.name} {entry['version']}: {count('ok')} ok, {expected} known failures, {count('blocked')} not possible, "
        f"{count('wrong') + count('error') - expected} unexplained, largest error {error or 0:.1e}"
    )


def cell(results):
    """One or more variants in one runtime: the largest error if all is well, else which checks fail, and the reasons' numbers."""
    if not results:
        return "not run"
    bad = [(check, result) for found in results for check, result in found.items() if result["status"] != "ok"]
    good = [result for found in results for result in found.values() if result["status"] == "ok"]
    notes = sorted({result["exception"] for _, result in bad if "exception" in result})
    mark = "".join(f"[{number}]" for number in notes)
    texts = [found["text"]["status"] for found in results]
    if not bad:
        return f"{largest(good):.0e}".replace("e-0", "e-")
    if all(status == "ok" for status in texts):
        return "decodes" + f" {mark}"
    if any(status == "ok" for status in texts):
        return f"partly {mark}"
    if good:
        kinds = [check for check in ("encoder", "decoder", "training", "step") if all(found.get(check, {"status": "none"})["status"] == "ok" for found in results)]
        return (f"{', '.join(kinds)} only {mark}" if kinds else f"partly {mark}")
    return f"no {mark}"


def table(record, columns):
    lines = ["| runtime | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, entry in record.items():
        cells = [cell([entry["variants"][variant] for variant in members if variant in entry["variants"]]) for members in columns.values()]
        lines.append(f"| {TITLES[name]} {entry['version']} | " + " | ".join(cells) + " |")
    return lines


def notes(entries):
    return [f"{number}. **{TITLES[entry['runtime']]}**, {', '.join(entry['checks'])}: {entry['why']} It says: `{entry['says']}`" for number, entry in enumerate(entries, 1)]


def tidied(result):
    """A result without what differs from run to run: later digits, and folders in messages."""
    result = dict(result)
    if "error" in result:
        result["error"] = float(f"{result['error']:.1e}")
    if "message" in result:
        result["message"] = re.sub(r"(/[\w.@+-]+)+/", "", result["message"])[:200]
    return result


def write(record, entries, failed):
    """Renews the files; called after a whole run."""
    tidy = {
        name: {
            "version": entry["version"],
            "variants": {variant: {check: tidied(result) for check, result in found.items()} for variant, found in entry["variants"].items()},
        }
        for name, entry in record.items()
    }
    numbers = {"tolerance": checks.TOLERANCE, "failed": failed, "exceptions": entries, "runtimes": tidy}
    (HERE / "conformance.json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    tables(tidy, entries)


def tables(record, entries):
    """The tables for people, from results as conformance.json has them."""
    groups = {title: matching(globs) for title, globs in GROUPS.items()}
    for readme in filter(Path.exists, READMES):
        replace(readme, table(record, {title: groups[title] for title in SHORT}))

    lines = ["# Which runtimes run which graphs", "", "Written by `tests/runtimes/run --all`; [README.md](README.md) says how to read it.", ""]
    lines += ["## By kind of model", "", *table(record, groups), "", "## Every model", ""]
    runtimes = list(record)
    lines += ["| variant | " + " | ".join(TITLES[name] for name in runtimes) + " |", "|---" * (len(runtimes) + 1) + "|"]
    for variant in variants.VARIANTS:
        lines.append(f"| {variant.name} | " + " | ".join(cell([record[name]["variants"][variant.name]] if variant.name in record[name]["variants"] else []) for name in runtimes) + " |")
    lines += ["", "Versions: " + ", ".join(f"{TITLES[name]} {record[name]['version']}" for name in runtimes) + ".", "", "## Known failures", "", *notes(entries), ""]
    (HERE / "RESULTS.md").write_text("\n".join(lines), encoding="utf-8")


def replace(path, lines):
    """Puts lines between the markers `<!-- runtimes -->` and `<!-- /runtimes -->`."""
    text = path.read_text(encoding="utf-8")
    begin, end = "<!-- runtimes -->", "<!-- /runtimes -->"
    if begin not in text or end not in text:
        raise SystemExit(f"{path} has no place for the table: {begin} ... {end}")
    path.write_text(re.sub(f"{begin}.*?{end}", lambda _: "\n".join([begin, *lines, end]), text, flags=re.S), encoding="utf-8")


if __name__ == "__main__":
    numbers = json.loads((HERE / "conformance.json").read_text(encoding="utf-8"))
    tables(numbers["runtimes"], numbers["exceptions"])

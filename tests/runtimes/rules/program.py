"""Makes one graph a rule and case and runs it in every runtime: what `s2s lint` knows.

    tests/runtimes/run --rules                      every graph in every runtime; renews src/lint/measured.json and the figures of docs/lint.md
    tests/runtimes/run --rules --quick              the quick runtimes, held against measured.json (scripts/test)
    tests/runtimes/run --rules --quick --lint       and lint: every fault that was measured named, every one that it asserts true
    tests/runtimes/run --rules --runtimes a,b --rule clip       a part: written into measured.json too
    tests/runtimes/run --rules --figures            the figures alone, from what was measured before

Outcomes are kept in target/runtimes/rules, by all that they depend on; --fresh measures them again.
"""

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

from runtimes import ROOT, Runtime
from runtimes import RUNTIMES as KNOWN

from . import combine, compare, operators, others, recurrent
from .graphs import FORMS
from .measure import Measurer, write

TABLE = ROOT / "src" / "lint" / "measured.json"
PAGE = ROOT / "docs" / "lint.md"
PROGRAM = ROOT / "target" / "release" / "s2s"
MARKS = ("<!-- figures -->", "<!-- /figures -->")
# Other builds of a runtime: named where they differ from it alone.
BUILDS = {"onnxruntime-2023": "onnxruntime", "onnxruntime-rust": "onnxruntime", "onnxruntime-node": "onnxruntime", "onnxruntime-web": "onnxruntime"}
# Lint tells tract, as other programs have it, from this program's own engine, which mends much before tract reads a graph.
RUNTIMES = [replace(runtime, name="s2s") if runtime.name == "tract" else runtime for runtime in KNOWN]
RUNTIMES.append(Runtime("tract", "tract, as a crate", "rust", "tract"))
# As people run it, and not as the checks of our own graphs set it.
RUNTIMES = [replace(runtime, environment={"S2S_RUNTIME_DEFAULTS": "1"}) if runtime.name.startswith("onnxruntime") else runtime for runtime in RUNTIMES]
# Builds that cannot be asked for their defaults here are not compared where these decide, nor anything where the processor does.
BY_SETTINGS = {"dequantize-matmul"}
BY_PROCESSOR = {("matmul-integer", "8 bits"), ("operator", "MatMulInteger")}


def say(text):
    print(text, file=sys.stderr, flush=True)


def generate():
    """All graphs: of the rules, and of the operators."""
    made = [case for form in FORMS for module in (recurrent, others) for case in module.cases(form)]
    basic = [case for form in FORMS for case in operators.cases(form)]
    twice = [name for name, n in Counter(case.name for case in made + basic).items() if n > 1]
    if twice:
        raise SystemExit(f"two graphs are called {', '.join(sorted(twice))}")
    return made + basic


class Table:
    """measured.json: sorted, a line an outcome, so that its changes read well."""

    def __init__(self):
        old = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
        self.versions = dict(old.get("versions", {}))
        self.rows = {}
        for entry in old.get("cases", []) + old.get("operators", []):
            place = ("operators", entry["operator"]) if "operator" in entry else ("cases", entry["rule"], entry["case"])
            self.rows[(*place, entry["form"])] = entry["outcomes"]

    @staticmethod
    def place(case):
        return ("operators", case.case, case.form) if case.rule == "operator" else ("cases", case.rule, case.case, case.form)

    def get(self, case, runtime):
        """The outcome; that of the runtime itself for a build that is not named."""
        row = self.rows.get(self.place(case), {})
        return row.get(runtime) or row.get(BUILDS.get(runtime))

    def set(self, case, runtime, outcome):
        self.rows.setdefault(self.place(case), {})[runtime] = outcome

    def keep(self, cases):
        """Forgets graphs that are no longer made."""
        known = {self.place(case) for case in cases}
        self.rows = {place: outcomes for place, outcomes in self.rows.items() if place in known}

    def elsewhere(self, cases):
        """The runtimes that fail on the usual graph of an operator and do rightly with others that have it, by the operator's place."""
        used = {case.name: operators_of(case.model.graph) for case in cases}
        found = {}
        for case in cases:
            if case.rule != "operator":
                continue
            others = [other for other in cases if other is not case and other.form == case.form and case.case in used[other.name]]
            for runtime, outcome in self.rows.get(self.place(case), {}).items():
                right = any((self.get(other, runtime) or {}).get("is") == "right" for other in others)
                if outcome["is"] in ("wrong", "refused") and right:
                    found.setdefault(self.place(case), []).append(runtime)
        return found

    def write(self, cases):
        elsewhere = self.elsewhere(cases)
        versions = ",\n".join(f"    {json.dumps(name)}: {json.dumps(version)}" for name, version in sorted(self.versions.items()))
        text = ['{\n  "versions": {\n' + versions + "\n  },"]
        for part in ("cases", "operators"):
            entries = []
            for place in sorted(place for place in self.rows if place[0] == part):
                keys = ("operator", "form") if part == "operators" else ("rule", "case", "form")
                head = ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in zip(keys, place[1:]))
                outcomes = [f"      {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(self.thin(place).items())]
                if place in elsewhere:
                    head += f', "elsewhere": {json.dumps(sorted(elsewhere[place]))}'
                entries.append("    {" + head + ', "outcomes": {\n' + ",\n".join(outcomes) + "\n    }}")
            text.append(f'  "{part}": [\n' + ",\n".join(entries) + "\n  ]" + ("," if part == "cases" else "\n}"))
        TABLE.write_text("\n".join(text) + "\n", encoding="utf-8")

    def thin(self, place):
        """Without the builds that do as their runtime does."""
        outcomes = self.rows[place]
        same = lambda name: name in BUILDS and (place[1] in BY_SETTINGS or alike(outcomes.get(BUILDS[name], {}), outcomes[name]))
        return {name: outcome for name, outcome in outcomes.items() if not same(name)}


def operators_of(graph):
    """What a graph and its bodies consist of."""
    bodies = [body for node in graph.node for attribute in node.attribute for body in [attribute.g, *attribute.graphs]]
    return {node.op_type for node in graph.node}.union(*map(operators_of, bodies))


def alike(one, other):
    """Whether two outcomes are the same kind; how long a run takes is the machine's."""
    kind = lambda outcome: "right" if outcome.get("is") == "slow" else outcome.get("is")
    return kind(one) == kind(other)


def measure(cases, names, args):
    """Runs the graphs in these runtimes and writes the table, a runtime at a time."""
    paths = {case.name: write(case) for case in cases}
    shown = args.rule is not None
    for runtime in RUNTIMES:
        if runtime.name not in names:
            continue
        measurer = Measurer(runtime, say, minutes=args.minutes)
        # Where time runs out, the plain cells and the operators are what most graphs need.
        first = sorted(cases, key=lambda case: (case.form == "symbolic", case.rule not in ("lstm", "gru"), case.rule != "operator"))
        found = {case.name: measurer.outcome(case, paths[case.name], args.fresh) for case in first}
        # The drawn graphs are no part of the table: it would be tested on what it says.
        for case in [] if shown else combine.cases():
            measurer.outcome(case, write(case), args.fresh)
        measurer.close()
        # Read now and not before: another part may have been measured meanwhile.
        table = Table()
        made = generate()
        table.keep(made)
        for case in cases:
            table.set(case, runtime.name, found[case.name])
            if shown:
                say(f"  {runtime.name}: {case.name}: {json.dumps(found[case.name])}")
        if measurer.version:
            table.versions[runtime.name] = measurer.version
        table.write(made)
        counts = Counter(outcome["is"] for outcome in found.values())
        say(f"{runtime.name}: {', '.join(f'{n} {what}' for what, n in sorted(counts.items()))}")


def figures(cases, page=True):
    """Lint's precision and recall, over the rules' own graphs and over the drawn ones; written into docs/lint.md."""
    table, drawn = Table(), combine.cases()
    names = [runtime for runtime in RUNTIMES if runtime.name in table.versions and runtime.name not in BUILDS]
    kept = {runtime.name: Measurer(runtime, say, start=False) for runtime in names}
    # From the records: whoever has not measured the drawn graphs counts the rules' own alone.
    outcomes = [{name: found for name, measurer in kept.items() if (found := measurer.record(case))} for case in drawn]
    said = compare.reports(PROGRAM, [write(case) for case in cases + drawn])
    own = [{runtime.name: found for runtime in names if (found := table.get(case, runtime.name))} for case in cases]
    rows = [compare.compare(cases, own, said[: len(cases)]), compare.compare(drawn, outcomes, said[len(cases) :])]
    titles = ("one rule or operator each", f"two or three of them at once, drawn (seed {combine.SEED})")
    lines = [compare.HEAD, *(row.row(title) for row, title in zip(rows, titles))]
    for row, title in zip(rows, titles):
        say(row.row(title))
        for what, pairs in (("not named", row.missed), ("asserted, and not so", row.false)):
            for line in compare.worst(pairs):
                say(f"  {what}: {line}")
    text = PAGE.read_text(encoding="utf-8")
    if page and MARKS[0] in text:
        inside = re.escape(MARKS[0]) + ".*?" + re.escape(MARKS[1])
        PAGE.write_text(re.sub(inside, lambda _: "\n".join([MARKS[0], *lines, MARKS[1]]), text, flags=re.S), encoding="utf-8")
    return rows


def quick(cases, names, lint):
    """Measures the quick runtimes anew and holds them against the table; with `lint`, what lint says as well."""
    table, problems, passed = Table(), [], 0
    paths = {case.name: write(case) for case in cases}
    for runtime in RUNTIMES:
        if runtime.name not in names:
            continue
        measurer = Measurer(runtime, say)
        if measurer.missing:
            print(f"skipped: rules, {runtime.name}: {measurer.missing}", flush=True)
            continue
        same = measurer.version == table.versions.get(runtime.name)
        if not same:
            print(f"skipped: rules, {runtime.name}: {measurer.version} is here, and {table.versions.get(runtime.name)} was measured", flush=True)
            measurer.close()
            continue
        for case in cases:
            if (case.rule, case.case) in BY_PROCESSOR or runtime.name in BUILDS and case.rule in BY_SETTINGS:
                continue
            expected, found = table.get(case, runtime.name), measurer.outcome(case, paths[case.name], fresh=True, keep=False)
            if expected is None or not alike(expected, found):
                problems.append(f"{runtime.name}: {case.name}: {json.dumps(found)} instead of {json.dumps(expected)}")
            else:
                passed += 1
        measurer.close()
    said = compare.reports(PROGRAM, list(paths.values()))
    outcomes = [{name: found for name in names if name not in BUILDS and (found := table.get(case, name))} for case in cases]
    row = compare.compare(cases, outcomes, said)
    print(f"lint names {row.named} of {row.faults} wrong or refused runs; {row.true} of the {row.asserted} that it asserts are so")
    if lint:
        passed += row.true
        problems += [f"lint says {kind} of {runtime}, which was measured otherwise: {case}" for case, runtime, kind in row.false]
        problems += [f"lint does not name {runtime}, measured as {kind}: {case}" for case, runtime, kind in row.missed]
    for problem in problems:
        print(f"FAIL  {problem}")
    print(f"{passed} passed, {len(problems)} failed")
    return bool(problems)


def main(argv):
    parser = argparse.ArgumentParser(prog="tests/runtimes/run --rules", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="hold the quick runtimes and lint against measured.json")
    parser.add_argument("--lint", action="store_true", help="with --quick: fail too where lint misses a fault or asserts one that is none")
    parser.add_argument("--figures", action="store_true", help="count lint's precision and recall from what was measured")
    parser.add_argument("--runtimes", metavar="LIST", help="only these")
    parser.add_argument("--rule", metavar="NAME", help="only this rule or operator; says each outcome")
    parser.add_argument("--minutes", type=float, help="for each runtime; what is left then is not tried, until the next run")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    parser.add_argument("--no-build", action="store_true", help="take target/release as it is")
    args = parser.parse_args(argv)
    known = [runtime.name for runtime in RUNTIMES]
    names = args.runtimes.split(",") if args.runtimes else [runtime.name for runtime in RUNTIMES if runtime.quick or not args.quick]
    for name in names:
        if name not in known:
            parser.error(f"{name!r} is not a runtime; they are {', '.join(known)}")
    if not args.no_build:
        subprocess.run(["cargo", "build", "--release", "--locked", "--workspace", "--bins", "--examples"], cwd=ROOT, check=True)
    everything = generate()
    cases = [case for case in everything if args.rule in (None, case.rule, case.case)]
    say(f"{len(cases)} graphs")
    if args.quick:
        return quick(cases, names, args.lint)
    if not args.figures:
        measure(cases, names, args)
    if args.figures or not (args.rule or args.runtimes):
        figures(everything)
    return 0

"""Makes one graph a rule and runs it in every runtime: what `s2s lint` knows.

    tests/runtimes/run --rules                      every graph in every runtime; renews src/lint/measured.json
    tests/runtimes/run --rules --quick              the quick runtimes, held against measured.json (scripts/test)
    tests/runtimes/run --rules --runtimes a,b --rule clip       a part: says what comes out, and writes it into measured.json

Outcomes are kept in target/runtimes/rules, by all that they depend on; --fresh measures them again.
"""

import argparse
import json
import sys
from dataclasses import replace

from runtimes import ROOT, RUNTIMES as KNOWN, Runtime

from . import operators, others, recurrent
from .graphs import FORMS
from .measure import Measurer, write

TABLE = ROOT / "src" / "lint" / "measured.json"
# Other builds of a runtime: named where they differ from it alone.
BUILDS = {"onnxruntime-2023": "onnxruntime", "onnxruntime-rust": "onnxruntime", "onnxruntime-node": "onnxruntime", "onnxruntime-web": "onnxruntime"}
# Lint tells tract, as other programs have it, from this program's own engine, which mends much before tract reads a graph.
RUNTIMES = [replace(runtime, name="s2s") if runtime.name == "tract" else runtime for runtime in KNOWN]
RUNTIMES.append(Runtime("tract", "tract, as a crate", "rust", "tract"))
# As people run it, and not as the checks of our own graphs set it.
RUNTIMES = [replace(runtime, environment={"S2S_RUNTIME_DEFAULTS": "1"}) if runtime.name.startswith("onnxruntime") else runtime for runtime in RUNTIMES]


def say(text):
    print(text, file=sys.stderr, flush=True)


def generate():
    """All graphs: of the rules, and of the operators."""
    made = [case for form in FORMS for module in (recurrent, others) for case in module.cases(form)]
    basic = [case for form in FORMS for case in operators.cases(form)]
    names = [case.name for case in made + basic]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SystemExit(f"two graphs are called {', '.join(sorted(twice))}")
    return made, basic


class Table:
    """measured.json: sorted, a line an outcome, so that its changes read well."""

    def __init__(self):
        old = json.loads(TABLE.read_text()) if TABLE.exists() else {}
        self.versions = dict(old.get("versions", {}))
        self.rows = {}
        for entry in old.get("cases", []) + old.get("operators", []):
            self.rows[self.place(entry)] = entry["outcomes"]

    @staticmethod
    def place(entry):
        return ("operators", entry["operator"], entry["form"]) if "operator" in entry else ("cases", entry["rule"], entry["case"], entry["form"])

    @staticmethod
    def of(case):
        return ("operators", case.case, case.form) if case.rule == "operator" else ("cases", case.rule, case.case, case.form)

    def set(self, case, runtime, outcome):
        self.rows.setdefault(self.of(case), {})[runtime] = outcome

    def keep(self, cases):
        """Forgets graphs that are no longer made."""
        known = {self.of(case) for case in cases}
        self.rows = {place: outcomes for place, outcomes in self.rows.items() if place in known}

    def write(self):
        text = ['{\n  "versions": ' + json.dumps(dict(sorted(self.versions.items())), indent=4).replace("\n}", "\n  }") + ","]
        for part in ("cases", "operators"):
            entries = []
            for place in sorted(place for place in self.rows if place[0] == part):
                keys = ("operator", "form") if part == "operators" else ("rule", "case", "form")
                head = ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in zip(keys, place[1:]))
                outcomes = [f"      {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(self.thin(self.rows[place]).items())]
                entries.append("    {" + head + ', "outcomes": {\n' + ",\n".join(outcomes) + "\n    }}")
            text.append(f'  "{part}": [\n' + ",\n".join(entries) + "\n  ]" + ("," if part == "cases" else "\n}"))
        TABLE.write_text("\n".join(text) + "\n", encoding="utf-8")

    @staticmethod
    def thin(outcomes):
        """Without the builds that do as their runtime does."""
        same = lambda name: name in BUILDS and BUILDS[name] in outcomes and outcomes[BUILDS[name]]["is"] == outcomes[name]["is"]
        return {name: outcome for name, outcome in outcomes.items() if not same(name)}


def main(argv):
    parser = argparse.ArgumentParser(prog="tests/runtimes/run --rules", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runtimes", metavar="LIST")
    parser.add_argument("--rule", metavar="NAME")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--no-build", action="store_true", help="take target/release as it is")
    args = parser.parse_args(argv)
    wanted = args.runtimes.split(",") if args.runtimes else [runtime.name for runtime in RUNTIMES if runtime.quick or not args.quick]
    made, basic = generate()
    cases = [case for case in made + basic if args.rule in (None, case.rule, case.case)]
    paths = {case.name: write(case) for case in cases}
    say(f"{len(cases)} graphs")
    table = Table()
    table.keep(made + basic)
    for runtime in RUNTIMES:
        if runtime.name not in wanted:
            continue
        measurer = Measurer(runtime, say)
        counts = {}
        for case in cases:
            found = measurer.outcome(case, paths[case.name], args.fresh)
            table.set(case, runtime.name, found)
            counts[found["is"]] = counts.get(found["is"], 0) + 1
            if args.rule:
                say(f"  {runtime.name}: {case.name}: {json.dumps(found)}")
        if measurer.version:
            table.versions[runtime.name] = measurer.version
        measurer.close()
        say(f"{runtime.name}: {', '.join(f'{n} {what}' for what, n in sorted(counts.items()))}")
    table.write()

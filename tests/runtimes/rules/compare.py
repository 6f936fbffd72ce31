"""What `s2s lint --json` says about graphs, held against what runtimes did with them."""

import json
import subprocess
from collections import Counter
from dataclasses import dataclass, field

KINDS = ("wrong", "refused", "slow")
# Files a call: a report is a few kilobytes.
AT_ONCE = 50


@dataclass
class Figures:
    """Runs are pairs of a graph and a runtime in which it was tried."""

    graphs: int = 0
    runs: int = 0
    # Runs that were wrong or refused, and how many of them lint names.
    faults: int = 0
    named: int = 0
    # Faults that lint asserts, how many of them are faults, and how many are of the kind that it says.
    asserted: int = 0
    true: int = 0
    kind: int = 0
    missed: list = field(default_factory=list)
    false: list = field(default_factory=list)

    @staticmethod
    def share(part, whole):
        return f"{100 * part / whole:.1f} %" if whole else "none"

    def row(self, title):
        cells = [title, self.graphs, f"{self.runs:,}", f"{self.faults:,}", self.share(self.named, self.faults), f"{self.asserted:,}"]
        return "| " + " | ".join(map(str, [*cells, self.share(self.true, self.asserted), self.share(self.kind, self.asserted)])) + " |"


HEAD = """| graphs | how many | runs | wrong or refused | of these named (recall) | faults asserted | of these true (precision) | and of the kind that is said |
|---|---:|---:|---:|---:|---:|---:|---:|"""


def reports(program, paths):
    """What lint says about each file; nothing about one that it cannot read."""
    found = []
    for begin in range(0, len(paths), AT_ONCE):
        some = [str(path) for path in paths[begin : begin + AT_ONCE]]
        given = asked(program, some)
        # A file that cannot be read ends the call.
        found += given if len(given) == len(some) else [(asked(program, [path]) or [{"findings": []}])[0] for path in some]
    return found


def asked(program, paths):
    """The reports of one call: an object a file, one after the other."""
    text, given, at = subprocess.run([program, "lint", "--json", *paths], capture_output=True, text=True).stdout.strip(), [], 0
    while at < len(text):
        value, at = json.JSONDecoder().raw_decode(text, at)
        given += value if isinstance(value, list) else [value]
        at += len(text[at:]) - len(text[at:].lstrip())
    return [report for report in given if "findings" in report]


def is_met(finding, case):
    """Whether what the case feeds is what the finding says must be fed; most say nothing."""
    rule, kind = finding["rule"], finding.get("case")
    # A drawn graph names the cases that it is made of.
    return not finding.get("when") or (rule, kind) == (case.rule, case.case) or f"{rule} ({kind})" in case.case


def faults(report, case):
    """The worst that lint asserts for each runtime, on what the case feeds."""
    worst = {}
    for finding in report["findings"]:
        if not is_met(finding, case):
            continue
        for runtime, outcome in finding["runtimes"].items():
            kind = outcome["is"] if isinstance(outcome, dict) else {"refuses": "refused"}.get(outcome, outcome)
            if kind in KINDS:
                worst.setdefault(runtime, []).append(kind)
    # A graph that is refused gives no wrong numbers, and a wrong one is not waited for.
    return {runtime: min(kinds, key=("refused", "wrong", "slow").index) for runtime, kinds in worst.items()}


def compare(cases, outcomes, said):
    """Counts over all runs. `outcomes`: one {runtime: outcome} a case; `said`: lint's report on each."""
    figures = Figures(graphs=len(cases))
    for case, measured, report in zip(cases, outcomes, said):
        claims = faults(report, case)
        for runtime, outcome in measured.items():
            kind = outcome["is"]
            if kind == "not tried":
                continue
            figures.runs += 1
            claim = claims.get(runtime)
            if kind in ("wrong", "refused"):
                figures.faults += 1
                if claim in ("wrong", "refused"):
                    figures.named += 1
                else:
                    figures.missed.append((case.name, runtime, kind))
            if claim in ("wrong", "refused"):
                figures.asserted += 1
                figures.true += kind in ("wrong", "refused")
                figures.kind += kind == claim
                if kind not in ("wrong", "refused"):
                    figures.false.append((case.name, runtime, claim))
    return figures


def worst(pairs, count=12):
    """Where most of the runs that differ come from, for whoever mends it."""
    return [f"{n} x {runtime}: {kind}, for example {next(c for c, r, k in pairs if (r, k) == (runtime, kind))}" for (runtime, kind), n in Counter((r, k) for _, r, k in pairs).most_common(count)]

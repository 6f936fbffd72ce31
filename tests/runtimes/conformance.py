"""Runs every graph variant in every runtime, and holds what comes out against a reference in float64.

    tests/runtimes/run --quick           what installs in seconds, on one variant of each kind
    tests/runtimes/run --all             everything; renews conformance.json, RESULTS.md and the table in README.md
    tests/runtimes/run --all --resume    the same after an interruption: runtimes that were through are not run again
    tests/runtimes/run --runtimes a,b --variants x,y      a part, to look into something
    tests/runtimes/run --rules           one graph a rule of `s2s lint` instead: see rules/program.py

Known failures stand in exceptions.yaml with the runtime's own words. A failure that is not there fails the run, and so
does an entry whose failure no longer occurs. Ends with "N passed, N failed".
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

import checks
import report
import variants
from client import Client, RuntimeFailure
from runtimes import CACHE, HERE, ROOT, RUNNERS, RUNTIMES, Missing


def say(text):
    print(text, file=sys.stderr, flush=True)


class Exceptions:
    """exceptions.yaml: which check of which variant fails in which runtime, what the runtime says, and why."""

    def __init__(self, path):
        self.entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        known = {runtime.name for runtime in RUNTIMES}
        for number, entry in enumerate(self.entries, 1):
            wrong = set(entry) ^ {"runtime", "variants", "checks", "says", "why"}
            if wrong or entry["runtime"] not in known or not set(entry["checks"]) <= set(checks.CHECKS):
                raise SystemExit(f"{path}: entry {number} is not as the first lines of the file say: {entry}")

    def find(self, runtime, variant, check):
        """The number (from 1) and the entry for one check, if it is expected to fail."""
        for number, entry in enumerate(self.entries, 1):
            if entry["runtime"] == runtime and check in entry["checks"] and any(fnmatchcase(variant, glob) for glob in entry["variants"]):
                return number, entry
        return None, None


def judge(runtime, variant, results, exceptions):
    """Marks expected failures in `results`; gives the problems as lines."""
    problems = []
    for check, result in results.items():
        number, entry = exceptions.find(runtime, variant, check)
        message = result.get("message", "")
        where = f"{runtime}: {variant}: {check}"
        if result["status"] in ("ok", "blocked"):
            if entry:
                problems.append(f"{where}: passes, but exceptions.yaml, entry {number}, expects {entry['says']!r}; take it out")
        elif entry and entry["says"] in message:
            result["exception"] = number
        else:
            problems.append(f"{where}: {message}" + (f" (exceptions.yaml, entry {number}, expects {entry['says']!r})" if entry else ""))
    return problems


def names(text, known, what):
    chosen = [name.strip() for name in text.split(",")]
    for name in chosen:
        if name not in known:
            raise SystemExit(f"{name!r} is not a {what}; they are {', '.join(known)}")
    return chosen


class Records:
    """What runtimes gave, kept in target/runtimes so that an interrupted run can go on."""

    def __init__(self, made, resume):
        programs = [HERE / "checks.py", HERE / "client.py", HERE / "reference.py", *sorted(path for path in RUNNERS.rglob("*") if path.is_file())]
        digest = hashlib.sha256()
        for path in [*programs, *(bundle / "s2s.yaml" for bundle, _ in made.values())]:
            digest.update(path.read_bytes())
        self.folder, self.key, self.resume = CACHE / "records", digest.hexdigest(), resume

    def load(self, runtime):
        path = self.folder / f"{runtime.name}.json"
        if not (self.resume and path.exists()):
            return None
        record = json.loads(path.read_text())
        return record["found"] if record["key"] == self.key else None

    def save(self, runtime, found):
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{runtime.name}.json").write_text(json.dumps({"key": self.key, "found": found}))


def run_all(runtime, cases):
    """All checks of all bundles in one runtime, and its version."""
    command, environment = runtime.install(say)
    client = Client(command, environment, 300)
    client.start()
    found = {case.name: checks.check(case, client, runtime.pinned, checks.allowed_error(runtime.name, case.name)) for case in cases if case.name in variants.QUICK or not runtime.few}
    client.close()
    return {"version": client.version, "variants": found}


def arguments():
    parser = argparse.ArgumentParser(prog="tests/runtimes/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="what installs in seconds, on one variant of each kind")
    parser.add_argument("--all", action="store_true", help="everything; renews the tables")
    parser.add_argument("--resume", action="store_true", help="take over what an earlier run with the same bundles and programs found")
    parser.add_argument("--runtimes", metavar="LIST", help="only these")
    parser.add_argument("--variants", metavar="LIST", help="only these")
    parser.add_argument("--no-build", action="store_true", help="take target/release as it is")
    args = parser.parse_args()
    if not (args.quick or args.all or args.runtimes or args.variants):
        parser.error("say --quick or --all")
    if args.all and (args.runtimes or args.variants):
        parser.error("--all renews the tables, which needs all runtimes and variants")
    return args


def main():
    args = arguments()
    if not args.no_build:
        subprocess.run(["cargo", "build", "--release", "--locked", "--workspace", "--bins", "--examples"], cwd=ROOT, check=True)
    runtimes = [runtime for runtime in RUNTIMES if runtime.quick or not args.quick]
    if args.runtimes:
        wanted = names(args.runtimes, [runtime.name for runtime in RUNTIMES], "runtime")
        runtimes = [runtime for runtime in RUNTIMES if runtime.name in wanted]
    chosen = [variant for variant in variants.VARIANTS if variant.name in variants.QUICK or not args.quick]
    if args.variants:
        wanted = names(args.variants, [variant.name for variant in variants.VARIANTS], "variant")
        chosen = [variant for variant in variants.VARIANTS if variant.name in wanted]
    exceptions = Exceptions(HERE / "exceptions.yaml")
    begin = time.monotonic()
    made = variants.make(ROOT / "target" / "release" / "s2s", CACHE / "variants", chosen, say)
    cases = []
    for name, (bundle, run) in made.items():
        cases.append(checks.Case(name, bundle, yaml.safe_load((bundle / "s2s.yaml").read_text(encoding="utf-8")), run))
    say(f"{len(cases)} variants after {time.monotonic() - begin:.0f} s")

    records = Records(made, args.resume)
    record, problems, passed = {}, [], 0
    for runtime in runtimes:
        begin = time.monotonic()
        try:
            entry = records.load(runtime) or run_all(runtime, cases)
        except (Missing, RuntimeFailure) as failure:
            # Chromium and Node are not everywhere; the rest of the quick half is.
            if isinstance(failure, Missing) and args.quick and runtime.kind in ("node", "web"):
                print(f"skipped: runtimes, {runtime.name}: {failure}", flush=True)
            else:
                say(f"{runtime.name}: {failure}")
                problems.append(f"{runtime.name}: {failure}")
            continue
        records.save(runtime, entry)
        record[runtime.name] = entry
        wrong = [line for name, results in entry["variants"].items() for line in judge(runtime.name, name, results, exceptions)]
        passed += sum(map(len, entry["variants"].values())) - len(wrong)
        problems += wrong
        for line in wrong:
            say(f"FAIL  {line}")
        say(f"{report.summary(runtime, entry)}, {time.monotonic() - begin:.0f} s")
    if args.all and len(record) == len(RUNTIMES):
        report.write(record, exceptions.entries, len(problems))
    for line in problems:
        print(f"FAIL  {line}")
    print(f"{passed} passed, {len(problems)} failed")
    sys.exit(bool(problems))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rules"]:
        from rules import program

        sys.exit(program.main(sys.argv[2:]))
    main()

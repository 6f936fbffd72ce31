"""Runs the copy-paste loops of examples/loops and compares them with `s2s translate`, character by character.

    python loops.py [--all] [--screenshot FILE.png]

Without --all only those whose installs are light: Python, Node, and the browser page where there is a Chromium. A loop that
cannot run here is named and skipped. Ends with "N passed, N failed".
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from runtimes import CACHE, ROOT, RUNTIMES, Missing, library, need

LOOPS = ROOT / "examples" / "loops"
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


def run(command, environment=None):
    done = subprocess.run([str(part) for part in command], input=TEXTS, capture_output=True, text=True, encoding="utf-8", env={**os.environ, **(environment or {})}, timeout=600)
    if done.returncode:
        raise AssertionError(f"{command[0]} failed with {done.returncode}: {done.stderr[-1500:]}")
    return done.stdout


def node_packages():
    """Installs what the runners of Node need too; gives NODE_PATH and, where it is, CHROMIUM."""
    node = next(runtime for runtime in RUNTIMES if runtime.kind == "node")
    return node.node(lambda text: print(text, file=sys.stderr))


def python(bundle):
    return run([sys.executable, LOOPS / "python" / "translate.py", bundle])


def node(bundle):
    # An ES module finds its packages beside it.
    packages = Path(node_packages()["NODE_PATH"])
    copy = packages.parent / "translate.mjs"
    copy.write_bytes((LOOPS / "node" / "translate.mjs").read_bytes())
    return run([need("node"), copy, bundle])


def browser(bundle, screenshot=None):
    web = next(runtime for runtime in RUNTIMES if runtime.kind == "web")
    environment = web.node(lambda text: print(text, file=sys.stderr))
    return run([need("node"), ROOT / "tests" / "runtimes" / "browser.cjs", bundle, *([screenshot] if screenshot else [])], environment)


def rust(name, target):
    def translate(bundle):
        project = LOOPS / name
        command = ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", project / "Cargo.toml", "--target-dir", target]
        subprocess.run(command, check=True)
        return run([target / "release" / name.replace("rust-", "translate-with-"), bundle], library())

    return translate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="the loops in Rust too, which are built first")
    parser.add_argument("--screenshot", metavar="FILE", help="a picture of the browser page")
    args = parser.parse_args()
    bundles = {"dates": ROOT / "exported" / "dates"}
    # Other forms, where the runtime tests have made them.
    forms = {"attention": "lstm-general", "int8": "gru+int8"}
    bundles |= {title: CACHE / "variants" / name for title, name in forms.items() if (CACHE / "variants" / name).exists()}
    loops = {"python": python, "node": node, "browser": browser}
    if args.all:
        loops |= {name: rust(name, CACHE / "loops") for name in ("rust-ort", "rust-tract")}
    passed = failed = 0
    for name, loop in loops.items():
        for title, bundle in bundles.items():
            try:
                expected = run([ROOT / "target" / "release" / "s2s", "translate", bundle])
                found = loop(bundle)
                if found != expected:
                    pairs = zip(found.splitlines(), expected.splitlines())
                    raise AssertionError(next((f"{a!r} instead of {b!r}" for a, b in pairs if a != b), f"{len(found.splitlines())} lines"))
                passed += 1
                print(f"ok    {name}, {title}: {len(TEXTS.splitlines())} lines as s2s translate writes them", flush=True)
            except Missing as missing:
                print(f"skipped: loops, {name}: {missing}", flush=True)
                break
            except (AssertionError, subprocess.SubprocessError) as error:
                failed += 1
                print(f"FAIL  {name}, {title}: {error}", flush=True)
    if args.screenshot:
        browser(bundles["dates"], args.screenshot)
    print(f"{passed} passed, {failed} failed")
    sys.exit(bool(failed or not passed))


if __name__ == "__main__":
    main()

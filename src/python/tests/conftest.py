"""What the tests share; `scripts/python -m pytest src/python/tests` runs them, with the package of the last build."""

import subprocess
import sys
from pathlib import Path

import pytest
import s2s

ROOT = Path(__file__).resolve().parents[3]


def pytest_terminal_summary(terminalreporter):
    """The figures and the reasons of skips, as scripts/test reads them of every program of tests."""
    counts = {name: len(terminalreporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(f"skipped: {report.nodeid.split('::')[-1]}: {report.longrepr[2].removeprefix('Skipped: ')}")
    failed = counts["failed"] + counts["error"]
    terminalreporter.write_line(
        f"test result: {'FAILED' if failed else 'ok'}. {counts['passed'] + counts['skipped']} passed; {failed} failed; 0 ignored;"
    )


@pytest.fixture(scope="session")
def dates() -> str:
    return str(ROOT / "exported" / "dates")


@pytest.fixture(scope="session")
def translator(dates) -> s2s.Translator:
    return s2s.Translator.open(dates)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Dates as people write them, of many lengths, all different."""
    months = ["January", "Feb", "march", "Apr.", "May", "JUNE", "July", "aug", "September", "Oct", "Nov.", "December"]
    forms = ["{m} {d}, {y}", "{d} {m} {y}", "{y}-{n}-{d}", "{d}.{n}.{y}", "{m} {d} {y}"]
    return [
        forms[i % 5].format(d=1 + i % 28, m=months[i % 12], n=1 + i % 12, y=1950 + i * 7 % 149) + " " * (i // 1000)
        for i in range(2000)
    ]


@pytest.fixture(scope="session")
def config() -> dict:
    """A training of a second or two, with attention."""
    return {
        "name": "tiny",
        "data": {
            "task": {"name": "dates", "train": 400, "dev": 40, "seed": 1},
            "source": {"unit": "character", "normalisation": ["nfkc", "lowercase"]},
            "target": {"unit": "character"},
        },
        "model": {"cell": "gru", "hidden": 16, "input": {"embedding": 8}, "attention": "dot"},
        "training": {"epochs": 2, "batch_size": 32, "learning_rate": 3e-3, "threads": 1},
    }


@pytest.fixture(scope="session")
def run(config, tmp_path_factory) -> s2s.Run:
    return s2s.train(config, output=tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def attention(run, tmp_path_factory) -> s2s.Bundle:
    return run.export(tmp_path_factory.mktemp("exported") / "tiny", random=4)


@pytest.fixture(scope="session")
def program():
    """Runs the program `s2s` of the package."""

    def call(*arguments, given="", **options) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "s2s", *map(str, arguments)]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=300, **options)

    return call

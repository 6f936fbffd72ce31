"""Training, export, verification and lint: the commands of the program, with results instead of prints."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import _native
from ._bundle import Bundle
from ._errors import ParityError
from ._translator import find_onnxruntime

Path = str | os.PathLike[str]


def _arguments(options: Mapping[str, Any]) -> list[str]:
    """Options as the command line writes them: `max_loss=0.1` is `--max-loss=0.1`, and a list repeats its flag."""
    arguments = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is True:
                arguments.append(flag)
            elif one is not None and one is not False:
                arguments.append(f"{flag}={os.fspath(one) if isinstance(one, os.PathLike) else one}")
    return arguments


@dataclass(frozen=True)
class Run:
    """A folder that a training wrote."""

    path: str

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The figures of each epoch."""
        with open(os.path.join(self.path, "metrics.jsonl"), encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if line.strip()]

    def export(self, output: Path | None = None, **options: Any) -> Bundle:
        """Exports it, see `export`."""
        return export(self.path, output, **options)

    def __fspath__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Report:
    """What a verification found."""

    passed: bool
    """Whether every check passed; those that were skipped count as passed."""
    checks: list[dict[str, Any]]
    """The checks: what was held against what, the outcome and the figures."""


def train(
    config: Path | Mapping[str, Any],
    *,
    output: Path | None = None,
    data: Path | None = None,
    set: Mapping[str, Any] | None = None,
    init_from: Path | None = None,
    extend_vocabulary: bool = False,
    resume: bool = False,
    force: bool = False,
    callback: Callable[[dict[str, Any]], object] | None = None,
) -> Run:
    """Trains a model as a config says, and gives the run.

    :param config: a YAML file, or what would stand in one, whose data files are then looked for in the working folder.
    :param output: the run folder; by default the config's own, else runs/NAME.
    :param data: where the data files lie.
    :param set: values that are laid over the config, for example `{"training.epochs": 3}`.
    :param init_from: a run whose weights and vocabularies the training starts from.
    :param resume: goes on with the run where it stopped, bit for bit.
    :param force: starts over, replacing the run that is in the folder.
    :param callback: is called with a dict for each epoch and other events; what it raises stops the training, whose checkpoint
        is kept.
    :raises ConfigError: for a config that does not fit, with file, line and key.
    :raises DataError: for data that cannot be read.
    """
    options = {
        "output": output,
        "data": data,
        "init_from": init_from,
        "extend_vocabulary": extend_vocabulary,
        "resume": resume,
        "force": force,
        "set": [f"{key}={_yaml(value)}" for key, value in (set or {}).items()],
    }
    heard = None if callback is None else lambda event: callback(json.loads(event))
    if not isinstance(config, Mapping):
        return Run(str(_native.train([os.fspath(config), *_arguments(options)], heard)))
    options["data"] = os.getcwd() if data is None else data
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "config.yaml")
        with open(file, "w", encoding="utf-8") as out:
            json.dump(config, out, ensure_ascii=False)
        return Run(str(_native.train([file, *_arguments(options)], heard)))


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def export(run: Run | Path, output: Path | None = None, **options: Any) -> Bundle:
    """Exports a run as three ONNX graphs, verifies them and gives the bundle.

    :param output: the folder of the bundle; by default exported/NAME, if nothing is there.
    :param options: the flags of `s2s export` with underscores: `dtype="int8"`, `target="openvino"`, `fused=True`,
        `checkpoint="last"`, `force=True`, ...
    :raises ParityError: if a check failed; nothing is written then.
    """
    find_onnxruntime()
    folder, _ = _native.export([os.fspath(run), *_arguments({"output": output, **options})])
    return Bundle(folder)


def verify(bundle: Bundle | Path, *, check: bool = True, **options: Any) -> Report:
    """Holds a bundle's graphs against the network and the engines.

    :param check: whether a check that fails raises; else the report says so.
    :param options: the flags of `s2s verify` with underscores: `random=16`, `beam=4`, `texts="texts.txt"`, `no_write=True`, ...
    :raises ParityError: if a check failed.
    """
    find_onnxruntime()
    path = bundle.path if isinstance(bundle, Bundle) else os.fspath(bundle)
    found = json.loads(_native.verify([path, *_arguments(options)]))
    report = Report(found["passed"], found["checks"])
    if check and not report.passed:
        failed = [one for one in report.checks if one.get("outcome") == "failed"]
        raise ParityError(f"{path}: {len(failed)} of {len(report.checks)} checks failed", message=str(failed[:3]))
    return report


def lint(path: Path, runtimes: list[str] | None = None) -> dict[str, Any]:
    """Says which runtimes refuse an ONNX graph, or run it wrongly.

    :param runtimes: only what concerns these.
    """
    return json.loads(_native.lint(path, runtimes or []))

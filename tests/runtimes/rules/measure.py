"""Runs graphs in runtimes, and says what each does: right, wrong, refused, slow or not tried."""

import hashlib
import json
import re
import statistics
import time
from pathlib import Path

import numpy as np
import onnx
from client import Client, RuntimeFailure
from runtimes import CACHE, RUNNERS, Missing

FOLDER = CACHE / "rules"
# Seconds until a runtime that says nothing is ended: they are graphs of a few thousand numbers.
LIMIT, COMPILER_LIMIT = 60, 240
# Compilers that take seconds a graph and size: they get no graphs that are about other things than they are.
PATIENCE = {"emx-onnx-cgen", "iree", "litert", "tvm"}
# How much longer than its fix a form may take.
SLOW = 3.0


def write(case):
    """The graph's file; with its tensors beside it where the case says so."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{case.name}.onnx"
    if case.external:
        data = f"{case.name}.data"
        (FOLDER / data).unlink(missing_ok=True)
        onnx.save(case.model, path, save_as_external_data=True, location=data, size_threshold=case.external)
    else:
        path.write_bytes(serialised(case.model))
    return path


def serialised(model):
    return model.SerializeToString(deterministic=True)


def key(case, runner):
    """Names everything that an outcome depends on."""
    digest = hashlib.sha256(runner)
    for part in (serialised(case.model), serialised(case.fix) if case.fix else b"", repr((case.tolerance, case.external, SLOW)).encode()):
        digest.update(part)
    for feed, right in case.feeds:
        for name, array in [*feed.items(), *right.items()]:
            digest.update(repr((name, array.dtype, array.shape)).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


# What stands in front of what is said: types of exceptions, places in a runtime's own source, headings.
PRELUDES = [
    r"^(RuntimeError|ValueError|Fail|error|Exception|AssertionError|NotImplemented|NotImplementedError|InvalidArgument|InvalidGraph|RuntimeException): ",
    r"^Exception from \S+:\d+: \| ",
    r"^Check '.*?' failed at \S+:\d+: \| ",
    r"^FrontEnd API failed with \w+: \| ",
    r"^.*CALLBACK HAS THROWN: ",
    r"^.*with friendly_name '[^']*': \| ",
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"^OpenCV\([\d.]+\) ",
    r"^[\w.]+:\d+: error: \([-\w: ]+\) ",
    r"^onnx_importer2.cpp:\d+ \w+ ",
    r"^DNN/ONNX: the model graph.onnx' cannot be loaded with the new parser. Trying the older parser. (\| )?",
    r"^Exception during initialization: [\w.]+:\d+ ",
    r"^\S+::\S+\([^)]*\) ",
    r"^Model wasn't fully converted. Failed operations detailed log: \| (-- )?",
    r"^\w+-\d+ with a message: \| While validating ONNX node '[^']*': ",
]


def words(message):
    """A runtime's message as one line that does not change from run to run."""
    message = re.sub(r"\S*/([\w.-]+\.onnx)", "graph.onnx", message)
    message = re.sub(r"Graph has a cycle, .*", "Graph has a cycle", message)
    message = re.sub(r"0x[0-9a-f]{4,}", "0x...", message)
    message = re.sub(r"(/[\w.+-]+){2,}/", "", message)
    message = re.sub(r"\d{4}-\d\d-\d\d[ T][\d:.,]+\S*|\[pid \d+\]|\b\d+\.\d+ ?m?s\b", "...", message)
    message = re.sub(r"\[ ?(WARN|ERROR):\d+@[\d.]+\] (global )?|(?<=[A-Za-z])_\d{3,}\b", "", message)
    message = re.sub(r"\[\d\d:\d\d:\d\d\] (\S*:\d+: )?| \| Summary: .*", "", " ".join(message.split()))
    # What was said before a crash is about something else.
    message = re.sub(r"^(the process ended with SIG\w+): .*", r"\1", message)
    before = None
    while before != message:
        before = message
        for prelude in PRELUDES:
            message = re.sub(prelude, "", message)
    return message if len(message) <= 200 else message[:197] + "..."


def told(outcome):
    """An outcome as the table has it; the records keep the whole message."""
    return {**outcome, "says": words(outcome["says"])} if outcome and "says" in outcome else outcome


def rounded(error):
    """Two digits, so that the table's changes are changes."""
    return float(f"{error:.1e}")


def judge(case, graph, once=False):
    """What the loaded graph gives, held against what is right; `once`: at the first sizes alone."""
    worst = 0.0
    for feed, right in case.feeds[:1] if once else case.feeds:
        given = graph.run(feed)
        for name, expected in right.items():
            with np.errstate(invalid="ignore"):
                found = given[name].astype(np.float64)
            # A single number may come as a row of one.
            if found.size == expected.size == 1:
                found = found.reshape(expected.shape)
            if found.shape != expected.shape:
                return {"is": "wrong", "says": f"{name} has shape {list(found.shape)} instead of {list(expected.shape)}"}
            if not np.isfinite(found).all():
                return {"is": "wrong", "says": f"{name} has {'NaN' if np.isnan(found).any() else 'infinite'} values"}
            if expected.size:
                worst = max(worst, float((np.abs(found - expected) / np.maximum(1.0, np.abs(expected))).max()))
    return {"is": "right" if worst <= case.tolerance else "wrong", "error": rounded(worst)}


def times_as_long(graph, fixed, feed, repeats=11):
    """Medians of both, run in turns: machines drift. The smaller of two tries, as others may be at work."""

    def seconds(which):
        begin = time.perf_counter()
        which.run(feed)
        return time.perf_counter() - begin

    def ratio():
        both = [(seconds(graph), seconds(fixed)) for _ in range(repeats)][1:]
        return statistics.median(one for one, _ in both) / statistics.median(other for _, other in both)

    first = ratio()
    return first if first < SLOW else min(first, ratio())


class Measurer:
    """One runtime, its process started when it is needed and anew after a crash."""

    def __init__(self, runtime, say, start=True, minutes=None):
        self.runtime, self.say = runtime, say
        self.limit = COMPILER_LIMIT if runtime.few else LIMIT
        self.path = FOLDER / "records" / f"{runtime.name}.json"
        self.records = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.client, self.version, self.missing = None, None, None
        self.deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
        self.patient = runtime.name in PATIENCE
        try:
            command, environment = runtime.install(say)
            if start:
                self.client = Client(command, environment, self.limit)
                self.client.start()
                self.version = self.client.version
        except (Missing, RuntimeFailure) as failure:
            self.missing = words(str(failure))
        own = RUNNERS / runtime.runner if runtime.kind in ("python", "node", "web") else Path(command[0])
        self.runner = b"" if self.missing else own.read_bytes() + repr(runtime.packages).encode()

    def outcome(self, case, path, fresh=False, keep=True):
        """The outcome of one graph; an earlier one where nothing has changed, unless `fresh`."""
        if self.missing:
            return {"is": "not tried", "says": self.missing}
        if self.patient and (case.rule == "combined" or case.rule == "opset" and (case.form == "symbolic" or case.case.startswith("LSTM"))):
            return {"is": "not tried", "says": "takes too long to compile, and tells little about this compiler"}
        name = key(case, self.runner)
        if not keep:
            return told(self.attempt(case, path))
        if name not in self.records and time.monotonic() > self.deadline:
            return {"is": "not tried", "says": "no time was left"}
        if fresh or name not in self.records:
            found = self.attempt(case, path)
            if found["is"] == "wrong":
                # Not because of what another graph left behind: once more in a process of its own.
                self.client.close()
                found = self.attempt(case, path)
            self.records[name] = found
            self.save()
        return told(self.records[name])

    def record(self, case):
        """What was measured before, if it was."""
        return None if self.missing else told(self.records.get(key(case, self.runner)))

    def attempt(self, case, path):
        names = [value.name for value in case.model.graph.input]
        outputs = [value.name for value in case.model.graph.output]
        try:
            graph = self.client.load(str(path), path, names, outputs)
            found = judge(case, graph, once=self.patient)
            if case.fix is not None and found["is"] == "right":
                other = path.with_suffix(".fix.onnx")
                other.write_bytes(serialised(case.fix))
                fixed = self.client.load(str(other), other, [value.name for value in case.fix.graph.input], [value.name for value in case.fix.graph.output])
                ratio = times_as_long(graph, fixed, case.feeds[0][0])
                if ratio >= SLOW:
                    found = {"is": "slow", "ratio": rounded(ratio), "error": found["error"]}
            return found
        except RuntimeFailure as failure:
            said = str(failure)
            if self.runtime.few and said.startswith("no answer within"):
                return {"is": "not tried", "says": f"{said}: too long to compile"}
            return {"is": "refused", "says": said}
        except Missing as failure:
            return {"is": "not tried", "says": str(failure)}

    def close(self):
        if self.client is not None:
            self.client.close()

    def save(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.records))

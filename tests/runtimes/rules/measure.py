"""Runs graphs in runtimes, and says what each does: right, wrong, refused, slow or not tried."""

import hashlib
import json
import re
import statistics
import time

import numpy as np
import onnx
from client import Client, RuntimeFailure
from runtimes import CACHE, RUNNERS, Missing

FOLDER = CACHE / "rules"
# Seconds until a runtime that says nothing is ended: they are graphs of a few thousand numbers.
LIMIT, COMPILER_LIMIT = 60, 240
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
    for part in (serialised(case.model), serialised(case.fix) if case.fix else b"", repr((case.tolerance, case.external)).encode()):
        digest.update(part)
    for feed, right in case.feeds:
        for name, array in [*feed.items(), *right.items()]:
            digest.update(repr((name, array.dtype, array.shape)).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def words(message):
    """A runtime's message as one line that does not change from run to run."""
    message = re.sub(r"\S*/([\w.-]+\.onnx)", "graph.onnx", message)
    message = re.sub(r"0x[0-9a-f]{4,}", "0x...", message)
    message = re.sub(r"(/[\w.+-]+){2,}/", "", message)
    message = re.sub(r"\d{4}-\d\d-\d\d[ T][\d:.,]+\S*|\[pid \d+\]|\b\d+\.\d+ ?m?s\b", "...", message)
    message = " ".join(message.split())
    return message if len(message) <= 200 else message[:197] + "..."


def rounded(error):
    """Two digits, so that the table's changes are changes."""
    return float(f"{error:.1e}")


def judge(case, graph):
    """What the loaded graph gives, held against what is right."""
    worst = 0.0
    for feed, right in case.feeds:
        given = graph.run(feed)
        for name, expected in right.items():
            found = given[name].astype(np.float64)
            if found.shape != expected.shape:
                return {"is": "wrong", "says": f"{name} has shape {list(found.shape)} instead of {list(expected.shape)}"}
            if not np.isfinite(found).all():
                return {"is": "wrong", "says": f"{name} has {'NaN' if np.isnan(found).any() else 'infinite'} values"}
            if expected.size:
                worst = max(worst, float((np.abs(found - expected) / np.maximum(1.0, np.abs(expected))).max()))
    return {"is": "right" if worst <= case.tolerance else "wrong", "error": rounded(worst)}


def timed(graph, feed, repeats=9):
    """Median seconds of a run."""
    spent = []
    for _ in range(repeats):
        begin = time.perf_counter()
        graph.run(feed)
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent[1:])


class Measurer:
    """One runtime, its process started when it is needed and anew after a crash."""

    def __init__(self, runtime, say):
        self.runtime, self.say = runtime, say
        self.limit = COMPILER_LIMIT if runtime.few else LIMIT
        self.path = FOLDER / "records" / f"{runtime.name}.json"
        self.records = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.client, self.version, self.missing = None, None, None
        self.tensors = {}
        try:
            command, environment = runtime.install(say)
            self.client = Client(command, environment, self.limit)
            self.client.start()
            self.version = self.client.version
        except (Missing, RuntimeFailure) as failure:
            self.missing = words(str(failure))
        own = [RUNNERS / runtime.runner] if runtime.kind in ("python", "node", "web") else sorted((RUNNERS / "rust" / "src").glob("*.rs"))
        self.runner = b"".join(path.read_bytes() for path in own) + str(self.version).encode()

    def outcome(self, case, path, fresh=False):
        """The outcome of one graph; an earlier one where nothing has changed, unless `fresh`."""
        if self.missing:
            return {"is": "not tried", "says": self.missing}
        name = key(case, self.runner)
        if fresh or name not in self.records:
            found = self.attempt(case, path)
            if found["is"] == "wrong":
                # Not because of what another graph left behind: once more in a process of its own.
                self.client.close()
                found = self.attempt(case, path)
            self.records[name] = found
        return self.records[name]

    def attempt(self, case, path):
        names = [value.name for value in case.model.graph.input]
        outputs = [value.name for value in case.model.graph.output]
        try:
            graph = self.client.load(str(path), path, names, outputs)
            found = judge(case, graph)
            if case.fix is not None and found["is"] == "right":
                other = path.with_suffix(".fix.onnx")
                other.write_bytes(serialised(case.fix))
                fixed = self.client.load(str(other), other, [value.name for value in case.fix.graph.input], [value.name for value in case.fix.graph.output])
                feed = case.feeds[0][0]
                ratio = timed(graph, feed) / timed(fixed, feed)
                if ratio >= SLOW:
                    found = {"is": "slow", "ratio": rounded(ratio), "error": found["error"]}
            return found
        except RuntimeFailure as failure:
            said = words(str(failure))
            if self.runtime.few and said.startswith("no answer within"):
                return {"is": "not tried", "says": f"{said}: too long to compile"}
            return {"is": "refused", "says": said}
        except Missing as failure:
            return {"is": "not tried", "says": words(str(failure))}

    def close(self):
        if self.client is not None:
            self.client.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.records))

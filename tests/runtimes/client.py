"""The process of one runtime, driven by the protocol that runners/serve.py describes."""

import json
import signal
import subprocess
import tempfile
import threading

import numpy as np

from runtimes import Missing


class RuntimeFailure(Exception):
    """What the runtime said, or how it died."""


class Client:
    """A runtime that is started when it is needed, and again after a crash."""

    def __init__(self, command, environment, limit):
        self.command, self.environment, self.limit = command, environment, limit
        self.process, self.folder, self.version = None, tempfile.TemporaryDirectory(prefix="s2s-runtime-"), None

    def start(self):
        self.log = open(f"{self.folder.name}/stderr", "wb")
        self.process = subprocess.Popen(
            self.command, cwd=self.folder.name, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, encoding="utf-8"
        )
        hello = self.read()
        if "missing" in hello:
            self.close()
            raise Missing(hello["missing"])
        self.version = hello["version"]

    def ask(self, **request):
        if self.process is None:
            self.start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # It has died: reading says how.
        reply = self.read()
        if "error" in reply:
            raise RuntimeFailure(reply["error"])
        return reply

    def read(self):
        """The next line; the process is killed if none comes in time."""
        timer = threading.Timer(self.limit, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        late = not timer.is_alive()
        timer.cancel()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.close()
        if late:
            raise RuntimeFailure(f"no answer within {self.limit} s")
        lines = [line.strip() for line in open(f"{self.folder.name}/stderr", encoding="utf-8", errors="replace") if line.strip()]
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise RuntimeFailure(f"the process ended with {how}: {' | '.join(lines[-4:])[-500:]}")

    def load(self, name, path, inputs, outputs):
        self.ask(load=name, path=str(path), inputs=inputs, outputs=outputs)
        return Graph(self, name, inputs, outputs)

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
            self.process = None
            self.log.close()


class Graph:
    """A loaded graph: arrays in and out by name."""

    def __init__(self, client, name, inputs, outputs):
        self.client, self.name, self.inputs, self.outputs = client, name, inputs, outputs

    def run(self, feed):
        wired = {
            name: {"type": str(array.dtype), "shape": list(array.shape), "hex": np.ascontiguousarray(array).tobytes().hex()}
            for name, array in feed.items()
        }
        reply = self.client.ask(run=self.name, feed=wired)
        if len(reply["outputs"]) != len(self.outputs):
            raise RuntimeFailure(f"gives {len(reply['outputs'])} outputs instead of {len(self.outputs)}")
        arrays = [np.frombuffer(bytes.fromhex(value["hex"]), np.float32).reshape(value["shape"]) for value in reply["outputs"]]
        return dict(zip(self.outputs, arrays))

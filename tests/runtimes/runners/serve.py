"""Serves one runtime over stdin and stdout, a JSON object a line, so that every runtime is driven by the same program.

    python serve.py run_NAME.py

Says first {"version": ...}, or {"missing": why}. Then for each request:
  {"load": name, "path": file, "inputs": [...], "outputs": [...]}          gives {}
  {"run": name, "feed": {input: {"type", "shape", "hex"}}}                 gives {"outputs": [{"shape", "hex"}, ...]}
or {"error": message}. `type` is int64, int32 or float32; `hex` the little-endian bytes; outputs are float32.

A runner is a module with VERSION and load(path, inputs, outputs), which gives a function from {input: array} to the
outputs' arrays, in order.
"""

import importlib.util
import json
import os
import sys

# Libraries print: what they say goes to stderr, the protocol keeps the real stdout for itself.
answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)


def answer(value):
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def message(error):
    """The last line that says something, for a table."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " | ".join(lines)
    # Some begin with what happened, some end with it.
    return f"{type(error).__name__}: {text if len(text) <= 1200 else text[:600] + ' ... ' + text[-600:]}"


def main():
    try:
        import numpy as np

        spec = importlib.util.spec_from_file_location("runner", sys.argv[1])
        runner = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(runner)
        answer({"version": str(runner.VERSION)})
    except ImportError as error:
        return answer({"missing": str(error)})
    graphs = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "load" in request:
                graphs[request["load"]] = runner.load(request["path"], request["inputs"], request["outputs"])
                answer({})
                continue
            feed = {
                name: np.frombuffer(bytes.fromhex(value["hex"]), value["type"]).reshape(value["shape"]).copy()
                for name, value in request["feed"].items()
            }
            outputs = [np.asarray(array) for array in graphs[request["run"]](feed)]
            wide = [array.dtype for array in outputs if array.dtype != np.float32]
            if wide:
                raise TypeError(f"an output is {wide[0]} instead of float32")
            answer({"outputs": [{"shape": list(array.shape), "hex": np.ascontiguousarray(array).tobytes().hex()} for array in outputs]})
        except Exception as error:  # Whatever a runtime raises is its answer.
            answer({"error": message(error)})


main()

"""What people do to a graph before they run it: simplifiers, converters of versions, formats and precisions, quantisation.

    python detours.py        reads {"detour": name, "graph": file, "to": file} a line, answers {} or {"error": message}

Each runs in a process of its own, so that a crash is an answer too. `VERSIONS` are the tools' versions.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import onnx
import onnx.version_converter
import onnxconverter_common.float16
import onnxruntime
import onnxruntime.transformers.float16
import onnxsim
import onnxslim
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

VERSIONS = {package: version(package) for package in ("onnx", "onnxruntime", "onnxsim", "onnxslim", "onnxconverter-common")}
# Newest first, as far as ONNX Runtime of this version reads them.
OPSETS = range(15, 25)
# An answer takes a second or so.
LIMIT = 120


def simplify(graph, to):
    model, is_right = onnxsim.simplify(onnx.load(graph))
    if not is_right:
        raise RuntimeError("onnxsim says itself that the simplified graph computes something else")
    onnx.save(model, to)


def slim(graph, to):
    onnx.save(onnxslim.slim(onnx.load(graph)), to)


def opset(number):
    return lambda graph, to: onnx.save(onnx.version_converter.convert_version(onnx.load(graph), number), to)


def ort_format(graph, to):
    """As the command of ONNX Runtime does it: a folder in, a file .ort beside each graph out."""
    command = [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort"]
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(onnx.load(graph), f"{folder}/graph.onnx")
        done = subprocess.run([*command, folder, "--optimization_style", "Fixed"], capture_output=True, text=True)
        written = Path(folder) / "graph.ort"
        if not written.exists():
            raise RuntimeError(" ".join((done.stderr or done.stdout).split())[-400:])
        Path(to).write_bytes(written.read_bytes())


def half_by(converter):
    """16-bit weights and arithmetic; inputs and outputs stay in 32 bits, so that the same loop runs the graphs."""
    return lambda graph, to: onnx.save(converter(onnx.load(graph), keep_io_types=True), to)


def prepare(graph, to):
    quant_pre_process(graph, to)


def quantise(graph, to):
    # Without VNNI, sums of 8-bit products of full range saturate.
    quantize_dynamic(graph, to, weight_type=QuantType.QInt8, reduce_range=True)


def prepare_and_quantise(graph, to):
    with tempfile.TemporaryDirectory() as folder:
        prepare(graph, f"{folder}/prepared.onnx")
        quantise(f"{folder}/prepared.onnx", to)


DETOURS = {
    "onnxsim": simplify,
    "onnxslim": slim,
    **{f"opset {number}": opset(number) for number in OPSETS},
    "ORT format": ort_format,
    "float16, onnxconverter-common": half_by(onnxconverter_common.float16.convert_float_to_float16),
    "float16, onnxruntime.transformers": half_by(onnxruntime.transformers.float16.convert_float_to_float16),
    "quant_pre_process": prepare,
    "quantize_dynamic": quantise,
    "quant_pre_process, quantize_dynamic": prepare_and_quantise,
}


def run(request):
    try:
        DETOURS[request["detour"]](request["graph"], request["to"])
        return {}
    except Exception as error:  # Whatever a tool raises is its answer.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return {"error": f"{type(error).__name__}: {' | '.join(lines)[:600]}"}


def apart(request):
    """The answer of a process of its own, or how it died."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        signal.alarm(LIMIT)
        os.write(writes, json.dumps(run(request)).encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, encoding="utf-8") as answer:
        text = answer.read()
    status = os.waitpid(child, 0)[1]
    if text:
        return json.loads(text)
    died = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
    return {"error": f"the process ended with {died}"}


def main():
    # Tools print: what they say goes to stderr, the answers keep the real stdout.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(json.dumps({"versions": VERSIONS, "detours": list(DETOURS)}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(apart(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""emx-onnx-cgen: C source for each set of sizes, compiled by the C compiler."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version

import numpy as np
import onnx

VERSION = version("emx-onnx-cgen")
COMPILER = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
if COMPILER is None:
    raise ImportError("a C compiler, which emx-onnx-cgen needs")


def load(path, inputs, outputs):
    graph = onnx.load(path).graph
    symbols = [[axis.dim_param for axis in value.type.tensor_type.shape.dim] for value in graph.input]
    compiled = {}

    def sized(feed):
        pins = {symbol: size for value, axes in zip(graph.input, symbols) for symbol, size in zip(axes, feed[value.name].shape) if symbol}
        key = tuple(sorted(pins.items()))
        if key not in compiled:
            with tempfile.TemporaryDirectory() as folder:
                source, library = os.path.join(folder, "graph.c"), os.path.join(folder, "graph.so")
                options = [f"--input-dim={symbol}={size}" for symbol, size in pins.items()]
                step("compile", [sys.executable, "-m", "emx_onnx_cgen", "compile", *options, "--large-weight-threshold", "0", path, source])
                step("cc", [COMPILER, "-O1", "-shared", "-fPIC", "-w", source, "-o", library, "-lm"])
                compiled[key] = ctypes.CDLL(library).model, pins
        return compiled[key]

    def run(feed):
        call, pins = sized(feed)
        results = {}
        for value in graph.output:
            axes = value.type.tensor_type.shape.dim
            results[value.name] = np.zeros([pins.get(axis.dim_param, axis.dim_value) for axis in axes], np.float32)
        arrays = [np.ascontiguousarray(feed[value.name]) for value in graph.input] + list(results.values())
        call(*[array.ctypes.data_as(ctypes.c_void_p) for array in arrays])
        return [results[name] for name in outputs]

    return run


def step(name, command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines()
        raise RuntimeError(f"{name}: {next((line for line in reversed(lines) if 'rror' in line), lines[-1] if lines else done.returncode)}")

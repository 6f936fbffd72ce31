"""IREE: compiled for the local CPU, run by its VM."""

import os
import subprocess
import sys
import tempfile
from importlib.metadata import version

import iree.compiler
import iree.runtime as rt
import numpy as np
import onnx
from iree.compiler.tools import compile_file

VERSION = version("iree-base-compiler")


def load(path, inputs, outputs):
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "graph.mlir")
        command = [sys.executable, "-m", "iree.compiler.tools.import_onnx", path, "-o", text]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError("import: " + done.stderr[-400:])
        code = compile_file(text, target_backends=["llvm-cpu"], input_type="onnx", extra_args=["--iree-llvmcpu-target-cpu=host"])
    graph = onnx.load(path).graph
    fed, given = ([value.name for value in values] for values in (graph.input, graph.output))
    context = rt.SystemContext(config=rt.Config("local-sync"))
    context.add_vm_module(rt.VmModule.copy_buffer(context.instance, code))
    module = context.modules.module
    entry = module[graph.name] if graph.name in module.vm_module.function_names else module[module.vm_module.function_names[0]]

    def run(feed):
        results = entry(*[feed[name] for name in fed])
        results = dict(zip(given, results if isinstance(results, (tuple, list)) else [results]))
        return [np.array(results[name].to_host()) for name in outputs]

    return run

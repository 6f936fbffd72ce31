"""Apache TVM: Relax from ONNX, compiled for each set of sizes."""

from importlib.metadata import version

import numpy as np
import onnx
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

VERSION = version("apache-tvm")


def load(path, inputs, outputs):
    model = onnx.load(path)
    fed, given = ([value.name for value in values] for values in (model.graph.input, model.graph.output))
    compiled = {}

    def run(feed):
        sizes = tuple(feed[name].shape for name in fed)
        if sizes not in compiled:
            module = from_onnx(model, shape_dict={name: list(feed[name].shape) for name in fed}, keep_params_in_input=False)
            program = tvm.compile(module, target="llvm")
            compiled[sizes] = relax.VirtualMachine(program, tvm.cpu())
        results = compiled[sizes]["main"](*[tvm.runtime.tensor(feed[name]) for name in fed])
        results = dict(zip(given, results if len(given) > 1 else [results]))
        return [results[name].numpy() for name in outputs]

    return run

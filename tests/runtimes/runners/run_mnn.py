"""MNN, from a graph converted by its own converter."""

import os
import tempfile
from importlib.metadata import version

import MNN
import MNN.expr as F
import numpy as np
from MNN import nn

# Not the script `mnnconvert`: it installs further packages.
import _tools
from overhear import overheard

VERSION = version("MNN")


def load(path, inputs, outputs):
    with tempfile.TemporaryDirectory() as folder:
        converted = os.path.join(folder, "graph.mnn")
        said = []
        with overheard(said):
            _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", path, "--MNNModel", converted, "--bizCode", "s2s"])
        if not os.path.exists(converted):
            raise RuntimeError(" | ".join(["the converter wrote nothing", *said[-3:]]))
        module = nn.load_module_from_file(converted, inputs, outputs)

    def run(feed):
        # MNN has no int64: its converter makes int32 of ids.
        fed = []
        for name in inputs:
            array = feed[name].astype(np.int32) if feed[name].dtype.kind == "i" else feed[name]
            fed.append(F.const(array.ravel().tolist(), list(array.shape), F.NCHW, F.int if array.dtype.kind == "i" else F.float))
        return [np.array(F.convert(value, F.NCHW).read(), np.float32) for value in module.onForward(fed)]

    return run

"""tinygrad on the CPU."""

import os
from importlib.metadata import version

os.environ.setdefault("DEV", "CPU")
from tinygrad import Tensor  # noqa: E402
from tinygrad.nn.onnx import OnnxRunner  # noqa: E402

VERSION = version("tinygrad")


def load(path, inputs, outputs):
    def run(feed):
        # A runner keeps the sizes of its first call.
        results = OnnxRunner(path)({name: Tensor(array) for name, array in feed.items()})
        return [results[name].numpy() for name in outputs]

    return run

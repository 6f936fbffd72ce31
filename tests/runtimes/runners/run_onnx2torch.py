"""onnx2torch: the graph as a module of PyTorch."""

from importlib.metadata import version

import onnx
import onnx2torch
import torch

VERSION = f"{version('onnx2torch')} (torch {torch.__version__.split('+')[0]})"


def load(path, inputs, outputs):
    model = onnx.load(path)
    fed, given = ([value.name for value in values] for values in (model.graph.input, model.graph.output))
    module = onnx2torch.convert(model).eval()

    def run(feed):
        with torch.no_grad():
            results = module(*[torch.from_numpy(feed[name]) for name in fed])
        results = dict(zip(given, results if isinstance(results, (list, tuple)) else [results]))
        return [results[name].numpy() for name in outputs]

    return run

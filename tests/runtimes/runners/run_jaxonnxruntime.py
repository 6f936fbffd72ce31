"""jaxonnxruntime: ONNX on JAX."""

from importlib.metadata import version

import jax
import numpy as np
import onnx

jax.config.update("jax_platforms", "cpu")
from jaxonnxruntime import config  # noqa: E402
from jaxonnxruntime.backend import Backend  # noqa: E402

VERSION = version("jaxonnxruntime")
config.update("jaxort_only_allow_initializers_as_static_args", False)


def load(path, inputs, outputs):
    model = onnx.load(path)
    given = [value.name for value in model.graph.output]

    def run(feed):
        results = dict(zip(given, Backend.run_model(model, feed)))
        return [np.array(results[name]) for name in outputs]

    return run

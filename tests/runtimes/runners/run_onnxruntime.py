"""ONNX Runtime's Python package."""

import os

import onnxruntime

VERSION = onnxruntime.__version__


def load(path, inputs, outputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Otherwise a DequantizeLinear in front of a product becomes one in 8 bits, which is off by some 1e-2.
    if not os.environ.get("S2S_RUNTIME_DEFAULTS"):
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(outputs, feed)

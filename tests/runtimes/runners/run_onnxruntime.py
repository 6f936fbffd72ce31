"""ONNX Runtime's Python package."""

import onnxruntime

VERSION = onnxruntime.__version__


def load(path, inputs, outputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(outputs, feed)

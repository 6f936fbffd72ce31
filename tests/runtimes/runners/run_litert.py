"""LiteRT (TensorFlow Lite) through onnx2tf, for each set of sizes; onnx2tf writes over its input, so it gets a copy."""

import os
import shutil
import tempfile
from importlib.metadata import version

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import onnx  # noqa: E402
import onnx2tf  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402

VERSION = f"{version('ai-edge-litert')} (onnx2tf {version('onnx2tf')})"

# What was converted, by file and sizes: the same graph is loaded more than once.
converted = {}


def convert(path, sizes):
    """The converted graph, whose inputs have these shapes."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copyfile(path, f"{folder}/graph.onnx")
        model = onnx.load(copy)
        for value in model.graph.input:
            for axis, size in zip(value.type.tensor_type.shape.dim, sizes[value.name]):
                axis.dim_value = size
        # The shapes of the outputs follow.
        for value in model.graph.output:
            for axis in value.type.tensor_type.shape.dim:
                if axis.dim_param:
                    axis.ClearField("dim_param")
        onnx.save(model, copy)
        names = list(sizes)
        onnx2tf.convert(
            input_onnx_file_path=copy, output_folder_path=f"{folder}/out", keep_shape_absolutely_input_names=names,
            copy_onnx_input_output_names_to_tflite=True, not_use_onnxsim=True, non_verbose=True,
        )  # fmt: skip
        with open(f"{folder}/out/graph_float32.tflite", "rb") as file:
            interpreter = Interpreter(model_content=file.read())
    return interpreter.get_signature_runner()


def load(path, inputs, outputs):
    def run(feed):
        sizes = {name: feed[name].shape for name in inputs}
        key = (path, *sizes.values())
        if key not in converted:
            converted[key] = convert(path, sizes)
        results = converted[key](**{name: feed[name] for name in inputs})
        return [results[name] for name in outputs]

    return run

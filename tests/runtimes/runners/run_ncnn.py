"""ncnn through pnnx: converted for each set of sizes, and run row by row, because ncnn has no batches."""

import subprocess
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import ncnn
import numpy as np
import onnx

VERSION = f"{version('ncnn')} (pnnx {version('pnnx')})"
# The package's Python wants torch; the program does not.
PNNX = str(Path(find_spec("pnnx").origin).parent / "pnnx")
TYPES = {np.dtype(np.int64): "i64", np.dtype(np.int32): "i32", np.dtype(np.float32): "f32"}

# What was converted, by file and sizes: the same graph is loaded more than once.
converted = {}


def convert(path, model, feed):
    """The network of a graph whose inputs have these shapes and types, in the graph's order."""
    with tempfile.TemporaryDirectory() as folder:
        copy = f"{folder}/graph.onnx"
        rows = [feed[value.name] for value in model.graph.input]
        single = onnx.ModelProto.FromString(model.SerializeToString())
        # A batch that the file fixes is another size than the one row that ncnn takes.
        for value, row in zip(single.graph.input, rows):
            for axis, size in zip(value.type.tensor_type.shape.dim, row.shape):
                axis.dim_value = size
        for value in single.graph.output:
            for axis in list(value.type.tensor_type.shape.dim)[:1]:
                axis.ClearField("dim_value")
        onnx.save(single, copy)
        shapes = ",".join(f"[{','.join(map(str, row.shape))}]{TYPES[row.dtype]}" for row in rows)
        done = subprocess.run([PNNX, copy, f"inputshape={shapes}", "fp16=0"], cwd=folder, capture_output=True, text=True)
        if not Path(f"{folder}/graph.ncnn.param").exists():
            raise RuntimeError(f"pnnx gives no graph: {(done.stdout + done.stderr).strip()[-300:]}")
        text = Path(f"{folder}/graph.ncnn.param").read_text()
        left = [line.split()[0] for line in text.splitlines()[2:] if "." in line.split()[0] or "::" in line.split()[0]]
        if left:
            raise RuntimeError(f"pnnx leaves operators that ncnn does not have: {', '.join(sorted(set(left)))}")
        net = ncnn.Net()
        # Weights and sums in f32, as everywhere else here.
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
        net.opt.num_threads = 1
        if net.load_param(f"{folder}/graph.ncnn.param") or net.load_model(f"{folder}/graph.ncnn.bin"):
            raise RuntimeError("ncnn cannot load what pnnx wrote")
        return net


def load(path, inputs, outputs):
    model = onnx.load(path)
    fed, given = ([value.name for value in values] for values in (model.graph.input, model.graph.output))

    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.output}

    def run_row(feed):
        key = (path, *(feed[name].shape for name in fed))
        if key not in converted:
            converted[key] = convert(path, model, feed)
        extractor = converted[key].create_extractor()
        for at, name in enumerate(fed):
            row = np.ascontiguousarray(feed[name][0])
            row = row.astype(np.int32) if row.dtype == np.int64 else row
            # A copy of its own: some layers write into what they read.
            extractor.input(f"in{at}", ncnn.Mat(row).clone())
        results = []
        for name in outputs:
            code, result = extractor.extract(f"out{given.index(name)}")
            if code:
                raise RuntimeError(f"ncnn gives no {name}: error {code}")
            # A value a row comes as a vector of one.
            result = np.array(result, np.float32)
            results.append(result.reshape(1) if ranks[name] == 1 else result[None])
        return results

    def run(feed):
        rows = [run_row({name: array[row : row + 1] for name, array in feed.items()}) for row in range(len(feed[fed[0]]))]
        return [np.concatenate(parts) for parts in zip(*rows)]

    return run

"""Holds tests/goldens/lstm.json against onnxruntime's own LSTM op.

    python check_goldens.py

The goldens come from PyTorch, through a change of the gate order; this says that what came out is ONNX's order. Ends
with "N passed, N failed"; exit code 1 if any failed.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

GOLDENS = Path(__file__).resolve().parent.parent / "goldens" / "lstm.json"


def tensor(value):
    return np.array(value["data"], np.float32).reshape(value["shape"])


def run_layer(x, h_0, c_0, w, r, lengths):
    """One LSTM op: y (T, B, H), and the last states (B, H)."""
    hidden = r.shape[2]
    bias = np.concatenate([w[:, :, -1], np.zeros_like(w[:, :, -1])], 1)
    feeds = {
        "x": x,
        "w": np.ascontiguousarray(w[:, :, :-1]),
        "r": r,
        "b": bias,
        "lengths": np.array(lengths, np.int32),
        "h_0": h_0[None],
        "c_0": c_0[None],
    }
    graph = helper.make_graph(
        [helper.make_node("LSTM", list(feeds), ["y", "h_n", "c_n"], hidden_size=hidden)],
        "layer",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("y", "h_n", "c_n")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, h_n, c_n = session.run(None, feeds)
    return y[:, 0], h_n[0], c_n[0]


def main():
    passed, failed = 0, 0
    for case in json.loads(GOLDENS.read_text(encoding="utf-8"))["cases"]:
        y, h_0, c_0, worst = tensor(case["x"]), tensor(case["h_0"]), tensor(case["c_0"]), 0.0
        for layer in range(case["layers"]):
            w, r = (tensor(case["parameters"][f"lstm_{layer}.{name}"]) for name in "WR")
            y, h_n, c_n = run_layer(y, h_0[layer], c_0[layer], w, r, case["lengths"])
            for found, name in ((h_n, "h_n"), (c_n, "c_n")):
                worst = max(worst, float(np.abs(found - tensor(case[name])[layer]).max()))
        worst = max(worst, float(np.abs(y - tensor(case["y"])).max()))
        right = worst <= 1e-5
        passed, failed = passed + right, failed + (not right)
        print(f"{'ok   ' if right else 'FAIL '} {case['name']} (largest difference {worst:.1e})")
    print(f"{passed} passed, {failed} failed")
    sys.exit(int(failed > 0))


if __name__ == "__main__":
    main()

"""Holds the graphs of a bundle against ONNX itself and against each other, with no code of s2s.

    python check_graphs.py BUNDLE

Checked for each graph: onnx.checker with full check, strict shape inference with data propagation, the declared names,
types and axes, the rules that keep other runtimes working, metadata and hashes; then, run by onnxruntime: exact left
padding, encoder plus folded decoder steps against the training graph, and the graph that decodes by itself, if there is
one, against those steps. Prints a line a check and ends with
"N passed, N failed"; exit code 1 if any failed.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import yaml
from onnx import TensorProto, helper, numpy_helper, shape_inference

from fold import PAD, START, Bundle

SPECIAL_SYMBOLS = ["<pad>", "<start>", "<end>", "<unk>"]
SPECIAL_IDS = {"pad": 0, "start": 1, "end": 2, "unk": 3}
# Largest difference between two f32 computations of the same value in another order.
TOLERANCE = 1e-5


class Checks:
    """Counts and prints; a check that raises has failed."""

    def __init__(self):
        self.passed, self.failed = 0, 0

    def __call__(self, name, check):
        try:
            detail = check()
            self.passed += 1
            print(f"ok    {name}" + (f" ({detail})" if detail else ""))
        except Exception as error:  # The report goes on: one broken graph should not hide another.
            self.failed += 1
            print(f"FAIL  {name}: {type(error).__name__}: {error}")


def need(condition, message):
    if not condition:
        raise AssertionError(message)


def axes(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def signature(values):
    return {v.name: (TensorProto.DataType.Name(v.type.tensor_type.elem_type), axes(v)) for v in values}


def contract(role, manifest):
    """The inputs and outputs that a graph must have: name to (type, axes); None is any fixed size."""
    sources, targets = len(manifest["source"]["symbols"]), len(manifest["target"]["symbols"])
    one_hot = manifest["io"] != "ids"
    ids = lambda time, size: ("FLOAT", ["batch", time, size]) if one_hot else ("INT64", ["batch", time])
    states = [wire["decoder_input"] for wire in manifest["wiring"]["states"]]
    memory = {"encoder_output": ["batch", "source_time", None], "encoder_mask": ["batch", "source_time"]}
    memory = {wire["decoder_input"]: ("FLOAT", memory[wire["decoder_input"]]) for wire in manifest["wiring"].get("memory") or []}
    state = ("FLOAT", ["batch", None])
    if role == "encoder":
        return {"encoder_input": ids("source_time", sources)}, {**{s: state for s in states}, **memory}
    if role == "decoder":
        attention = {"attention": ("FLOAT", ["batch", "source_time"])} if memory else {}
        return (
            {"decoder_input": ids(1, targets), **{s: state for s in states}, **memory},
            {"decoder_output": ("FLOAT", ["batch", 1, targets]), **{f"next_{s}": state for s in states}, **attention},
        )
    if role == "translate":
        return (
            {"encoder_input": ("INT64", ["batch", "source_time"]), "max_new_tokens": ("INT64", [])},
            {"generated_ids": ("INT64", ["batch", "generated_time"]), "generated_lengths": ("INT64", ["batch"])},
        )
    return (
        {
            "encoder_input": ids("source_time", sources),
            "decoder_input": ids("target_time", targets),
            "decoder_target": ids("target_time", targets),
        },
        {"decoder_output": ("FLOAT", ["batch", "target_time", targets]), "loss": ("FLOAT", [])},
    )


def check_signature(found, wanted, what):
    need(set(found) == set(wanted), f"{what} {sorted(found)}, the contract says {sorted(wanted)}")
    for name, (kind, shape) in wanted.items():
        have_kind, have_shape = found[name]
        need(have_kind == kind, f"{name} is {have_kind}, the contract says {kind}")
        fits = len(have_shape) == len(shape) and all(w == h if w is not None else isinstance(h, int) and h > 0 for h, w in zip(have_shape, shape))
        need(fits, f"{name} has axes {have_shape}, the contract says {shape}")


def check_inference(model):
    """Strict inference must reach every output, and agree with what the graph declares."""
    inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    known = {v.name for v in [*inferred.graph.value_info, *inferred.graph.output]}
    # Inference merges what it finds into the declaration, so it must also work with the declaration taken away.
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    bare = shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)
    for declared, found in zip(model.graph.output, bare.graph.output):
        if not found.type.tensor_type.HasField("shape"):
            continue
        need(len(axes(declared)) == len(axes(found)), f"{declared.name}: declared {axes(declared)}, inferred {axes(found)}")
        for ours, theirs in zip(axes(declared), axes(found)):
            # An inferred axis is a number, a known symbol, or a symbol that inference made up.
            clash = isinstance(theirs, int) and theirs > 0 and ours != theirs or theirs in ("batch", "source_time", "target_time") and ours != theirs
            need(not clash, f"{declared.name}: declared {axes(declared)}, inferred {axes(found)}")
    return f"{len(known)} values"


def nodes_of(graph):
    """All nodes, those of a Loop's body too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes_of(attribute.g)


def check_portable(model):
    """What some engine gets wrong, silently or not."""
    need(not model.graph.value_info, "value_info of intermediate tensors: symbols go stale when shapes are pinned")
    nodes = list(nodes_of(model.graph))
    for tensor in [*model.graph.initializer, *(a.t for n in nodes for a in n.attribute if a.HasField("t"))]:
        need(tensor.HasField("raw_data"), f"{tensor.name or 'a constant'} is not raw_data")
    produced = {output: node for node in nodes for output in node.output}
    for node in nodes:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        need(node.name, f"a {node.op_type} node has no name")
        need(node.domain in ("", "ai.onnx"), f"{node.name}: domain {node.domain}")
        need(node.op_type not in ("SoftmaxCrossEntropyLoss", "TopK", "LogSoftmax"), f"{node.name}: {node.op_type}")
        if node.op_type in ("LSTM", "GRU", "RNN"):
            need(attributes.get("direction", b"forward") == b"forward", f"{node.name}: direction {attributes.get('direction')}")
            need(attributes.get("layout", 0) == 0, f"{node.name}: layout 1")
            need(not {"clip", "activations", "input_forget"} & set(attributes), f"{node.name}: attributes {sorted(attributes)}")
            need(len(node.input) < 5 or not node.input[4], f"{node.name}: sequence_lens is wired")
            need(len(node.input) > 5 and node.input[5], f"{node.name}: the initial state is left out")
            for name in node.input[:3]:
                source = produced.get(name)
                need(source is None or source.op_type not in ("DequantizeLinear", "Cast"), f"{node.name}: {name} comes from {source and source.op_type}")
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    need(len(versions) == 1, f"opsets {versions}")
    return f"opset {versions[0]}, IR {model.ir_version}, {len(model.graph.node)} nodes"


def check_metadata(model, role, manifest):
    props = {p.key: p.value for p in model.metadata_props}
    need(props.get("s2s.role") == role, f"s2s.role is {props.get('s2s.role')!r}")
    need(props.get("s2s.format_version", "").split(".")[0] == manifest["format_version"].split(".")[0], f"s2s.format_version is {props.get('s2s.format_version')!r}")
    need(json.loads(props["s2s.special_ids"]) == SPECIAL_IDS, f"s2s.special_ids is {props['s2s.special_ids']}")
    for side in ("source", "target"):
        vocabulary = json.loads(props[f"s2s.{side}_vocabulary"])
        for key in ("unit", "normalisation", "graph_padding", "symbols"):
            need(vocabulary.get(key) == manifest[side].get(key), f"the {side} vocabulary's {key} is not the manifest's")
    need(props.get("s2s.weights_sha256") == manifest.get("weights_sha256"), "the weights hash is not the manifest's")


def check_vocabulary(vocabulary):
    symbols = vocabulary["symbols"]
    need(symbols[:4] == SPECIAL_SYMBOLS, f"starts with {symbols[:4]}")
    # A YAML 1.1 reader takes a bare `y`, `1`, `~` or `=` for something else than text; the writer must quote them.
    wrong = [symbol for symbol in symbols if not isinstance(symbol, str)]
    need(not wrong, f"not text once read: {wrong[:5]}")
    need(len(set(symbols)) == len(symbols), "a symbol comes twice")
    return f"{len(symbols)} symbols"


def check_shared(models):
    """The same weight has the same bytes in whichever graph; constants (axes, masks) are numbered within each graph."""
    seen, shared = {}, 0
    for role, model in models.items():
        for tensor in model.graph.initializer:
            if tensor.name.startswith("constant"):
                continue
            value = (tensor.data_type, tuple(tensor.dims), tensor.raw_data)
            if tensor.name in seen:
                need(seen[tensor.name][1] == value, f"{tensor.name} differs between {seen[tensor.name][0]} and {role}")
                shared += 1
            else:
                seen[tensor.name] = (role, value)
    need(shared, "no initialiser is in two graphs")
    return f"{shared} shared"


def sample(generator, batch, time, size):
    """A ragged batch of real ids: the first row has `time` tokens, the last one, those between any number."""
    lengths = [time, *generator.integers(1, time + 1, max(batch - 2, 0)), *([1] if batch > 1 else [])]
    return [generator.integers(3, size, length).tolist() for length in lengths]


def check_padding(bundle, batch, time):
    """A left-padded row gives the states of the same row alone."""
    rows = sample(np.random.default_rng(batch * 100 + time), batch, time, len(bundle.source["symbols"]))
    together, worst = bundle.start(rows), 0.0
    states = [wire["decoder_input"] for wire in bundle.wiring["states"]]
    for index, row in enumerate(rows):
        alone = bundle.start([row])
        worst = max([worst, *(float(np.abs(together[name][index] - alone[name][0]).max()) for name in states)])
    need(worst <= TOLERANCE, f"largest difference {worst:.2e}")
    return f"largest difference {worst:.1e}"


def check_filling(bundle, padding):
    """A short row gives the states of the same row filled up by hand, which the graph leaves as it is."""
    generator, worst = np.random.default_rng(3), 0.0
    length, size = padding["length"], len(bundle.source["symbols"])
    symbol = bundle.source["symbols"].index(padding["symbol"])
    states = [wire["decoder_input"] for wire in bundle.wiring["states"]]
    for count in sorted({1, length // 2 or 1, length}):
        row = generator.integers(3, size, count).tolist()
        filling = [symbol] * (length - count)
        whole = filling + row if padding["side"] == "left" else row + filling
        short, filled = bundle.start([row]), bundle.start([whole])
        worst = max([worst, *(float(np.abs(short[name] - filled[name]).max()) for name in states)])
    need(worst <= TOLERANCE, f"largest difference {worst:.2e}")
    return f"largest difference {worst:.1e}"


def softmax(logits):
    exponent = np.exp(logits - logits.max(-1, keepdims=True))
    return exponent / exponent.sum(-1, keepdims=True)


def check_fold(bundle, training, batch, time):
    """Encoder and decoder, folded over the target, give the training graph's output; its loss is their mean nats."""
    generator = np.random.default_rng(batch * 1000 + time)
    sources = sample(generator, batch, time, len(bundle.source["symbols"]))
    size = len(bundle.target["symbols"])
    targets = sample(generator, batch, time, size)
    pad = lambda rows: [row + [PAD] * (max(map(len, rows)) - len(row)) for row in rows]
    fed, expected = pad([[START, *t] for t in targets]), np.array(pad([[*t, 2] for t in targets]))
    width = max(map(len, sources))
    inputs = {
        "encoder_input": bundle.feed([[PAD] * (width - len(s)) + s for s in sources], len(bundle.source["symbols"])),
        "decoder_input": bundle.feed(fed, size),
        "decoder_target": bundle.feed(expected, size),
    }
    output, loss = training.run(["decoder_output", "loss"], inputs)
    state, folded = bundle.start(sources), []
    for tokens in zip(*fed):
        logits, state = bundle.step(tokens, state)
        folded.append(logits)
    folded, real = np.stack(folded, 1), expected != PAD
    worst = float(np.abs(folded - output)[real].max())
    need(worst <= TOLERANCE * max(1.0, float(np.abs(output[real]).max())), f"outputs differ by {worst:.2e}")
    probabilities = folded if bundle.wiring["output"] == "probabilities" else softmax(folded.astype(np.float64))
    nats = float(-np.log(np.take_along_axis(probabilities, expected[:, :, None], 2)[:, :, 0][real]).mean())
    need(abs(nats - float(loss)) <= 1e-4 * max(1.0, nats), f"loss {float(loss)}, expected {nats}")
    return f"largest difference {worst:.1e}"


def check_translate(bundle, translate, batch, time, limit):
    """The graph that decodes by itself gives what the loop over the other two gives."""
    rows = sample(np.random.default_rng(batch * 10 + time), batch, time, len(bundle.source["symbols"]))
    ids, lengths = translate.run(
        ["generated_ids", "generated_lengths"],
        {"encoder_input": np.array([[PAD] * (time - len(row)) + row for row in rows], np.int64), "max_new_tokens": np.array(limit, np.int64)},
    )
    need(ids.shape[0] == batch and ids.shape[1] <= limit and lengths.shape == (batch,), f"shapes {ids.shape} and {lengths.shape}")
    for row, found, length in zip(rows, ids, lengths):
        state, token, output = bundle.start([row]), START, []
        while len(output) < limit:
            logits, state = bundle.step([token], state)
            token = int(logits[0, 2:].argmax()) + 2
            if token == 2:
                break
            output.append(token)
        need(found[:length].tolist() == output, f"{found[:length].tolist()} instead of {output}")
        need(not found[length:].any(), f"a row is not padded after its {length} ids")
    return f"{int(lengths.min())} to {int(lengths.max())} ids"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory, check = Path(sys.argv[1]), Checks()
    manifest = yaml.safe_load((directory / "s2s.yaml").read_text(encoding="utf-8"))
    models = {}
    for side in ("source", "target"):
        check(f"s2s.yaml: {side} vocabulary", lambda: check_vocabulary(manifest[side]))
    for role in ("encoder", "decoder", "training", *(["translate"] if "translate" in manifest["graphs"] else [])):
        entry = manifest["graphs"].get(role)
        if entry is None:
            check(f"{role}: is in the manifest", lambda: need(False, "missing"))
            continue
        path = directory / entry["file"]
        model = models[role] = onnx.load(path)
        inputs, outputs = contract(role, manifest)
        check(f"{path.name}: onnx.checker, full check", lambda: onnx.checker.check_model(str(path), full_check=True))
        check(f"{path.name}: strict shape inference", lambda: check_inference(model))
        check(f"{path.name}: inputs as in the contract", lambda: check_signature(signature(model.graph.input), inputs, "inputs"))
        check(f"{path.name}: outputs as in the contract", lambda: check_signature(signature(model.graph.output), outputs, "outputs"))
        check(f"{path.name}: nothing that an engine gets wrong", lambda: check_portable(model))
        check(f"{path.name}: metadata", lambda: check_metadata(model, role, manifest))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        check(f"{path.name}: sha256", lambda: need(digest == entry["sha256"], f"{digest}, the manifest says {entry['sha256']}"))
    check("all graphs: the same bytes under the same name", lambda: check_shared(models))
    bundle = Bundle(directory)
    training = ort.InferenceSession(directory / manifest["graphs"]["training"]["file"], providers=["CPUExecutionProvider"])
    for batch in (1, 2, 7):
        for time in (1, 5, 33):
            check(f"encoder: left padding is exact, batch {batch}, time {time}", lambda: check_padding(bundle, batch, time))
            check(f"decoder: folded steps are the training graph, batch {batch}, time {time}", lambda: check_fold(bundle, training, batch, time))
    if padding := manifest["source"].get("graph_padding"):
        check("encoder: makes the padding that the model reads", lambda: check_filling(bundle, padding))
    if "translate" in manifest["graphs"]:
        translate = ort.InferenceSession(directory / manifest["graphs"]["translate"]["file"], providers=["CPUExecutionProvider"])
        for batch, time, limit in ((1, 1, 20), (1, 33, 1), (3, 9, 20), (7, 33, 40)):
            name = f"translate: the same ids as the loop, batch {batch}, time {time}, at most {limit}"
            check(name, lambda: check_translate(bundle, translate, batch, time, limit))
    print(f"{check.passed} passed, {check.failed} failed")
    sys.exit(int(check.failed > 0))


if __name__ == "__main__":
    main()

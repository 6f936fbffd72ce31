"""Graphs that have two or three faults at once, drawn by a seed: what the rules were not made from, and so a test of them.

Half have their faults in one recurrent operator, half have the graphs of several rules side by side.
"""

import random

import onnx

from . import cells, others, recurrent
from .graphs import FORMS, Case

SEED, COUNT = 20261128, 80
# Rules whose graphs fit no batch but their own, or whose files say more than a graph.
ALONE = {"fixed-axes", "unrolled", "topk", "matmul-integer", "opset", "external-data", "value-info", "if"}


def one_operator(number, form, rng):
    """A recurrent operator with two or three traits at once."""
    op = rng.choice(["LSTM", "LSTM", "GRU"])
    traits = {
        "lengths": {"lens": rng.choice(["input", "computed"])},
        "state": {"state": rng.choice(["none", "fed"])},
        "direction": {"direction": rng.choice(["reverse", "bidirectional"])},
        "reads": {"reads": "both"},
        "clip": {"clip": 1.2 if op == "LSTM" else 0.3, "scale": 0.5},
        "activations": {"activations": (cells.USUAL[op][0], *["Relu"] * (len(cells.USUAL[op]) - 1))},
        "bias": {"bias": False},
        "kind": {"kind": rng.choice(["Cast", "DequantizeLinear"])},
        "concat": {"concat": True},
        **({"peephole": {"peephole": True}, "coupled": {"coupled": True}} if op == "LSTM" else {"reset": {"reset_after": False}}),
    }
    while True:
        chosen = rng.sample(sorted(traits), rng.choice([2, 3]))
        options = {}
        for trait in chosen:
            options.update(traits[trait])
        try:
            return recurrent.case("combined", f"{number}, {op} with {', '.join(chosen)}", form, op, **options)
        except ValueError:
            # The cell state reaches the clip: other traits.
            continue


def rename(graph, prefix):
    """Puts `prefix` before every name of tensors and nodes, bodies included."""
    for value in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        value.name = prefix + value.name
    for node in graph.node:
        node.name = prefix + node.name
        for names in (node.input, node.output):
            names[:] = [prefix + name if name else "" for name in names]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                rename(attribute.g, prefix)


def side_by_side(number, form, pool, rng):
    """The graphs of two or three cases in one."""
    parts = rng.sample(pool, rng.choice([2, 3]))
    model, feeds = None, None
    for at, part in enumerate(parts):
        prefix = f"part{at}_"
        own = onnx.ModelProto.FromString(part.model.SerializeToString())
        rename(own.graph, prefix)
        renamed = [tuple({prefix + name: array for name, array in values.items()} for values in pair) for pair in part.feeds]
        if model is None:
            model, feeds = own, renamed
            continue
        for field in ("node", "initializer", "input", "output", "value_info"):
            getattr(model.graph, field).extend(getattr(own.graph, field))
        feeds = [({**left[0], **right[0]}, {**left[1], **right[1]}) for left, right in zip(feeds, renamed)]
    name = f"{number}, " + " beside ".join(f"{part.rule} ({part.case})" for part in parts)
    return Case("combined", name, form, model, feeds, max(part.tolerance for part in parts))


def cases():
    """The drawn graphs; the same in every run."""
    rng = random.Random(SEED)
    pools = {form: [case for module in (recurrent, others) for case in module.cases(form) if case.rule not in ALONE] for form in FORMS}
    made = []
    for number in range(COUNT):
        form = FORMS[number // 2 % 2]
        made.append(one_operator(number, form, rng) if number % 2 else side_by_side(number, form, pools[form], rng))
    return made

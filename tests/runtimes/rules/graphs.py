"""Small graphs, a node at a time, and what they must give."""

import zlib
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR = 17, 8
FORMS = ("static", "symbolic")
# Sizes of the `static` form; the `symbolic` one is run with these and with others.
BATCH, TIME = 3, 5
OTHER = (2, 7)
VOCABULARY, INPUTS, HIDDEN = 9, 4, 5


@dataclass
class Case:
    """One graph, what is fed, and what is right.

    `feeds`: pairs of inputs and outputs by name; outputs in float64.
    """

    rule: str
    case: str
    form: str
    model: onnx.ModelProto
    feeds: list
    # The largest error that counts as right; relative where values exceed 1.
    tolerance: float = 1e-5
    # The same computation as the rule's fix has it: what a slow operator is timed against.
    fix: onnx.ModelProto = None
    # Tensors at least this long are written beside the graph.
    external: int = 0
    # What a name of the file ends with, so that graphs do not overwrite each other.
    notes: dict = field(default_factory=dict)

    @property
    def name(self):
        plain = "".join(letter if letter.isalnum() else "-" for letter in f"{self.rule}.{self.case}".replace(".", "_"))
        return f"{plain}.{self.form}"


class Graph:
    """A graph that is being written. Axes are given as numbers, or as `batch` and `time`."""

    def __init__(self, form, name="", opset=OPSET, ir=IR):
        self.form, self.opset, self.ir, self.prefix = form, opset, ir, name
        self.nodes, self.inputs, self.outputs, self.tensors, self.infos, self.constants = [], [], [], [], [], {}
        self.draw = np.random.default_rng(zlib.crc32(name.encode()))

    def axes(self, axes):
        if self.form == "symbolic":
            return list(axes)
        return [{"batch": BATCH, "time": TIME}.get(axis, axis) for axis in axes]

    def input(self, name, axes, kind=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, kind, self.axes(axes)))
        return name

    def output(self, name, axes, value=None, kind=TensorProto.FLOAT):
        """Gives `value` out under this name; an Identity where it has another."""
        if value is not None and value != name:
            self.node("Identity", [value], name)
        self.outputs.append(helper.make_tensor_value_info(name, kind, self.axes(axes)))
        return name

    def constant(self, array, name=None):
        """An initialiser, its numbers in raw_data. Equal ones are written once."""
        array = np.asarray(array)
        key = (array.dtype, array.shape, array.tobytes())
        if name is None and key in self.constants:
            return self.constants[key]
        name = name or f"constant_{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        self.constants.setdefault(key, name)
        return name

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def weights(self, *shape, scale=0.6, name=None):
        """Drawn numbers: the constant, and the numbers in float64."""
        array = self.draw.uniform(-scale, scale, shape).astype(np.float32)
        return self.constant(array, name), array.astype(np.float64)

    def node(self, op, inputs, output=None, **attributes):
        """A node; its output's name, or the names where `output` is a list."""
        outputs = output if isinstance(output, list) else [output or f"{op.lower()}_{len(self.nodes)}"]
        label = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, outputs, name=label, **attributes))
        return outputs if isinstance(output, list) else outputs[0]

    def axes_node(self, op, value, axes, output=None):
        """Squeeze or Unsqueeze: the axes are an attribute before opset 13."""
        if self.opset < 13:
            return self.node(op, [value], output, axes=list(axes))
        return self.node(op, [value, self.ints(*axes)], output)

    def body(self, name="body"):
        """The nodes, inputs and outputs as a graph of an attribute."""
        return helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.tensors)

    def model(self):
        graph = helper.make_graph(self.nodes, "main", self.inputs, self.outputs, self.tensors, value_info=self.infos)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=self.ir, producer_name="rules")


def sizes(form):
    """The sizes that a graph of this form is run with: (batch, time)."""
    return [(BATCH, TIME)] if form == "static" else [(BATCH, TIME), OTHER]


def ids(batch, time, seed=0):
    """Texts of symbols that differ, no padding."""
    return np.random.default_rng(100 + seed + 10 * batch + time).integers(1, VOCABULARY, (batch, time))


def lengths(batch, time):
    """Lengths that differ, the first text as long as the batch."""
    return np.array([max(1, time - 2 * row) for row in range(batch)], np.int64)


def ragged(batch, time):
    """Texts of unequal length, padded on the right with 0, and their lengths."""
    rows, long = ids(batch, time), lengths(batch, time)
    for row, length in enumerate(long):
        rows[row, length:] = 0
    return rows, long

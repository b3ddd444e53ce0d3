"""Reads and prepares the graph of an ONNX file before it is converted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from captum_plq.models.weight_files.sound import refuse_unsound

if TYPE_CHECKING:
    import onnx

__all__ = [
    "constants_of",
    "follow_the_batch",
    "inputs_of",
    "last_operation",
    "leading_scale",
    "lift_constants",
    "name_apart",
    "refuse_unsound_values",
    "shape_of",
    "shapes_of",
]

_CHANGES_NOTHING = ("Identity", "Cast", "Dropout")
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_NUMBERS = (np.float16, np.float32, np.float64)
_CHANGES_SHAPE = (*_CHANGES_NOTHING, "Flatten", "Squeeze", "Reshape", "Unsqueeze")


def lift_constants(model: onnx.ModelProto) -> None:
    """Make initialisers of ``Constant`` nodes, so that weights are weights wherever they stand.

    Args:

        model (onnx.ModelProto): Changed in place.
    """
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    for node in constants:
        attribute = node.attribute[0]
        if attribute.name == "value":
            tensor = model.graph.initializer.add()
            tensor.CopyFrom(attribute.t)
            tensor.name = node.output[0]
            model.graph.node.remove(node)


def follow_the_batch(model: onnx.ModelProto) -> None:
    """Let each ``Reshape`` to one row keep as many rows as come in.

    A graph exported for one image holds ``Reshape(x, [1, -1])``, which would join the images
    of a batch.

    Args:

        model (onnx.ModelProto): Changed in place.
    """
    from onnx import numpy_helper

    constants, shapes = constants_of(model), shapes_of(model)
    for index, node in enumerate(model.graph.node):
        shape = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        one_row = (shapes.get(node.input[0]) or [0])[0] in (1, None) if shape is not None else False
        if shape is not None and one_row and len(shape) > 1 and shape[0] == 1:
            shape = shape.copy()
            shape[0] = 0  # as the input
            name = f"{node.input[1]}_of_the_batch_{index}"
            model.graph.initializer.append(numpy_helper.from_array(shape, name))
            node.input[1] = name


def name_apart(model: onnx.ModelProto) -> None:
    """Give each node a name of its own, which onnx2torch takes for granted.

    It names a node without a name by its operation and a number, and a node that is called so
    already would then stand for both.

    Args:

        model (onnx.ModelProto): Changed in place.
    """
    names = [node.name.replace(".", "/").lstrip("/") for node in model.graph.node]
    taken = set(names)
    used: set[str] = set()
    for node, name in zip(model.graph.node, names, strict=True):
        base, count = name or node.op_type, 0
        own = base
        while own in used or (own in taken and own != name):
            count += 1
            own = f"{base}_{count}"
        used.add(own)
        node.name = own


def leading_scale(model: onnx.ModelProto) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return the scale and shift that a graph starts with.

    Args:

        model (onnx.ModelProto): With its constants lifted, one input.

    Returns:
        *tuple or None*: what the input is multiplied with, and what is then added, each
        (3,), by the leading ``Sub``, ``Add``, ``Mul`` and ``Div`` of constants; ``None`` if
        there are none.
    """
    constants = constants_of(model)
    scale, shift, found = np.ones(3), np.zeros(3), False
    (value,) = (value.name for value in inputs_of(model))
    while True:
        users = [node for node in model.graph.node if value in node.input]
        if len(users) != 1:
            break
        (node,) = users
        if node.op_type in _CHANGES_NOTHING:
            value = node.output[0]
            continue
        number = constants.get(next((name for name in node.input if name != value), ""))
        if number is None or number.size not in (1, 3):
            break
        number, first = number.astype(float).ravel(), node.input[0] == value
        if node.op_type == "Mul":
            scale, shift = scale * number, shift * number
        elif node.op_type == "Div" and first:
            scale, shift = scale / number, shift / number
        elif node.op_type == "Add":
            shift = shift + number
        elif node.op_type == "Sub":
            sign = 1 if first else -1
            scale, shift = sign * scale, sign * (shift - number)
        else:
            break
        value, found = node.output[0], True
    return (scale, shift) if found else None


def last_operation(model: onnx.ModelProto) -> str:
    """Return the operation that makes the first output, such as ``"Gemm"``; ``""`` if none does."""
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers.get(model.graph.output[0].name)
    while node is not None and node.op_type in _CHANGES_SHAPE and node.input[0] in makers:
        node = makers[node.input[0]]
    return "" if node is None else str(node.op_type)


def inputs_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return what a graph is given: its inputs that are no weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return the initialisers by name, as views."""
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int | None]]:
    """Infer the sizes of all values, by name; ``None`` for one that is not fixed.

    They stay in the graph, for onnx2torch, which cannot infer them past what it is taught.
    """
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model).graph
    del model.graph.value_info[:]
    model.graph.value_info.extend(graph.value_info)
    return {v.name: shape_of(v) for v in (*graph.input, *graph.value_info, *graph.output)}


def shape_of(value: onnx.ValueInfoProto) -> list[int | None]:
    """Return the sizes of an input or output; ``None`` for one that is not fixed."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.dim_value > 0 else None for dim in dims]


def refuse_unsound_values(source: str, model: onnx.ModelProto) -> None:
    """Raise if initialisers cannot be those of a trained network, as weights of other files.

    A single number may be infinite: a bound that does not bind.

    Args:

        source (str): Where the graph is from, for the error.
        model (onnx.ModelProto): With its constants lifted; only looked at.

    Raises:
        ValueError: naming the first initialisers that are not sound.
    """
    layers = [node for node in model.graph.node if node.op_type in _LAYERS and len(node.input) > 1]
    grouped = [n for n in layers if any(a.name == "group" and a.i > 1 for a in n.attribute)]
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    refuse_unsound(
        source,
        {
            name: torch.from_numpy(np.array(array))
            for name, array in constants_of(model).items()
            if array.dtype in _NUMBERS and (array.size > 1 or np.isnan(array).any())
        },
        matrices={node.input[1] for node in layers},
        averaging={node.input[1] for node in grouped},
        variances={node.input[4] for node in norms},
    )

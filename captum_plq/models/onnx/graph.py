"""What is read from, and changed in, the graph of an ONNX file before and after conversion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

if TYPE_CHECKING:
    import onnx

__all__ = [
    "dense_layers",
    "follow_the_batch",
    "last_operation",
    "leading_scale",
    "lift_constants",
    "name_apart",
    "shape_of",
]

_CHANGES_NOTHING = ("Identity", "Cast", "Dropout")
_CHANGES_SHAPE = (*_CHANGES_NOTHING, "Flatten", "Squeeze", "Reshape", "Unsqueeze")


def lift_constants(model: onnx.ModelProto) -> None:
    """Makes initialisers of ``Constant`` nodes, so that weights are weights wherever they stand.

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
    """Lets each ``Reshape`` to one row keep as many rows as come in.

    A graph exported for one image holds ``Reshape(x, [1, -1])``, which would join the images
    of a batch.

    Args:

        model (onnx.ModelProto): Changed in place.
    """
    import onnx
    from onnx import numpy_helper, shape_inference

    inferred = shape_inference.infer_shapes(model).graph
    rows = {
        value.name: shape_of(value)[:1]
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    shapes = {tensor.name: tensor for tensor in model.graph.initializer}
    for index, node in enumerate(model.graph.node):
        if node.op_type != "Reshape" or node.input[1] not in shapes:
            continue
        shape = numpy_helper.to_array(shapes[node.input[1]]).copy()
        if len(shape) > 1 and shape[0] == 1 and rows.get(node.input[0]) in ([1], [None]):
            shape[0] = 0  # as the input
            name = f"{node.input[1]}_of_the_batch_{index}"
            model.graph.initializer.append(onnx.numpy_helper.from_array(shape, name))
            node.input[1] = name


def name_apart(model: onnx.ModelProto) -> None:
    """Gives each node a name of its own, which onnx2torch takes for granted.

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
    """The scale and shift that a graph starts with.

    Args:

        model (onnx.ModelProto): With its constants lifted, one input.

    Returns:
        *tuple or None*: what the input is multiplied with, and what is then added, each
        (3,), by the leading ``Sub``, ``Add``, ``Mul`` and ``Div`` of constants; ``None`` if
        there are none.
    """
    constants = dict(_constants(model))
    scale, shift, found = np.ones(3), np.zeros(3), False
    value = _input_name(model)
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
    """The operation that makes the first output, such as ``"Gemm"``; ``""`` if none does."""
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers.get(model.graph.output[0].name)
    while node is not None and node.op_type in _CHANGES_SHAPE and node.input[0] in makers:
        node = makers[node.input[0]]
    return "" if node is None else str(node.op_type)


def shape_of(value: onnx.ValueInfoProto) -> list[int | None]:
    """The sizes of an input or output; ``None`` for one that is not fixed."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.dim_value > 0 else None for dim in dims]


def dense_layers(network: fx.GraphModule) -> None:
    """Puts an ``nn.Linear`` in the place of each product with a constant matrix.

    onnx2torch makes one of a ``Gemm`` only; the others would hide the embedding layer.

    Args:

        network (fx.GraphModule): Changed in place.
    """
    for node in network.graph.nodes:
        kind = type(network.get_submodule(node.target)).__name__ if _is_module(node) else ""
        if kind == "OnnxMatMul":
            matrix, bias = _buffer(network, node.args[1]), None
        elif kind == "OnnxGemm" and _is_plain_gemm(network.get_submodule(node.target)):
            matrix = _buffer(network, node.args[1])
            if network.get_submodule(node.target).trans_b and matrix is not None:
                matrix = matrix.T
            bias = _buffer(network, node.args[2]) if len(node.args) > 2 else None
            if len(node.args) > 2 and (bias is None or bias.numel() != bias.shape[-1]):
                continue
        else:
            continue
        if matrix is None or matrix.ndim != 2:
            continue
        inputs, outputs = matrix.shape
        layer = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
        layer.weight = nn.Parameter(matrix.T.contiguous())
        if bias is not None:
            layer.bias = nn.Parameter(bias.reshape(-1).expand(outputs).clone())
        network.set_submodule(node.target, layer)
        node.args = node.args[:1]
    network.graph.eliminate_dead_code()
    network.recompile()


def _constants(model: onnx.ModelProto) -> Iterator[tuple[str, NDArray[Any]]]:
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        if np.prod(tensor.dims) <= 3:
            yield tensor.name, numpy_helper.to_array(tensor)


def _input_name(model: onnx.ModelProto) -> str:
    weights = {tensor.name for tensor in model.graph.initializer}
    return next(str(value.name) for value in model.graph.input if value.name not in weights)


def _is_module(node: fx.Node) -> bool:
    return node.op == "call_module"


def _is_plain_gemm(module: Any) -> bool:
    return not module.trans_a and module.alpha == 1 and module.beta == 1


def _buffer(network: fx.GraphModule, node: Any) -> torch.Tensor | None:
    """The constant that a node of the converted graph stands for, if it is one."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    buffer: torch.Tensor = network.get_buffer(str(node.target))
    return buffer

"""Writes the graph of an ONNX file in the newest opset that onnx2torch knows.

From opset 18 on, most operations of face networks mean what they meant before: they take more
types, or name what was the default. What differs in the writing only is written as before; what
differs in the meaning is left as it is, and then does not pass onnx's own check.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["NEWEST", "in_known_opset"]

NEWEST = 17
"""The newest opset of which onnx2torch converts all that it converts."""

# Attributes of later opsets, and the value with which nothing changes.
_DEFAULTS: dict[str, dict[str, object]] = {
    "AveragePool": {"dilations": 1},
    "Cast": {"saturate": 1, "round_mode": b"up"},
    "CastLike": {"saturate": 1, "round_mode": b"up"},
    "Reshape": {},
    "Resize": {"antialias": 0, "keep_aspect_ratio_policy": b"stretch"},
    "Split": {},
}

_REDUCE = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
_REDUCTIONS = tuple(f"Reduce{what}" for what in _REDUCE)


def in_known_opset(model: onnx.ModelProto) -> None:
    """Writes a graph in opset 17, if it is in a later one.

    Args:

        model (onnx.ModelProto): With its constants lifted; changed in place.

    Raises:
        ValueError: if an operation means something that opset 17 cannot say.
    """
    import onnx

    for node in model.graph.node:
        while node.input and not node.input[-1]:  # left out, as if it had not been named
            node.input.pop()
        if node.op_type == "Reshape":
            _take_zeros(model, node)
    opset = next((entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    if opset is None or opset.version <= NEWEST:
        return
    nodes = [older for node in model.graph.node for older in _older(model, node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    opset.version = NEWEST
    outputs = list(model.graph.output)
    del model.graph.output[:]
    for value in outputs:  # the check wants a shape, which a file need not have
        kind = value.type.tensor_type.elem_type
        model.graph.output.append(onnx.helper.make_tensor_value_info(value.name, kind, [None]))
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # names the operation and what of it is unknown
        raise ValueError(str(error).strip().splitlines()[0]) from error
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def _older(model: onnx.ModelProto, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    kind = node.op_type
    if kind == "Gelu":
        yield from _gelu(model, node)
        return
    if kind in _REDUCTIONS and not _reduction(model, node):
        return
    if kind == "Split" and len(node.input) < 2 and _attribute(node, "num_outputs") is not None:
        _split(model, node)
    for attribute in list(node.attribute):
        default = _DEFAULTS.get(kind, {}).get(attribute.name)
        value = _attribute(node, attribute.name)
        if default is not None and all(
            x == default for x in (value if isinstance(value, list) else [value])
        ):
            node.attribute.remove(attribute)
    yield node


def _take_zeros(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """``allowzero`` matters for empty tensors only, unless the shape has a zero itself."""
    shape = _constant(model, node.input[1])
    if shape is None or (shape != 0).all():
        _drop(node, "allowzero")


def _reduction(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Its axes as an attribute again; whether that could be said."""
    import onnx

    if len(node.input) > 1:
        axes = _constant(model, node.input[1])
        if axes is None:
            return True  # the check refuses it
        del node.input[1:]
        if axes.size:
            node.attribute.append(onnx.helper.make_attribute("axes", axes.ravel().tolist()))
    elif _attribute(node, "noop_with_empty_axes"):
        return True
    _drop(node, "noop_with_empty_axes")
    return True


def _split(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """Equal parts, where the size along the axis is known and divides."""
    import onnx

    axis, count = _attribute(node, "axis") or 0, len(node.output)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {v.name: v.type.tensor_type.shape.dim for v in (*inferred.value_info, *inferred.input)}
    dims = shapes.get(node.input[0], ())
    size = dims[axis].dim_value if dims else 0
    if size and size % count == 0:
        _drop(node, "num_outputs")


def _gelu(model: onnx.ModelProto, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """It is x Φ(x), by the error function or by its approximation with tanh."""
    from onnx import helper, numpy_helper

    name, (x,) = node.output[0], node.input
    numbers = {"half": 0.5, "one": 1.0, "root": math.sqrt(0.5)}
    smooth = _attribute(node, "approximate") == b"tanh"
    if smooth:
        numbers |= {"root": math.sqrt(2 / math.pi), "three": 3.0, "cube": 0.044715}
    for key, number in numbers.items():
        array = np.array(number, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, f"{name}.{key}"))
    argument = x
    if smooth:
        yield helper.make_node("Pow", [x, f"{name}.three"], [f"{name}.0"])
        yield helper.make_node("Mul", [f"{name}.0", f"{name}.cube"], [f"{name}.1"])
        yield helper.make_node("Add", [x, f"{name}.1"], [f"{name}.2"])
        argument = f"{name}.2"
    yield helper.make_node("Mul", [argument, f"{name}.root"], [f"{name}.3"])
    yield helper.make_node("Tanh" if smooth else "Erf", [f"{name}.3"], [f"{name}.4"])
    yield helper.make_node("Add", [f"{name}.4", f"{name}.one"], [f"{name}.5"])
    yield helper.make_node("Mul", [x, f"{name}.5"], [f"{name}.6"])
    yield helper.make_node("Mul", [f"{name}.6", f"{name}.half"], [name])


def _constant(model: onnx.ModelProto, name: str) -> np.ndarray | None:
    from onnx import numpy_helper

    found = next((t for t in model.graph.initializer if t.name == name), None)
    return None if found is None else np.asarray(numpy_helper.to_array(found))


def _attribute(node: onnx.NodeProto, name: str) -> object:
    import onnx

    found = next((a for a in node.attribute if a.name == name), None)
    return None if found is None else onnx.helper.get_attribute_value(found)


def _drop(node: onnx.NodeProto, name: str) -> None:
    for attribute in list(node.attribute):
        if attribute.name == name:
            node.attribute.remove(attribute)

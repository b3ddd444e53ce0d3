"""Writes the graph of an ONNX file in operations that onnx2torch knows.

From opset 18 on, most operations of face networks mean what they meant before: they take more
types, or name what was the default. What differs in the writing only is written as before; what
differs in the meaning is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from torch import nn

from captum_plq.models.onnx.graph import constants_of, shapes_of

if TYPE_CHECKING:
    import onnx

__all__ = ["NEWEST", "in_known_operations"]

NEWEST = 17
"""The newest opset of which onnx2torch converts all that it converts."""

_TAUGHT = ("Gelu",)


def in_known_operations(model: onnx.ModelProto) -> None:
    """Write a graph in opset 17, if it is in a later one, and teach onnx2torch what it lacks.

    Args:

        model (onnx.ModelProto): With its constants lifted; changed in place.

    Raises:
        ValueError: if an operation means something that opset 17 cannot say.
    """
    _teach_gelu()
    constants, shapes = constants_of(model), shapes_of(model)
    opset = next((entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    version = 0 if opset is None else opset.version
    nodes = list[Any]()
    for node in model.graph.node:
        while node.input and not node.input[-1]:  # left out, as if it had not been named
            node.input.pop()
        if node.op_type == "LpNormalization":
            nodes.extend(_spelt_out(node))
            continue
        if node.op_type == "Reshape" and 0 not in constants.get(node.input[1], (0,)):
            _drop(node, "allowzero")  # it matters for shapes with a zero only
        if version > NEWEST and node.domain in ("", "ai.onnx"):
            _write_older(node, version, constants, shapes)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    if opset is not None and version > NEWEST:
        opset.version = NEWEST


def _write_older(
    node: onnx.NodeProto,
    version: int,
    constants: dict[str, NDArray[Any]],
    shapes: dict[str, list[int | None]],
) -> None:
    """Write a node as opset 17 has it, or raise."""
    from onnx import defs, helper

    kind = node.op_type
    if kind in _TAUGHT:
        return
    try:
        older, newer = defs.get_schema(kind, NEWEST), defs.get_schema(kind, version)
    except defs.SchemaError as error:
        raise ValueError(f"{kind} is not in opset {NEWEST}.") from error
    if kind.startswith("Reduce") and len(node.input) > older.max_input:
        axes = constants.get(node.input[1])
        if axes is not None:  # an attribute again
            del node.input[1:]
            if axes.size:
                node.attribute.append(helper.make_attribute("axes", axes.ravel().tolist()))
                _drop(node, "noop_with_empty_axes")
    for attribute in list(node.attribute):
        if attribute.name not in older.attributes and (
            attribute == newer.attributes[attribute.name].default_value
            or (attribute.name == "dilations" and set(attribute.ints) == {1})
            or (attribute.name == "num_outputs" and _even_parts(node, shapes))
        ):
            node.attribute.remove(attribute)
    unknown = [a.name for a in node.attribute if a.name not in older.attributes]
    if unknown or len(node.input) > older.max_input:
        raise ValueError(f"{kind} has {', '.join(unknown) or 'inputs'} that opset {NEWEST} lacks.")


def _even_parts(node: onnx.NodeProto, shapes: dict[str, list[int | None]]) -> bool:
    """Return whether ``Split`` makes equal parts, as it does if nothing else is said."""
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    shape = shapes.get(node.input[0])
    size = shape[axis] if shape else None
    return size is not None and size % len(node.output) == 0


def _spelt_out(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yield the norm and the quotient that ``LpNormalization`` is."""
    from onnx import helper

    options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    kind, axis = f"ReduceL{options.get('p', 2)}", options.get("axis", -1)
    (x,), (y,) = node.input, node.output
    yield helper.make_node(kind, [x], [f"{y}.norm"], f"{node.name}.norm", axes=[axis])
    yield helper.make_node("Div", [x, f"{y}.norm"], [y], node.name)


def _drop(node: onnx.NodeProto, name: str) -> None:
    for attribute in list(node.attribute):
        if attribute.name == name:
            node.attribute.remove(attribute)


def _teach_gelu() -> None:
    """Register ``Gelu`` with onnx2torch as torch's own, once."""
    from onnx2torch.node_converters.registry import add_converter
    from onnx2torch.utils.common import OperationConverterResult, onnx_mapping_from_node

    def convert(node: Any, _: object) -> Any:
        gelu = nn.GELU(node.attributes.get("approximate", "none"))
        return OperationConverterResult(gelu, onnx_mapping_from_node(node))

    with suppress(ValueError):  # it is there already
        add_converter("Gelu", version=NEWEST)(convert)

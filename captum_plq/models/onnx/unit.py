"""Takes the normalisation to unit length off the end of an ONNX graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["take_normalisation_off"]

_CHANGES_NOTHING = ("Identity", "Cast", "Dropout")
_LAST = ("Div", "Mul", "LpNormalization")
_WIDTHS = (512, 128, 256)


def take_normalisation_off(model: onnx.ModelProto) -> bool:
    """Ends a graph before it divides its embedding by its length, however that is written.

    What a graph's last product or quotient makes of its input is computed with random numbers by
    onnx's reference evaluator: only if it is the division by the Euclidean length, and by nothing
    else, is it taken off.

    Args:

        model (onnx.ModelProto): With one output, its constants lifted; changed in place.

    Returns:
        *bool*: whether it was.
    """
    import onnx

    makers = {name: node for node in model.graph.node for name in node.output}
    output = model.graph.output[0]
    last = makers.get(output.name)
    while last is not None and last.op_type in _CHANGES_NOTHING:
        last = makers.get(last.input[0])
    if last is None or last.op_type not in _LAST:
        return False
    for start in dict.fromkeys(last.input):
        if start in makers and _normalises(model, start):
            kept = onnx.helper.make_tensor_value_info(start, onnx.TensorProto.FLOAT, [None] * 2)
            del model.graph.output[:]
            model.graph.output.append(kept)
            _drop_dead(model)
            return True
    return False


def _normalises(model: onnx.ModelProto, start: str) -> bool:
    """Whether the output is ``start``, (B, d), divided by its length."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    nodes, images = _between(model, start), _images(model)
    if nodes is None:
        return False
    used = {name for node in nodes for name in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        "end",
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in (start, *images)
        ],
        [model.graph.output[0]],
        [tensor for tensor in model.graph.initializer if tensor.name in used],
    )
    end = onnx.helper.make_model(graph, opset_imports=model.opset_import)
    random = np.random.default_rng(0)
    for rows, width in _shapes(model, start):
        x = 3 * random.standard_normal((rows, width)).astype(np.float32)
        try:
            blank = {name: np.zeros((rows, 3, 2, 2), np.float32) for name in images}
            (y,) = ReferenceEvaluator(end).run(None, {start: x, **blank})
        except Exception:  # it takes another shape, or has an operation of another domain
            continue
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        return bool(y.shape == unit.shape and np.allclose(y, unit, atol=1e-4))
    return False


def _between(model: onnx.ModelProto, start: str) -> list[onnx.NodeProto] | None:
    """What the output is computed with from ``start``; ``None`` if from the images as well.

    Of those, only how many there are may matter.
    """
    images = _images(model)
    wanted, nodes = {model.graph.output[0].name}, list["onnx.NodeProto"]()
    for node in reversed(model.graph.node):  # which stand in order
        if wanted.intersection(node.output) and start not in node.output:
            nodes.append(node)
            wanted.update(node.input)
            if images.intersection(node.input) and node.op_type != "Shape":
                return None
    return nodes[::-1]


def _images(model: onnx.ModelProto) -> set[str]:
    return {v.name for v in model.graph.input} - {t.name for t in model.graph.initializer}


def _shapes(model: onnx.ModelProto, start: str) -> list[tuple[int, int]]:
    """What (B, d) may be: as inferred, where that is fixed."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    value = next((v for v in inferred.value_info if v.name == start), None)
    dims = [] if value is None else [d.dim_value for d in value.type.tensor_type.shape.dim]
    rows, width = dims if len(dims) == 2 else (0, 0)
    widths = (width,) if width else _WIDTHS
    return [(r, w) for w in widths for r in ((rows,) if rows else (3, 1))]


def _drop_dead(model: onnx.ModelProto) -> None:
    wanted = {model.graph.output[0].name}
    for node in reversed(list(model.graph.node)):
        if wanted.intersection(node.output):
            wanted.update(node.input)
        else:
            model.graph.node.remove(node)

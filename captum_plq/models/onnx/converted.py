"""Prepares a converted ONNX graph for explanation: its embedding layer and its last operations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

__all__ = ["dense_layers", "take_normalisation_off"]

_CHANGES_NOTHING = ("Identity", "OnnxCopyIdentity", "OnnxCast", "Dropout", "OnnxDropoutDynamic")


def take_normalisation_off(network: fx.GraphModule, images: Tensor) -> bool:
    """End a network before it divides its embedding by its length, however that is written.

    What the last operation makes of its input is computed with random numbers in the place of
    that input: only if it is the division by the Euclidean length, and by nothing else, is it
    taken off.

    Args:

        network (fx.GraphModule): With one output; changed in place.
        images (Tensor): (B, 3, H, W): what it can be run with.

    Returns:
        *bool*: whether it was.
    """
    output = next(iter(reversed(network.graph.nodes)))
    last = output.args[0]
    while isinstance(last, fx.Node) and _kind(network, last) in _CHANGES_NOTHING:
        last = last.args[0]
    if not isinstance(last, fx.Node) or len(last.all_input_nodes) < 2:
        return False
    run = fx.Interpreter(network, garbage_collect_values=False)
    try:
        with torch.no_grad():
            run.run(images)
            start = next(
                (n for n in last.all_input_nodes if _normalised(network, run.env, n, images)), None
            )
    except Exception:  # what it raises is told when the network is tried
        return False
    if start is None:
        return False
    output.args = (start,)
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    used = {str(node.target) for node in network.graph.nodes}
    for name, _ in list(network.named_buffers()):
        holder, _, buffer = name.rpartition(".")
        if holder == "initializers" and name not in used:
            delattr(network.get_submodule(holder), buffer)
    network.recompile()
    return True


def _normalised(
    network: fx.GraphModule, values: dict[fx.Node, Any], start: fx.Node, images: Tensor
) -> bool:
    """Return whether the output is ``start``, (B, d), divided by its length."""
    value = values[start]
    if start.op == "get_attr" or value.ndim != 2:
        return False
    nodes = list(network.graph.nodes)  # in order
    before = {node: values[node] for node in nodes[: nodes.index(start)]}
    x = 3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
    y = fx.Interpreter(network).run(images, initial_env={**before, start: x})
    return bool(y.shape == x.shape and torch.allclose(y, F.normalize(x), atol=1e-4))


def dense_layers(network: fx.GraphModule) -> None:
    """Put an ``nn.Linear`` in the place of each product with a constant matrix.

    onnx2torch makes one of a ``Gemm`` only; the others would hide the embedding layer.

    Args:

        network (fx.GraphModule): Changed in place.
    """
    for node in network.graph.nodes:
        kind, transposed = _kind(network, node), False
        if kind == "OnnxGemm":
            gemm: Any = network.get_submodule(node.target)
            if gemm.trans_a or gemm.alpha != 1 or gemm.beta != 1:
                continue
            transposed = gemm.trans_b
        elif kind != "OnnxMatMul":
            continue
        matrix, bias = (_buffer(network, node.args, index) for index in (1, 2))
        if matrix is None or matrix.ndim != 2 or (bias is None and len(node.args) > 2):
            continue
        weight = matrix if transposed else matrix.T
        outputs, inputs = weight.shape
        if bias is not None and bias.numel() != bias.shape[-1]:
            continue
        layer = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
        layer.weight = nn.Parameter(weight.contiguous())
        if bias is not None:
            layer.bias = nn.Parameter(bias.reshape(-1).expand(outputs).clone())
        network.set_submodule(node.target, layer)
        node.args = node.args[:1]
    network.graph.eliminate_dead_code()
    network.recompile()


def _kind(network: fx.GraphModule, node: fx.Node) -> str:
    """Return the name of the class of module that a node calls; ``""`` if it calls none."""
    module = node.op == "call_module"
    return type(network.get_submodule(str(node.target))).__name__ if module else ""


def _buffer(network: fx.GraphModule, args: tuple[Any, ...], index: int) -> Tensor | None:
    """Return the constant that an argument of a node stands for, if it is one."""
    node = args[index] if index < len(args) else None
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    return network.get_buffer(str(node.target))

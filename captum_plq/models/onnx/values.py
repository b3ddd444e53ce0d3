"""Refuses the numbers in an ONNX file that cannot be those of a trained network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from captum_plq.models.weight_files.sound import refuse_unsound

if TYPE_CHECKING:
    import onnx

__all__ = ["refuse_unsound_values"]

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_TYPES = (np.float16, np.float32, np.float64)


def refuse_unsound_values(source: str, model: onnx.ModelProto) -> None:
    """Refuses initialisers as :mod:`captum_plq.models.weight_files.sound` does.

    A single number may be infinite: a bound that does not bind.

    Args:

        source (str): Where the graph is from, for the error.
        model (onnx.ModelProto): With its constants lifted; only looked at.

    Raises:
        ValueError: naming the first initialisers that are not sound.
    """
    from onnx import numpy_helper

    weights: dict[str, torch.Tensor] = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype in _TYPES and (array.size > 1 or np.isnan(array).any()):
            weights[tensor.name] = torch.from_numpy(np.array(array))
    layers = [node for node in model.graph.node if node.op_type in _LAYERS and len(node.input) > 1]
    refuse_unsound(
        source,
        weights,
        matrices=[node.input[1] for node in layers],
        averaging=[
            node.input[1]
            for node in layers
            if any(a.name == "group" and a.i > 1 for a in node.attribute)
        ],
        variances=[
            node.input[4] for node in model.graph.node if node.op_type == "BatchNormalization"
        ],
    )

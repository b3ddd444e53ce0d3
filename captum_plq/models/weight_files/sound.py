"""Refuses weights that cannot be those of a trained network, by their names.

What is refused, and what is not:

- NaN and infinity anywhere, and numbers that become infinite in the network's precision. An
  additive mask, which holds nothing but 0 and −∞, is left alone.
- A negative running variance of a BatchNorm. Zero, a channel that is dead, is left alone.
- A weight of a convolution or linear layer that is zero throughout, as in a file of which a part
  was never written; or that is one other number throughout, so that all the layer's outputs are
  the same. Filters that average each channel by itself are left alone, and fewer than 64 numbers.

Biases, the scales of BatchNorm, LayerScale and the like may be zero: networks begin so. A Python
file that builds its network itself may hold all but NaN, infinity and negative variances.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

__all__ = ["refuse_unsound", "refuse_unsound_network"]

_MANY = 64
_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def refuse_unsound(
    source: str,
    weights: Mapping[str, Tensor],
    *,
    matrices: Collection[str] = (),
    averaging: Collection[str] = (),
    variances: Collection[str] | None = None,
    precision: Mapping[str, torch.dtype] | None = None,
) -> None:
    """Refuses weights by what is in them; see this module for what and why.

    Args:

        source (str): Where the weights are from, for the error.
        weights (Mapping[str, Tensor]): By name.
        matrices (collection of str): Weights of convolutions and linear layers.
        averaging (collection of str): Those of them that may be one number other than zero.
        variances (collection of str, optional): Of BatchNorm. ``None``: by their names.
        precision (Mapping[str, torch.dtype], optional): What a weight will be converted to.

    Raises:
        ValueError: naming the first weights that are not sound.
    """
    if variances is None:
        variances = [key for key in weights if key.rpartition(".")[2] == "running_var"]
    wide = {} if precision is None else precision
    numbers = {key: value for key, value in weights.items() if value.is_floating_point()}
    constant = {
        key: number
        for key in matrices
        if key in numbers and (number := _one_number(numbers[key])) is not None
    }
    checks = {
        "NaN or infinite": [key for key, value in numbers.items() if not _finite(value)],
        "negative, but variances": [
            key for key in variances if key in numbers and bool((_plain(numbers[key]) < 0).any())
        ],
        "zero throughout": [key for key, number in constant.items() if number == 0],
        "the same number throughout": [
            key for key in constant if key not in averaging and weights[key].numel() >= _MANY
        ],
        "too large for the network's precision": [
            key
            for key, value in numbers.items()
            if key in wide and wide[key] != value.dtype and not _finite(value.to(wide[key]))
        ],
    }
    for what, keys in checks.items():
        if keys:
            shown = ", ".join(map(repr, keys[:3])) + (", …" if len(keys) > 3 else "")
            raise ValueError(
                f"{source} holds weights that are {what} ({len(keys)}: {shown}): it is damaged, or "
                "was saved from a training that failed. Fetch it again, and compare its checksum; "
                "weights that are meant so can be loaded in a .py file that builds the network."
            )


def refuse_unsound_network(
    source: str, network: nn.Module, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Refuses weights of a network that is at hand.

    Args:

        source (str): Where the weights are from, for the error.
        network (nn.Module): Tells which weight is of what layer, and its precision.
        weights (Mapping[str, Tensor], optional): By the network's names, before they are
            loaded into it. ``None``: those in it.

    Raises:
        ValueError: naming the first weights that are not sound.
    """
    own = network.state_dict()
    layers = {
        f"{name}.weight" if name else "weight": module
        for name, module in network.named_modules()
        if isinstance(module, _LAYERS)
    }
    refuse_unsound(
        source,
        own if weights is None else weights,
        matrices=list(layers),
        averaging=[
            key
            for key, layer in layers.items()
            if getattr(layer, "groups", 1) > 1 or layer.weight.shape[0] == 1
        ],
        precision={key: value.dtype for key, value in own.items()},
    )


def _finite(value: Tensor) -> bool:
    value = _plain(value)
    if bool(value.isfinite().all()):
        return True
    return bool(((value == 0) | (value == -torch.inf)).all()) and bool((value == 0).any())


def _plain(value: Tensor) -> Tensor:
    """In a precision in which numbers can be compared."""
    return value if value.element_size() > 1 else value.float()


def _one_number(value: Tensor) -> float | None:
    """The number that a tensor holds throughout; ``None`` if it holds several, or one only."""
    if value.numel() < 2:
        return None
    value = _plain(value)
    first = value.flatten()[0]
    return float(first) if bool((value == first).all()) else None

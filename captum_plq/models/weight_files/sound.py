"""Refuses weights that cannot be those of a trained network, and names them.

- NaN and infinity anywhere, and numbers that become infinite in the network's precision. An
  additive mask, which holds nothing but 0 and −∞, is accepted.
- A negative running variance of a BatchNorm. Zero, a dead channel, is accepted.
- A weight of a convolution or linear layer that is zero throughout, as in a file of which a part
  was never written; or that is any other number throughout, so that all the layer's outputs are
  the same. Filters that average each channel by itself are accepted, and fewer than 64 numbers.
  A layer of zeros with a bias that is not zero, in a network that tells images apart all the
  same, is only warned of: weight decay can wear out a layer that a residual leads around.

Biases, the scales of BatchNorm, LayerScale and the like may be zero: networks begin so. A Python
file that builds its network itself may hold all but NaN, infinity and negative variances.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from captum_plq.models.spec import FaceModel, ModelSpec

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
    """Raise if weights cannot be those of a trained network, as this module lists.

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
    problems: dict[str, list[str]] = {}
    for key, value in weights.items():
        if not value.is_floating_point():
            continue
        dtype = (precision or {}).get(key, value.dtype)
        numbers = value if value.element_size() > 1 else value.float()  # float8 has no order
        if not _finite(numbers):
            problem = "NaN or infinite"
        elif key in variances and bool((numbers < 0).any()):
            problem = "negative, but variances"
        elif dtype != value.dtype and not _finite(value.to(dtype)):
            problem = "too large for the network's precision"
        elif key not in matrices or not _constant(numbers):
            continue
        elif not numbers.any():
            problem = "zero throughout"
        elif key not in averaging and value.numel() >= _MANY:
            problem = "the same number throughout"
        else:
            continue
        problems.setdefault(problem, []).append(key)
    for what, keys in problems.items():
        raise ValueError(
            f"{source} holds weights that are {what} ({_named(keys)}): it is damaged, or "
            "was saved from a training that failed. Fetch it again, and compare its checksum; "
            "weights that are meant so can be loaded in a .py file that builds the network."
        )


def refuse_unsound_network(
    source: str, network: nn.Module, spec: ModelSpec, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Raise if the weights of a network that is at hand are not sound; warn of worn-out layers.

    Args:

        source (str): Where the weights are from, for the error.
        network (nn.Module): Tells which weight is of what layer, and its precision.
        spec (ModelSpec): The network's.
        weights (Mapping[str, Tensor], optional): By the network's names, before they are
            loaded into it. ``None``: those in it.

    Raises:
        ValueError: naming the first weights that are not sound.
    """
    own = network.state_dict()
    weights = own if weights is None else weights
    layers = {
        f"{name}.weight".removeprefix("."): module
        for name, module in network.named_modules()
        if isinstance(module, _LAYERS)
    }
    worn = [key for key in layers if _only_bias(weights, key)]
    if worn and not _tells_images_apart(network, spec, weights):
        worn = []
    refuse_unsound(
        source,
        weights,
        matrices=[key for key in layers if key not in worn],
        averaging=[
            key
            for key, layer in layers.items()
            if getattr(layer, "groups", 1) > 1 or layer.weight.shape[0] == 1
        ],
        precision={key: value.dtype for key, value in own.items()},
    )
    if worn:
        warnings.warn(
            f"{source} holds weights that are zero throughout ({_named(worn)}), with biases that "
            "are not: training or rounding may have left them so, as the network tells images "
            "apart without them. Compare the file's checksum with that of its source.",
            stacklevel=6,
        )


def _only_bias(weights: Mapping[str, Tensor], key: str) -> bool:
    bias = weights.get(f"{key.removesuffix('weight')}bias")
    return key in weights and bias is not None and bool(bias.any()) and not weights[key].any()


def _tells_images_apart(network: nn.Module, spec: ModelSpec, weights: Mapping[str, Tensor]) -> bool:
    """Whether a black image and one that brightens from left to right are embedded differently."""
    model = FaceModel(copy.deepcopy(network), spec).eval().float().cpu()
    model.backbone.load_state_dict(weights, strict=False)
    images = torch.zeros(2, 3, *spec.input_size)
    images[1] = torch.linspace(0, 255, spec.input_size[1])
    with torch.no_grad():
        black, bright = model(images)
    return not torch.allclose(black, bright, rtol=1e-4, atol=1e-4 * float(black.abs().max()))


def _named(keys: list[str]) -> str:
    return f"{len(keys)}: {', '.join(map(repr, keys[:3]))}{', …' if len(keys) > 3 else ''}"


def _finite(value: Tensor) -> bool:
    """Whether all is finite, or an additive mask of 0 and −∞."""
    if bool(value.isfinite().all()):
        return True
    return bool(((value == 0) | (value == -torch.inf)).all()) and bool((value == 0).any())


def _constant(value: Tensor) -> bool:
    return value.numel() > 1 and bool((value == value.flatten()[0]).all())

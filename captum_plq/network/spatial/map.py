"""Finds the last spatial map on a network's way to the embedding."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from captum_plq._base.precision import at_least_float32
from captum_plq.functional.directions import signs_on
from captum_plq.functional.enlargement import PlaceCentres
from captum_plq.network.borrowed import borrowed, hookable
from captum_plq.network.independence import refuse_zeros
from captum_plq.network.output import (
    Execution,
    OutputSelector,
    embed,
    executions_of,
    features_among,
    leaf_modules,
)
from captum_plq.network.spatial.centres import place_centres
from captum_plq.network.state import differentiable_copies

__all__ = [
    "Forward",
    "Place",
    "SpatialTailError",
    "as_map",
    "cut_at",
    "estimated_norms",
    "find_spatial_map",
    "slopes_along",
    "tolerance",
    "wide_map",
]

Forward = Callable[[nn.Module, Sequence[object]], Tensor]
"""Runs a copy of a network on its arguments, and returns the embeddings (B, ...) of the images."""
_PROBES = 16
_MOST_OTHER_TOKENS = 8
"""Class and register tokens, in front of those of the places."""


class SpatialTailError(ValueError):
    """The embedding is no affine function of a spatial map; the message says why."""


@dataclass(frozen=True)
class Place:
    """A tensor of a forward: what a module takes first, or gives; and where a map's places lie."""

    module: str
    of_input: bool
    channels_last: bool = False
    centres: PlaceCentres | None = None

    def on(self, network: nn.Module, hook: Callable[[Tensor], Tensor]) -> RemovableHandle:
        """Let a function see, and replace, the tensor in a copy of the network."""
        module = network
        for name in self.module.split("."):
            module = module._modules[name]  # type: ignore[assignment]
        module = hookable(module)
        if not self.of_input:
            return module.register_forward_hook(lambda _, __, y: hook(y))

        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            x = features_among(args, kwargs)
            assert x is not None
            y = hook(x)
            named = {name: y if value is x else value for name, value in kwargs.items()}
            return tuple(y if value is x else value for value in args), named

        return module.register_forward_pre_hook(enter, with_kwargs=True)


def find_spatial_map(
    model: nn.Module, inputs: Sequence[object], output: OutputSelector
) -> tuple[Place, Place | None]:
    """Find the last spatial map, and where the embedding is before it is normalised.

    Args:

        model (nn.Module): The network; a copy of it is run.
        inputs (sequence): Its arguments, images first, (B, ...).
        output (int, str, Callable or None): Which part of its output is the embedding.

    Returns:
        *tuple[Place, Place or None]*: the last tensor (B, C, H, W) of more than one place, or
        (B, N, C) of a square number of tokens, behind up to 8 others, that the embedding depends
        on; and the first output behind it that has the embedding's direction. ``None``: no module
        gives one.

    Raises:
        SpatialTailError: if there is no such map, or other tokens than its own reach the embedding.
    """
    network = borrowed(model, frozen=True)
    leaves = [(name, module) for name, module in leaf_modules(network) if name]
    with torch.enable_grad():
        executions, e = executions_of(network, leaves, differentiable_copies(inputs), output)
    seen: list[tuple[Place, Tensor]] = []
    last: set[int] = set()  # of which the channels are the last dimension
    for one in executions:
        if _gives_channels_last(one):
            last.add(id(one.output))
        for x, of_input in ((one.input, True), (one.output, False)):
            seen.append((Place(one.name, of_input, id(x) in last), x))
    seen = [(place, x) for place, x in seen if x.requires_grad]
    slopes = torch.autograd.grad(e.sum(), [x for _, x in seen], allow_unused=True)
    tokens = {x.shape[1:] for _, x in seen if x.ndim == 3}
    runs = Counter(one.name for one in executions)
    spatial = [
        index
        for index, ((place, x), slope) in enumerate(zip(seen, slopes, strict=True))
        if slope is not None and len(x) == len(e) and _is_spatial(x, place, tokens)
    ]
    spatial = [i for i in spatial if runs[seen[i][0].module] == 1] or spatial
    if not spatial:
        raise SpatialTailError(
            "No module of this network gives or takes a spatial map, (B, C, H, W) or a square of "
            "tokens (B, N, C), that the embedding depends on, so there are no places to divide its "
            "quality over."
        )
    (features, map_), slope = seen[spatial[-1]], slopes[spatial[-1]]
    assert slope is not None
    _refuse_other_tokens(features, slope)
    if isinstance(images := inputs[0], Tensor) and images.ndim == 4:
        grid = as_map(map_, features).shape[2:]
        centres = place_centres(executions, images.shape[2:], grid)
        features = replace(features, centres=centres)
    direction = F.normalize(e.detach().flatten(1).float())
    for place, x in seen[spatial[-1] + 1 :]:
        if x is e:
            break
        flat = x.detach().flatten(1).float()
        if place.of_input or flat.shape != direction.shape:
            continue
        if (F.normalize(flat) - direction).abs().max() < tolerance(x):
            return features, place
    return features, None


def cut_at(
    network: nn.Module,
    inputs: Sequence[object],
    output: OutputSelector,
    features: Place,
    embedding: Place | None,
    replacement: Tensor | None = None,
    forward: Forward | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run a copy of a network whose spatial map is a leaf of the graph.

    Nothing in front of the map is kept for a backward, and no hook is left behind.

    Args:

        network (nn.Module): Of :func:`~captum_plq.network.borrowed.borrowed`.
        inputs (sequence): Its arguments, images first, (B, ...).
        output (int, str, Callable or None): Which part of its output is the embedding.
        features (Place): The map's, from :func:`find_spatial_map`.
        embedding (Place or None): The embedding's, from there.
        replacement (Tensor, optional): Goes on in the place of the map, (B, ...).
        forward (Callable, optional): Runs the network, see :data:`Forward`.

    Returns:
        *tuple[Tensor, Tensor, Tensor or None]*: the leaf (B, ...), the embedding (B, d) under
        autograd, and by how much the network's output points elsewhere, the largest component;
        ``None``: it is the embedding itself.

    Raises:
        SpatialTailError: if the map's module does not run exactly once, or its rows are not the
            embeddings'.
    """
    leaves: list[Tensor] = []
    seen: list[Tensor] = []
    given: list[tuple[Tensor, int]] = []

    def cut(value: Tensor) -> Tensor:
        torch.set_grad_enabled(True)  # until the end of the forward
        leaves.append((value if replacement is None else replacement).detach().requires_grad_())
        return leaves[-1].clone()  # what follows may write into it

    def see(value: Tensor) -> Tensor:
        seen.append(value.clone())
        given.append((value, value._version))
        return value

    with ExitStack() as hooks, torch.no_grad():
        hooks.callback(features.on(network, cut).remove)
        if embedding is not None:
            hooks.callback(embedding.on(network, see).remove)
        e = embed(network, inputs, output) if forward is None else forward(network, inputs)
    if len(leaves) != 1 or len(seen) > 1:
        raise SpatialTailError(
            f"{features.module!r} runs {len(leaves)} times in a forward, but must run once."
        )
    found = seen[0] if seen else e
    as_given = not seen or any(e is value and e._version == then for value, then in given)
    if not as_given and replacement is None:  # what follows may blank an image
        refuse_zeros(e.detach().flatten(1))
    if forward is not None and len(found) > len(e) > 0:
        found = found[:: len(found) // len(e)]
    if len(found) != len(leaves[0]):
        raise SpatialTailError(
            f"{features.module!r} has {len(leaves[0])} rows for {len(found)} embeddings."
        )
    found = found.flatten(1)
    if as_given:
        return leaves[0], found, None
    apart = F.normalize(found.detach()) - F.normalize(e.detach().flatten(1))
    return leaves[0], found, torch.linalg.vector_norm(apart, math.inf)


def as_map(x: Tensor, place: Place) -> Tensor:
    """Return a map (B, C, H, W), of one with the channels last or of tokens (B, N, C) by rows.

    The first tokens that are more than a square are left out.
    """
    if x.ndim == 3:
        side = math.isqrt(x.shape[1])
        return x[:, -side * side :].transpose(1, 2).reshape(len(x), -1, side, side)
    return x.permute(0, 3, 1, 2) if place.channels_last else x


def wide_map(x: Tensor, place: Place) -> Tensor:
    """Return :func:`as_map` in float32, or float64 if the map is."""
    return at_least_float32(as_map(x, place))


def slopes_along(embedding: Tensor, map_: Tensor, direction: Tensor) -> Tensor:
    """Return how the embeddings' components along a direction follow the map, in its shape.

    Args:

        embedding (Tensor): (B, d), under autograd.
        map_ (Tensor): The leaf (B, ...) that it follows from.
        direction (Tensor): (d,) or (B, d).
    """
    direction = direction.expand_as(embedding)
    (slopes,) = torch.autograd.grad(embedding, map_, direction, retain_graph=True)
    return slopes


def estimated_norms(embedding: Tensor, map_: Tensor) -> Tensor:
    """Return ‖J_k‖² of each image, of the map's shape: the mean square slope along fixed ±1."""
    coins = signs_on(_PROBES, (embedding.shape[1],), 0, embedding.device).to(embedding.dtype)
    total = torch.zeros_like(at_least_float32(map_.detach()))
    for coin in coins:
        total += at_least_float32(slopes_along(embedding, map_, coin)).square()
    return total / _PROBES


def tolerance(x: Tensor) -> float:
    """Return by how much numbers of a tensor's precision may differ, relative to the largest."""
    return 3e-2 if x.dtype.itemsize < 4 else 1e-3


def _gives_channels_last(one: Execution) -> bool:
    """Tell whether a module acts on the last dimension; timm's LayerNorm2d acts on the first."""
    if isinstance(one.layer, nn.Linear):
        return True
    if not isinstance(one.layer, nn.LayerNorm):
        return False
    channels = one.layer.normalized_shape[-1]
    return one.output.shape[-1] == channels and (
        type(one.layer) is nn.LayerNorm or one.output.shape[1] != channels
    )


def _is_spatial(x: Tensor, place: Place, tokens: set[torch.Size]) -> bool:
    """Tell whether it is a map, and not queries or keys, (B, heads, N, C / heads)."""
    if x.ndim == 3:
        side = math.isqrt(x.shape[1])
        return side > 1 and x.shape[1] - side * side <= _MOST_OTHER_TOKENS
    if x.ndim != 4 or torch.Size([x.shape[2], x.shape[1] * x.shape[3]]) in tokens:
        return False
    return as_map(x, place).shape[2:].numel() > 1


def _refuse_other_tokens(place: Place, slopes: Tensor) -> None:
    """Raise if the embedding depends on a token without a place."""
    if slopes.ndim != 3:
        return
    others = slopes.shape[1] - math.isqrt(slopes.shape[1]) ** 2
    if others == 0 or not bool(slopes[:, :others].any()):
        return
    way = "and on those of the image's places"
    if not bool(slopes[:, others:].any()):
        way = "and on none of the image's places, which it met in the attention before"
    raise SpatialTailError(
        f"The embedding depends on a token of no place, such as a class token, at "
        f"{place.module!r}, {way}, so its quality cannot be divided over places. Take a network "
        "that pools or flattens the tokens of the places (in timm, global_pool='avg'), or "
        "PixelQualityAttribution."
    )

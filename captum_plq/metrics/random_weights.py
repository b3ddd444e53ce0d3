"""Copies of a network without what it has learned: layer after layer, or all at once.

Each layer's random weights depend on the seed and on the layer alone. So every order of
randomisation ends in the same network, which is that of :func:`with_random_weights`, and it is
the same on every device.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from captum_plq._base.choices import require_choice
from captum_plq.metrics.checks import untouched_rng
from captum_plq.network.borrowed import borrowed, hookable
from captum_plq.network.state import check_images

__all__ = ["LayerOrder", "randomised", "with_random_weights"]

LayerOrder = Literal["bottom-up", "top-down"]
"""Which layer loses its weights first: the one nearest to the input, or to the output."""

_AT_A_TIME = 50
"""Images that BatchNorm statistics are taken over at a time; plain averages over these."""


def with_random_weights(
    model: nn.Module, seed: int = 0, *, images: Tensor | None = None
) -> nn.Module:
    """Return the network untrained: the null that every claim about a trained one stands beside.

    Every layer is initialised anew by its own ``reset_parameters``. Parameters that this does not
    reach or leaves as they were (affine layers of dlib's network, position embeddings) are
    shuffled: their values stay, what they were learned for is gone. BatchNorm starts from mean 0
    and variance 1, which no random network has; given ``images``, it takes their statistics.
    Without, activations can grow or fade from layer to layer until nothing is left.

    Args:

        model (nn.Module): The network, (B, C, H, W) → embedding. It and the global random state
            are left as they are.
        seed (int): For the weights, the same on every device.
        images (Tensor, optional): (B, C, H, W), B ≥ 2, to take BatchNorm statistics of, on the
            model's device. More are better: some 150 are needed for statistics of the embedding.

    Returns:
        *nn.Module*: a copy, in evaluation mode.

    Raises:
        TypeError: if ``images`` are not floating point.
        ValueError: if ``model`` has nothing to randomise, or ``images`` are fewer than two or
            not finite.

    Examples::

        >>> null = with_random_weights(model, seed=1, images=development)
        >>> maps = quality_map(PixelQualityAttribution(null).attribute(images), gamma=7.5)
    """
    ((_, network),) = randomised(model, seed, images=images, stages=1)
    return network


def randomised(
    model: nn.Module,
    seed: int = 0,
    *,
    images: Tensor | None = None,
    order: LayerOrder = "bottom-up",
    stages: int | None = None,
) -> Iterator[tuple[str, nn.Module]]:
    """Yield copies of a network in which more and more layers have lost their weights.

    The cascading randomisation of Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS
    2018. From the output down (theirs), much of a map survives because the lower layers do;
    Hedström et al., "A Fresh Look at Sanity Checks for Saliency Maps", 2024, go up from the
    input, the default here. How a layer is randomised: see :func:`with_random_weights`; the last
    copy is its result.

    Args:

        model (nn.Module): The network. It and the global random state are left as they are.
        seed (int): For the weights.
        images (Tensor, optional): (B, C, H, W), B ≥ 2, on the model's device. They show in
            which order the layers run; without them it is the order in which the layers were
            made. And the BatchNorms randomised so far take their statistics.
        order (str): ``"bottom-up"`` or ``"top-down"``.
        stages (int, optional): How many copies to give, of a network of L layers: after
            ``ceil(k L / stages)`` layers, k = 1, …, ``stages``. ``None``, or more than L: L, one
            layer at a time.

    Yields:
        *tuple[str, nn.Module]*: the name of the layer randomised last, and the copy, in
        evaluation mode. Each copy is the caller's own.

    Raises:
        TypeError: if ``images`` are not floating point.
        ValueError: if ``model`` has nothing to randomise, ``order`` is unknown, ``stages`` is
            below 1, or ``images`` are fewer than two or not finite.

    Examples::

        >>> for layer, altered in randomised(model, images=development):
        ...     maps = explain(altered, images)
    """
    require_choice("order", order, LayerOrder)
    if stages is not None and stages < 1:
        raise ValueError(f"stages must be at least 1, but got {stages}.")
    if not _layers(model):
        raise ValueError("model has no parameters, so there is nothing to randomise.")
    if images is not None:
        check_images((images,))
        if len(images) < 2:
            raise ValueError(
                "BatchNorm statistics need at least two images, better some 150, but got one."
            )
    return _cascade(model, seed, images, order, stages)


def _cascade(
    model: nn.Module, seed: int, images: Tensor | None, order: LayerOrder, stages: int | None
) -> Iterator[tuple[str, nn.Module]]:
    altered = copy.deepcopy(model)
    layers = _layers(altered)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(2**62, (len(layers),), generator=generator).tolist()
    seeds = dict(zip(layers, drawn, strict=True))
    names = list(layers) if images is None else _as_run(model, list(layers), images)
    if order == "top-down":
        names.reverse()
    count = min(stages or len(names), len(names))
    shown = {math.ceil(k * len(names) / count) for k in range(1, count + 1)}
    for done, name in enumerate(names, 1):
        _randomise(layers[name], seeds[name])
        if done in shown:
            _prepare(altered, [layers[n] for n in names[:done]], images)
            yield name, altered if done == len(names) else copy.deepcopy(altered)


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every module with parameters of its own, or with statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None or _has_statistics(module)
    }


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def _randomise(layer: nn.Module, seed: int) -> None:
    """Fill one layer, and none below it, with random weights drawn on the CPU."""
    twin = copy.deepcopy(layer).cpu()
    with torch.no_grad(), untouched_rng(()):
        torch.default_generator.manual_seed(seed)
        if callable(reset := getattr(twin, "reset_parameters", None)):
            reset()
        fresh = dict(twin.named_parameters(recurse=False))
        for name, parameter in layer.named_parameters(recurse=False):
            new = fresh[name].to(parameter.device)
            if torch.equal(new, parameter):
                shuffled = torch.randperm(new.numel()).to(new.device)
                new = new.flatten()[shuffled].view_as(new)
            parameter.copy_(new)
        if isinstance(layer, _BatchNorm):
            layer.reset_running_stats()


def _prepare(model: nn.Module, layers: Sequence[nn.Module], images: Tensor | None) -> None:
    """Set evaluation mode, and the images' statistics in the BatchNorms among ``layers``."""
    for module in model.modules():  # the flag, since some networks answer eval() with more
        module.training = False
    norms = [m for m in layers if isinstance(m, _BatchNorm) and _has_statistics(m)]
    if images is None or not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True  # plain averages
    try:
        with torch.no_grad(), untouched_rng((images,)):
            for batch in images.tensor_split(math.ceil(len(images) / _AT_A_TIME)):
                model(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum, norm.training = momentum, False


def _as_run(model: nn.Module, names: Sequence[str], images: Tensor) -> list[str]:
    """The names in the order in which their modules are first called.

    One that is never called (its parameters are used by what it is part of) counts as called
    with the nearest module around it that is.
    """
    calls: list[str] = []
    network = borrowed(model)
    for name, module in network.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):  # a program runs no hooks
            hookable(module).register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    with torch.no_grad(), untouched_rng((images,)):
        network(images[:2])
    first = {name: place for place, name in reversed(list(enumerate(calls)))}

    def turn(name: str) -> int:
        while name and name not in first:
            name = name.rpartition(".")[0]
        return first.get(name, -1)

    return sorted(names, key=turn)  # stable

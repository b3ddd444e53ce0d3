"""The registry of score maps whose faithfulness is compared: (B, H, W), high for useful pixels.

Every map but the controls is the mean absolute attribution over the colour channels (Eq. 5), with
the paper's quality node as target, or a function of it. A *relative* map compares each place with
the same place of good reference faces, as ``plq-relative`` does; other methods are treated alike,
so that the gain of that step is not mistaken for a gain of PLQ.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, cast

import torch
import torch.nn.functional as F
from captum import attr
from torch import Tensor

from benchmarks.subjects.attributions import METHODS
from benchmarks.subjects.methods import Attribute, Build, Method, check_maps, select
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq import PixelQualityAttribution
from captum_plq.functional import NodeWeights, merge_channels
from captum_plq.functional.relative import gradient_reference, relative_pixel_quality
from captum_plq.metrics import centre_gaussian, random_map
from captum_plq.network.output import select_embedding

__all__ = [
    "MAPS",
    "POOL",
    "relative",
    "select_maps",
]

POOL = 5
"""Side in pixels of the box of pooled and relative maps."""
_RELATIVE = {"-relative": (POOL, 1), "-relative-smooth": (7, 7)}
"""Ending of the name of a relative map → sides of the boxes over which deviations are averaged,
and the gradients before that."""


def select_maps(names: Sequence[str]) -> tuple[Method, ...]:
    """Return the maps of these names, as :func:`~benchmarks.subjects.methods.select` does."""
    return select(MAPS, names)


def relative(base: Build, pool: int = POOL, smoothed: int = 1) -> Build:
    """Return a map relative to the better half of the reference faces.

    Args:

        base (Callable): Builds the map, (B, H, W).
        pool (int): Side of the box over which deviations are averaged, odd.
        smoothed (int): Side of the box over which the map is averaged before, odd; 1: not at all.
    """

    def build(network: ExplainedNetwork) -> Attribute:
        explain = base(network)
        merged = torch.cat([_checked(explain, part) for part in network.reference_batches()])
        logs = merged[network.good_reference.to(merged.device)].log()
        reference = gradient_reference(logs, pool, smoothed)
        return lambda images: relative_pixel_quality(_checked(explain, images), reference)

    return build


def _merged(attribution: Method) -> Build:
    """|attribution| averaged over the channels, once per batch."""

    def build(network: ExplainedNetwork) -> Attribute:
        attribute = attribution.build(network)
        key = f"merged {attribution.name}"
        return lambda images: network.once(key, images, lambda: merge_channels(attribute(images)))

    return build


def _plq(
    weights: NodeWeights = "l1",
    target_scalar: Literal["node", "serfiq"] = "node",
    estimator: Literal["sampling", "closed-form"] = "sampling",
    directions: int | None = None,
) -> Build:
    def build(network: ExplainedNetwork) -> Attribute:
        serfiq = network.serfiq(estimator=estimator)
        plq = PixelQualityAttribution(
            serfiq, weights=weights, target_scalar=target_scalar, directions=directions
        )

        def compute(images: Tensor) -> Tensor:
            merged = merge_channels(cast("Tensor", plq.attribute(images)))
            if serfiq.fallback_reason is not None:
                raise ValueError(f"no closed form on this network: {serfiq.fallback_reason}")
            return merged

        key = f"plq {weights} {target_scalar} {estimator} {directions}"
        return lambda images: network.once(key, images, lambda: compute(images))

    return build


def _saliency_sum(network: ExplainedNetwork) -> Attribute:
    def total(images: Tensor) -> Tensor:
        return select_embedding(network.model(images)).flatten(1).sum(1)

    method = attr.Saliency(total)
    return lambda images: network.once(
        "saliency-sum",
        images,
        lambda: merge_channels(method.attribute(images, abs=False).detach()),
    )


def _pooled(base: Build) -> Build:
    """Geometric mean of ĝ over the part of a 5×5 box that lies in the image."""

    def build(network: ExplainedNetwork) -> Attribute:
        explain = base(network)

        def pooled(images: Tensor) -> Tensor:
            merged = _checked(explain, images)
            logs = merged.clamp_min(torch.finfo(merged.dtype).tiny).log()
            means = F.avg_pool2d(logs[:, None], POOL, 1, POOL // 2, count_include_pad=False)
            return means[:, 0].exp()

        return pooled

    return build


def _checked(explain: Attribute, images: Tensor) -> Tensor:
    """A map that another is made from, checked here as the other would hide what is wrong."""
    return check_maps(explain(images), (len(images), *images.shape[-2:]))


def _random(network: ExplainedNetwork) -> Attribute:
    def explain(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        seeds = [network.seed + zlib.crc32(x.detach().cpu().numpy().tobytes()) for x in images]
        return torch.stack([random_map(height, width, seed) for seed in seeds]).to(images)

    return explain


def _centre(network: ExplainedNetwork) -> Attribute:
    def explain(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        one = centre_gaussian(height, width, min(height, width) / 4)
        return one.to(images).repeat(len(images), 1, 1)

    return explain


def _relatives(base: Method, words: str = "") -> Iterator[Method]:
    """A map relative to the reference faces, as it is and smoothed first."""
    for suffix, (pool, smoothed) in _RELATIVE.items():
        yield replace(
            base,
            name=base.name + suffix,
            build=relative(base.build, pool, smoothed),
            description=f"{words}relative to good faces, pooled"
            + ", smoothed first" * (smoothed > 1),
            bounded=True,
        )


def _registry() -> Iterator[Method]:
    plq = Method("plq", "plq", _plq(), "weights l1, the paper's")
    four = Method("plq-directions-4", "plq", _plq(directions=4), "4 random directions")
    sixteen = Method(
        "plq-directions-16", "plq", _plq(directions=16), "16 random directions", slow=True
    )
    yield plq
    yield Method("plq-sum", "plq", _plq("sum"), "weights of the released code")
    yield Method("plq-signed", "plq", _plq("signed"), "weights Q̂ sign(e)/‖e‖₁")
    yield Method("plq-l2", "plq", _plq("l2"), "weights Q̂ e/‖e‖²")
    yield Method("plq-serfiq", "plq", _plq(target_scalar="serfiq"), "gradient of Q itself")
    yield Method(
        "plq-serfiq-closed-form",
        "plq",
        _plq(target_scalar="serfiq", estimator="closed-form"),
        "gradient of Q itself, no sampling",
    )
    yield from (four, sixteen)
    yield Method("plq-pooled", "plq", _pooled(plq.build), f"{POOL}×{POOL} box of ln ĝ only")
    yield from _relatives(plq)
    for directions in (four, sixteen):
        yield from _relatives(directions, f"{directions.description}, ")
    gradient = Method("saliency-sum", "control", _saliency_sum, "gradient of Σe, no quality in it")
    yield gradient
    yield from _relatives(gradient)
    yield Method(
        "saliency",
        "other",
        _merged(METHODS["saliency"]),
        "of the quality node: plq itself, naively",
    )
    for attribution in METHODS.values():
        if attribution.as_map:
            merged = replace(attribution, build=_merged(attribution), gives="map")
            yield merged
            if attribution.as_map == "relative":
                yield from _relatives(merged)
    yield Method("random", "control", _random, "uniform noise, seeded per image", bounded=True)
    yield Method("centre", "control", _centre, "Gaussian, σ a quarter of the side", bounded=True)


MAPS: dict[str, Method] = {method.name: method for method in _registry()}
"""All maps by name."""

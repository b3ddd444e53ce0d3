"""The registry of score maps whose faithfulness is compared: (B, H, W), high for useful pixels.

Every map but local quality and the controls is the mean absolute attribution over the colour
channels (Eq. 5), with the paper's quality node as target, or a function of it. A *relative* map
compares each place with the same place of high-quality reference faces, as ``plq-relative`` does;
other methods are treated alike, so that the gain of that step is not mistaken for a gain of PLQ.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.subjects.attributions import METHODS, plq, sum_gradient
from benchmarks.subjects.local_maps import eigenface, guided, local, local_z
from benchmarks.subjects.methods import Attribute, Build, Method, check_maps, select
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq.functional import merge_channels
from captum_plq.functional.relative import gradient_reference, relative_pixel_quality
from captum_plq.metrics import centre_gaussian, random_map

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

        def of_reference() -> Tensor:
            return torch.cat([_checked(explain, part) for part in network.reference_batches()])

        merged = network.kept(("maps of the reference", base), of_reference)
        logs = merged[network.better_reference.to(merged.device)].log()
        reference = gradient_reference(logs, pool, smoothed)
        return lambda images: relative_pixel_quality(_checked(explain, images), reference)

    return build


def _merged(name: str, build: Build) -> Build:
    """|attribution| averaged over the channels, once per batch for all maps that are made of it."""

    def merged(network: ExplainedNetwork) -> Attribute:
        attribute = build(network)
        return lambda images: network.once(name, images, lambda: merge_channels(attribute(images)))

    return merged


def _plq(name: str, description: str, *, slow: bool = False, **options: Any) -> Method:
    return Method(name, "plq", _merged(name, plq(**options)), description, slow)


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
            description=f"{words}relative to high-quality faces, pooled"
            + ", smoothed first" * (smoothed > 1),
            bounded=True,
        )


def _registry() -> Iterator[Method]:
    paper = _plq("plq", "weights l1, the paper's")
    four = _plq("plq-directions-4", "4 random directions", directions=4)
    sixteen = _plq("plq-directions-16", "16 random directions", slow=True, directions=16)
    exact: dict[str, Any] = {"exact": True, "serfiq": {"estimator": "closed-form"}}
    yield paper
    yield _plq("plq-sum", "weights of the released code", weights="sum")
    yield _plq("plq-signed", "weights Q̂ sign(e)/‖e‖₁", weights="signed")
    yield _plq("plq-l2", "weights Q̂ e/‖e‖²", weights="l2")
    yield _plq("plq-serfiq", "gradient of Q itself", target_scalar="serfiq")
    words = "gradient of Q itself, no sampling"
    yield _plq("plq-serfiq-closed-form", words, target_scalar="serfiq", **exact)
    yield from (four, sixteen)
    yield Method("plq-pooled", "plq", _pooled(paper.build), f"{POOL}×{POOL} box of ln ĝ only")
    yield from _relatives(paper)
    for directions in (four, sixteen):
        yield from _relatives(directions, f"{directions.description}, ")
    words = "local quality, in units of Q"
    yield Method("local", "plq", local, words, gives="map", signed=True)
    words = "local quality, in standard deviations of high-quality faces"
    yield Method("local-z", "plq", local_z, words, gives="map", signed=True)
    words = "local quality, in units of Q, outlines from the image"
    yield Method("local-guided", "plq", guided(local), words, gives="map", signed=True)
    words = "local quality, standardised, outlines from the image"
    yield Method("local-z-guided", "plq", guided(local_z), words, gives="map", signed=True)
    merged = _merged("saliency-sum", sum_gradient)
    gradient = Method("saliency-sum", "control", merged, "gradient of Σe, no quality in it")
    yield gradient
    yield from _relatives(gradient)
    merged, words = _merged("saliency", METHODS["saliency"].build), "plq itself, naively"
    yield Method("saliency", "other", merged, f"of the quality node: {words}")
    for attribution in METHODS.values():
        if attribution.as_map:
            merged = _merged(attribution.name, attribution.build)
            one = replace(attribution, build=merged, gives="map")
            yield one
            if attribution.as_map == "relative":
                yield from _relatives(one)
    yield Method("random", "control", _random, "uniform noise, seeded per image", bounded=True)
    yield Method("centre", "control", _centre, "Gaussian, σ a quarter of the side", bounded=True)
    words = "minus the distance from a reconstruction by 64 eigenfaces of the reference; no network"
    yield Method("eigenface", "control", eigenface, words, signed=True)
    words = f"{words}; outlines from the image"
    yield Method("eigenface-guided", "control", guided(eigenface), words, slow=True, signed=True)


MAPS: dict[str, Method] = {method.name: method for method in _registry()}
"""All maps by name."""

"""One registry of the score maps whose faithfulness is compared: (B, H, W), HIGH = useful pixel.

Every map but the controls is the mean absolute attribution over the colour channels (Eq. 5), of
the paper's quality node as target, or a function of it. A *relative* map compares each place with
good reference faces, as ``plq-relative`` does; the other methods get the same treatment, so that
what it brings is not taken for what PLQ brings.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
import torch.nn.functional as F
from captum import attr
from torch import Tensor

from benchmarks.subjects.map_checks import check_maps
from benchmarks.subjects.map_subject import MapSubject
from benchmarks.subjects.methods import METHODS
from captum_plq import PixelQualityAttribution
from captum_plq.functional import NodeWeights, merge_channels
from captum_plq.functional.relative import gradient_reference, relative_pixel_quality
from captum_plq.metrics.controls import centre_gaussian, random_map
from captum_plq.network.output import select_embedding

__all__ = [
    "MAPS",
    "POOL",
    "RANDOM_WEIGHTS",
    "BuildMap",
    "ExplainMap",
    "MapMethod",
    "on_random_weights",
    "select_maps",
]

ExplainMap = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) → score maps (B, H, W), ≥ 0."""
BuildMap = Callable[[MapSubject], ExplainMap]
"""Makes a map for a network; raises whatever speaks against it."""

RANDOM_WEIGHTS = " (random weights)"
"""What the name of a method ends in that explains the network without what it learned."""
POOL = 5
"""Side in pixels of the box of pooled and relative maps."""
SMOOTH = 7
"""Side of both boxes of smooth relative maps: that of the gradients, then that of deviations."""


@dataclass(frozen=True)
class MapMethod:
    """One score map.

    Args:

        name (str): As on the command line.
        kind (str): ``"plq"`` (this package), ``"other"`` (another method) or ``"control"``.
        build (Callable): Makes it for a network. Raises whatever speaks against it.
        description (str): Its parameters, and what a reader must know.
        slow (bool): Whether it takes tens of forwards.
        bounded (bool): Whether its scores are qualities in [0, 1], equally scaled for all
            images; others become so by Eq. 6.
    """

    name: str
    kind: Literal["plq", "other", "control"]
    build: BuildMap
    description: str = ""
    slow: bool = False
    bounded: bool = False

    @property
    def random_weights(self) -> bool:
        """Whether it explains the network without what it learned."""
        return self.name.endswith(RANDOM_WEIGHTS)


def select_maps(names: Sequence[str]) -> tuple[MapMethod, ...]:
    """The maps of these names, in the registry's order.

    Args:

        names (sequence of str): Names, or ``"all"``, or ``"fast"`` (all but the slow ones).

    Returns:
        *tuple[MapMethod, ...]*: each once.

    Raises:
        ValueError: if a name is unknown, or there is none.
    """
    unknown = sorted(set(names) - set(MAPS) - {"all", "fast"})
    if unknown or not names:
        raise ValueError(f"Unknown maps {unknown}; there are all, fast, {', '.join(MAPS)}.")
    return tuple(
        method
        for name, method in MAPS.items()
        if name in names or "all" in names or ("fast" in names and not method.slow)
    )


def on_random_weights(method: MapMethod) -> MapMethod:
    """The same map of the same network untrained: the null of what the network has learned."""
    return replace(
        method,
        name=method.name + RANDOM_WEIGHTS,
        kind="control",
        build=lambda subject: method.build(subject.random),
    )


def _merged(name: str) -> BuildMap:
    """|attribution| of a method of the speed benchmark, over the channels, once per batch."""

    def build(subject: MapSubject) -> ExplainMap:
        attribute = METHODS[name].build(subject)

        def explain(images: Tensor) -> Tensor:
            node = subject.node(images)
            return subject.once(
                f"merged {name}", images, lambda: merge_channels(attribute(images, node))
            )

        return explain

    return build


def _plq(
    weights: NodeWeights = "l1",
    target_scalar: Literal["node", "serfiq"] = "node",
    closed_form: bool = False,
    directions: int | None = None,
) -> BuildMap:
    key = f"plq {weights} {target_scalar} {closed_form} {directions}"

    def build(subject: MapSubject) -> ExplainMap:
        estimator = "closed-form" if closed_form else "sampling"
        serfiq = subject.serfiq(estimator=estimator)
        plq = PixelQualityAttribution(
            serfiq, weights=weights, target_scalar=target_scalar, directions=directions
        )

        def compute(images: Tensor) -> Tensor:
            merged = merge_channels(cast("Tensor", plq.attribute(images)))
            if serfiq.fallback_reason is not None:
                raise ValueError(f"no closed form on this network: {serfiq.fallback_reason}")
            return merged

        return lambda images: subject.once(key, images, lambda: compute(images))

    return build


def _saliency_sum(subject: MapSubject) -> ExplainMap:
    def total(images: Tensor) -> Tensor:
        return select_embedding(subject.model(images)).flatten(1).sum(1)

    method = attr.Saliency(total)
    return lambda images: subject.once(
        "saliency-sum",
        images,
        lambda: merge_channels(method.attribute(images, abs=False).detach()),
    )


def _pooled(base: BuildMap) -> BuildMap:
    """Geometric mean of ĝ over the part of a 5×5 box that lies in the image."""

    def build(subject: MapSubject) -> ExplainMap:
        explain = base(subject)

        def pooled(images: Tensor) -> Tensor:
            merged = _checked(explain, images)
            logs = merged.clamp_min(torch.finfo(merged.dtype).tiny).log()
            means = F.avg_pool2d(logs[:, None], POOL, 1, POOL // 2, count_include_pad=False)
            return means[:, 0].exp()

        return pooled

    return build


def _relative(base: BuildMap, pool: int = POOL, smoothed: int = 1) -> BuildMap:
    """Relative to the better half of the reference faces, pooled; see reference_quality."""

    def build(subject: MapSubject) -> ExplainMap:
        explain = base(subject)
        merged = torch.cat([_checked(explain, part) for part in subject.reference_batches()])
        logs = merged[subject.good_reference.to(merged.device)].log()
        reference = gradient_reference(logs, pool, smoothed)
        return lambda images: relative_pixel_quality(_checked(explain, images), reference)

    return build


def _checked(explain: ExplainMap, images: Tensor) -> Tensor:
    """A map that others are made from: what is wrong with it no longer shows in these."""
    return check_maps(explain(images), (len(images), *images.shape[-2:]))


def _random(subject: MapSubject) -> ExplainMap:
    def explain(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        seeds = [subject.seed + zlib.crc32(x.detach().cpu().numpy().tobytes()) for x in images]
        return torch.stack([random_map(height, width, seed) for seed in seeds]).to(images)

    return explain


def _centre(subject: MapSubject) -> ExplainMap:
    def explain(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        return (
            centre_gaussian(height, width, min(height, width) / 4)
            .to(images)
            .repeat(len(images), 1, 1)
        )

    return explain


_BASES = {
    "saliency-sum": ("control", _saliency_sum, "gradient of Σe, no quality in it", False),
    "saliency": ("other", _merged("saliency"), "of the quality node: plq itself, naively", False),
    "input-x-gradient": ("other", _merged("input-x-gradient"), "", False),
    "guided-backprop": (
        "other", _merged("guided-backprop"), METHODS["guided-backprop"].description, False
    ),
    "layer-gradcam": (
        "other", _merged("layer-gradcam"), METHODS["layer-gradcam"].description, False
    ),
    "smoothgrad": ("other", _merged("smoothgrad"), METHODS["smoothgrad"].description, True),
    "integrated-gradients": (
        "other", _merged("integrated-gradients"), METHODS["integrated-gradients"].description, True
    ),
    "gradient-shap": (
        "other", _merged("gradient-shap"), METHODS["gradient-shap"].description, True
    ),
    "occlusion": ("other", _merged("occlusion"), METHODS["occlusion"].description, True),
}  # fmt: skip
_WITHOUT_RELATIVE = ("saliency", "gradient-shap", "occlusion")  # the first is plq's


def _relatives(
    name: str, kind: Literal["plq", "other", "control"], base: BuildMap, words: str, slow: bool
) -> list[MapMethod]:
    """A map relative to good faces, and the same of gradients that are smoothed first."""
    boxes = {"-relative": (POOL, 1), "-relative-smooth": (SMOOTH, SMOOTH)}
    return [
        MapMethod(
            name + suffix,
            kind,
            _relative(base, pool, smoothed),
            f"{words}relative to good faces, pooled{', smoothed first' * (smoothed > 1)}",
            slow,
            bounded=True,
        )
        for suffix, (pool, smoothed) in boxes.items()
    ]


def _registry() -> dict[str, MapMethod]:
    plq = _plq()
    pooled = f"{POOL}×{POOL} box of ln ĝ only"
    methods = [
        MapMethod("plq", "plq", plq, "weights l1, the paper's"),
        MapMethod("plq-sum", "plq", _plq("sum"), "weights of the released code"),
        MapMethod("plq-signed", "plq", _plq("signed"), "weights Q̂ sign(e)/‖e‖₁"),
        MapMethod("plq-l2", "plq", _plq("l2"), "weights Q̂ e/‖e‖²"),
        MapMethod("plq-serfiq", "plq", _plq(target_scalar="serfiq"), "gradient of Q itself"),
        MapMethod(
            "plq-serfiq-closed-form",
            "plq",
            _plq(target_scalar="serfiq", closed_form=True),
            "gradient of Q itself, no sampling",
        ),
        MapMethod("plq-directions-4", "plq", _plq(directions=4), "4 random directions"),
        MapMethod("plq-directions-16", "plq", _plq(directions=16), "16 random directions", True),
        MapMethod("plq-pooled", "plq", _pooled(plq), pooled),
    ]
    for name, base, words, slow in (
        ("plq", plq, "", False),
        ("plq-directions-4", _plq(directions=4), "4 random directions, ", False),
        ("plq-directions-16", _plq(directions=16), "16 random directions, ", True),
    ):
        methods += _relatives(name, "plq", base, words, slow)
    for name, (kind, build, description, slow) in _BASES.items():
        of_kind = cast("Literal['other', 'control']", kind)
        methods.append(MapMethod(name, of_kind, build, description, slow))
        if name not in _WITHOUT_RELATIVE:
            methods += _relatives(name, of_kind, build, "", slow)
    methods += [
        MapMethod("random", "control", _random, "uniform noise, seeded per image", bounded=True),
        MapMethod("centre", "control", _centre, "Gaussian, σ a quarter of the side", bounded=True),
    ]
    return {method.name: method for method in methods}


MAPS: dict[str, MapMethod] = _registry()
"""All maps by name."""

"""Whether a device gives what the CPU gives: maps, Q, local quality and every estimator."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

import torch
from torch import Tensor, nn

from benchmarks.harness.protocol import Record
from captum_plq import SERFIQ, LocalQuality, PixelQualityAttribution
from captum_plq.network.spatial.map import SpatialTailError
from captum_plq.quality.estimators import Estimator

TOLERANCES = {"float64": 1e-6, "float32": 1e-3}
"""Of Q and local quality relative to the largest; of maps in float64. In float32, where the kinks
of a deep network flip, maps are held to a cosine of 1 - 0.02."""
_COSINE = 0.98


def device_checks(network: nn.Module, images: Tensor, device: torch.device) -> list[Record]:
    """Compare what is computed on a device with what is computed on the CPU.

    Args:

        network (nn.Module): On the CPU, float32, in evaluation mode; left as it is.
        images (Tensor): (B, 3, H, W), on the CPU.
        device (torch.device): Where TF32 is off.

    Returns:
        *list[dict]*: ready for JSON: what was compared, in which precision, by how much the two
        differ (``None``: one is not finite), the tolerance, and whether that is within it.
    """
    found: list[Record] = []
    for dtype, tolerance in TOLERANCES.items():
        own = copy.deepcopy(network).to(getattr(torch, dtype))
        given = images.to(getattr(torch, dtype))
        expected = {name: call(given) for name, call in _calls(own).items()}
        there = own.to(device)
        for name, call in _calls(there).items():
            want, got = expected[name], call(given.to(device))
            if want is None or got is None:
                difference, limit = float(want is not got), 0.0
            elif name.startswith("map") and dtype == "float32":
                a, b = (x.flatten(1).double() for x in (want, got.cpu()))
                difference, limit = float(1 - torch.cosine_similarity(a, b).min()), 1 - _COSINE
            else:
                scale = float(want.abs().max())
                difference, limit = float((got.cpu() - want).abs().max()) / scale, tolerance
            told = difference if math.isfinite(difference) else None
            found.append({
                "what": name, "dtype": dtype, "difference": told, "tolerance": limit,
                "passed": difference <= limit,
            })  # fmt: skip
    return found


def failures(checks: list[Record]) -> list[str]:
    """Return what differs, in words."""
    return [
        f"{x['what']} in {x['dtype']} by "
        + ("NaN or infinity" if x["difference"] is None else f"{x['difference']:.2g}")
        + f" (tolerance {x['tolerance']:.2g})"
        for x in checks
        if not x["passed"]
    ]


def _calls(network: nn.Module) -> Mapping[str, Callable[[Tensor], Tensor | None]]:
    calls: dict[str, Callable[[Tensor], Tensor | None]] = {}
    for estimator in get_args(Estimator):
        serfiq = SERFIQ(network, estimator=estimator)
        calls[f"Q, {estimator}"] = _without_grad(serfiq)
        for target in ("node", "serfiq"):
            plq = PixelQualityAttribution(serfiq, target_scalar=target)
            calls[f"map of {target}, {estimator}"] = plq.attribute
        if estimator == "sampling":
            calls["map, 2 directions"] = PixelQualityAttribution(serfiq, directions=2).attribute
    calls["local quality"] = _local(LocalQuality(network))
    return calls


def _without_grad(call: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            return call(images)

    return run


def _local(local: LocalQuality) -> Callable[[Tensor], Tensor | None]:
    def run(images: Tensor) -> Tensor | None:
        try:
            maps: Any = local.attribute(images, at_places=True)
        except SpatialTailError:  # has none, on either device
            return None
        found: Tensor = maps
        return found

    return run

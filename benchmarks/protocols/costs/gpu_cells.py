"""Times of one network, batch and variant: what the ``gpu`` protocol is put together from."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from captum.attr import Saliency
from torch import Tensor, nn

from benchmarks.harness.cost import OperatorCost, peak_bytes
from benchmarks.harness.protocol import Record
from benchmarks.harness.timing import (
    clock_for,
    floor_seconds,
    is_void,
    measure_rates,
    ratios,
    run_rounds,
    spread,
)
from benchmarks.subjects.attributions import METHODS
from benchmarks.subjects.network import ExplainedNetwork

__all__ = ["TIMED", "add_cell"]

TIMED = ("plq", "plq-closed-form", "plq-balanced", "local")
_REFERENCE, _AGAIN = "saliency", "saliency again"


def add_cell(record: Record, network: nn.Module, images: Tensor, variant: str) -> None:
    """Add to a record what one network, batch and variant cost, all methods.

    Args:

        record (dict): With ``"rounds"``, and the lists ``"cells"`` and ``"failed"`` that grow; the
            measured ``"rates"`` of a GPU are kept in it.
        network (nn.Module): On the device, float32; its memory format is changed in place.
        images (Tensor): (B, 3, H, W), on the device.
        variant (str): One of the ``gpu`` protocol's.
    """
    device, layout = images.device, torch.contiguous_format
    if "channels-last" in variant:
        layout = torch.channels_last
    dtype = torch.bfloat16 if "bfloat16" in variant else torch.float32
    network, images = network.to(memory_format=layout), images.to(memory_format=layout)
    if device.type == "cuda" and str(dtype) not in record["rates"]:
        record["rates"][str(dtype)] = measure_rates(device, dtype)
    run = torch.compile(network) if variant == "compiled" else network
    explained = ExplainedNetwork(run)  # type: ignore[arg-type]
    own, calls = dict[str, Record](), dict[str, Callable[[], Any]]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in (_REFERENCE, *TIMED):
            try:
                calls[name] = _call(name, explained, images, dtype)
                rates = None if variant == "compiled" else record["rates"].get(str(dtype))
                own[name] = _alone(calls[name], device, rates)
            except Exception as error:
                calls.pop(name, None)
                reason = f"{type(error).__name__}: {error}"[:500]
                failed = {"method": name, "batch": len(images), "variant": variant}
                record["failed"].append(failed | {"reason": reason})
        if _REFERENCE not in calls:
            return
        calls[_AGAIN], own[_AGAIN] = calls[_REFERENCE], own[_REFERENCE]
        rounds = run_rounds(calls, clock_for(device), record["rounds"])
    reference = rounds.seconds[_REFERENCE]
    void = is_void(ratios(rounds.seconds[_AGAIN], reference))
    for name, seconds in rounds.seconds.items():
        typical, floor = spread(seconds.values()), own[name]["floor"]
        if typical is not None:
            record["cells"].append({
                "batch": len(images), "variant": variant, "name": name, "void": void,
                "time": typical, "ratio": spread(ratios(seconds, reference).values()),
                "images_per_second": len(images) / typical["median"],
                "peak_bytes": own[name]["peak_bytes"],
                "share_of_floor": floor and floor / typical["median"],
            })  # fmt: skip
    record["void"] = all(cell["void"] for cell in record["cells"])


def _alone(call: Callable[[], Any], device: torch.device, rates: Record | None) -> Record:
    """Warm a call up; return its peak memory, and the least time for it at a GPU's rates."""
    for _ in range(3):
        call()
    found: Record = {"peak_bytes": peak_bytes(call, device), "floor": None}
    if rates:
        with OperatorCost() as cost:
            call()
        found["floor"] = floor_seconds(cost.flops, cost.traffic, rates)
    return found


class _Sum(nn.Module):
    """The sum of the unit-length embedding."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return (B,)."""
        return F.normalize(self.network(images).flatten(1).float()).sum(1)


def _call(
    name: str, explained: ExplainedNetwork, images: Tensor, dtype: torch.dtype
) -> Callable[[], Any]:
    half, leaf = dtype is torch.bfloat16, images.detach().requires_grad_()
    attribute: Callable[[Tensor], Any]
    if name == _REFERENCE:
        attribute = partial(Saliency(_Sum(explained.model)).attribute, abs=False)
    else:
        attribute = METHODS[name].build(explained)

    def call() -> Any:
        with torch.autocast(images.device.type, dtype, enabled=half):
            return attribute(leaf)

    return call

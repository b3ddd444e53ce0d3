"""What attribution methods cost on one network: what ``speed`` and ``scaling`` measure."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from benchmarks.harness.cost import MEMORY, OperatorCost, counted_passes, peak_bytes
from benchmarks.harness.options import PositiveInt, some_of
from benchmarks.harness.protocol import Protocol, Record
from benchmarks.harness.timing import (
    clock_for,
    floor_seconds,
    is_void,
    measure_rates,
    ratios,
    run_rounds,
    spread,
)
from benchmarks.subjects.attributions import METHODS, REFERENCE, REPEATED, select_methods
from benchmarks.subjects.methods import Method, check_maps
from benchmarks.subjects.models import BenchmarkModel
from benchmarks.subjects.network import ExplainedNetwork

MEASURED = (
    "images_per_second", "peak_bytes", "memory_ratio", "flops", "flops_ratio", "traffic_bytes",
    "forwards", "backwards", "share_of_floor",
)  # fmt: skip
"""What a record tells of each method beside its times; ``None``: not measured."""


@dataclass(frozen=True, kw_only=True)
class MethodCosts(Protocol):
    """What the protocols that time attribution methods have in common.

    Args:

        methods (tuple[str, ...]): What is timed; all, fast (all but the slow ones), or names.
        rounds (int): Interleaved rounds.
        slow_rounds (int): Of these, for methods that take tens of forwards.
        dtype (str): Of weights and images.
        tf32 (bool): Let CUDA use TF32 for float32.
        channels_last (bool): Weights and images in this memory format.
        dropout (float): p of SER-FIQ.
        rows (int, optional): Images at a time in methods with many forwards (default: 32, on a
            GPU 256).
    """

    methods: Annotated[tuple[str, ...], some_of(("all", "fast", *METHODS))] = ("all",)
    rounds: PositiveInt = 9
    slow_rounds: PositiveInt = 3
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    tf32: bool = False
    channels_last: bool = False
    dropout: float = 0.5
    rows: PositiveInt | None = None

    def cost(
        self,
        model: BenchmarkModel,
        batch: int,
        passes: int,
        methods: Sequence[Method] | None = None,
    ) -> Record:
        """Return what methods cost on one network at one batch size.

        First each method runs on its own: on one image, to make what it keeps between calls, then
        twice on the batch, to count arithmetic and passes and for peak memory. This warms it up,
        and a method that fails is left out with its reason. Then come the interleaved rounds. The
        caller's random states, threads and flags are put back.

        Args:

            model (BenchmarkModel): The network; it is moved and cast in place.
            batch (int): B.
            passes (int): m of SER-FIQ.
            methods (sequence of Method, optional): With both Saliencies. ``None``: as the options
                say.

        Returns:
            *dict*: ready for JSON; ``"void"``: Saliency was not within 3 % of itself, so the times
            say nothing; ``"order"``: what ran after what in each round; ``"rates"``: of a GPU, for
            the floor; ``"methods"``: for each ``"seconds"`` and ``"ratios"`` by round, the spreads
            of both, ``"time"`` and ``"ratio"``, ``"share_of_floor"``: floor over median time, 1 is
            the best, and the other costs, each ``None`` where it was not measured.

        Raises:
            RuntimeError: if the device is not there.
        """
        rows = self.rows or (256 if self.device == "cuda" else 32)
        dtype: torch.dtype = getattr(torch, self.dtype)
        with self.environment(
            passes=passes,
            dropout=self.dropout,
            rows=rows,
            dtype=dtype,
            tf32=self.tf32,
            channels_last=self.channels_last,
        ) as (device, environment):
            layout = torch.channels_last if self.channels_last else torch.contiguous_format
            network = model.network.to(device, dtype).to(memory_format=layout)
            images = model.images(batch, self.seed).to(device, dtype).to(memory_format=layout)
            rates = measure_rates(device, dtype) if device.type == "cuda" else None
            explained = ExplainedNetwork(
                network, model.low, model.high, passes, self.dropout, self.seed, rows
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                chosen = select_methods(self.methods) if methods is None else methods
                found, order = self._rounds(explained, images, chosen)
        _compare(found, batch, rates)
        return {
            "model": model.name,
            "weights": model.weights,
            "input_shape": list(images.shape),
            "parameters": sum(p.numel() for p in network.parameters()),
            "rounds": self.rounds,
            "slow_rounds": self.slow_rounds,
            "void": is_void(found[REPEATED]["ratios"]),
            "conditions": environment,
            "memory_method": MEMORY[device.type],
            "order": order,
            "rates": rates,
            "methods": list(found.values()),
        }

    def _rounds(
        self, network: ExplainedNetwork, images: Tensor, methods: Sequence[Method]
    ) -> tuple[dict[str, Record], list[list[str]]]:
        """Costs of every method without those that are relative, and the order of the rounds."""
        found: dict[str, Record] = {}
        calls: dict[str, Callable[[], Tensor]] = {}
        for m in methods:
            found[m.name] = {
                "name": m.name, "kind": m.kind, "description": m.description, "gives": m.gives,
                "slow": m.slow, "reason": None, "warnings": [], "seconds": {}, "ratios": {},
                "time": None, "ratio": None, **dict.fromkeys(MEASURED),
            }  # fmt: skip
            try:
                call = _first_calls(m, network, images, found[m.name])
                found[m.name]["peak_bytes"] = peak_bytes(call, images.device)
                calls[m.name] = call
            except Exception as error:
                found[m.name]["reason"] = f"{type(error).__name__}: {error}"
        slow = [m.name for m in methods if m.slow]
        clock = clock_for(images.device)
        rounds = run_rounds(calls, clock, self.rounds, slow, self.slow_rounds)
        for name, seconds in rounds.seconds.items():
            found[name] |= {"seconds": seconds, "reason": rounds.failures.get(name)}
        return found, rounds.order


def run_name(record: Record, what: str = "", protocol: str = "speed") -> str:
    """Return the name of a run's file: what tells it from other runs on the same machine."""
    given = record["conditions"]
    parts = [protocol, record["model"], given["device"], what]
    parts += [given["dtype"] * (given["dtype"] != "float32"), "tf32" * given["tf32"]]
    parts += ["channels-last" * given.get("channels_last", False)]
    return "-".join(part for part in parts if part)


def _first_calls(
    method: Method, network: ExplainedNetwork, images: Tensor, record: Record
) -> Callable[[], Tensor]:
    """Prepare a method for a batch, and count what its first call there costs."""
    attribute = method.build(network)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attribute(images[:1])  # finds the layer, draws the masks
        network.node(images)  # given to every method: no part of what it costs
        with counted_passes(network.model, images) as passes, OperatorCost() as cost:
            output = attribute(images)
    check_maps(output, tuple(images.shape if method.gives == "attribution" else images.shape[:1]))
    record |= {"forwards": passes.forward, "backwards": passes.backward}
    record |= {"flops": cost.flops, "traffic_bytes": cost.traffic}
    record["warnings"] = sorted({str(w.message)[:300] for w in caught})
    return lambda: attribute(images)


def _compare(found: dict[str, Record], batch: int, rates: dict[str, float] | None) -> None:
    """Fill in everything that is relative to Saliency or to the device."""
    saliency = found[REFERENCE]
    for m in found.values():
        m["ratios"] = ratios(m["seconds"], saliency["seconds"])
        for key, rounds in (("time", "seconds"), ("ratio", "ratios")):
            m[key] = spread(m[rounds].values())
        for key, ratio in (("peak_bytes", "memory_ratio"), ("flops", "flops_ratio")):
            known = m[key] is not None and saliency[key]
            m[ratio] = m[key] / saliency[key] if known else None
        if m["time"] is None:
            continue
        m["images_per_second"] = batch / m["time"]["median"]
        if rates and m["flops"] is not None and m["traffic_bytes"] is not None:
            floor = floor_seconds(m["flops"], m["traffic_bytes"], rates)
            m["share_of_floor"] = floor / m["time"]["median"]

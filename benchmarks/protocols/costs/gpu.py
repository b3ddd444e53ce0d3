"""A GPU in eight minutes: whether it is right, and how long it takes beside Saliency."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from cyclopts import Parameter

from benchmarks.harness.environment import dated
from benchmarks.harness.options import Counts, Device, Names, PositiveInt, some_of
from benchmarks.harness.pages import Field, listing
from benchmarks.harness.protocol import Protocol, Record
from benchmarks.protocols.costs.device_checks import device_checks, failures
from benchmarks.protocols.costs.gpu_cells import add_cell
from benchmarks.subjects.models import BenchmarkModel, load_benchmark_model

VARIANTS = ("float32", "bfloat16", "channels-last", "bfloat16-channels-last", "compiled")
"""The most important first. bfloat16 is autocast; compiled is what Saliency then runs."""
_CHECKED = 2
_FIELDS: tuple[Field, ...] = (
    ("batch, variant, method", lambda x: f"{x['batch']}, {x['variant']}, {x['name']}", ""),
    ("time ÷ Saliency", lambda x: x["ratio"] and "{median:.3f} ({low:.3f} to {high:.3f})"
     .format_map(x["ratio"]), ""),
    ("ms", lambda x: 1e3 * x["time"]["median"], ".4g"),
    ("images/s", "images_per_second", ".4g"),
    ("MiB", lambda x: x["peak_bytes"] and x["peak_bytes"] / 2**20, ".0f"),
    ("of floor", "share_of_floor", ".0%"),
    ("", lambda x: "void" * x["void"], ""),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Gpu(Protocol):
    """A GPU.

    First everything is compared with what the CPU gives, without TF32; a difference ends the run.
    Then times, in interleaved rounds, relative to Captum's Saliency on the sum of the unit-length
    embedding, one forward and one backward: medians and quartiles. Memory is the peak above what
    was there before. *void*: Saliency was not within 3 % of itself. What there was no time for is
    named.

    Args:

        model (tuple[str, ...]): Networks, the most important first.
        batches (tuple[int, ...]): Batch sizes, the most important first.
        variants (tuple[str, ...]): How they run.
        minutes (float): After which nothing new is begun.
        rounds (int): Interleaved rounds.
        small (bool): A tiny network and batches: shows that all runs, not more.
    """

    name: ClassVar[str] = "gpu"
    quick: ClassVar[dict[str, str]] = {"model": "tiny", "batches": "1,2", "rounds": "2",
                                       "variants": "float32,bfloat16"}  # fmt: skip

    model: Names = ("iresnet50", "mobilefacenet-places", "vit-s", "iresnet100")
    device: Device = "cuda"
    batches: Counts = (8, 16, 64, 1, 256)
    variants: Annotated[tuple[str, ...], some_of(VARIANTS)] = VARIANTS
    minutes: float = 7.5
    rounds: PositiveInt = 7
    small: Annotated[bool, Parameter(name="--quick", negative=())] = False

    def records(self) -> Iterator[tuple[str, Record]]:
        """Yield the records of all networks, each again whenever it has grown.

        Raises:
            RuntimeError: if the device computes something else than the CPU.
        """
        start = time.monotonic()
        names, batches = (("tiny",), (1, 2)) if self.small else (self.model, self.batches)
        with self.environment(passes=100, dropout=0.5) as (device, environment):
            models: dict[str, BenchmarkModel] = {}
            found: dict[str, Record] = {}
            for name in dict.fromkeys(names):
                self.progress(name, "checks against the CPU")
                model = models[name] = load_benchmark_model(name, self.seed)
                checks = device_checks(model.network, model.images(_CHECKED, self.seed), device)
                found[name] = {
                    "model": name, "weights": model.weights, "conditions": environment,
                    "rounds": self.rounds, "checks": checks, "rates": {}, "cells": [],
                    "failed": [], "dropped": [], "void": False,
                }  # fmt: skip
                yield f"gpu-{name}-{device.type}", found[name]
                if wrong := failures(checks):
                    raise RuntimeError(f"{name}: not what the CPU gives: {'; '.join(wrong)}")
            cells = [(v, b, n) for v in self.variants for b in batches for n in models]
            longest: dict[str, float] = {}
            for variant, batch, name in cells:
                begun, record = time.monotonic(), found[name]
                left = 60 * self.minutes - (begun - start)
                if left < longest.get(name, 0.0):
                    record["dropped"].append([variant, batch])
                else:
                    self.progress(name, f"{variant}, batch {batch}")
                    network = models[name].network.to(device)
                    given = models[name].images(batch, self.seed).to(device)
                    add_cell(record, network, given, variant)
                    longest[name] = max(longest.get(name, 0.0), time.monotonic() - begun)
                yield f"gpu-{name}-{device.type}", record

    def measure(self, model: str) -> Iterator[tuple[str, Record]]:
        """Yield what :meth:`records` does of this network."""
        yield from (found for found in self.records() if found[1]["model"] == model)

    @classmethod
    def section(cls, record: Record) -> list[str]:
        """Return the checks in a sentence, and a table of the times."""
        checks = record["checks"]
        worst = {d: max(x["difference"] or 0.0 for x in checks if x["dtype"] == d)
                 for d in dict.fromkeys(x["dtype"] for x in checks)}  # fmt: skip
        passed = sum(x["passed"] for x in checks)
        told = ", ".join(f"{value:.1g} in {dtype}" for dtype, value in worst.items())
        dropped = ", ".join(f"{variant} at {batch}" for variant, batch in record["dropped"])
        failed = [f"- {x['method']}, {x['variant']}, batch {x['batch']}: {x['reason']}"
                  for x in record["failed"]]  # fmt: skip
        return [
            f"## {record['model']}, {record['conditions']['device']}",
            "",
            f"{dated(record['conditions'])}. {record['rounds']} rounds; weights "
            f"{record['weights']}. {passed} of {len(checks)} comparisons with the CPU hold; "
            f"largest differences: {told}.",
            "",
            *listing(_FIELDS, record["cells"]),
            "",
            *([f"No time was left for: {dropped}.", ""] if dropped else []),
            *([*failed, ""] if failed else []),
        ]

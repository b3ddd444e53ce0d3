"""How time and memory grow with the batch and with the number of passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.protocols.speed import SpeedSettings, measure_speed
from benchmarks.protocols.speed_results import SpeedResult
from benchmarks.subjects.methods import Method
from benchmarks.subjects.models import BenchmarkModel

__all__ = ["ScalingResult", "measure_scaling"]


@dataclass(frozen=True)
class ScalingResult:
    """Two series of speed measurements on one network.

    Args:

        by_batch (list[SpeedResult]): Growing batches, always the same m.
        by_passes (list[SpeedResult]): Growing m, always the same batch.
    """

    by_batch: list[SpeedResult]
    by_passes: list[SpeedResult]

    @property
    def stem(self) -> str:
        """Name of its file."""
        first = self.by_batch[0]
        return f"scaling-{first.model}-{first.conditions.device}{first.kind}"

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "by_batch": [result.to_json() for result in self.by_batch],
            "by_passes": [result.to_json() for result in self.by_passes],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> ScalingResult:
        """The inverse of :meth:`to_json`."""
        return cls(
            [SpeedResult.from_json(result) for result in record["by_batch"]],
            [SpeedResult.from_json(result) for result in record["by_passes"]],
        )


def measure_scaling(
    model: BenchmarkModel,
    batches: Sequence[int],
    passes: Sequence[int],
    batch: int,
    methods: Sequence[Method],
    settings: SpeedSettings,
    progress: Callable[[str], object] = lambda _: None,
) -> ScalingResult:
    """Measures both series.

    Args:

        model (BenchmarkModel): The network.
        batches (sequence of int): B to try, at the settings' m.
        passes (sequence of int): m to try.
        batch (int): B of the series over m.
        methods (sequence of Method): With both Saliencies.
        settings (SpeedSettings): How each point is measured.
        progress (Callable): Told what is being done.

    Returns:
        *ScalingResult*

    Raises:
        RuntimeError: if the device is not there.
    """
    by_batch = []
    for size in batches:
        progress(f"batch {size}")
        by_batch.append(measure_speed(model, size, methods, settings))
    by_passes = []
    for m in passes:
        progress(f"m = {m}, batch {batch}")
        by_passes.append(measure_speed(model, batch, methods, replace(settings, passes=m)))
    return ScalingResult(by_batch, by_passes)

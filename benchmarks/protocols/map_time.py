"""What each score map costs, from the images to the map: quality node, pooling and all.

The ``speed`` benchmark times attributions, and gives every method but PLQ its node for nothing.
Here each map makes all it needs. What is made once per network is not timed: closures, hooks and
reference maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.harness.environment import Environment
from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.tables import number, read_json, table, write_json
from benchmarks.harness.timing import Spread, clock_for, is_void, ratios, run_rounds
from benchmarks.subjects.methods import Method

__all__ = ["REFERENCE", "MapTimes", "measure_map_times", "write_map_time_report"]

REFERENCE = "saliency-sum"
"""One forward and one backward: the least that a gradient map can cost."""
_AGAIN = f"{REFERENCE} again"


@dataclass(frozen=True)
class MapTimes:
    """Times of one network.

    Args:

        model (str): Its name.
        batch (int): Images at a time.
        conditions (Environment): Of the run.
        seconds (dict[str, Spread]): Map → seconds per batch, median and quartiles over rounds.
        ratios (dict[str, Spread]): Map → ratio to :data:`REFERENCE` within each round.
        failed (dict[str, str]): Map → why it has no time.
    """

    model: str
    batch: int
    conditions: Environment
    seconds: dict[str, Spread]
    ratios: dict[str, Spread]
    failed: dict[str, str]

    @property
    def void(self) -> bool:
        """Whether the reference was not within 3 % of itself: then the run says nothing."""
        return is_void(self.ratios.get(_AGAIN))

    def write(self, directory: Path) -> Path:
        """Writes ``map-time-MODEL-DEVICE-bN.json`` and returns its path."""
        name = f"map-time-{self.model}-{self.conditions.device}-b{self.batch}.json"
        return write_json({**asdict(self), "void": self.void}, directory / name)


def measure_map_times(
    context: StudyContext,
    images: Tensor,
    conditions: Environment,
    *,
    rounds: int = 7,
    slow_rounds: int = 3,
) -> MapTimes:
    """Times every map of a context in interleaved rounds, each once before as a warm-up.

    Args:

        context (StudyContext): Of the network. :data:`REFERENCE` is timed whether it is in it or
            not.
        images (Tensor): (B, 3, H, W), 0–255, on the network's device.
        conditions (Environment): Of this run.
        rounds (int): How many.
        slow_rounds (int): Of these, for methods that take tens of forwards.

    Returns:
        *MapTimes*
    """
    calls: dict[str, Callable[[], object]] = {}
    context.maps(images)
    for method in context.methods:
        if method.name not in context.failed and not method.random_weights:
            calls[method.name] = _call(context, method, images)
    if REFERENCE not in calls:
        raise ValueError(f"Times are relative to {REFERENCE}: give it among the methods.")
    calls[_AGAIN] = calls[REFERENCE]
    slow = [method.name for method in context.methods if method.slow]
    found = run_rounds(calls, clock_for(images.device), rounds, slow, slow_rounds)
    reference = found.seconds[REFERENCE]
    return MapTimes(
        context.model.spec.name,
        len(images),
        conditions,
        _spreads({name: list(of.values()) for name, of in found.seconds.items()}),
        _spreads(
            {name: list(ratios(of, reference).values()) for name, of in found.seconds.items()}
        ),
        {**context.failed, **found.failures},
    )


def write_map_time_report(directory: Path) -> Path:
    """Writes ``map-time.md`` over all ``map-time-*.json`` of a folder and returns its path.

    Raises:
        FileNotFoundError: if there are none.
    """
    records = read_json(directory, "map-time-*.json")
    path = directory / "map-time.md"
    path.write_text(_markdown(records), encoding="utf-8")
    return path


def _markdown(records: Sequence[dict[str, Any]]) -> str:
    lines = [
        "# What a map costs",
        "",
        f"From the images to the map, as a ratio to `{REFERENCE}` (one forward, one backward) "
        "within interleaved rounds: medians, in brackets the quartiles.",
        "",
    ]
    for record in records:
        void = ", **void**" if record["void"] else ""
        cells = [
            [name, f"{x['median']:.2f} [{x['low']:.2f}, {x['high']:.2f}]",
             number(1e3 * record["seconds"][name]["median"] / record["batch"], ".3g")]
            for name, x in record["ratios"].items()
        ]  # fmt: skip
        lines += [f"## {record['model']}, batch {record['batch']}{void}", ""]
        lines += [*table(["map", "ratio", "ms per image"], cells), ""]
        lines += [f"- `{name}` has no time: {reason}" for name, reason in record["failed"].items()]
        conditions = Environment(**record["conditions"])
        lines += ["", f"{conditions.line()}; {conditions.date}.", ""]
    return "\n".join(lines)


def _call(context: StudyContext, method: Method, images: Tensor) -> Callable[[], object]:
    explain = context.explain(method)
    return lambda: explain(images.clone())  # a new tensor: nothing kept from another map


def _spreads(values: dict[str, list[float]]) -> dict[str, Spread]:
    return {name: found for name, x in values.items() if (found := Spread.of(x)) is not None}

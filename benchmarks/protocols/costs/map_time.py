"""What each score map costs, from the images to the map: quality node, pooling and all.

The ``speed`` benchmark times attributions and gives every method but PLQ its node for nothing. Here
each map makes all it needs. What is made once per network is not timed: closures, hooks and
reference maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from benchmarks.harness.environment import dated
from benchmarks.harness.options import PositiveInt
from benchmarks.harness.pages import Field, estimate, listing
from benchmarks.harness.protocol import Cell, Headline, Record
from benchmarks.harness.study import MapOptions, StudyContext
from benchmarks.harness.timing import clock_for, is_void, ratios, run_rounds, spread
from benchmarks.subjects.maps import select_maps
from benchmarks.subjects.methods import Method

REFERENCE = "saliency-sum"
"""One forward and one backward: the least that a gradient map can cost."""
_AGAIN = f"{REFERENCE} again"


def _ratio(record: Record, method: str) -> Cell | None:
    found = record["ratios"].get(method)
    return None if found is None else Cell(found["median"], found["low"], found["high"])


@dataclass(frozen=True, kw_only=True)
class MapTime(MapOptions):
    """What a map costs.

    From the images to the map, as a ratio to `saliency-sum` (one forward, one backward) within
    interleaved rounds: medians, in brackets the quartiles.

    Args:

        rounds (int): Interleaved rounds.
        slow_rounds (int): Of these, for maps that take tens of forwards.
    """

    name: ClassVar[str] = "map-time"
    quick = MapOptions.quick | {"random-weights": "none", "rounds": "3"}
    headlines: ClassVar[tuple[Headline, ...]] = (
        Headline("time", "from image to map, as a ratio to one forward and one backward; quartiles",
                 _ratio, ".2f", "lower"),
    )  # fmt: skip

    rounds: PositiveInt = 7
    slow_rounds: PositiveInt = 3

    def chosen(self) -> tuple[Method, ...]:
        """Return the maps, always with :data:`REFERENCE`; none on random weights."""
        return select_maps((*self.methods, REFERENCE))

    def measure(self, model: str) -> Iterator[tuple[str, Record]]:
        """Yield the times of one batch of faces."""
        with self.context(model) as context:
            parameter = next(context.model.parameters())
            found = self.times(context, context.faces.images[: self.batch].to(parameter))
        yield f"map-time-{found['model']}-{self.device}-b{found['batch']}", found

    def times(self, context: StudyContext, images: Tensor) -> Record:
        """Return the times of every map in interleaved rounds, each run once before.

        Args:

            context (StudyContext): Of the network, with :data:`REFERENCE` among its methods.
            images (Tensor): (B, 3, H, W), 0–255, on the network's device.

        Returns:
            *dict*: ready for JSON: ``"seconds"``: map → per batch, and ``"ratios"``: map → to
            :data:`REFERENCE` within each round, medians and quartiles over rounds; ``"failed"``:
            map → why it has no time; ``"void"``: the reference was not within 3 % of itself.
        """
        context.maps(images)
        working = [m for m in context.methods if m.name not in context.failed]
        calls: dict[str, Callable[[], object]] = {
            m.name: _call(context, m, images) for m in working
        }
        if REFERENCE not in calls:
            raise ValueError(f"Times are relative to {REFERENCE}, which has none: {context.failed}")
        calls[_AGAIN] = calls[REFERENCE]
        slow = [method.name for method in working if method.slow]
        clock = clock_for(images.device)
        rounds = run_rounds(calls, clock, self.rounds, slow, self.slow_rounds)
        reference = rounds.seconds[REFERENCE]
        relative = {name: ratios(own, reference) for name, own in rounds.seconds.items()}
        return {
            "model": context.model.spec.name,
            "batch": len(images),
            "conditions": context.environment,
            "seconds": _spreads(rounds.seconds),
            "ratios": _spreads(relative),
            "failed": {**context.failed, **rounds.failures},
            "void": is_void(relative[_AGAIN]),
        }

    @classmethod
    def section(cls, record: Record) -> list[str]:
        """Return the table of one network and batch."""
        fields: list[Field] = [
            ("map", lambda item: item[0], ""),
            ("ratio", lambda item: estimate(item[1], ".2f"), ""),
            ("ms per image",
             lambda item: 1e3 * record["seconds"][item[0]]["median"] / record["batch"], ".3g"),
        ]  # fmt: skip
        void = ", **void**" if record["void"] else ""
        return [
            f"## {record['model']}, batch {record['batch']}{void}",
            "",
            *listing(fields, record["ratios"].items()),
            "",
            *(f"- `{name}` has no time: {why}" for name, why in record["failed"].items()),
            "",
            f"{dated(record['conditions'])}.",
            "",
        ]


def _call(context: StudyContext, method: Method, images: Tensor) -> Callable[[], object]:
    explain = context.explain(method)
    return lambda: explain(images.clone())  # a new tensor: nothing kept from another map


def _spreads(rounds: dict[str, dict[int, float]]) -> dict[str, dict[str, Any]]:
    found = {name: spread(own.values()) for name, own in rounds.items()}
    return {name: cell for name, cell in found.items() if cell is not None}

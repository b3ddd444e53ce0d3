"""Times measured in interleaved rounds, and what is made of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

__all__ = [
    "TOLERANCE",
    "Call",
    "Clock",
    "Rounds",
    "Spread",
    "clock_for",
    "is_void",
    "ratios",
    "rotated",
    "run_rounds",
]

Call = Callable[[], object]
Clock = Callable[[Call], float]

TOLERANCE = 0.03
"""How far Saliency may be from itself before a run says nothing."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements.

    Args:

        median (float): The 50th percentile, linearly interpolated as the others.
        low (float): The 25th.
        high (float): The 75th.
        count (int): How many measurements.
    """

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Spread of values; ``None`` if there are none."""
        if not values:
            return None
        low, median, high = (float(x) for x in np.percentile(values, [25, 50, 75]))
        return cls(median, low, high, len(values))


@dataclass
class Rounds:
    """What interleaved rounds gave.

    Args:

        seconds (dict): Name → round → seconds, for the rounds it ran in.
        order (list[list[str]]): The order of each round.
        failures (dict): Name → why it dropped out.
    """

    seconds: dict[str, dict[int, float]] = field(default_factory=dict)
    order: list[list[str]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def clock_for(device: torch.device) -> Clock:
    """Measures one call in seconds: CUDA events on a GPU, the wall clock elsewhere."""
    return _cuda_seconds if device.type == "cuda" else _wall_seconds


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The names in turn, beginning with number ``by`` (modulo their count)."""
    start = by % len(names) if names else 0
    return [*names[start:], *names[:start]]


def run_rounds(
    calls: Mapping[str, Call],
    clock: Clock,
    rounds: int,
    slow: Collection[str] = (),
    slow_rounds: int = 3,
) -> Rounds:
    """Runs each call once per round, so that a busy moment meets all of them alike.

    Each round starts one further on, and every second one runs backwards, so that no call
    always follows the same other. The slow ones take part only in the first
    ``slow_rounds`` rounds. A call that raises is left out from then on, with its reason. The
    garbage collector runs between rounds and never during one.

    Args:

        calls (mapping): Name → call, already warm.
        clock (Callable): Measures a call in seconds.
        rounds (int): How many rounds.
        slow (collection of str): Names of the slow ones.
        slow_rounds (int): How many rounds these take part in.

    Returns:
        *Rounds*
    """
    result = Rounds(seconds={name: {} for name in calls})
    for number in range(rounds):
        names = [n for n in calls if number < slow_rounds or n not in slow]
        order = [n for n in rotated(names, number) if n not in result.failures]
        if number % 2:
            order.reverse()
        result.order.append(order)
        with _garbage_held():
            for name in order:
                try:
                    result.seconds[name][number] = clock(calls[name])
                except Exception as error:
                    result.failures[name] = f"{type(error).__name__}: {error}"
    return result


def ratios(seconds: Mapping[int, float], reference: Mapping[int, float]) -> dict[int, float]:
    """Ratio to the reference within each round that both ran in."""
    return {r: t / reference[r] for r, t in seconds.items() if r in reference}


def is_void(again: Spread | None) -> bool:
    """Whether a run must be thrown away: Saliency is not within 3 % of itself."""
    return again is None or not abs(again.median - 1) <= TOLERANCE


def _wall_seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _cuda_seconds(call: Call) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3


@contextmanager
def _garbage_held() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

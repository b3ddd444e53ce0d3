"""Times measured in interleaved rounds, what is made of them, and the least a device needs."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

Call = Callable[[], object]
Clock = Callable[[Call], float]

TOLERANCE = 0.03
"""How far Saliency may be from itself before a run says nothing."""


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


def spread(values: Collection[float]) -> dict[str, Any] | None:
    """Return ``"median"``, ``"low"`` and ``"high"`` quartile and ``"count"``; ``None`` of none."""
    if not values:
        return None
    low, median, high = (float(x) for x in np.percentile(list(values), [25, 50, 75]))
    return {"median": median, "low": low, "high": high, "count": len(values)}


def clock_for(device: torch.device) -> Clock:
    """Measures one call in seconds: CUDA events on a GPU, the wall clock elsewhere."""
    return _cuda_seconds if device.type == "cuda" else _wall_seconds


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
        start = number % len(names) if names else 0
        order = [n for n in names[start:] + names[:start] if n not in result.failures]
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


def is_void(again: Mapping[int, float]) -> bool:
    """Return whether a run says nothing: Saliency's ratios to itself are not within 3 % of 1."""
    found = spread(again.values())
    return found is None or not abs(found["median"] - 1) <= TOLERANCE


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


def measure_rates(
    device: torch.device,
    dtype: torch.dtype,
    *,
    side: int = 8192,
    copied: int = 2**30,
    repeats: int = 10,
) -> dict[str, float]:
    """Measures both rates, each the best of ``repeats`` after a warm-up.

    Args:

        device (torch.device): Where.
        dtype (torch.dtype): Of the matrices; TF32 is as it is set now.
        side (int): Rows and columns of the matrices.
        copied (int): Bytes of the copied tensor; far more than the caches hold.
        repeats (int): How often.

    Returns:
        *dict*: ``"matmul"``, floating-point operations per second of a square matrix product, and
        ``"copy"``, bytes per second, read plus written, of a copy of a large tensor.
    """
    seconds = clock_for(device)
    a, b = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    product = torch.empty_like(a)
    source = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    work: dict[str, tuple[Call, int]] = {
        "matmul": (lambda: torch.mm(a, b, out=product), 2 * side**3),
        "copy": (lambda: target.copy_(source), 2 * copied),
    }
    for call, _ in work.values():
        call()
    return {
        name: amount / min(seconds(call) for _ in range(repeats))
        for name, (call, amount) in work.items()
    }


def floor_seconds(flops: int, traffic: int, rates: Mapping[str, float]) -> float:
    """The longer of computing at the matmul rate and moving at the copy rate.

    ``traffic`` is that of unfused execution (see
    :class:`~benchmarks.harness.cost.OperatorCost`), so results that stay in a cache can bring a
    call below its floor.
    """
    return max(flops / rates["matmul"], traffic / rates["copy"])

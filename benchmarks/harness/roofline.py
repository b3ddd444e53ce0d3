"""The least time a device needs: its measured rates, and what they make of a call's cost."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.harness.timing import clock_for

__all__ = ["Rates", "floor_seconds", "measure_rates"]


@dataclass(frozen=True)
class Rates:
    """What a device reaches in practice.

    Args:

        matmul (float): Floating-point operations per second of a square matrix product.
        copy (float): Bytes per second, read plus written, of a copy of a large tensor.
    """

    matmul: float
    copy: float


def measure_rates(
    device: torch.device,
    dtype: torch.dtype,
    *,
    side: int = 8192,
    copied: int = 2**30,
    repeats: int = 10,
) -> Rates:
    """Measures both rates, each the best of ``repeats`` after a warm-up.

    Args:

        device (torch.device): Where.
        dtype (torch.dtype): Of the matrices; TF32 is as it is set now.
        side (int): Rows and columns of the matrices.
        copied (int): Bytes of the copied tensor; far more than the caches hold.
        repeats (int): How often.

    Returns:
        *Rates*
    """
    seconds = clock_for(device)
    a, b = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    product = torch.empty_like(a)
    source = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def multiply() -> object:
        return torch.mm(a, b, out=product)

    def copy() -> object:
        return target.copy_(source)

    multiply(), copy()
    fastest_product = min(seconds(multiply) for _ in range(repeats))
    fastest_copy = min(seconds(copy) for _ in range(repeats))
    return Rates(2 * side**3 / fastest_product, 2 * copied / fastest_copy)


def floor_seconds(flops: int, traffic: int, rates: Rates) -> float:
    """The longer of computing at the matmul rate and moving at the copy rate.

    ``traffic`` is that of unfused execution (see
    :class:`~benchmarks.harness.cost.OperatorCost`), so results that stay in a cache can bring a
    call below its floor.
    """
    return max(flops / rates.matmul, traffic / rates.copy)

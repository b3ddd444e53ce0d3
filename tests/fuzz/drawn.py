"""Hypothesis's part: tensors of every kind of number, and cases drawn in blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from torch import Tensor

from tests.fuzz.target import Case, Finding

__all__ = ["DrawnTarget", "dtypes", "grade", "tensors"]

_BLOCK = 100

dtypes = st.sampled_from((torch.float16, torch.bfloat16, torch.float32, torch.float64))

_STYLES = (
    "normal", "normal", "normal", "uniform", "zeros", "constant", "tiny", "huge", "subnormal",
    "wide", "rows equal", "nearly equal", "few",
)  # fmt: skip
_SPECIAL = (float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 1e-40, 3e38, 65504.0)

_ORDINARY = {torch.float64: 1e60}
"""How far from 1 the numbers of a type may be, up or down, to be ordinary; others: 1e12."""


@st.composite
def tensors(
    draw: Callable[..., Any],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    *,
    positive: bool = False,
    special: bool = True,
) -> Tensor:
    """A tensor whose numbers are of one style, with a few that mean trouble among them.

    Args:

        draw (Callable): Hypothesis's.
        shape (tuple[int, ...]): Its shape.
        dtype (torch.dtype): Its type.
        positive (bool): Without signs.
        special (bool): NaN and the like may be among them.
    """
    style = draw(st.sampled_from(_STYLES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    limits = torch.finfo(dtype)
    if style == "uniform":
        x = torch.rand(shape, generator=generator, dtype=torch.float64)
    elif style == "zeros":
        x = torch.zeros_like(x)
    elif style == "constant":
        x = torch.full_like(x, 0.37)
    elif style == "tiny":
        x = x * limits.tiny
    elif style == "huge":
        x = (x.abs() % 1) * x.sign() * limits.max
    elif style == "subnormal":
        x = x * limits.smallest_normal / 64
    elif style == "wide":
        x = x * 10.0 ** (20 * torch.randn(shape, generator=generator, dtype=torch.float64))
        x = x.clamp(limits.min, limits.max)
    elif style == "few":
        x = x * (torch.rand(shape, generator=generator) < 0.1)
    elif len(shape) > 1 and style == "rows equal":
        x = x[..., :1, :].expand(shape).clone()
    elif len(shape) > 1 and style == "nearly equal":
        x = x[..., :1, :] + 1e-6 * x
    x = (x.abs() if positive else x).to(dtype)
    if special and x.numel() and draw(st.integers(0, 2)) == 0:
        for _ in range(draw(st.integers(1, 2))):
            number = draw(st.sampled_from(_SPECIAL))
            place = draw(st.integers(0, x.numel() - 1))
            x.view(-1)[place] = abs(number) if positive else number
    return x


def grade(
    x: Tensor, dims: tuple[int, ...] = (), nonzero: bool = False, far: float | None = None
) -> Tensor:
    """Whether numbers are ordinary (0), may leave the range of the type (1), or are none (2).

    Args:

        x (Tensor): The numbers.
        dims (tuple[int, ...]): Over which the worst counts.
        nonzero (bool): All of them zero is 1, too.
        far (float, optional): Factor from 1, up or down, beyond which they are not ordinary.
    """
    far = far or _ORDINARY.get(x.dtype, 1e12)
    size = x.double().abs()
    found = ((size > far) | ((size < 1 / far) & (size > 0))).int()
    found = torch.where(torch.isfinite(x), found, 2)
    if not dims:
        return found
    worst = found.amax(dims)
    return torch.maximum(worst, (size.amax(dims) == 0).int()) if nonzero else worst


class DrawnTarget:
    """Cases that Hypothesis draws, a hundred at once, from a seed and the number of the block.

    Args:

        folder (Path): Where Hypothesis may keep what it likes.
    """

    documented: tuple[type[Exception], ...] = (ValueError, TypeError)

    def __init__(self, folder: Path) -> None:
        set_hypothesis_home_dir(folder)

    def strategy(self) -> st.SearchStrategy[Case]:
        """What cases are drawn from."""
        raise NotImplementedError

    def outcome(self, case: Case) -> str:
        """Runs a case and checks what came of it."""
        raise NotImplementedError

    def attempt(self, case: Case) -> str:
        try:
            return self.outcome(case)
        except Finding as finding:
            raise Finding(f"{case.kind}: {finding}") from finding

    def cases(self, seed_: int, first: int, count: int, do: Callable[[int, Case], None]) -> None:
        for block in range(first // _BLOCK, (first + count - 1) // _BLOCK + 1):
            drawn = _drawn(self.strategy(), f"{type(self).__name__}:{seed_}:{block}")
            for index, case in enumerate(drawn, block * _BLOCK):
                if first <= index < first + count:
                    do(index, case)

    def save(self, case: Case, path: Path) -> None:
        torch.save({"kind": case.kind, "content": case.content}, path)

    def read(self, path: Path) -> Case:
        saved = torch.load(path, weights_only=True)
        return Case(saved["kind"], saved["content"], path.suffix)


def _drawn(strategy: st.SearchStrategy[Case], key: str) -> list[Case]:
    cases: list[Case] = []

    @seed(key)
    @settings(
        max_examples=_BLOCK,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(case: Case) -> None:
        cases.append(case)

    collect()
    return cases

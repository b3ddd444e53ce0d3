"""The equations: functions of tensors, on numbers of every kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from captum_plq import functional as F
from captum_plq.functional.closed_form import expected_pairwise_distance, noise_map
from captum_plq.functional.relative import (
    GradientReference,
    gradient_reference,
    gradient_zscore,
    relative_pixel_quality,
)
from tests.fuzz.drawn import DrawnTarget, dtypes, grade, tensors
from tests.fuzz.target import Case, Finding

Arguments = dict[str, Any]
Draw = Callable[..., Any]


@dataclass(frozen=True)
class Function:
    """What is called, on what, and what must come of it.

    Args:

        draw (Callable): Draws the arguments.
        call (Callable): Takes them; gives a tensor, or several.
        grades (Callable): Of the arguments, by element of each result; see
            :func:`~tests.fuzz.drawn.grade`.
        low (float): No result lies below.
        high (float): Nor above.
        batch (tuple of str): Arguments whose rows go with those of the result.
    """

    draw: Callable[[Draw], Arguments]
    call: Callable[..., Any]
    grades: Callable[[Arguments], Tensor]
    low: float = -math.inf
    high: float = math.inf
    batch: tuple[str, ...] = ()


class TensorFunctions(DrawnTarget):
    """A result within its range; NaN for what is not finite, and never a number for that."""

    def strategy(self) -> st.SearchStrategy[Case]:
        return _case()

    def outcome(self, case: Case) -> str:
        function = FUNCTIONS[case.kind]
        given = case.content
        results = _tuple(function.call(**given))
        grades = function.grades(given)
        for result in results:
            _check(result, grades.expand(result.shape), function.low, function.high)
        if function.batch:
            last = {
                name: value[-1:] if name in function.batch else value
                for name, value in given.items()
            }
            for alone, together in zip(_tuple(function.call(**last)), results, strict=True):
                _check_alone(alone, together[-1:])
        return "NaN" if bool((grades == 2).any()) else "a result"


def _check(result: Tensor, grades: Tensor, low: float, high: float) -> None:
    finite = torch.isfinite(result)
    if bool((finite & (grades == 2)).any()):
        raise Finding("a number for what is not finite")
    if bool((~finite & (grades == 0)).any()):
        raise Finding("no number for ordinary numbers")
    inside = result.double()[finite]
    slack = 1 + 8 * torch.finfo(result.dtype).eps
    if bool(((inside < low * slack) | (inside > high * slack)).any()):
        raise Finding(f"out of range, {inside.min():g} to {inside.max():g}")


def _check_alone(alone: Tensor, together: Tensor) -> None:
    tolerance = 1e-3 if alone.element_size() < 4 else 1e-5
    if not torch.allclose(alone, together, rtol=tolerance, atol=1e-6, equal_nan=True):
        raise Finding("another result alone than in the batch")


def _tuple(x: Any) -> tuple[Tensor, ...]:
    if isinstance(x, float):
        return (torch.tensor(x, dtype=torch.float64),)
    return tuple(x) if isinstance(x, tuple) else (x,)


@st.composite
def _case(draw: Draw) -> Case:
    name = draw(st.sampled_from(tuple(FUNCTIONS)))
    return Case(name, FUNCTIONS[name].draw(draw), ".pt")


# --- what is drawn ----------------------------------------------------------------------

_few = st.integers(1, 3)
_numbers = st.sampled_from((7.5, 5.5, 0.0, -3.0, 40.0, -400.0, 1e6, math.nan, math.inf, -math.inf))
_weights = st.sampled_from(("l1", "sum", "signed", "l2"))


def _stochastic(draw: Draw) -> Arguments:
    m, d = draw(st.sampled_from((1, 2, 3, 6, 12))), draw(st.sampled_from((1, 2, 5, 16)))
    group = draw(st.sampled_from((1, 1, 1, 2, 3)))
    return {
        "embeddings": draw(tensors((draw(_few), m, d), draw(dtypes))),
        "average": draw(st.sampled_from(("paper", "pairs"))),
        "group_size": group,
    }


def _stochastic_or_not(draw: Draw) -> Arguments:
    return {**_stochastic(draw), "normalize": draw(st.booleans())}


def _one(
    name: str, *, positive: bool = True, **more: st.SearchStrategy[Any]
) -> Callable[[Draw], Arguments]:
    def drawn(draw: Draw) -> Arguments:
        shape = (draw(_few), *draw(st.sampled_from(((), (4,), (3, 5, 4)))))
        x = draw(tensors(shape, draw(dtypes), positive=positive))
        return {name: x, **{n: draw(strategy) for n, strategy in more.items()}}

    return drawn


def _node(draw: Draw) -> Arguments:
    b, dtype = draw(_few), draw(dtypes)
    shape = draw(st.sampled_from(((1,), (7,), (3, 2, 2))))
    return {
        "embedding": draw(tensors((b, *shape), dtype)),
        "quality": draw(tensors((b,), dtype, positive=True)),
        "weights": draw(_weights),
    }


def _gradient(draw: Draw) -> Arguments:
    shape = (draw(_few), draw(st.sampled_from((1, 3))), 5, 4)
    return {"gradient": draw(tensors(shape, draw(dtypes)))}


def _pair(draw: Draw) -> Arguments:
    shape, dtype = (draw(_few), 5, 4), draw(dtypes)
    return {n: draw(tensors(shape, dtype, positive=True)) for n in ("original", "disturbed")}


def _masked_pair(draw: Draw) -> Arguments:
    pair = _pair(draw)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    share = draw(st.sampled_from((0.0, 0.3, 1.0)))
    return {**pair, "mask": torch.rand(pair["original"].shape, generator=generator) < share}


def _noise(draw: Draw) -> Arguments:
    b, dim, d, dtype = draw(_few), draw(st.sampled_from((2, 30))), draw(_few), draw(dtypes)
    return {
        "features": draw(tensors((b, dim), dtype)),
        "mean": draw(tensors((b, d), dtype)),
        "weight": draw(tensors((d, dim), dtype)),
        "dropout": draw(st.sampled_from((0.01, 0.1, 0.5, 0.9, 0.999))),
        "probed": draw(st.booleans()),
    }


def _logs(draw: Draw) -> Arguments:
    shape = (draw(st.integers(1, 4)), 6, 5)
    merged = draw(tensors(shape, draw(dtypes), positive=True))
    sides = st.sampled_from((1, 3, 5))
    return {"log_merged": merged.log(), "pool_size": draw(sides), "blur_size": draw(sides)}


def _compared(draw: Draw) -> Arguments:
    mean = draw(tensors((6, 5), torch.float32, special=False)).clamp(-80, 80)
    spread = draw(tensors((6, 5), torch.float32, positive=True, special=False)).clamp_max(80)
    unknown = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)) < 0.2
    return {
        "merged": draw(tensors((draw(_few), 6, 5), draw(dtypes), positive=True)),
        "mean": mean.masked_fill(unknown, math.nan),
        "spread": spread.masked_fill(unknown, math.nan),
        "pool_size": draw(st.sampled_from((1, 3, 5))),
        "blur_size": draw(st.sampled_from((1, 3))),
        "pooled": draw(st.booleans()),
    }


# --- what is called, where that is more than the function itself --------------------------


def _scaled(quality: Tensor, alpha: float, r: float) -> Tensor:
    return F.scale_quality(quality, F.QualityScaling(alpha, r))


def _expected(
    features: Tensor, mean: Tensor, weight: Tensor, dropout: float, probed: bool
) -> Tensor:
    signs = torch.randn(weight.shape[0], 4, generator=torch.Generator().manual_seed(0)).sign()
    noise = noise_map(weight, probes=signs if probed else None)
    return expected_pairwise_distance(features, mean, noise, dropout)


def _clipped_norm(gradient: Tensor) -> Tensor:
    """Whose length is checked by the range, 0 to 1."""
    clipped = F.clip_gradient(gradient, 1.0)
    if clipped.dtype != gradient.dtype or clipped.shape != gradient.shape:
        raise Finding("another shape or type than the gradient's")
    return clipped.double().flatten(1).norm(dim=1) * (1 - 2 * torch.finfo(gradient.dtype).eps)


def _reference_spread(**given: Any) -> Tensor:
    reference = gradient_reference(**given)
    if bool((reference.mean.isnan() != reference.spread.isnan()).any()):
        raise Finding("a mean without a spread")
    if not (math.isfinite(reference.pooled_spread) and reference.pooled_spread >= 0):
        raise Finding(f"pooled spread, {reference.pooled_spread}")
    return reference.spread.nan_to_num(0.0)


def _compare(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(
        merged: Tensor, pooled: bool, pool_size: int, blur_size: int, **maps: Tensor
    ) -> Tensor:
        reference = GradientReference(maps["mean"], maps["spread"], pool_size, 0.7, blur_size)
        result = function(merged, reference, pooled=pooled)
        # Places without a reference have a value of their own, whatever is there.
        return torch.where(reference.mean.isnan() & ~merged.isfinite(), torch.nan, result)

    return call


# --- how the arguments are graded ---------------------------------------------------------


def _of(name: str, *dims: int, nonzero: bool = False) -> Callable[[Arguments], Tensor]:
    return lambda given: grade(given[name], dims, nonzero)


def _of_quality(given: Arguments) -> Tensor:
    return grade(given["embeddings"], (-2, -1), nonzero=True)


def _of_number(name: str, *numbers: str) -> Callable[[Arguments], Tensor]:
    def graded(given: Arguments) -> Tensor:
        worst = grade(given[name])
        for number in numbers:
            worst = torch.maximum(worst, grade(torch.tensor(given[number], dtype=torch.float64)))
        return worst

    return graded


def _of_scale(given: Arguments) -> Tensor:
    e = given["embedding"].flatten(1)
    worst = torch.maximum(grade(e, (1,), nonzero=True), grade(given["quality"]))
    return worst.clamp_min(1) if given["weights"] == "sum" else worst  # a sum may vanish


def _of_node(given: Arguments) -> Tensor:
    return _of_scale(given).view(-1, *[1] * (given["embedding"].ndim - 1))


def _of_images(given: Arguments) -> Tensor:
    return grade(given["gradient"].flatten(1), (1,))


def _of_pair(given: Arguments) -> Tensor:
    return torch.maximum(grade(given["original"]), grade(given["disturbed"]))


def _of_mask(given: Arguments) -> Tensor:
    empty = ~given["mask"].any(-1).any(-1)
    inside = torch.where(given["mask"], _of_pair(given), 0).amax((-2, -1))
    anywhere = _of_pair(given).amax((-2, -1)).clamp_max(1)  # NaN outside may count, or not
    return torch.maximum(torch.maximum(inside, anywhere), empty.int())


def _of_noise(given: Arguments) -> Tensor:
    # Fourth powers of products are taken.
    far = {
        n: 1e20 if given[n].dtype == torch.float64 else 1e3 for n in ("features", "mean", "weight")
    }
    rows = [grade(given[n], (1,), nonzero=True, far=far[n]) for n in ("features", "mean")]
    weight = grade(given["weight"], (0, 1), nonzero=True, far=far["weight"])
    return torch.maximum(torch.maximum(*rows), weight)


def _of_compared(given: Arguments) -> Tensor:
    # Pooling and smoothing carry what is not finite to its neighbours, which may be NaN.
    return torch.maximum(
        grade(given["merged"]), grade(given["merged"], (-2, -1))[:, None, None].clamp_max(1)
    )


FUNCTIONS: dict[str, Function] = {
    "mean_pairwise_distance": Function(
        _stochastic, F.mean_pairwise_distance, _of("embeddings", -2, -1), 0, batch=("embeddings",)
    ),
    "quality_from_embeddings": Function(
        _stochastic_or_not, F.quality_from_embeddings, _of_quality, 0, 1, ("embeddings",)
    ),
    "quality_with_standard_error": Function(
        _stochastic_or_not, F.quality_with_standard_error, _of_quality, 0, batch=("embeddings",)
    ),
    "quality_from_distance": Function(
        _one("distance"), F.quality_from_distance, _of("distance"), 0, 1, ("distance",)
    ),
    "scale_quality": Function(
        _one("quality", alpha=_numbers, r=_numbers),
        _scaled,
        _of_number("quality", "alpha", "r"),
        0, 1,
    ),
    "node_scale": Function(_node, F.node_scale, _of_scale, batch=("embedding", "quality")),
    "node_weights": Function(_node, F.node_weights, _of_node, batch=("embedding", "quality")),
    "clip_gradient": Function(_gradient, _clipped_norm, _of_images, 0, 1, ("gradient",)),
    "merge_channels": Function(_gradient, F.merge_channels, _of("gradient", -3), 0),
    "pixel_quality": Function(
        _one("merged", gamma=_numbers), F.pixel_quality, _of_number("merged", "gamma"), 0, 1
    ),
    "quality_map": Function(
        lambda draw: {**_gradient(draw), "gamma": draw(_numbers)},
        F.quality_map,
        lambda given: torch.maximum(
            grade(given["gradient"], (-3,)), _of_number("gradient", "gamma")(given).amin()
        ),
        0, 1, ("gradient",),
    ),
    "gamma_for_median": Function(
        _one("merged"),
        F.gamma_for_median,
        lambda given: grade(given["merged"].flatten(), (0,), nonzero=True),
    ),
    "rescale_gamma": Function(
        lambda draw: {"gamma": draw(_numbers), "pixel_scale": draw(_numbers)},
        F.rescale_gamma,
        lambda given: grade(torch.tensor(list(given.values()), dtype=torch.float64), (0,)),
    ),
    "quality_change": Function(_pair, F.quality_change, _of_pair, batch=("original", "disturbed")),
    "pixel_quality_change": Function(
        _masked_pair, F.pixel_quality_change, _of_mask, batch=("original", "disturbed", "mask")
    ),
    "expected_pairwise_distance": Function(
        _noise, _expected, _of_noise, 0, 2, ("features", "mean")
    ),
    "gradient_reference": Function(
        _logs,
        _reference_spread,
        lambda given: (2 * (given["log_merged"].isnan() | (given["log_merged"] == math.inf)))
        .amax().int(),
        0,
    ),
    "gradient_zscore": Function(_compared, _compare(gradient_zscore), _of_compared, -20, 20),
    "relative_pixel_quality": Function(
        _compared, _compare(relative_pixel_quality), _of_compared, 0, 1
    ),
}  # fmt: skip

TARGET = TensorFunctions

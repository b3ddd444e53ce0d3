"""The equations: functions of tensors, on numbers of every kind."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from captum_plq import functional as F
from captum_plq.functional.closed_form import expected_pairwise_distance, noise_map
from captum_plq.functional.relative import (
    GradientReference,
    gradient_reference,
    gradient_zscore,
    relative_pixel_quality,
)
from tests.fuzz.numbers import DTYPES, grade, tensor
from tests.fuzz.target import Case, Finding, Target

_NUMBERS = (7.5, 5.5, 0.0, -3.0, 40.0, -400.0, 1e6, math.nan, math.inf, -math.inf)


@dataclass(frozen=True)
class Function:
    """What is called, on what, and what must come of it.

    Args:

        draw (Callable): A ``Random`` → the arguments by name.
        call (Callable): Takes them; gives a tensor, or several.
        grades (Callable): Takes them; grades each element of the results (see ``grade``).
        low (float): No result lies below.
        high (float): Nor above.
        batch (tuple of str): Arguments whose rows go with those of the result.
    """

    draw: Callable
    call: Callable
    grades: Callable
    low: float = -math.inf
    high: float = math.inf
    batch: tuple[str, ...] = ()


class TensorFunctions(Target):
    """A result within its range; NaN for what is not finite, and never a number for that."""

    def case(self, rng):
        name = rng.choice(tuple(FUNCTIONS))
        return Case(name, FUNCTIONS[name].draw(rng))

    def outcome(self, case):
        function, given = FUNCTIONS[case.kind], case.content
        results, grades = _tuple(function.call(**given)), function.grades(**given)
        for result in results:
            worst, finite = grades.expand(result.shape), torch.isfinite(result)
            if bool((finite & (worst == 2)).any()):
                raise Finding("a number for what is not finite")
            if bool((~finite & (worst == 0)).any()):
                raise Finding("no number for ordinary numbers")
            inside, slack = result.double()[finite], 1 + 8 * torch.finfo(result.dtype).eps
            if bool(((inside < function.low * slack) | (inside > function.high * slack)).any()):
                raise Finding(f"out of range, {inside.min():g} to {inside.max():g}")
        if function.batch:
            last = {n: x[-1:] if n in function.batch else x for n, x in given.items()}
            for alone, together in zip(_tuple(function.call(**last)), results, strict=True):
                rtol = 1e-3 if alone.element_size() < 4 else 1e-5
                if not torch.allclose(alone, together[-1:], rtol=rtol, atol=1e-6, equal_nan=True):
                    raise Finding("another result alone than in the batch")
        return "NaN" if bool((grades == 2).any()) else "a result"


def _tuple(x):
    if isinstance(x, float):
        return (torch.tensor(x, dtype=torch.float64),)
    return tuple(x) if isinstance(x, tuple) else (x,)


# --- what is drawn ----------------------------------------------------------------------


def _stochastic(rng):
    shape = (rng.randint(1, 3), rng.choice((1, 2, 3, 6, 12)), rng.choice((1, 2, 5, 16)))
    return {
        "embeddings": tensor(rng, shape, rng.choice(DTYPES)),
        "average": rng.choice(("paper", "pairs")),
        "group_size": rng.choice((1, 1, 1, 2, 3)),
    }


def _stochastic_or_not(rng):
    return {**_stochastic(rng), "normalize": rng.random() < 0.5}


def _one(name, *numbers):
    def drawn(rng):
        shape = (rng.randint(1, 3), *rng.choice(((), (4,), (3, 5, 4))))
        x = tensor(rng, shape, rng.choice(DTYPES), positive=True)
        return {name: x, **{number: rng.choice(_NUMBERS) for number in numbers}}

    return drawn


def _node(rng):
    b, dtype = rng.randint(1, 3), rng.choice(DTYPES)
    return {
        "embedding": tensor(rng, (b, *rng.choice(((1,), (7,), (3, 2, 2)))), dtype),
        "quality": tensor(rng, (b,), dtype, positive=True),
        "weights": rng.choice(("l1", "sum", "signed", "l2")),
    }


def _gradient(rng):
    shape = (rng.randint(1, 3), rng.choice((1, 3)), 5, 4)
    return {"gradient": tensor(rng, shape, rng.choice(DTYPES))}


def _pair(rng):
    shape, dtype = (rng.randint(1, 3), 5, 4), rng.choice(DTYPES)
    return {n: tensor(rng, shape, dtype, positive=True) for n in ("original", "disturbed")}


def _masked_pair(rng):
    pair, share = _pair(rng), rng.choice((0.0, 0.3, 1.0))
    generator = torch.Generator().manual_seed(rng.randrange(100))
    return {**pair, "mask": torch.rand(pair["original"].shape, generator=generator) < share}


def _noise(rng):
    b, dim, d, dtype = rng.randint(1, 3), rng.choice((2, 30)), rng.randint(1, 3), rng.choice(DTYPES)
    return {
        "features": tensor(rng, (b, dim), dtype),
        "mean": tensor(rng, (b, d), dtype),
        "weight": tensor(rng, (d, dim), dtype),
        "dropout": rng.choice((0.01, 0.1, 0.5, 0.9, 0.999)),
        "probed": rng.random() < 0.5,
    }


def _logs(rng):
    merged = tensor(rng, (rng.randint(1, 4), 6, 5), rng.choice(DTYPES), positive=True)
    return {"log_merged": merged.log(), **{n: rng.choice((1, 3, 5)) for n in _BOXES}}


def _compared(rng):
    mean = tensor(rng, (6, 5), torch.float32, special=False).clamp(-80, 80)
    spread = tensor(rng, (6, 5), torch.float32, positive=True, special=False).clamp_max(80)
    unknown = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)) < 0.2
    return {
        "merged": tensor(rng, (rng.randint(1, 3), 6, 5), rng.choice(DTYPES), positive=True),
        "mean": mean.masked_fill(unknown, math.nan),
        "spread": spread.masked_fill(unknown, math.nan),
        **{n: rng.choice((1, 3)) for n in _BOXES},
        "pooled": rng.random() < 0.5,
    }


_BOXES = ("pool_size", "blur_size")

# --- what is called, where that is more than the function itself --------------------------


def _expected(features, mean, weight, dropout, probed):
    signs = torch.randn(weight.shape[0], 4, generator=torch.Generator().manual_seed(0)).sign()
    noise = noise_map(weight, probes=signs if probed else None)
    return expected_pairwise_distance(features, mean, noise, dropout)


def _clipped_norm(gradient):
    """Whose length is checked by the range, 0 to 1."""
    clipped = F.clip_gradient(gradient, 1.0)
    if clipped.dtype != gradient.dtype or clipped.shape != gradient.shape:
        raise Finding("another shape or type than the gradient's")
    return clipped.double().flatten(1).norm(dim=1) * (1 - 2 * torch.finfo(gradient.dtype).eps)


def _reference_spread(**given):
    reference = gradient_reference(**given)
    if bool((reference.mean.isnan() != reference.spread.isnan()).any()):
        raise Finding("a mean without a spread")
    if not (math.isfinite(reference.pooled_spread) and reference.pooled_spread >= 0):
        raise Finding(f"pooled spread, {reference.pooled_spread}")
    return reference.spread.nan_to_num(0.0)


def _compare(function):
    def call(merged, mean, spread, pool_size, blur_size, pooled):
        reference = GradientReference(mean, spread, pool_size, 0.7, blur_size)
        result = function(merged, reference, pooled=pooled)
        # Places without a reference have a value of their own, whatever is there.
        return torch.where(mean.isnan() & ~merged.isfinite(), torch.nan, result)

    return call


# --- how the arguments are graded ---------------------------------------------------------


def _of(name, *dims, nonzero=False):
    return lambda **given: grade(given[name], dims, nonzero)


def _worst(*grades):
    worst = grades[0]
    for other in grades[1:]:
        worst = torch.maximum(worst, other)
    return worst


def _of_numbers(name, *numbers, dims=()):
    def graded(**given):
        stated = (torch.tensor(given[number], dtype=torch.float64) for number in numbers)
        return _worst(grade(given[name], dims), *map(grade, stated))

    return graded


def _of_scale(embedding, quality, weights):
    worst = _worst(grade(embedding.flatten(1), (1,), nonzero=True), grade(quality))
    return worst.clamp_min(1) if weights == "sum" else worst  # a sum may vanish


def _of_node(embedding, quality, weights):
    return _of_scale(embedding, quality, weights).view(-1, *[1] * (embedding.ndim - 1))


def _of_pair(original, disturbed):
    return _worst(grade(original), grade(disturbed))


def _of_mask(original, disturbed, mask):
    worst = _of_pair(original, disturbed)
    inside = torch.where(mask, worst, 0).amax((-2, -1))
    anywhere = worst.amax((-2, -1)).clamp_max(1)  # NaN outside may count, or not
    return _worst(inside, anywhere, (~mask.any(-1).any(-1)).int())


def _of_noise(features, mean, weight, **_):
    far = 1e20 if weight.dtype == torch.float64 else 1e3  # fourth powers of products are taken
    rows = (grade(x, (1,), nonzero=True, far=far) for x in (features, mean))
    return _worst(*rows, grade(weight, (0, 1), nonzero=True, far=far))


def _of_compared(merged, **_):
    # Pooling and blurring carry what is not finite to its neighbours, which may be NaN.
    return _worst(grade(merged), grade(merged, (-2, -1))[:, None, None].clamp_max(1))


def _of_logs(log_merged, **_):
    return (2 * (log_merged.isnan() | (log_merged == math.inf))).amax().int()


_RATIO = ("original", "disturbed")
_ROWS = {"batch": ("embeddings",)}
_QUALITY = _of("embeddings", -2, -1, nonzero=True)

FUNCTIONS = {
    "mean_pairwise_distance": Function(
        _stochastic, F.mean_pairwise_distance, _of("embeddings", -2, -1), 0, **_ROWS
    ),
    "quality_from_embeddings": Function(
        _stochastic_or_not, F.quality_from_embeddings, _QUALITY, 0, 1, **_ROWS
    ),
    "quality_with_standard_error": Function(
        _stochastic_or_not, F.quality_with_standard_error, _QUALITY, 0, **_ROWS
    ),
    "quality_from_distance": Function(
        _one("distance"), F.quality_from_distance, _of("distance"), 0, 1, ("distance",)
    ),
    "scale_quality": Function(
        _one("quality", "alpha", "r"),
        lambda quality, alpha, r: F.scale_quality(quality, F.QualityScaling(alpha, r)),
        _of_numbers("quality", "alpha", "r"), 0, 1,
    ),
    "node_scale": Function(_node, F.node_scale, _of_scale, batch=("embedding", "quality")),
    "node_weights": Function(_node, F.node_weights, _of_node, batch=("embedding", "quality")),
    "clip_gradient": Function(
        _gradient, _clipped_norm, lambda gradient: grade(gradient.flatten(1), (1,)), 0, 1,
        ("gradient",),
    ),
    "merge_channels": Function(_gradient, F.merge_channels, _of("gradient", -3), 0),
    "pixel_quality": Function(
        _one("merged", "gamma"), F.pixel_quality, _of_numbers("merged", "gamma"), 0, 1
    ),
    "quality_map": Function(
        lambda rng: {**_gradient(rng), "gamma": rng.choice(_NUMBERS)},
        F.quality_map, _of_numbers("gradient", "gamma", dims=(-3,)), 0, 1, ("gradient",),
    ),
    "gamma_for_median": Function(
        _one("merged"),
        F.gamma_for_median,
        lambda merged: grade(merged.flatten(), (0,), nonzero=True),
    ),
    "rescale_gamma": Function(
        lambda rng: {"gamma": rng.choice(_NUMBERS), "pixel_scale": rng.choice(_NUMBERS)},
        F.rescale_gamma,
        lambda **given: grade(torch.tensor(list(given.values()), dtype=torch.float64), (0,)),
    ),
    "quality_change": Function(_pair, F.quality_change, _of_pair, batch=_RATIO),
    "pixel_quality_change": Function(
        _masked_pair, F.pixel_quality_change, _of_mask, batch=(*_RATIO, "mask")
    ),
    "expected_pairwise_distance": Function(
        _noise, _expected, _of_noise, 0, 2, ("features", "mean")
    ),
    "gradient_reference": Function(_logs, _reference_spread, _of_logs, 0),
    "gradient_zscore": Function(_compared, _compare(gradient_zscore), _of_compared, -20, 20),
    "relative_pixel_quality": Function(
        _compared, _compare(relative_pixel_quality), _of_compared, 0, 1
    ),
}  # fmt: skip

TARGET = TensorFunctions

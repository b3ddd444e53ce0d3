"""The equations: functions of tensors, on numbers of every kind."""

import functools
import math
from types import SimpleNamespace

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
_INF = math.inf
_BATCH = (
    "embeddings", "distance", "embedding", "quality", "gradient", "original", "disturbed", "mask",
    "features", "feature_mean",
)  # fmt: skip


def _number(rng, _):
    return rng.choice(_NUMBERS)


def _chosen(*choices):
    return lambda rng, _: rng.choice(choices)


def _drawn(shape, **options):
    """``shape`` takes the sizes of the case."""
    return lambda rng, s: tensor(rng, shape(s), s.dtype, **options)


def _map(rng, positive):
    x = tensor(rng, (6, 5), torch.float32, positive=positive, special=False).clamp(-80, 80)
    unknown = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)) < 0.2
    return x.masked_fill(unknown, math.nan)


def _mask(rng, s):
    generator = torch.Generator().manual_seed(rng.randrange(100))
    return torch.rand(s.b, 5, 4, generator=generator) < rng.choice((0.0, 0.3, 1.0))


ARGUMENTS = {
    "embeddings": _drawn(lambda s: (s.b, s.m, s.d)),
    "average": _chosen("paper", "pairs"),
    "group_size": _chosen(1, 1, 1, 2, 3),
    "normalize": _chosen(True, False),
    "distance": _drawn(lambda s: (s.b, *s.any), positive=True),
    "alpha": _number,
    "r": _number,
    "gamma": _number,
    "pixel_scale": _number,
    "embedding": _drawn(lambda s: (s.b, *s.node)),
    "quality": _drawn(lambda s: (s.b,), positive=True),
    "weights": _chosen("l1", "sum", "signed", "l2"),
    "gradient": _drawn(lambda s: (s.b, s.channels, 5, 4)),
    "merged": _drawn(lambda s: (s.b, *s.any), positive=True),
    "original": _drawn(lambda s: (s.b, 5, 4), positive=True),
    "disturbed": _drawn(lambda s: (s.b, 5, 4), positive=True),
    "mask": _mask,
    "features": _drawn(lambda s: (s.b, s.features)),
    "feature_mean": _drawn(lambda s: (s.b, s.outputs)),
    "weight": _drawn(lambda s: (s.outputs, s.features)),
    "dropout": _chosen(0.01, 0.1, 0.5, 0.9, 0.999),
    "probed": _chosen(True, False),
    "gradients": _drawn(lambda s: (s.b, 6, 5), positive=True),
    "mean": lambda rng, _: _map(rng, False),
    "spread": lambda rng, _: _map(rng, True),
    "pool_size": _chosen(1, 3, 5),
    "blur_size": _chosen(1, 3, 5),
    "pooled": _chosen(True, False),
}


class TensorFunctions(Target):
    """A result within its range; NaN for what is not finite, and never a number for that."""

    def case(self, rng):
        name = rng.choice(tuple(FUNCTIONS))
        sizes = SimpleNamespace(
            dtype=rng.choice(DTYPES),
            b=rng.randint(1, 3),
            m=rng.choice((1, 2, 3, 6, 12)),
            d=rng.choice((1, 2, 5, 16)),
            any=rng.choice(((), (4,), (3, 5, 4))),
            node=rng.choice(((1,), (7,), (3, 2, 2))),
            channels=rng.choice((1, 3)),
            features=rng.choice((2, 30)),
            outputs=rng.randint(1, 3),
        )
        return Case(name, {n: ARGUMENTS[n](rng, sizes) for n in FUNCTIONS[name][0].split()})

    def outcome(self, case):
        _, call, grades, low, high, by_rows = FUNCTIONS[case.kind]
        given = case.content
        results = _tuple(call(**given))
        for result in results:
            worst, finite = grades(result, given).expand(result.shape), torch.isfinite(result)
            if bool((finite & (worst == 2)).any()):
                raise Finding("a number for what is not finite")
            if bool((~finite & (worst == 0)).any()):
                raise Finding("no number for ordinary numbers")
            inside, slack = result.double()[finite], 1 + 8 * torch.finfo(result.dtype).eps
            if bool(((inside < low * slack) | (inside > high * slack)).any()):
                raise Finding(f"out of range, {inside.min():g} to {inside.max():g}")
        if by_rows:
            last = {n: x[-1:] if n in _BATCH else x for n, x in given.items()}
            for alone, together in zip(_tuple(call(**last)), results, strict=True):
                rtol = 1e-3 if alone.element_size() < 4 else 1e-5
                if not torch.allclose(alone, together[-1:], rtol=rtol, atol=1e-6, equal_nan=True):
                    raise Finding("another result alone than in the batch")
        return "NaN" if bool((worst == 2).any()) else "a result"


def _tuple(x):
    if isinstance(x, float):
        return (torch.tensor(x, dtype=torch.float64),)
    return tuple(x) if isinstance(x, tuple) else (x,)


# --- what is called, where that is more than the function itself --------------------------


def _expected(features, feature_mean, weight, dropout, probed):
    signs = torch.randn(weight.shape[0], 4, generator=torch.Generator().manual_seed(0)).sign()
    noise = noise_map(weight, probes=signs if probed else None)
    return expected_pairwise_distance(features, feature_mean, noise, dropout)


def _clipped_norm(gradient):
    """Whose length is checked by the range, 0 to 1."""
    clipped = F.clip_gradient(gradient, 1.0)
    if clipped.dtype != gradient.dtype or clipped.shape != gradient.shape:
        raise Finding("another shape or type than the gradient's")
    return clipped.double().flatten(1).norm(dim=1) * (1 - 2 * torch.finfo(gradient.dtype).eps)


def _spread(gradients, **boxes):
    reference = gradient_reference(gradients.log(), **boxes)
    if bool((reference.mean.isnan() != reference.spread.isnan()).any()):
        raise Finding("a mean without a spread")
    if not (math.isfinite(reference.pooled_spread) and reference.pooled_spread >= 0):
        raise Finding(f"pooled spread, {reference.pooled_spread}")
    return reference.spread.nan_to_num(0.0)


def _compare(function):
    def call(gradients, mean, spread, pool_size, blur_size, pooled):
        reference = GradientReference(mean, spread, pool_size, 0.7, blur_size)
        result = function(gradients, reference, pooled=pooled)
        # Places without a reference have a value of their own, whatever is there.
        return torch.where(mean.isnan() & ~gradients.isfinite(), torch.nan, result)

    return call


# --- how the arguments are graded ---------------------------------------------------------


def _worst(*grades):
    return functools.reduce(torch.maximum, grades)


def _floats(given):
    numbers = (torch.tensor(x, dtype=torch.float64) for x in given.values() if type(x) is float)
    return [x for x in given.values() if torch.is_tensor(x) and x.is_floating_point()], numbers


def _elements(result, given):
    """Each by what is at its own place, in any channel."""
    tensors, numbers = _floats(given)
    places = (grade(x, (1,) if x.ndim > result.ndim else ()) for x in tensors)
    return _worst(*places, *map(grade, numbers))


def _rows(result, given, nonzero=False):
    """Each by all of its row."""
    tensors, _ = _floats(given)
    rows = _worst(
        *(grade(x.reshape(len(x), -1), (1,), nonzero and x.ndim > 1) for x in tensors),
    )
    return rows.view(-1, *[1] * (result.ndim - 1))


_directed = functools.partial(_rows, nonzero=True)


def _node(result, given):
    rows = _directed(result, given)
    return rows.clamp_min(1) if given["weights"] == "sum" else rows  # a sum may vanish


def _everything(result, given):
    return grade(given["merged"].flatten(), (0,), nonzero=True)


def _masked(result, given):
    mask, worst = given["mask"], _worst(*map(grade, _floats(given)[0]))
    inside = torch.where(mask, worst, 0).amax((-2, -1))
    anywhere = worst.amax((-2, -1)).clamp_max(1)  # NaN outside may count, or not
    return _worst(inside, anywhere, (~mask.any(-1).any(-1)).int())


def _noise(result, given):
    (*rows, weight), _ = _floats(given)
    far = 1e20 if weight.dtype == torch.float64 else 1e3  # fourth powers of products are taken
    worst = (grade(x, (1,), nonzero=True, far=far) for x in rows)
    return _worst(*worst, grade(weight, (0, 1), nonzero=True, far=far))


def _compared(result, given):
    # Pooling and blurring carry what is not finite to its neighbours, which may be NaN.
    x = given["gradients"]
    return _worst(grade(x), grade(x, (-2, -1))[:, None, None].clamp_max(1))


def _logs(result, given):
    x = given["gradients"]
    return (2 * (x.isnan() | (x == math.inf))).amax().int()


def _scaled(distance, alpha, r):
    return F.scale_quality(distance, F.QualityScaling(alpha, r))


_STOCHASTIC = "embeddings average group_size"
_PAIR, _NODE, _BOXES = "original disturbed", "embedding quality weights", "pool_size blur_size"
_COMPARED = f"gradients mean spread {_BOXES} pooled"

FUNCTIONS = {
    "mean_pairwise_distance": (_STOCHASTIC, F.mean_pairwise_distance, _rows, 0, _INF, True),
    "quality_from_embeddings": (
        f"{_STOCHASTIC} normalize", F.quality_from_embeddings, _directed, 0, 1, True,
    ),
    "quality_with_standard_error": (
        f"{_STOCHASTIC} normalize", F.quality_with_standard_error, _directed, 0, _INF, True,
    ),
    "quality_from_distance": ("distance", F.quality_from_distance, _elements, 0, 1, True),
    "scale_quality": ("distance alpha r", _scaled, _elements, 0, 1, False),
    "node_scale": (_NODE, F.node_scale, _node, -_INF, _INF, True),
    "node_weights": (_NODE, F.node_weights, _node, -_INF, _INF, True),
    "clip_gradient": ("gradient", _clipped_norm, _rows, 0, 1, True),
    "merge_channels": ("gradient", F.merge_channels, _elements, 0, _INF, True),
    "pixel_quality": ("merged gamma", F.pixel_quality, _elements, 0, 1, False),
    "quality_map": ("gradient gamma", F.quality_map, _elements, 0, 1, True),
    "gamma_for_median": ("merged", F.gamma_for_median, _everything, -_INF, _INF, False),
    "rescale_gamma": ("gamma pixel_scale", F.rescale_gamma, _elements, -_INF, _INF, False),
    "quality_change": (_PAIR, F.quality_change, _elements, -_INF, _INF, True),
    "pixel_quality_change": (
        f"{_PAIR} mask", F.pixel_quality_change, _masked, -_INF, _INF, True,
    ),
    "expected_pairwise_distance": (
        "features feature_mean weight dropout probed", _expected, _noise, 0, 2, True,
    ),
    "gradient_reference": (f"gradients {_BOXES}", _spread, _logs, 0, _INF, False),
    "gradient_zscore": (_COMPARED, _compare(gradient_zscore), _compared, -20, 20, False),
    "relative_pixel_quality": (
        _COMPARED, _compare(relative_pixel_quality), _compared, 0, 1, False,
    ),
}  # fmt: skip
"""Names of arguments, what is called, how its results are graded, their range, whether rows go
with rows."""

TARGET = TensorFunctions

"""SERFIQ and the attribution, on small networks with numbers of every kind in them."""

import warnings

import torch
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.functional import QualityScaling
from tests.fuzz.numbers import DTYPES, grade, tensor
from tests.fuzz.target import Case, Finding, Target

_SIDE, _FEATURES = 8, 6
_BROKEN = ("NaN in the head", "NaN in the trunk", "infinity in the head")
_EMPTY = ("zero", "zero head", "bias only")
_PARAMETERS = ("ordinary", "ordinary", "ordinary", "1e-20", "1e20", *_EMPTY, *_BROKEN)
_RATES = (0.5, 0.5, 0.1, 0.99)


class UnitLength(nn.Module):
    """Scales to unit length, as many networks do themselves."""

    def forward(self, x):
        return nn.functional.normalize(x)


_PIXELS = 3 * _SIDE**2
_SHAPES = {
    "plain": lambda: (nn.Flatten(), nn.Linear(_PIXELS, _FEATURES)),
    "deep head": lambda: (
        nn.Flatten(), nn.Linear(_PIXELS, 10), nn.Tanh(), nn.Linear(10, _FEATURES),
    ),
    "unit length": lambda: (nn.Flatten(), nn.Linear(_PIXELS, _FEATURES), UnitLength()),
    "pooled": lambda: (
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, _FEATURES),
    ),
    "convolutions": lambda: (
        nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Dropout(0.4),
        nn.Linear(36, _FEATURES), nn.BatchNorm1d(_FEATURES),
    ),
}  # fmt: skip


class Networks(Target):
    """Qualities in (0, 1] and finite gradients of ordinary networks; else an error, or NaN."""

    documented = (ValueError, TypeError, AssertionError, IndexError)  # the last two: a target's

    def case(self, rng):
        count = rng.randint(1, 3)
        special, mostly = rng.random() < 0.3, rng.random() < 0.9
        estimator = rng.choice(("sampling", "sampling", "balanced", "closed-form"))
        targets = (None, None, None, 0, _FEATURES - 1, _FEATURES, -99, [0] * count, [0] * 4)
        call = rng.choice(("quality", "assess", "attribute", "attribute"))
        content = {
            "call": call,
            "network": (rng.choice(tuple(_SHAPES)), rng.choice(_PARAMETERS), rng.randrange(1000)),
            "images": tensor(rng, (count, 3, _SIDE, _SIDE), rng.choice(DTYPES), special=special),
            "serfiq": {
                "estimator": estimator,
                "passes": rng.choice((6, 10) if mostly else (2, 3)),
                "dropout": rng.choice((0.5,) if estimator == "balanced" and mostly else _RATES),
                "average": rng.choice(("paper", "pairs")),
                "normalize": rng.random() < 0.5 or (estimator == "closed-form" and mostly),
            },
            "error": rng.random() < 0.5,
            "attribution": {
                "weights": rng.choice(("l1", "sum", "signed", "l2")),
                "target_scalar": rng.choice(("node", "node", "serfiq")),
                "scaling": rng.choice((None, None, (130.0, 0.88), (1e6, 0.5))),
                "directions": rng.choice((None, None, None, 2)),
            },
            "target": rng.choice(targets),
            "norm": rng.choice((None, None, 1.0, 1e-30)),
        }
        return Case(call, content)

    def outcome(self, case):
        given = case.content
        images, (_, kind, _) = given["images"], given["network"]
        model = network(*given["network"]).to(images.dtype)
        worst = grade(images.flatten(1), (1,))
        if kind != "ordinary":
            worst = worst.clamp_min(2 if kind in _BROKEN else 1)
        try:
            quality, others, told = _called(model, given)
        except (AssertionError, IndexError) as error:  # as Saliency's, for a target
            if given["target"] is None or given["call"] != "attribute":
                raise Finding(f"{type(error).__name__} without a target, {error}") from error
            raise
        finite, values = torch.isfinite(quality), f"{quality.tolist()} [{kind}]"
        lowest = 0.0 if given["serfiq"]["normalize"] else -1.0  # far apart enough, Q rounds to 0
        for wrong, what in (
            (finite & (worst == 2), "a quality for what is not finite"),
            (~finite & (worst == 0), "no quality for an ordinary image"),
            ((quality <= lowest) | (quality > 1), "quality out of range"),
            (finite if kind in _EMPTY else ~finite & False, "a quality of an uninformative image"),
        ):
            if bool(wrong.any()):
                raise Finding(f"{what}, {values}")
        for x in others:
            broken = ~torch.isfinite(x.flatten(1)).all(1)
            if bool((broken & (worst == 0)).any()) and not told:
                raise Finding("not finite, and no warning")
        if given["call"] != "attribute" and len(quality) > 1 and bool(finite[-1]):
            alone, _, told_alone = _called(model, {**given, "images": images[-1:]})
            # Whether there is a closed form is decided on the first images, and said.
            sampled = given["serfiq"]["estimator"] == "closed-form" and (told or told_alone)
            tolerance = 2e-2 if images.element_size() < 4 else 1e-4
            if not sampled and not torch.allclose(alone[0], quality[-1], atol=tolerance):
                raise Finding(f"another quality alone, {alone[0]:.6f} {quality[-1]:.6f}")
        return "warned" if told else "a result"


def _called(model, given):
    """Quality, what else came back, and whether there was a warning; shapes are checked."""
    images, others = given["images"], []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        serfiq = SERFIQ(model, **given["serfiq"])
        if given["call"] == "quality":
            quality = serfiq(images).detach()
        elif given["call"] == "assess":
            embedding, quality, error = serfiq.assess(images, standard_error=given["error"])
            others = [embedding.detach()] + ([] if error is None else [error[:, None]])
        else:
            scaling = given["attribution"]["scaling"]
            scaling = None if scaling is None else QualityScaling(*scaling)
            method = PixelQualityAttribution(serfiq, **{**given["attribution"], "scaling": scaling})
            options = {"target": given["target"], "max_gradient_norm": given["norm"]}
            map_, quality = method.attribute(images, return_quality=True, **options)
            others = [map_]
            if map_.shape != images.shape or map_.dtype != images.dtype:
                raise Finding(f"a map of another shape or type, {tuple(map_.shape)} {map_.dtype}")
    if quality.shape != images.shape[:1]:
        raise Finding(f"qualities of another shape, {tuple(quality.shape)}")
    return quality, others, bool(told)


def network(shape, parameters, seed):
    """A small network of a shape, with parameters of a kind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(*_SHAPES[shape]())
    layers = [m for m in model if isinstance(m, (nn.Linear, nn.Conv2d))]
    first, head = layers[0], layers[-1]
    with torch.no_grad():
        if parameters in ("1e-20", "1e20"):
            head.weight.mul_(float(parameters))
            head.bias.mul_(float(parameters))
        elif parameters in _EMPTY:
            for layer in [head] if parameters == "zero head" else [head, first]:
                layer.weight.zero_()
                if parameters != "bias only":
                    layer.bias.zero_()
        elif parameters in _BROKEN:
            weight = (head if "head" in parameters else first).weight.view(-1)
            weight[seed % len(weight)] = float("nan" if "NaN" in parameters else "inf")
    return model.eval()


TARGET = Networks

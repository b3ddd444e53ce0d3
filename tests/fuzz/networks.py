"""SERFIQ and the attribution, on small networks with numbers of every kind in them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.functional import QualityScaling
from tests.fuzz.drawn import DrawnTarget, dtypes, grade, tensors
from tests.fuzz.target import Case, Finding

_SIDE = 8
_FEATURES = 6
_SHAPES = ("plain", "convolutions", "pooled", "deep head", "unit length")
_PARAMETERS = (
    "ordinary", "ordinary", "ordinary", "zero", "zero head", "NaN in the head", "NaN in the trunk",
    "infinity in the head", "1e-20", "1e20", "bias only",
)  # fmt: skip
_BROKEN = ("NaN in the head", "NaN in the trunk", "infinity in the head")
_RATES = (0.5, 0.5, 0.1, 0.99)
_EMPTY = ("zero", "zero head", "bias only")


class Networks(DrawnTarget):
    """Qualities in (0, 1] and finite gradients of ordinary networks; else an error, or NaN."""

    documented = (ValueError, TypeError, AssertionError, IndexError)  # the last two: a target's

    def strategy(self) -> st.SearchStrategy[Case]:
        return _case()

    def outcome(self, case: Case) -> str:
        given: dict[str, Any] = dict(case.content)
        images, model = given["images"], network(given["network"], given["images"].dtype)
        kind = given["network"][1]
        worst = grade(images.flatten(1), (1,)).to(torch.int)
        if kind != "ordinary":
            worst = worst.clamp_min(2 if kind in _BROKEN else 1)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                quality, others = _called(model, given)
            except (AssertionError, IndexError) as error:  # as Saliency's, for a target
                if given["target"] is None or given["call"] != "attribute":
                    raise Finding(f"{type(error).__name__} without a target, {error}") from error
                raise
        return self._judged(quality, others, worst, bool(told), kind, model, given)

    def _judged(
        self, quality: Tensor, others: list[Tensor], worst: Tensor, told: bool, kind: str,
        model: nn.Module, given: dict[str, Any],
    ) -> str:  # fmt: skip
        finite = torch.isfinite(quality)
        if bool((finite & (worst == 2)).any()):
            raise Finding(f"a quality for what is not finite, {quality.tolist()} [{kind}]")
        if bool((~finite & (worst == 0)).any()):
            raise Finding(f"no quality for an ordinary image, {quality.tolist()}")
        low = 0.0 if given["serfiq"]["normalize"] else -1.0  # far apart enough, Q rounds to 0
        if bool(((quality <= low) | (quality > 1)).any()):
            raise Finding(f"quality out of range, {quality.tolist()}")
        if kind in _EMPTY and bool(finite.any()):
            raise Finding(
                f"a quality of an embedding that tells nothing, {kind} {quality.tolist()}"
            )
        for x in others:
            broken = ~torch.isfinite(x.flatten(1)).all(1)
            if bool((broken & (worst == 0)).any()) and not told:
                raise Finding("not finite, and no warning")
        if given["call"] != "attribute" and len(quality) > 1 and bool(finite[-1]):
            with warnings.catch_warnings(record=True) as told_alone:
                warnings.simplefilter("always")
                alone = _called(model, {**given, "images": given["images"][-1:]})[0]
            # Whether there is a closed form is decided on the first images, and said.
            sampled = given["serfiq"]["estimator"] == "closed-form" and (told or bool(told_alone))
            tolerance = 2e-2 if given["images"].element_size() < 4 else 1e-4
            if not sampled and not torch.allclose(alone[0], quality[-1], atol=tolerance):
                raise Finding(f"another quality alone, {alone[0]:.6f} {quality[-1]:.6f}")
        return "warned" if told else "a result"


def _called(model: nn.Module, given: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
    """Quality, and what else came back; shapes are checked."""
    images = given["images"]
    serfiq = SERFIQ(model, **given["serfiq"])
    count = len(images)
    if given["call"] == "quality":
        quality, others = serfiq(images).detach(), []
    elif given["call"] == "assess":
        embedding, quality, error = serfiq.assess(images, standard_error=given["error"])
        others = [embedding.detach()] if error is None else [embedding.detach(), error[:, None]]
    else:
        options = dict(given["attribution"])
        if options.get("scaling") is not None:
            options["scaling"] = QualityScaling(*options["scaling"])
        method = PixelQualityAttribution(serfiq, **options)
        map_, quality = method.attribute(
            images,
            target=given["target"],
            max_gradient_norm=given["norm"],
            return_quality=True,
        )
        if map_.shape != images.shape or map_.dtype != images.dtype:
            raise Finding(f"a map of another shape or type, {tuple(map_.shape)} {map_.dtype}")
        others = [map_]
    if quality.shape != (count,):
        raise Finding(f"qualities of another shape, {tuple(quality.shape)}")
    return quality, others


def network(drawn: tuple[str, str, int], dtype: torch.dtype) -> nn.Module:
    """A small network from its shape, its parameters and a seed."""
    shape, parameters, seed = drawn
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _made(shape)
    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    first = next(m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
    with torch.no_grad():
        if parameters in ("1e-20", "1e20"):
            head.weight.mul_(float(parameters))
            head.bias.mul_(float(parameters))
        elif parameters in _EMPTY:
            for module in [head] if parameters == "zero head" else [head, first]:
                module.weight.zero_()
                if parameters != "bias only" and module.bias is not None:
                    module.bias.zero_()
        elif parameters in _BROKEN:
            wrong = head if "head" in parameters else first
            wrong.weight.view(-1)[seed % wrong.weight.numel()] = float(
                "nan" if "NaN" in parameters else "inf"
            )
    return model.to(dtype).eval()


def _made(shape: str) -> nn.Module:
    pixels = 3 * _SIDE**2
    if shape == "plain":
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, _FEATURES))
    if shape == "deep head":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, 10), nn.Tanh(), nn.Linear(10, _FEATURES)
        )
    if shape == "unit length":
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, _FEATURES), UnitLength())
    if shape == "pooled":
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, _FEATURES),
        )  # fmt: skip
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(),
        nn.Dropout(0.4), nn.Linear(36, _FEATURES), nn.BatchNorm1d(_FEATURES),
    )  # fmt: skip


class UnitLength(nn.Module):
    """Scales to unit length, as many networks do themselves."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(x)


@st.composite
def _serfiq(draw: Callable[..., Any]) -> dict[str, Any]:
    """Parameters of SERFIQ, of which most go together."""
    estimator = draw(st.sampled_from(("sampling", "sampling", "balanced", "closed-form")))
    mostly = draw(st.integers(0, 9)) > 0
    return {
        "estimator": estimator,
        "passes": draw(st.sampled_from((6, 10) if mostly else (2, 3))),
        "dropout": draw(st.sampled_from((0.5,) if estimator == "balanced" and mostly else _RATES)),
        "average": draw(st.sampled_from(("paper", "pairs"))),
        "normalize": draw(st.booleans()) or (estimator == "closed-form" and mostly),
    }


@st.composite
def _case(draw: Callable[..., Any]) -> Case:
    count = draw(st.integers(1, 3))
    call = draw(st.sampled_from(("quality", "assess", "attribute", "attribute")))
    targets = (None, None, None, 0, _FEATURES - 1, _FEATURES, -99, [0] * count, [0] * (count + 1))
    scalings = (None, None, (130.0, 0.88), (1e6, 0.5))
    content = {
        "call": call,
        "network": (
            draw(st.sampled_from(_SHAPES)),
            draw(st.sampled_from(_PARAMETERS)),
            draw(st.integers(0, 999)),
        ),
        "images": draw(
            tensors((count, 3, _SIDE, _SIDE), draw(dtypes), special=draw(st.integers(0, 2)) == 0)
        ),
        "serfiq": draw(_serfiq()),
        "error": draw(st.booleans()),
        "attribution": {
            "weights": draw(st.sampled_from(("l1", "sum", "signed", "l2"))),
            "target_scalar": draw(st.sampled_from(("node", "node", "serfiq"))),
            "scaling": draw(st.sampled_from(scalings)),
            "directions": draw(st.sampled_from((None, None, None, 2))),
        },
        "target": draw(st.sampled_from(targets)),
        "norm": draw(st.sampled_from((None, None, 1.0, 1e-30))),
    }
    return Case(call, content, ".pt")


TARGET = Networks

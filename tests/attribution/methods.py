"""The attribution methods that are put on trial: one line each."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from captum.attr import Attribution, Saliency
from torch import nn

from captum_plq import SERFIQ, LayerPixelQuality, LocalQuality, PixelQualityAttribution
from captum_plq.attribution import LocalScore
from captum_plq.quality import QualityModel
from captum_plq.quality.scores.embedding_norm import EmbeddingNorm


class Method(NamedTuple):
    """A method on trial."""

    make: Callable[..., Attribution]
    """Of a network, or a :class:`SERFIQ`."""
    of_pixels: bool = True
    """Attributions have the shape of the images."""
    by_feature: bool = True
    """Takes a ``target``, a feature of the embedding."""
    backwards: int = 1
    """What a call costs, beside one forward."""
    ours: bool = True
    """Or else Captum's, which need not do more than Captum does."""
    sums: bool = False
    """No gradient, but shares that add up to Q; without dropout masks, so without a seed."""


def saliency(model):
    return Saliency(QualityModel(model))


def of_a_layer(model):
    kinds = (nn.Conv2d, nn.Linear)
    return LayerPixelQuality(model, next(m for m in model.modules() if isinstance(m, kinds)))


def of_the_norm(model):
    net = model.model if isinstance(model, SERFIQ) else model
    return PixelQualityAttribution(net, target_scalar=EmbeddingNorm(net))


def local_norm(model):
    return LocalScore(EmbeddingNorm(model.model if isinstance(model, SERFIQ) else model))


METHODS = {
    "pixel": Method(PixelQualityAttribution),
    "score": Method(partial(PixelQualityAttribution, target_scalar="serfiq"), by_feature=False),
    "directions": Method(
        partial(PixelQualityAttribution, directions=3), by_feature=False, backwards=3
    ),
    "layer": Method(of_a_layer, of_pixels=False),
    "local": Method(partial(LocalQuality, reference=3.0), by_feature=False, backwards=0, sums=True),
    "local norm": Method(local_norm, by_feature=False, backwards=0, sums=True),
    "Saliency": Method(saliency, ours=False),
}
